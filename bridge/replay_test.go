package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// Real recordings, where they are at hand, and a generated one go in over MQTT
// and come out on NATS: every complete row exactly once, with equal values, to
// a consumer that knows only NATS and JSON.
func TestReplayArrivesExactlyOnce(t *testing.T) {
	recordings := recordingsAtHand(t)
	dir := filepath.Join(t.TempDir(), "data")
	c := config.Default()
	c.Data = dir
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.NATS.Sync = config.Sync(2 * time.Minute)
	gate, err := bridge.Start(t.Context(), c, bridge.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gate.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var devices []registry.Credentials
	want := make(map[string][]fleet.Row)
	total := 0
	for i, r := range recordings {
		one, err := gate.Enrol(t.Context(), fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i))
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, one)
		want[one.DeviceID] = r.Rows
		total += len(r.Rows)
	}
	books, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(fleet.Options{
		Broker: gate.MQTT(), Credentials: devices, Recordings: recordings, Speed: 100, Drain: 30 * time.Second,
		Ledger: books, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	summary, err := f.Run(t.Context())
	if err != nil || summary.Unacknowledged() > 0 || int(summary.Sent) != total {
		t.Fatalf("fleet: %v, %+v; want %d sent and acknowledged", err, summary, total)
	}
	compareRows(t, consume(t, dir, total), want)
	t.Logf("%d recordings, %d complete rows, each arrived once with equal values; %d incomplete rows were skipped",
		len(recordings), total, summary.SkippedRows)
}

// recordingsAtHand returns the recordings beside the repository, or says that
// they are absent, and in any case a generated one.
func recordingsAtHand(t *testing.T) []fleet.Recording {
	t.Helper()
	var text bytes.Buffer
	if err := fleet.GenerateRecording(&text, 240, 1); err != nil {
		t.Fatal(err)
	}
	generated, err := fleet.ReadRecording("generated", &text)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("../../shared/data/bidmc_*_Numerics.csv")
	if len(files) == 0 {
		t.Log("SKIPPED: there are no real recordings in ../shared/data; only a generated one is replayed")
	}
	all := []fleet.Recording{generated}
	for _, file := range files {
		r, err := fleet.OpenRecording(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// row is a reading as an outside consumer sees it.
type row struct {
	Device    string  `json:"device_id"`
	Seq       int     `json:"seq"`
	SpO2      float64 `json:"spo2"`
	HeartRate float64 `json:"heart_rate"`
}

func consume(t *testing.T, dir string, n int) []row {
	t.Helper()
	url, err := os.ReadFile(engine.URLFile(dir, "consumer"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(strings.TrimSpace(string(url)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	durable, err := js.Consumer(t.Context(), "VITALS", "triage")
	if err != nil {
		t.Fatal(err)
	}
	var all []row
	for len(all) < n {
		batch, err := durable.Fetch(n-len(all), jetstream.FetchMaxWait(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		before := len(all)
		for m := range batch.Messages() {
			var r row
			if err := json.Unmarshal(m.Data(), &r); err != nil {
				t.Fatalf("%s: %v", m.Subject(), err)
			}
			all = append(all, r)
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		if len(all) == before {
			t.Fatalf("only %d of %d readings arrived", len(all), n)
		}
	}
	info, err := durable.Info(t.Context())
	if err != nil || info.NumPending != 0 {
		t.Fatalf("%d readings are stored beyond those that were sent (%v)", info.NumPending, err)
	}
	return all
}

func compareRows(t *testing.T, got []row, want map[string][]fleet.Row) {
	t.Helper()
	seen := make(map[string]bool)
	first := make(map[string]int)
	for _, r := range got {
		if low, ok := first[r.Device]; !ok || r.Seq < low {
			first[r.Device] = r.Seq
		}
	}
	for _, r := range got {
		rows, at := want[r.Device], r.Seq-first[r.Device]
		key := fmt.Sprintf("%s/%d", r.Device, r.Seq)
		if seen[key] || at >= len(rows) {
			t.Fatalf("reading %s arrived twice, or was never recorded", key)
		}
		seen[key] = true
		if rows[at].SpO2 != r.SpO2 || rows[at].HeartRate != r.HeartRate {
			t.Fatalf("reading %s: got SpO2 %v and heart rate %v, recorded were %v and %v", key, r.SpO2, r.HeartRate, rows[at].SpO2, rows[at].HeartRate)
		}
	}
}
