package main

import (
	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pulsegate",
		Short: "A gate between medical wearables and those who act on their readings",
		Long: `Pulsegate takes HMAC-signed readings of wearables over MQTT, verifies each one
where it enters, and stores only authentic, fresh, first-seen readings in NATS
JetStream, where triage and every other consumer subscribe.`,
		Example: `  pulsegate demo                                   see it work, nothing to install
  pulsegate serve                                  run the service
  pulsegate device add w-0001 --patient p-0001     enrol a wearable
  pulsegate watch                                  see verified readings arrive`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newDemo(), newServe(), newDevice(), newGateway(), newMaster(), newSign(), newVerify(), newWatch(), newConfig(), newVersion(), newCredentials(), newHealth(), newDoctor())
	return root
}
