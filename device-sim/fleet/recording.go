package fleet

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// The columns of a recording, as the BIDMC numerics name them.
const (
	columnTime      = "Time [s]"
	columnHeartRate = "HR"
	columnSpO2      = "SpO2"
)

// Recording is one patient's recorded numerics.
type Recording struct {
	Name string
	// Rows are the complete rows, in the order of their time.
	Rows []Row
	// Total counts all rows, MissingSpO2 and MissingHeartRate those without that
	// value. Rows without one or both are left out of Rows.
	Total, MissingSpO2, MissingHeartRate int
}

// Skipped returns how many rows were left out.
func (r Recording) Skipped() int { return r.Total - len(r.Rows) }

// Row is one complete row.
type Row struct {
	// At is the time since the recording's first row.
	At time.Duration
	// SpO2 is in percent, HeartRate in beats per minute.
	SpO2, HeartRate float64
}

// OpenRecording reads a recording from a file; see ReadRecording.
func OpenRecording(path string) (Recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return Recording{}, fmt.Errorf("recording: %w", err)
	}
	defer file.Close()
	return ReadRecording(filepath.Base(path), file)
}

// ReadRecording reads a recording in CSV (RFC 4180): a header that names at
// least the columns "Time [s]" (seconds, never falling), "HR" and "SpO2", white
// space around the names being of no account. NaN is a missing value. An error
// names the recording and the line.
func ReadRecording(name string, r io.Reader) (Recording, error) {
	table := csv.NewReader(r)
	table.TrimLeadingSpace = true
	table.ReuseRecord = true
	header, err := table.Read()
	if err != nil {
		return Recording{}, fmt.Errorf("recording %s: the header: %w", name, unexpected(err))
	}
	columns, err := findColumns(header)
	if err != nil {
		return Recording{}, fmt.Errorf("recording %s line 1: %w", name, err)
	}
	p := parser{columns: columns, recording: Recording{Name: name}}
	for {
		fields, err := table.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Recording{}, fmt.Errorf("recording %s: %w", name, err)
		}
		if err := p.row(fields); err != nil {
			line, _ := table.FieldPos(0)
			return Recording{}, fmt.Errorf("recording %s line %d: %w", name, line, err)
		}
	}
	if len(p.recording.Rows) == 0 {
		return Recording{}, fmt.Errorf("recording %s: no row has both %s and %s", name, columnHeartRate, columnSpO2)
	}
	return p.recording, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	}
	return err
}

type columns struct{ time, heartRate, spo2 int }

func findColumns(header []string) (columns, error) {
	trimmed := make([]string, len(header))
	for i, name := range header {
		trimmed[i] = strings.TrimSpace(name)
	}
	var c columns
	for name, index := range map[string]*int{
		columnTime: &c.time, columnHeartRate: &c.heartRate, columnSpO2: &c.spo2,
	} {
		*index = slices.Index(trimmed, name)
		if *index < 0 {
			return c, fmt.Errorf("there is no column %q among %q", name, trimmed)
		}
	}
	return c, nil
}

// parser adds rows to a recording.
type parser struct {
	columns     columns
	recording   Recording
	first, last float64
}

func (p *parser) row(fields []string) error {
	// A recording may begin shortly before its own zero.
	const most = math.MaxInt32
	seconds, err := number(columnTime, fields[p.columns.time], -most, most)
	if err != nil {
		return err
	}
	if p.recording.Total == 0 {
		p.first, p.last = seconds, seconds
	}
	// Written so that a missing time is refused too.
	if !(seconds >= p.last) {
		return fmt.Errorf("%s is missing or earlier than in the line before", columnTime)
	}
	p.last = seconds
	spo2, err := number(columnSpO2, fields[p.columns.spo2], 0, reading.MaxSpO2)
	if err != nil {
		return err
	}
	heartRate, err := number(columnHeartRate, fields[p.columns.heartRate], 0, reading.MaxHeartRate)
	if err != nil {
		return err
	}
	at := time.Duration((seconds - p.first) * float64(time.Second))
	p.recording.add(Row{At: at, SpO2: spo2, HeartRate: heartRate})
	return nil
}

func (r *Recording) add(row Row) {
	r.Total++
	noSpO2, noHeartRate := math.IsNaN(row.SpO2), math.IsNaN(row.HeartRate)
	if noSpO2 {
		r.MissingSpO2++
	}
	if noHeartRate {
		r.MissingHeartRate++
	}
	if !noSpO2 && !noHeartRate {
		r.Rows = append(r.Rows, row)
	}
}

// number reads a value from least to most, or NaN. Its errors quote no value, since
// it may be a patient's.
func number(column, field string, least, most float64) (float64, error) {
	value, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
	if err != nil {
		return 0, fmt.Errorf("%s is neither a number nor NaN", column)
	}
	if value < least || value > most {
		return 0, fmt.Errorf("%s is not from %g to %g", column, least, most)
	}
	// Some recordings write a zero as -0; the sum has no sign.
	return value + 0, nil
}

// GenerateRecording writes a recording of the given length in the form that
// ReadRecording reads, for where none is at hand. The same seed yields the same
// bytes. About one row in a hundred lacks a value.
func GenerateRecording(w io.Writer, seconds int, seed uint64) error {
	const every = 100
	p := newPatient(seed, 0)
	lines := bufio.NewWriter(w)
	// A bufio.Writer keeps its first error and Flush returns it.
	fmt.Fprintln(lines, "Time [s], HR, PULSE, RESP, SpO2")
	for second := range seconds {
		saturation, pulse := p.next(time.Second)
		spo2 := whole(saturation)
		// Never the first row, so that every recording has one.
		if second > 0 && p.random.IntN(every) == 0 {
			spo2 = "NaN"
		}
		breaths := whole(12 + 4*p.random.Float64())
		fmt.Fprintf(lines, "%d,%s,%s,%s,%s\n", second, whole(pulse), whole(pulse), breaths, spo2)
	}
	return lines.Flush()
}

func whole(value float64) string { return strconv.FormatFloat(math.Round(value), 'f', -1, 64) }
