package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// archive is a NATS with the gate's streams, where the test is the gate, and a
// ledger.
type archive struct {
	dir, ledger string
	engine      *engine.Engine
	js          jetstream.JetStream
	book        *ledger.Book
	stored      int
}

func openArchive(t *testing.T) *archive {
	t.Helper()
	a := &archive{dir: t.TempDir(), ledger: t.TempDir()}
	var err error
	a.engine, err = engine.Open(t.Context(), engine.Options{Dir: a.dir, Listen: "127.0.0.1:0", Sync: "1m", Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(func() { _ = a.engine.Close() })
	limits := egress.Limits{MaxBytes: 16 << 20, MaxAge: time.Hour}
	_, err = egress.Ensure(t.Context(), a.engine.Conn(), egress.Layout{
		Vitals: limits, Rejections: limits, Audit: limits, Devices: limits, Replicas: 1, DuplicateWindow: time.Minute,
	})
	must(t, err)
	a.js, err = jetstream.New(a.engine.Conn())
	must(t, err)
	books, err := ledger.Open(a.ledger)
	must(t, err)
	t.Cleanup(func() { _ = books.Close() })
	a.book, err = books.Book("w-1")
	must(t, err)
	return a
}

// signed is a reading of device w-1 at second n; its pulse is in no output.
func signed(t *testing.T, n, seq int) []byte {
	t.Helper()
	payload, err := reading.Sign([]byte("a key"), fmt.Appendf(nil,
		`{"device_id":"w-1","patient_id":"p-1","timestamp":%d,"seq":%d,"spo2":97,"heart_rate":72.4321}`, epoch.Unix()+int64(n), seq))
	must(t, err)
	return payload
}

func (a *archive) sent(t *testing.T, payload []byte) ledger.Ref {
	t.Helper()
	ref, err := a.book.Sent(ledger.Message{Device: "w-1", Patient: "p-1", Payload: payload, QoS: 1}, epoch)
	must(t, err)
	return ref
}

func (a *archive) acknowledged(t *testing.T, payload []byte) {
	t.Helper()
	must(t, a.book.Acknowledged(a.sent(t, payload), epoch.Add(time.Second)))
}

// store publishes as only the gate may, under an id of its own.
func (a *archive) store(t *testing.T, where string, payload []byte) {
	t.Helper()
	a.stored++
	m := nats.NewMsg("gate.in.vitals." + where)
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprint(a.stored))
	m.Data = payload
	_, err := a.js.PublishMsg(t.Context(), m)
	must(t, err)
}

func (a *archive) settle(t *testing.T) (report, error) {
	t.Helper()
	from := []string{"--ledger", a.ledger, "--nats-file", engine.URLFile(a.dir, "consumer")}
	r, out, failure := settled(t, from...)
	text, again := deviceSim(t, "", append([]string{"settle"}, from...)...)
	if fmt.Sprint(failure) != fmt.Sprint(again) {
		t.Errorf("with --json %v, without %v", failure, again)
	}
	if strings.Contains(out+text, "72.4321") {
		t.Errorf("it prints a patient's reading: %s%s", out, text)
	}
	for _, f := range append(append(append(r.Findings.Lost, r.Findings.Duplicated...), r.Findings.Forged...), r.Findings.Misfiled...) {
		if !strings.Contains(text, f.Identity) || !strings.Contains(text, f.Device) {
			t.Errorf("%+v is not in %s", f, text)
		}
	}
	return r, failure
}
