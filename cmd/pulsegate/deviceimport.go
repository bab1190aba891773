package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func newDeviceImport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "import FILE [--out FILE]",
		Short: "Enrol the devices of a CSV file and print their credentials",
		Long: `Enrol the devices of a CSV file whose first line is device_id,patient_id; - is the
standard input. A device that is enrolled already for the same patient is kept as it
is, so a file may be imported again. If any line is wrong, or names a device that is
enrolled for another patient, nothing is enrolled.

The credentials of all devices of the file are printed in its order, one JSON object
a line as "pulsegate device add --json" prints them, or written with --out.`,
		Example: `  pulsegate device import devices.csv --out credentials.jsonl
  pulsegate device import - --out credentials.jsonl < devices.csv`,
		Args: exactlyOne("a CSV file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := readDeviceFile(cmd, args[0])
			if err != nil {
				return err
			}
			return importDevices(cmd, rows, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write the credentials to `FILE`, with mode 0600")
	return cmd
}

func readDeviceFile(cmd *cobra.Command, name string) ([]deviceRow, error) {
	if name == "-" {
		return readDevices("standard input", cmd.InOrStdin())
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readDevices(name, file)
}

func importDevices(cmd *cobra.Command, rows []deviceRow, out string) error {
	nc, err := connect(cmd, operator)
	if err != nil {
		return err
	}
	defer nc.Close()
	i := &importing{ctx: cmd.Context(), client: registry.NewClient(nc)}
	missing, err := i.compare(rows)
	if err != nil {
		return err
	}
	// Opened before anything changes: a file that cannot be written should cost no enrolment.
	sink, err := openSink(out, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	all, err := i.enrol(rows, missing)
	if err != nil {
		sink.discard()
		return err
	}
	if err := sink.finish(all); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "devices: %d enrolled, %d were enrolled already\n", len(missing), len(rows)-len(missing))
	return err
}

// importing is one import under way.
type importing struct {
	ctx    context.Context
	client *registry.Client
}

// compare returns the ids of those rows that are not enrolled, or what
// contradicts.
func (i *importing) compare(rows []deviceRow) (missing map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(i.ctx, askLimit)
	defer cancel()
	entries, err := i.client.List(ctx)
	if err != nil {
		return nil, err
	}
	enrolled := make(map[string]string, len(entries))
	for _, e := range entries {
		enrolled[e.DeviceID] = e.PatientID
	}
	missing = map[string]bool{}
	var wrong problems
	for _, row := range rows {
		switch patient, ok := enrolled[row.device]; {
		case !ok:
			missing[row.device] = true
		case patient != row.patient:
			wrong.add(row.place, "%v", otherPatient(row, patient))
		}
	}
	return missing, wrong.err()
}

func otherPatient(row deviceRow, patient string) error {
	return fmt.Errorf("device %s is enrolled for patient %s, not %s: correct the line, or remove the device first", row.device, patient, row.patient)
}

func (i *importing) enrol(rows []deviceRow, missing map[string]bool) ([]registry.Credentials, error) {
	all := make([]registry.Credentials, 0, len(rows))
	done := 0
	for _, row := range rows {
		credentials, err := i.one(row, missing[row.device])
		if err != nil {
			return nil, fmt.Errorf("%s: %w; %d devices were enrolled before it, and importing the file again goes on from there", row.place, err, done)
		}
		if missing[row.device] {
			done++
		}
		all = append(all, credentials)
	}
	return all, nil
}

func (i *importing) one(row deviceRow, missing bool) (registry.Credentials, error) {
	ctx, cancel := context.WithTimeout(i.ctx, askLimit)
	defer cancel()
	if missing {
		credentials, err := i.client.Add(ctx, row.device, row.patient)
		if !errors.Is(err, registry.ErrExists) {
			return credentials, err
		}
		// Somebody else enrolled it since; for the same patient that is as good.
	}
	credentials, err := i.client.Credentials(ctx, row.device)
	if err == nil && credentials.PatientID != row.patient {
		err = otherPatient(row, credentials.PatientID)
	}
	return credentials, err
}

// sink is where the credentials go: a stream, or a file that appears only when
// it is whole.
type sink struct {
	w    io.Writer
	file *os.File // nil for a stream
	name string
}

func openSink(name string, stream io.Writer) (*sink, error) {
	if name == "" {
		return &sink{w: stream}, nil
	}
	// os.CreateTemp makes it with mode 0600.
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return &sink{w: file, file: file, name: name}, nil
}

func (s *sink) discard() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
	}
}

func (s *sink) finish(all []registry.Credentials) error {
	encoder := json.NewEncoder(s.w)
	var err error
	for _, credentials := range all {
		err = errors.Join(err, encoder.Encode(credentials))
	}
	if s.file == nil {
		return err
	}
	if err = errors.Join(err, s.file.Sync(), s.file.Close()); err == nil {
		err = os.Rename(s.file.Name(), s.name)
	}
	if err != nil {
		s.discard()
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}
