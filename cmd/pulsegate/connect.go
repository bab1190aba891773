package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// connectFlags are how a verb finds the service.
func connectFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().String("data", "", "data `directory` of the service (default $PULSEGATE_DATA, $XDG_STATE_HOME/pulsegate or ~/.local/state/pulsegate)")
	cmd.PersistentFlags().String("nats", "", "NATS `URL` with credentials, instead of the one in the data directory")
}

// connect reaches the service's NATS in a role: by --nats, by the role's
// environment variable, or by the URL file in the data directory.
func connect(cmd *cobra.Command, r role) (*nats.Conn, error) {
	url, err := roleURL(cmd, r)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(url, nats.Name("pulsegate "+cmd.Name()), nats.Timeout(5*time.Second),
		nats.MaxReconnects(-1), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return nil, fmt.Errorf("NATS at %s refuses the %s's credentials", config.ServerURL(url), r)
	case err != nil:
		return nil, fmt.Errorf("no NATS at %s (%w): is the service running? Start it with `pulsegate serve`", config.ServerURL(url), err)
	}
	return nc, nil
}

func roleURL(cmd *cobra.Command, r role) (string, error) {
	if url, _ := cmd.Flags().GetString("nats"); url != "" {
		return url, nil
	}
	dir, err := dataDir(cmd)
	if err != nil {
		return "", err
	}
	if url := os.Getenv(r.variable()); url != "" && !cmd.Flags().Changed("data") {
		return url, nil
	}
	file := engine.URLFile(dir, string(r))
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no %s: start the service with `pulsegate serve`, or say where it is with --data, --nats or $%s", file, r.variable())
	case err != nil:
		return "", fmt.Errorf("finding the service: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func dataDir(cmd *cobra.Command) (string, error) {
	if dir, _ := cmd.Flags().GetString("data"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("PULSEGATE_DATA"); dir != "" {
		return dir, nil
	}
	return config.DefaultData(os.Environ())
}
