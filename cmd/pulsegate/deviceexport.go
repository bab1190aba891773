package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newDeviceExport() *cobra.Command {
	var out string
	var secrets bool
	cmd := &cobra.Command{
		Use:   "export [--with-secrets] [--out FILE]",
		Short: "Print the devices as JSON lines that device import reads",
		Long: `Print the enrolled devices, one JSON object a line, as "pulsegate device import" reads
them: device, patient, ward, labels, and whether it is revoked. With --with-secrets
each has its signing key too, so that the import into another registry lets the
devices sign on as they do; whoever has that file can sign as any of them.

What is not taken along: the history, gateways, the older key of a device that is
being rotated, and the MQTT passwords: those are new in the other registry, and its
import prints them. For a backup of everything, back up the service's stream and its
master.key.`,
		Example: `  pulsegate device export > devices.jsonl
  pulsegate device export --with-secrets --out fleet.jsonl
  pulsegate device import fleet.jsonl --nats nats://operator:PASSWORD@other:4222 --out credentials.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				entries, err := c.List(ctx, registry.KindDevice)
				if err != nil {
					return err
				}
				records := recordsOf(entries)
				if secrets {
					warnOfRotations(cmd, entries)
					if records, err = withKeys(cmd, c, records); err != nil {
						return err
					}
				}
				sink, err := openSink(out, cmd.OutOrStdout())
				if err != nil {
					return err
				}
				return writeAll(sink, records)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE`, with mode 0600")
	cmd.Flags().BoolVar(&secrets, "with-secrets", false, "with the devices' signing keys")
	return cmd
}

func recordsOf(entries []registry.Entry) []deviceRecord {
	records := make([]deviceRecord, 0, len(entries))
	for _, e := range entries {
		r := deviceRecord{DeviceID: e.ID, PatientID: e.Patient(), Ward: e.Ward, Labels: e.Labels}
		if e.State != registry.Active {
			r.State = e.State
		}
		records = append(records, r)
	}
	return records
}

// withKeys gives each record its device's newest key, and leaves out those that
// have been removed meanwhile.
func withKeys(cmd *cobra.Command, c *registry.Client, records []deviceRecord) ([]deviceRecord, error) {
	err := forAll(cmd, "reading keys", len(records), func(ctx context.Context, i int) error {
		keys, err := c.Keys(ctx, records[i].DeviceID)
		switch {
		case errors.Is(err, registry.ErrUnknown):
		case err != nil:
			return err
		case len(keys) == 0:
			return unusable(records[i].DeviceID)
		default:
			records[i].Key = keys[0].Key
		}
		return nil
	})
	return slices.DeleteFunc(records, func(r deviceRecord) bool { return r.Key == "" }), err
}

func unusable(device string) error {
	return fmt.Errorf("the service cannot use the key of device %s; its log says why", device)
}

func warnOfRotations(cmd *cobra.Command, entries []registry.Entry) {
	now := time.Now()
	var ids []string
	for _, e := range entries {
		if e.Pending(now) {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d devices have not used their newest key yet, and only that one is exported: %s\n", len(ids), strings.Join(ids, " "))
	}
}
