package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// newRevoke, newRestore and newRemove make the verbs that devices and gateways
// share.
func newRevoke(kind registry.Kind) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: fmt.Sprintf("Cut a %s off at once", kind),
		Long: fmt.Sprintf(`Cut a %[1]s off at once: its connection is closed, it cannot connect again, and once
this has returned no replica accepts anything of it. "pulsegate %[1]s restore" undoes it.

Revoking a %[1]s that is revoked already changes nothing; the exit status is 0.`, kind),
		Example: fmt.Sprintf("  pulsegate %s revoke %s", kind, exampleID(kind)),
		Args:    exactlyOne(fmt.Sprintf("the %s's id", kind)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) {
				return c.Revoke(ctx, kind, args[0])
			}, changed(cmd, args[0], "is revoked"))
		},
	}
}

func newRestore(kind registry.Kind) *cobra.Command {
	return &cobra.Command{
		Use:   "restore ID",
		Short: fmt.Sprintf("Let a revoked %s in again", kind),
		Long: fmt.Sprintf(`Let a revoked %[1]s in again, with the secrets that it had. If somebody may have learnt
them, remove the %[1]s and add it again instead.

Restoring a %[1]s that is active changes nothing; the exit status is 0.`, kind),
		Example: fmt.Sprintf("  pulsegate %s restore %s", kind, exampleID(kind)),
		Args:    exactlyOne(fmt.Sprintf("the %s's id", kind)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) {
				return c.Restore(ctx, kind, args[0])
			}, changed(cmd, args[0], "is active"))
		},
	}
}

func newRemove(kind registry.Kind) *cobra.Command {
	var missingOK bool
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: fmt.Sprintf("Remove a %s: from then on it is unknown, and its secrets never come back", kind),
		Long: fmt.Sprintf(`Remove a %[1]s: from then on it is unknown. Adding the id again makes new secrets; the
old ones never come back.

An id that is not enrolled is an error, since it may be mistyped, unless --missing-ok.`, kind),
		Example: fmt.Sprintf("  pulsegate %s remove %s", kind, exampleID(kind)),
		Args:    exactlyOne(fmt.Sprintf("the %s's id", kind)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) {
				result, err := c.Remove(ctx, kind, args[0])
				if missingOK && errors.Is(err, registry.ErrUnknown) {
					return registry.Result{Unchanged: true}, nil
				}
				return result, err
			}, func(r registry.Result) error { return show(cmd, removed{args[0], r.Unchanged}, printRemoved) })
		},
	}
	cmd.Flags().BoolVar(&missingOK, "missing-ok", false, "an id that is not enrolled is no error")
	return cmd
}

func exampleID(kind registry.Kind) string {
	if kind == registry.KindGateway {
		return "g-01"
	}
	return "w-0001"
}

type removed struct {
	ID        string `json:"removed"`
	Unchanged bool   `json:"unchanged,omitempty"`
}

func printRemoved(w io.Writer, r removed) error {
	text := "removed " + r.ID
	if r.Unchanged {
		text = r.ID + " was not enrolled"
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// changed prints an entry after a change, of which text says what it is now.
func changed(cmd *cobra.Command, id, text string) func(registry.Result) error {
	return func(r registry.Result) error {
		if asJSON(cmd) {
			return printLines(cmd.OutOrStdout(), []any{viewOf(r.Entry, time.Now(), r.Unchanged)})
		}
		if r.Unchanged {
			text += " already"
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", id, text)
		return err
	}
}
