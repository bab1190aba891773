package fleet_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
)

func generate(t *testing.T, name string, seconds int, seed uint64) fleet.Recording {
	t.Helper()
	var csv bytes.Buffer
	if err := fleet.GenerateRecording(&csv, seconds, seed); err != nil {
		t.Fatal(err)
	}
	r, err := fleet.ReadRecording(name, &csv)
	if err != nil {
		t.Fatal(err)
	}
	if r.Total != seconds || r.Total-len(r.Rows) != r.MissingSpO2 || r.Skipped() != r.MissingSpO2 {
		t.Fatalf("%s: %d rows of %d, %d without SpO2", name, len(r.Rows), r.Total, r.MissingSpO2)
	}
	return r
}

func TestReadRecording(t *testing.T) {
	const csv = "Time [s], HR, PULSE, RESP, SpO2\n-1,80,81,15,97\n-0,NaN,81,15,97\n1,82,81,NaN,NaN\n2,-0,81,15,96.5\n3,NaN,1,1,NaN\n"
	r, err := fleet.ReadRecording("a.csv", strings.NewReader(csv))
	if err != nil {
		t.Fatal(err)
	}
	if r.Total != 5 || r.MissingSpO2 != 2 || r.MissingHeartRate != 2 || len(r.Rows) != 2 || r.Skipped() != 3 {
		t.Errorf("%+v", r)
	}
	if last := r.Rows[1]; last.At.Seconds() != 3 || last.SpO2 != 96.5 || fmt.Sprint(last.HeartRate) != "0" {
		t.Errorf("the last row is %+v", last)
	}
}

func TestReadRecordingRefuses(t *testing.T) {
	const header = "Time [s], HR, PULSE, RESP, SpO2\n"
	for csv, part := range map[string]string{
		"":                                      "empty",
		"Time [s], HR, SpO3\n0,80,97\n":         "line 1",
		header:                                  "no row",
		header + "0,NaN,1,1,97\n":               "no row",
		header + "0,80,1,1,97\n1,80\n":          "line 3",
		header + "0,80,1,1,97\n1,fast,1,1,97\n": "line 3: HR",
		header + "0,80,1,1,97\n1,80,1,1,101\n":  "line 3: SpO2",
		header + "0,80,1,1,97\n1,-3,1,1,97\n":   "line 3: HR",
		header + "0,80,1,1,97\n1,+Inf,1,1,97\n": "line 3: HR",
		header + "0,80,1,1,97\n1,,1,1,97\n":     "line 3: HR",
		header + "NaN,80,1,1,97\n":              "line 2: Time",
		header + "5,80,1,1,97\n4,80,1,1,97\n":   "line 3: Time",
		header + "0,\"80,1,1,97\n":              "line",
	} {
		_, err := fleet.ReadRecording("a.csv", strings.NewReader(csv))
		if err == nil || !strings.Contains(err.Error(), "a.csv") || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: the error is %v, want %q in it", csv, err, part)
		}
	}
	if _, err := fleet.OpenRecording(filepath.Join(t.TempDir(), "none.csv")); err == nil {
		t.Error("a file that is not there was opened")
	}
}

func TestGeneratedRecordingsRepeat(t *testing.T) {
	var first, second, other bytes.Buffer
	for out, seed := range map[*bytes.Buffer]uint64{&first: 1, &second: 1, &other: 2} {
		if err := fleet.GenerateRecording(out, 600, seed); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() || first.String() == other.String() {
		t.Error("the seed does not determine the recording")
	}
	if generate(t, "generated", 600, 1).MissingSpO2 == 0 {
		t.Error("nothing is missing in 600 rows")
	}
}

// play replays recordings and compares what arrives with every complete row.
func play(t *testing.T, speed float64, recordings ...fleet.Recording) {
	t.Helper()
	b := startBroker(t)
	f := newFleet(t, fleet.Options{
		Broker: b.address, Credentials: credentials(len(recordings) + 1), Recordings: recordings, Speed: speed,
		Ledger: openLedger(t),
	})
	summary, err := f.Run(context.WithoutCancel(t.Context()))
	if err != nil || summary.Unacknowledged() != 0 || summary.Devices != len(recordings) {
		t.Fatalf("%+v, %v", summary, err)
	}
	skipped := 0
	for i, recording := range recordings {
		skipped += recording.Skipped()
		arrived := b.taken[fmt.Sprintf("w-%04d", i+1)]
		if len(arrived) != len(recording.Rows) {
			t.Fatalf("%s: %d readings of %d rows", recording.Name, len(arrived), len(recording.Rows))
		}
		for n, row := range recording.Rows {
			r, err := reading.Parse([]byte(arrived[n]))
			if err != nil || r.SpO2 != row.SpO2 || r.HeartRate != row.HeartRate {
				t.Fatalf("%s: row %d differs from the reading: %v", recording.Name, n+1, err)
			}
		}
	}
	if summary.SkippedRows != skipped {
		t.Errorf("skipped %d rows, want %d", summary.SkippedRows, skipped)
	}
}

func TestReplayOfGeneratedRecordings(t *testing.T) {
	play(t, 500, generate(t, "a", 200, 1), generate(t, "b", 300, 2))
}

func TestReplayOfRecordedPatients(t *testing.T) {
	paths, err := filepath.Glob("../../../shared/data/bidmc_*_Numerics.csv")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skip("SKIPPED: no recordings in ../shared/data; only generated ones were replayed")
	}
	var all []fleet.Recording
	total, noSpO2, noHeartRate := 0, 0, 0
	for _, path := range paths {
		r, err := fleet.OpenRecording(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
		total += r.Total
		noSpO2 += r.MissingSpO2
		noHeartRate += r.MissingHeartRate
	}
	if len(all) != 53 || total != 25493 || noSpO2 != 128 || noHeartRate != 4 {
		t.Errorf("%d recordings, %d rows, %d without SpO2, %d without heart rate", len(all), total, noSpO2, noHeartRate)
	}
	play(t, 500, all[:8]...)
}
