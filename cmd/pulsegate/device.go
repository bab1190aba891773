package main

import (
	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newDevice() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Enrol, re-pair, rotate, revoke and list devices of a running service",
		Long: `Enrol and look after the devices of a running service, or of a cluster of them. The
verbs ask the service over NATS with the operator's credentials, from the data
directory (--data), from --nats or from PULSEGATE_OPERATOR_URL.

A verb that changes something returns when every live replica has applied the change.
If some have not, it prints the result, names them, and exits with status 1.`,
		Example: `  pulsegate device add w-0001 --patient p-0001 --ward 3A
  pulsegate device list --pending-rotation
  pulsegate device rotate w-0001 --overlap 72h
  pulsegate device revoke w-0001`,
	}
	connectFlags(cmd)
	jsonFlag(cmd)
	cmd.AddCommand(newDeviceAdd(), newList(registry.KindDevice), newShow(registry.KindDevice), newDeviceAssign(),
		newDeviceRotate(), newRevoke(registry.KindDevice), newRestore(registry.KindDevice), newRemove(registry.KindDevice),
		newDeviceImport(), newDeviceExport())
	return cmd
}

func jsonFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().Bool("json", false, "print one JSON object a line")
}
