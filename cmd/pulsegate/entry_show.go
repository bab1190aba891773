package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// listing says which entries of a kind to list.
type listing struct {
	kind        registry.Kind
	ward, state string
	pending     bool
}

func newList(kind registry.Kind) *cobra.Command {
	l := &listing{kind: kind}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   fmt.Sprintf("List the %ss, without their secrets", kind),
		Example: fmt.Sprintf("  pulsegate %s list\n  pulsegate %[1]s list --state revoked --json", kind),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if l.state != "" && l.state != string(registry.Active) && l.state != string(registry.Revoked) {
				return fmt.Errorf("--state is %q; it must be %s or %s", l.state, registry.Active, registry.Revoked)
			}
			return ask(cmd, func(ctx context.Context, c *registry.Client) error { return l.run(ctx, cmd, c) })
		},
	}
	cmd.Flags().StringVar(&l.ward, "ward", "", "only those of a `ward`")
	cmd.Flags().StringVar(&l.state, "state", "", "only those that are `active or revoked`")
	if kind == registry.KindDevice {
		cmd.Flags().BoolVar(&l.pending, "pending-rotation", false, "only those that have a new key and have not used it yet, while the old one is good")
		cmd.Example += "\n  pulsegate device list --pending-rotation --ward 3A"
	}
	return cmd
}

func (l *listing) run(ctx context.Context, cmd *cobra.Command, c *registry.Client) error {
	entries, err := c.List(ctx, l.kind)
	if err != nil {
		return err
	}
	now := time.Now()
	entries = slices.DeleteFunc(entries, func(e registry.Entry) bool { return !l.wants(e, now) })
	if !asJSON(cmd) {
		return printTable(cmd.OutOrStdout(), l.kind, entries, now)
	}
	views := make([]any, 0, len(entries))
	for _, e := range entries {
		views = append(views, viewOf(e, now, false))
	}
	return printLines(cmd.OutOrStdout(), views)
}

func (l *listing) wants(e registry.Entry, now time.Time) bool {
	return (l.ward == "" || e.Ward == l.ward) && (l.state == "" || string(e.State) == l.state) && (!l.pending || e.Pending(now))
}

func newShow(kind registry.Kind) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   fmt.Sprintf("Show a %s, without its secrets", kind),
		Example: fmt.Sprintf("  pulsegate %s show %s\n  pulsegate %[1]s show %[2]s --json", kind, exampleID(kind)),
		Args:    exactlyOne(fmt.Sprintf("the %s's id", kind)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				entry, err := c.Show(ctx, kind, args[0])
				switch {
				case err != nil:
					return err
				case asJSON(cmd):
					return printLines(cmd.OutOrStdout(), []any{fullViewOf(entry, time.Now())})
				}
				return printEntry(cmd.OutOrStdout(), entry, time.Now())
			})
		},
	}
}
