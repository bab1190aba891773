package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newDeviceAssign() *cobra.Command {
	var patient string
	cmd := &cobra.Command{
		Use:   "assign ID --patient ID",
		Short: "Give a device to another patient",
		Long: `Give a device to another patient. Once this has returned, a reading of the device that
names the former patient is refused as wrong_patient on every replica. The device's
credentials stay as they are.

If the patient has the device already, nothing changes and the exit status is 0.`,
		Example: `  pulsegate device assign w-0001 --patient p-0077`,
		Args:    exactlyOne("the device's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, func(ctx context.Context, c *registry.Client) (registry.Result, error) {
				return c.Assign(ctx, args[0], patient)
			}, changed(cmd, args[0], "belongs to patient "+patient))
		},
	}
	cmd.Flags().StringVar(&patient, "patient", "", "`id` of the patient who wears the device from now on (required)")
	_ = cmd.MarkFlagRequired("patient")
	return cmd
}
