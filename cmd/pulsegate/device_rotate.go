package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// fullOverlap is the longest time that a device's readings may take to arrive.
const fullOverlap = 72 * time.Hour

func newDeviceRotate() *cobra.Command {
	overlap := fullOverlap
	cmd := &cobra.Command{
		Use:   "rotate ID [--overlap DURATION]",
		Short: "Give a device a new key and print its credentials",
		Long: `Give a device a new signing key, derived from the newest master key, and print its
credentials as "pulsegate device add" does. The old key is good for the overlap, so a
device may go on with it until it has the new one. The MQTT password stays as it is,
unless there is a newer master key; then it changes likewise.

With a shorter overlap than 72h, readings that were signed with the old key and wait
for longer than that in the device, out of coverage, are lost. --overlap 0s ends the
old key at once, as for a key that somebody else knows.

"pulsegate device list --pending-rotation" shows the devices that have not used their
new key yet.`,
		Example: `  pulsegate device rotate w-0001
  pulsegate device rotate w-0001 --overlap 0s --json`,
		Args: exactlyOne("the device's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if overlap < 0 {
				return fmt.Errorf("--overlap is %v; it must not be negative", overlap)
			}
			return change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) {
				return c.Rotate(ctx, args[0], overlap)
			}, func(r registry.Result) error {
				warnOfOverlap(cmd, r.Entry, overlap)
				return show(cmd, *r.Credentials, printCredentials)
			})
		},
	}
	cmd.Flags().DurationVar(&overlap, "overlap", fullOverlap, "how long the old key stays good, such as 24h or 30m")
	return cmd
}

func warnOfOverlap(cmd *cobra.Command, e registry.Entry, overlap time.Duration) {
	if overlap >= fullOverlap || len(e.Keys) < 2 {
		return
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "warning: the old key is good until %s only: readings that are signed with it and sent later, as after a time out of coverage, are refused; the default of %v keeps them\n",
		e.Keys[1].Until.Format(time.RFC3339), fullOverlap)
}
