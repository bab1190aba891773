package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// whoami is who the audit says has asked.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// ask runs a verb against the service with the operator's credentials.
func ask(cmd *cobra.Command, verb func(context.Context, *registry.Client) error) error {
	nc, err := connect(cmd, operator)
	if err != nil {
		return err
	}
	defer nc.Close()
	return forbidden(cmd, verb(cmd.Context(), registry.NewClient(nc, whoami())))
}

// change asks for a change of one entry and prints what came of it.
func change(cmd *cobra.Command, verb func(context.Context, *registry.Client) (registry.Result, error), print func(registry.Result) error) error {
	return ask(cmd, func(ctx context.Context, c *registry.Client) error {
		result, err := verb(ctx, c)
		if err != nil {
			return err
		}
		return errors.Join(print(result), notYetApplied(result.Behind))
	})
}

// notYetApplied is the error of a change that some replicas do not know yet,
// or nil.
func notYetApplied(behind []string) error {
	if len(behind) == 0 {
		return nil
	}
	return fmt.Errorf("not yet applied by: %s; the change is stored, but until these replicas have it they go by the old state: look at them, or stop them", strings.Join(behind, ", "))
}

// exactlyOne is an argument check that says what is missing.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one argument, %s, but got %d; see `%s --help`", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

func asJSON(cmd *cobra.Command) bool {
	yes, _ := cmd.Flags().GetBool("json")
	return yes
}

func show[T any](cmd *cobra.Command, value T, text func(io.Writer, T) error) error {
	if asJSON(cmd) {
		return printLines(cmd.OutOrStdout(), []T{value})
	}
	return text(cmd.OutOrStdout(), value)
}

// printLines prints values as JSON, one a line, characters as they are.
func printLines[T any](w io.Writer, values []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, v := range values {
		if err := encoder.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
