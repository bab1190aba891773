package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// readCSV reads lines of columns that the first line names, in any order. An
// error is one of the file as a whole.
func (t *table) readCSV(r io.Reader) error {
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	header, err := lines.Read()
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s is empty: its first line is device_id,patient_id, with further columns as in `pulsegate device import --help`", t.name)
	case err != nil:
		return fmt.Errorf("%s: %w", t.name, err)
	}
	if err := checkHeader(header); err != nil {
		return fmt.Errorf("%s:1: %w", t.name, err)
	}
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			// Where a quote is missing, nothing after it can be told apart.
			t.wrong.add(t.name, "%w", err)
			return nil
		}
		t.addFields(lines, header, fields)
	}
}

func checkHeader(header []string) error {
	for i, name := range header {
		if !slices.Contains(recordNames(), name) {
			return fmt.Errorf("unknown column %.80q; allowed are %s", name, strings.Join(recordNames(), ", "))
		}
		if slices.Contains(header[:i], name) {
			return fmt.Errorf("the column %s is there twice", name)
		}
	}
	for _, name := range recordNames()[:2] {
		if !slices.Contains(header, name) {
			return fmt.Errorf("the column %s is missing", name)
		}
	}
	return nil
}

func (t *table) addFields(lines *csv.Reader, header, fields []string) {
	line, _ := lines.FieldPos(0)
	if len(fields) != len(header) {
		t.wrong.add(t.place(line), "%d fields where %s is expected", len(fields), strings.Join(header, ","))
		return
	}
	var r deviceRecord
	for i, name := range header {
		if err := r.set(name, fields[i]); err != nil {
			t.wrong.add(t.place(line), "%w", err)
			return
		}
	}
	t.add(line, r)
}

func (r *deviceRecord) set(column, text string) error {
	switch column {
	case "device_id":
		r.DeviceID = text
	case "patient_id":
		r.PatientID = text
	case "ward":
		r.Ward = text
	case "key":
		r.Key = text
	case "state":
		r.State = registry.State(text)
	case "labels":
		pairs := slices.DeleteFunc(strings.Split(text, ";"), func(pair string) bool { return strings.TrimSpace(pair) == "" })
		labels, err := parseLabels(pairs)
		if err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		r.Labels = labels
	}
	return nil
}
