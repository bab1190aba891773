package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// mostProblems is how many wrong lines one error lists.
const mostProblems = 20

// deviceRecord is a device as files for import have it, and as export makes
// them.
type deviceRecord struct {
	DeviceID  string            `json:"device_id"`
	PatientID string            `json:"patient_id"`
	Ward      string            `json:"ward,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	State     registry.State    `json:"state,omitempty"`
	// Key is in hexadecimal or base64.
	Key string `json:"key,omitempty"`
}

// recordNames are the names of a record's parts, the required ones first.
func recordNames() []string {
	return []string{"device_id", "patient_id", "ward", "key", "labels", "state"}
}

// deviceRow is one line of a file of devices.
type deviceRow struct {
	place string // FILE:LINE
	deviceRecord
	key []byte
}

// problems are wrong lines.
type problems []error

func (p *problems) add(place, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %w", place, fmt.Errorf(format, args...)))
}

// err is nil without problems.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	shown := slices.Clone(p[:min(len(p), mostProblems)])
	if more := len(p) - len(shown); more > 0 {
		shown = append(shown, fmt.Errorf("and %d more", more))
	}
	return fmt.Errorf("nothing was imported:\n%w", errors.Join(shown...))
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

// readDevices reads and checks all lines. Its error lists those that are wrong.
func readDevices(name string, r io.Reader) ([]deviceRow, error) {
	b := withoutMark(r)
	t := &table{name: name, first: map[string]string{}}
	var err error
	if hasObjects(name, b) {
		err = t.readObjects(b)
	} else {
		err = t.readCSV(b)
	}
	switch {
	case err != nil:
		return nil, err
	case len(t.rows) == 0 && len(t.wrong) == 0:
		return nil, fmt.Errorf("%s lists no devices", name)
	}
	return t.rows, t.wrong.err()
}

// hasObjects says whether a file has JSON lines and not CSV.
func hasObjects(name string, b *bufio.Reader) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return false
	case ".jsonl", ".ndjson", ".json":
		return true
	}
	start, _ := b.Peek(b.Size())
	return bytes.HasPrefix(bytes.TrimLeft(start, " \t\r\n"), []byte{'{'})
}

// withoutMark leaves out the byte order mark that spreadsheets write.
func withoutMark(r io.Reader) *bufio.Reader {
	const mark = "\ufeff"
	b := bufio.NewReader(r)
	if start, err := b.Peek(len(mark)); err == nil && string(start) == mark {
		_, _ = b.Discard(len(mark))
	}
	return b
}

// table collects the rows of a file, and what is wrong with it.
type table struct {
	name  string
	rows  []deviceRow
	wrong problems
	// first is where each device was first.
	first map[string]string
}

func (t *table) place(line int) string { return fmt.Sprintf("%s:%d", t.name, line) }

// add checks a record and takes it in.
func (t *table) add(line int, r deviceRecord) {
	place := t.place(line)
	key, err := r.check()
	if err != nil {
		t.wrong.add(place, "%w", err)
		return
	}
	if earlier := t.first[r.DeviceID]; earlier != "" {
		t.wrong.add(place, "device %s is at %s already", r.DeviceID, earlier)
		return
	}
	t.first[r.DeviceID] = place
	t.rows = append(t.rows, deviceRow{place, r, key})
}

// check returns the record's key, nil where it has none.
func (r *deviceRecord) check() ([]byte, error) {
	for i, id := range []string{r.DeviceID, r.PatientID} {
		if !reading.ValidID(id) {
			return nil, fmt.Errorf("%s is %.80q, but an id has 1 to 64 letters, digits, - and _, and is not a single _", recordNames()[i], id)
		}
	}
	if r.State != "" && r.State != registry.Active && r.State != registry.Revoked {
		return nil, fmt.Errorf("state is %.80q; it must be %s or %s", r.State, registry.Active, registry.Revoked)
	}
	if err := checkText("ward", r.Ward); err != nil {
		return nil, err
	}
	if err := checkLabels(r.Labels); err != nil {
		return nil, err
	}
	if r.Key == "" {
		return nil, nil
	}
	key, err := registry.ParseKey(r.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return key, nil
}
