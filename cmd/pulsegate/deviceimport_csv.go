package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// mostProblems is how many wrong lines one error lists.
const mostProblems = 20

// deviceColumns is the header of a file of devices.
func deviceColumns() []string { return []string{"device_id", "patient_id"} }

// deviceRow is one line of a file of devices.
type deviceRow struct {
	place           string // FILE:LINE
	device, patient string
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

// readDevices reads and checks all lines. Its error lists those that are wrong.
func readDevices(name string, r io.Reader) ([]deviceRow, error) {
	lines := csv.NewReader(withoutMark(r))
	lines.ReuseRecord = true
	lines.FieldsPerRecord = -1
	header, err := lines.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty: its first line is %s", name, strings.Join(deviceColumns(), ","))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case !slices.Equal(header, deviceColumns()):
		return nil, fmt.Errorf("%s:1: the columns are %q; the first line is %s", name, header, strings.Join(deviceColumns(), ","))
	}
	return readRows(name, lines)
}

func readRows(name string, lines *csv.Reader) ([]deviceRow, error) {
	var rows []deviceRow
	var wrong problems
	first := map[string]string{}
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// Where a quote is missing, nothing after it can be told apart.
			wrong.add(name, "%w", err)
			break
		}
		line, _ := lines.FieldPos(0)
		place := fmt.Sprintf("%s:%d", name, line)
		row, err := newRow(place, fields)
		if err != nil {
			wrong.add(place, "%w", err)
			continue
		}
		if earlier := first[row.device]; earlier != "" {
			wrong.add(place, "device %s is at %s already", row.device, earlier)
			continue
		}
		first[row.device] = place
		rows = append(rows, row)
	}
	if len(rows) == 0 && len(wrong) == 0 {
		return nil, fmt.Errorf("%s lists no devices", name)
	}
	return rows, wrong.err()
}

func newRow(place string, fields []string) (deviceRow, error) {
	if len(fields) != len(deviceColumns()) {
		return deviceRow{}, fmt.Errorf("%d fields where %s is expected", len(fields), strings.Join(deviceColumns(), ","))
	}
	for i, id := range fields {
		if !reading.ValidID(id) {
			return deviceRow{}, fmt.Errorf("%s is %.80q, but an id has 1 to 64 letters, digits, - and _, and is not a single _", deviceColumns()[i], id)
		}
	}
	return deviceRow{place, strings.Clone(fields[0]), strings.Clone(fields[1])}, nil
}

// withoutMark leaves out the byte order mark that spreadsheets write.
func withoutMark(r io.Reader) io.Reader {
	const mark = "\ufeff"
	b := bufio.NewReader(r)
	if start, err := b.Peek(len(mark)); err == nil && string(start) == mark {
		_, _ = b.Discard(len(mark))
	}
	return b
}
