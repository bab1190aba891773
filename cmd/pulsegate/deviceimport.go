package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newDeviceImport() *cobra.Command {
	var out string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import FILE [--out FILE] [--dry-run]",
		Short: "Enrol the devices of a CSV or JSON lines file and print their credentials",
		Long: `Enrol the devices of a file; - is the standard input. The file is CSV whose first line
names the columns, or has one JSON object a line, told by the ending (.csv, .jsonl) or
else by the content. Columns and members are
  device_id    required
  patient_id   required
  ward
  key          the device's own signing key, 16 to 128 bytes in hexadecimal or base64;
               without it the service makes one
  labels       name=value;name=value in CSV, an object of strings in JSON
  state        active or revoked; active without it

All lines are checked, and compared with the registry, before anything is changed: if
any is wrong, or names a device that is enrolled for another patient or with another
key, nothing is enrolled. A device that is enrolled already for the same patient is
kept as it is, so a file may be imported again, as after an interruption; only a
revocation that the file has is made up for.

The credentials of all devices of the file are printed in its order, one JSON object
a line as "pulsegate device add --json" prints them, or written with --out. With
--dry-run nothing is changed and nothing but a summary is printed.`,
		Example: `  pulsegate device import devices.csv --dry-run
  pulsegate device import devices.csv --out credentials.jsonl
  pulsegate device import - --out credentials.jsonl < devices.jsonl

  device_id,patient_id,ward,key,labels
  w-0001,p-0001,3A,000102030405060708090a0b0c0d0e0f,model=x2;batch=7`,
		Args: exactlyOne("a CSV or JSON lines file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := readDeviceFile(cmd, args[0])
			if err != nil {
				return err
			}
			return ask(cmd, func(ctx context.Context, c *registry.Client) error {
				i := &importing{cmd: cmd, client: c, rows: rows}
				if err := i.compare(ctx); err != nil {
					return err
				}
				if dryRun {
					_, err := fmt.Fprintf(cmd.ErrOrStderr(), "dry run, nothing was changed; devices: %d to enrol, %d enrolled already\n", len(rows)-len(i.enrolled), len(i.enrolled))
					return err
				}
				return i.run(out)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write the credentials to `FILE`, with mode 0600")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything and change nothing")
	return cmd
}

// importing is one import under way.
type importing struct {
	cmd    *cobra.Command
	client *registry.Client
	rows   []deviceRow
	// enrolled are those devices of the file that are enrolled already.
	enrolled map[string]registry.Entry

	mu     sync.Mutex
	added  int
	behind []string
}

func (i *importing) run(out string) error {
	// Opened before anything changes: a file that cannot be written should cost no enrolment.
	sink, err := openSink(out, i.cmd.OutOrStdout())
	if err != nil {
		return err
	}
	all := make([]registry.Credentials, len(i.rows))
	err = forAll(i.cmd, "enrolling", len(all), func(ctx context.Context, n int) (err error) {
		if all[n], err = i.one(ctx, i.rows[n]); err != nil {
			return fmt.Errorf("%s: %w", i.rows[n].place, err)
		}
		return nil
	})
	if err != nil {
		sink.discard()
		return fmt.Errorf("%w; %d devices have been enrolled, and importing the file again goes on from there", err, i.added)
	}
	if err := writeAll(sink, all); err != nil {
		return err
	}
	_, err = fmt.Fprintf(i.cmd.ErrOrStderr(), "devices: %d enrolled, %d were enrolled already\n", i.added, len(i.rows)-i.added)
	return errors.Join(err, notYetApplied(i.behind))
}

// one makes a row true and returns the device's credentials.
func (i *importing) one(ctx context.Context, row deviceRow) (registry.Credentials, error) {
	credentials, err := i.enrol(ctx, row)
	if err != nil || row.State != registry.Revoked || i.enrolled[row.DeviceID].State == registry.Revoked {
		return credentials, err
	}
	// Revoking again changes nothing where it was enrolled so.
	result, err := i.client.Revoke(ctx, registry.KindDevice, row.DeviceID)
	i.note(result, 0)
	return credentials, err
}

func (i *importing) enrol(ctx context.Context, row deviceRow) (registry.Credentials, error) {
	if _, ok := i.enrolled[row.DeviceID]; !ok {
		result, err := i.client.Add(ctx, registry.New{
			Kind: registry.KindDevice, ID: row.DeviceID, Patient: row.PatientID, Ward: row.Ward, Labels: row.Labels, Key: row.key,
			State: row.State,
		})
		if err == nil {
			i.note(result, 1)
			return *result.Credentials, nil
		}
		if !errors.Is(err, registry.ErrExists) {
			return registry.Credentials{}, err
		}
		// Somebody else enrolled it since; the same device is as good.
		if err := i.sameKey(ctx, row); err != nil {
			return registry.Credentials{}, err
		}
	}
	credentials, err := i.client.Credentials(ctx, row.DeviceID)
	if err == nil && credentials.PatientID != row.PatientID {
		err = otherPatient(row, credentials.PatientID)
	}
	return credentials, err
}

func (i *importing) note(r registry.Result, added int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.added += added
	for _, name := range r.Behind {
		i.behind = appendNew(i.behind, name)
	}
}
