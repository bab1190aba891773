package egress_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// first returns a stream's first messages, waiting for them.
func (d *depot) first(t *testing.T, stream string, n int) []jetstream.Msg {
	t.Helper()
	c, err := d.js.OrderedConsumer(soon(t), stream, jetstream.OrderedConsumerConfig{})
	need(t, err)
	var all []jetstream.Msg
	for range n {
		m, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
		need(t, err)
		all = append(all, m)
	}
	return all
}

func TestRejectionsAreKept(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, time.Second)
	at := time.Date(2025, 11, 21, 23, 0, 0, 123456789, time.UTC)
	for _, r := range []egress.Rejection{
		{Outcome: verify.BadSignature, Device: "w-1", Connection: "w-2", Remote: "192.0.2.1:1", Time: at, PayloadSHA256: "ab", Reason: "why"},
		{Outcome: verify.UnknownDevice, Time: at},
	} {
		if !s.Reject(r) {
			t.Fatal("a rejection is lost")
		}
	}
	want := []struct{ subject, data string }{
		{"rejected.bad_signature.w-1", `{"outcome":"bad_signature","device_id":"w-1","connection":"w-2","remote":"192.0.2.1:1","time":"2025-11-21T23:00:00.123456789Z","payload_sha256":"ab","reason":"why"}`},
		{"rejected.unknown_device._", `{"outcome":"unknown_device","time":"2025-11-21T23:00:00.123456789Z"}`},
	}
	for n, m := range d.first(t, "REJECTIONS", 2) {
		if m.Subject() != want[n].subject || string(m.Data()) != want[n].data || len(m.Headers()) != 0 {
			t.Errorf("stored is %s %s %v, want %s %s", m.Subject(), m.Data(), m.Headers(), want[n].subject, want[n].data)
		}
	}
}

func TestEveryOutcomeIsASubject(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, time.Second)
	all := verify.Outcomes()
	for _, o := range all {
		s.Reject(egress.Rejection{Outcome: o, Device: "w-1"})
	}
	for n, m := range d.first(t, "REJECTIONS", len(all)) {
		if want := "rejected." + all[n].String() + ".w-1"; m.Subject() != want {
			t.Errorf("the subject is %s, want %s", m.Subject(), want)
		}
	}
}

func TestAuditIsKept(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, time.Second)
	s.Audit("registry.add", map[string]string{"device_id": "w-1"})
	m := d.first(t, "AUDIT", 1)[0]
	if m.Subject() != "audit.registry.add" || !bytes.Equal(m.Data(), []byte(`{"device_id":"w-1"}`)) {
		t.Errorf("stored is %s %s", m.Subject(), m.Data())
	}
	s.Audit("registry.add", make(chan int)) // what cannot be written is logged
}

// TestClosePublishesWhatWaits closes at once behind many events.
func TestClosePublishesWhatWaits(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, time.Second)
	const events = 1000
	for range events {
		s.Audit("login.refused", struct{}{})
	}
	need(t, s.Close(context.Background()))
	d.first(t, "AUDIT", events)
}
