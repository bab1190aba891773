package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

// role is whose credentials a verb uses.
type role string

const (
	operator role = "operator"
	consumer role = "consumer"
	security role = "security"
)

// variable names the environment variable that holds the role's NATS URL.
func (r role) variable() string { return "PULSEGATE_" + strings.ToUpper(string(r)) + "_URL" }

// verbVariables are environment variables that are not settings of the service.
func verbVariables() []string {
	return []string{operator.variable(), consumer.variable(), security.variable()}
}

// dataFlags are how a verb finds the service's data directory.
func dataFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().String("data", "", "data `directory` of the service (default $PULSEGATE_DATA, data of the configuration, $XDG_STATE_HOME/pulsegate or ~/.local/state/pulsegate)")
	cmd.PersistentFlags().String("config", "", "YAML `file` of the service (or $PULSEGATE_CONFIG)")
}

// connectFlags are how a verb finds the service.
func connectFlags(cmd *cobra.Command) {
	dataFlags(cmd)
	cmd.PersistentFlags().String("nats", "", "NATS `URL` with credentials, instead of the one in the data directory")
}

// connect reaches the service's NATS in a role: by --nats, by the role's
// environment variable, or by the URL file in the data directory. It gives cmd a
// context that ends when NATS forbids something; see forbidden.
func connect(cmd *cobra.Command, r role) (*nats.Conn, error) {
	url, err := roleURL(cmd, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	cmd.SetContext(ctx)
	nc, err := nats.Connect(url, nats.Name("pulsegate "+cmd.Name()), nats.Timeout(5*time.Second),
		nats.MaxReconnects(-1), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				cancel(wrongRole{command: cmd.CommandPath(), server: config.ServerURL(url), needed: r})
			}
		}))
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return nil, fmt.Errorf("NATS at %s refuses the %s's credentials", config.ServerURL(url), r)
	case err != nil:
		return nil, fmt.Errorf("no NATS at %s (%w): is the service running? Start it with `pulsegate serve`", config.ServerURL(url), err)
	}
	return nc, nil
}

// wrongRole says that NATS forbids what the role of a verb may do.
type wrongRole struct {
	command string
	server  config.ServerURL
	needed  role
}

func (e wrongRole) Error() string {
	return fmt.Sprintf("NATS at %s does not allow that to the user of this URL: `%s` needs the one for the role %s, which is in %s of the data directory",
		e.server, e.command, e.needed, filepath.Base(engine.URLFile("", string(e.needed))))
}

// forbidden replaces the error of what was waiting for an answer: NATS reports
// what it forbids beside the request, which is never answered.
func forbidden(cmd *cobra.Command, err error) error {
	var cause wrongRole
	if err != nil && errors.As(context.Cause(cmd.Context()), &cause) {
		return cause
	}
	return err
}

func roleURL(cmd *cobra.Command, r role) (string, error) {
	if url, _ := cmd.Flags().GetString("nats"); url != "" {
		return url, nil
	}
	if url := os.Getenv(r.variable()); url != "" && !cmd.Flags().Changed("data") {
		return url, nil
	}
	dir, err := dataDir(cmd)
	if err != nil {
		return "", err
	}
	file := engine.URLFile(dir, string(r))
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no %s: start the service with `pulsegate serve`, or say where it is with --data, --config, --nats or $%s", file, r.variable())
	case err != nil:
		return "", fmt.Errorf("finding the service: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// dataDir is the directory that the service has by the same flags, variables and
// file. Where it is said outright, the rest of the configuration does not matter.
func dataDir(cmd *cobra.Command) (string, error) {
	if dir, _ := cmd.Flags().GetString("data"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("PULSEGATE_DATA"); dir != "" {
		return dir, nil
	}
	c, err := serviceConfig(cmd)
	return c.Data, err
}
