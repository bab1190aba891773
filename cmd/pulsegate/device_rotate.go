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

After the overlap the old key is good only for late readings, those that were measured
before its end and are sent later: they are stored, but not as current (unless the
setting freshness.late is refuse). A key that somebody else knows is ended altogether
by "pulsegate device remove" and "add".

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
	fmt.Fprintf(cmd.ErrOrStderr(), "warning: the old key is good until %s only: what was measured before and is sent later, as after a time out of coverage, is at best stored as late; what is signed with it for a later time is refused\n",
		e.Keys[1].Until.Format(time.RFC3339))
}
