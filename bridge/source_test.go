package bridge_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// from makes Mosquitto the gate's source, and its only one.
func from(m *mosquittest.Broker) func(*config.Config) {
	return func(c *config.Config) {
		c.MQTT.Listen = ""
		c.Source.URL, c.Source.ClientID, c.Source.User, c.Source.Password = config.ServerURL(m.URL()), "replica-1", "gate", "SECRET-OF-THE-SOURCE"
	}
}

// startFrom starts a gate whose readings come from Mosquitto.
func startFrom(t *testing.T, m *mosquittest.Broker, change func(*config.Config)) *system {
	t.Helper()
	c := small(t)
	from(m)(&c)
	if change != nil {
		change(&c)
	}
	must(t, c.Validate())
	s := start(t, c)
	s.journal.hide("SECRET-OF-THE-SOURCE")
	s.readiness(t, http.StatusOK)
	return s
}

// readiness waits until /readyz answers so, and returns what it says.
func (s *system) readiness(t *testing.T, want int) string {
	t.Helper()
	for end := time.Now().Add(3 * mqttest.Patience); ; time.Sleep(10 * time.Millisecond) {
		status, text := s.page(t, "/readyz")
		if status == want {
			return text
		}
		if time.Now().After(end) {
			t.Fatalf("/readyz stays %d: %s", status, text)
		}
	}
}

// metric waits until a metric reaches a value.
func (s *system) metric(t *testing.T, name string, least int) {
	t.Helper()
	for end := time.Now().Add(3 * mqttest.Patience); s.counted(t, name) < least; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is %d, want %d", name, s.counted(t, name), least)
		}
	}
}

// A fleet publishes to Mosquitto, which acknowledges, while NATS goes away for
// longer than a reading may wait, and while Mosquitto starts anew: all of it is
// stored, once.
func TestAFleetAtAnotherBroker(t *testing.T) {
	t.Parallel()
	const devices = 8
	m := mosquittest.Start(t)
	n := newCluster(t)
	s := startAt(t, n, func(c *config.Config) {
		from(m)(c)
		// Mosquitto keeps no shared subscription over a restart.
		c.Source.Share = ""
		c.Store.Deadline = config.Duration(500 * time.Millisecond)
		c.MQTT.InFlight = 64
	})
	s.readiness(t, http.StatusOK)
	var all []registry.Credentials
	for i := range devices {
		all = append(all, s.enrol(t, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i)).Credentials)
	}
	books, err := ledger.Open("")
	must(t, err)
	acknowledged := make(chan struct{}, 1<<20)
	f, err := fleet.New(fleet.Options{
		Broker: m.Address, Credentials: all, Rate: 50, Ledger: books, Drain: 20 * time.Second, Logger: zerolog.Nop(),
		Observer: fleet.Observer{Acknowledged: func(fleet.Acknowledgement) { acknowledged <- struct{}{} }},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { _, err := f.Run(ctx); ended <- err }()
	count(t, acknowledged, 400)
	n.stop()
	drain(acknowledged)
	count(t, acknowledged, 600) // Mosquitto goes on: 1.5 s, three deadlines
	s.metric(t, "pulsegate_source_reconnects_total", 1)
	n.run(t)
	count(t, acknowledged, 400)
	m.Stop()
	m.Run(t)
	drain(acknowledged)
	count(t, acknowledged, 400)
	cancel()
	must(t, <-ended)
	if summary := f.Summary(); summary.Unacknowledged() != 0 {
		t.Fatalf("the fleet: %+v", summary)
	}
	entries, err := books.Entries()
	must(t, err)
	var a ledger.Account
	for end := time.Now().Add(3 * mqttest.Patience); ; time.Sleep(50 * time.Millisecond) {
		var stored []ledger.StoredReading
		for _, r := range s.stored(t) {
			stored = append(stored, ledger.StoredReading{Subject: r.Subject, Payload: r.Data})
		}
		if a = ledger.Settle(entries, stored); a.Authentic.Delivered == a.Authentic.Sent || time.Now().After(end) {
			break
		}
	}
	if a.Authentic.Lost != 0 || a.Authentic.Duplicated != 0 || a.Forged != 0 || a.Misfiled != 0 || a.Authentic.Delivered != a.Authentic.Sent {
		t.Errorf("settled: %+v, forged %d, misfiled %d", a.Authentic, a.Forged, a.Misfiled)
	}
	t.Logf("settled: %+v over %d reconnects", a.Authentic, s.counted(t, "pulsegate_source_reconnects_total"))
}

// What is refused is acknowledged to the other broker, and recorded with where
// it came from; check 5 has no connection to compare.
func TestRefusalsFromAnotherBroker(t *testing.T) {
	t.Parallel()
	m := mosquittest.Start(t)
	device := m.Publisher(t, "somebody")
	s := startFrom(t, m, func(c *config.Config) { c.Source.Share = "" })
	d, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	events := s.subscribe(t, "security", "rejected.>")
	mine, copied := d.sign(t), other.sign(t)
	for _, sent := range []struct {
		topic, subject string
		payload        []byte
	}{
		{d.Topic, "rejected.bad_signature.w-0001", tampered(d.sign(t))},
		{d.Topic, "rejected.invalid_reading.w-0001", d.sign(t, `"spo2":101`)},
		{other.Topic, "rejected.bad_signature.w-0002", d.sign(t)},
		{"wearables/w-0003/vitals", "rejected.unknown_device._", d.sign(t)},
		{d.Topic, "rejected.malformed._", make([]byte, 1<<20)},
		{d.Topic, "", mine},
		{d.Topic, "rejected.duplicate.w-0001", mine},
		{other.Topic, "", copied},
	} {
		device.Publish(sent.topic, sent.payload)
		if sent.subject == "" {
			continue
		}
		if r := receiveRejection(t, events); r.subject != sent.subject || r.Conn != "source" || r.Remote != m.Address {
			t.Errorf("rejection %+v, want %s from %s", r, sent.subject, m.Address)
		}
	}
	s.metric(t, `pulsegate_messages_total{outcome="accepted"}`, 2)
	stored := s.stored(t)
	if len(stored) != 2 {
		t.Fatalf("%d are stored, want 2", len(stored))
	}
	checkStored(t, stored[0], d, mine)
	checkStored(t, stored[1], other, copied)
	if s.counted(t, "pulsegate_source_reconnects_total") != 0 {
		t.Error("a refusal ended the connection")
	}
	// A broker shows a retained message to whoever subscribes anew.
	kept := mqttest.Publish(900, 1, d.Topic, d.sign(t))
	kept.FixedHeader.Retain = true
	device.Send(kept)
	device.Expect(packets.Puback)
	s.metric(t, `pulsegate_messages_total{outcome="accepted"}`, 3)
	m.Stop()
	s.readiness(t, http.StatusServiceUnavailable)
	m.Run(t)
	if r := receiveRejection(t, events); r.subject != "rejected.retained._" {
		t.Errorf("rejection %+v", r)
	}
}

// The gate is told to stop while the store holds readings up. The store returns,
// and all are acknowledged to the other broker before the gate ends.
func TestASourceLetsWhatIsInFlightFinish(t *testing.T) {
	t.Parallel()
	const readings = 20
	m := mosquittest.Start(t)
	n := newCluster(t)
	s := startAt(t, n, func(c *config.Config) {
		from(m)(c)
		c.Store.Deadline = config.Duration(50 * time.Second)
	})
	s.readiness(t, http.StatusOK)
	d := s.enrol(t, "w-0001", "p-0001")
	n.vitals(t, 1) // holds them up
	var sent [][]byte
	for range readings {
		sent = append(sent, d.sign(t))
	}
	m.Publisher(t, "w-0001").Publish(d.Topic, sent...)
	s.metric(t, "pulsegate_store_pending", readings)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ended <- s.Close(ctx)
	}()
	s.readiness(t, http.StatusServiceUnavailable)
	if got := m.Acknowledged("replica-1"); len(got) != 0 {
		t.Errorf("acknowledged before they were stored: %v", got)
	}
	n.vitals(t, 1<<20)
	must(t, awaitEnd(t, ended))
	m.Await(t, "Received PUBACK from replica-1", readings)
	onceEach(t, s.stored(t), "live", d, sent)
}

// Both forms at once, fed with copies: each reading is stored once.
func TestBothFormsAtOnce(t *testing.T) {
	t.Parallel()
	const readings = 200
	m := mosquittest.Start(t)
	s := startFrom(t, m, func(c *config.Config) { c.MQTT.Listen = "127.0.0.1:0" })
	d := s.enrol(t, "w-0001", "p-0001")
	var payloads [][]byte
	for range readings {
		payloads = append(payloads, d.sign(t))
	}
	there := m.Publisher(t, "w-0001")
	go s.deliver(t, d, payloads)
	there.Publish(d.Topic, payloads...)
	s.metric(t, `pulsegate_messages_total{outcome="accepted"}`, readings)
	s.metric(t, `pulsegate_messages_total{outcome="duplicate"}`, readings)
	onceEach(t, s.stored(t), "live", d, payloads)
}

// A gate may have no listener of its own.
func TestASourceAlone(t *testing.T) {
	t.Parallel()
	m := mosquittest.Start(t)
	s := startFrom(t, m, nil)
	if s.MQTT() != "" || len(s.Listeners()) != 0 {
		t.Errorf("it listens on %v", s.Listeners())
	}
	if s.Source() != m.URL() {
		t.Errorf("it takes readings from %q", s.Source())
	}
	if s.counted(t, "pulsegate_source_connected") != 1 {
		t.Error("the metrics do not say that it is connected")
	}
	d := s.enrol(t, "w-0001", "p-0001")
	payload := d.sign(t)
	m.Publisher(t, "w-0001").Publish(d.Topic, payload)
	s.metric(t, `pulsegate_messages_total{outcome="accepted"}`, 1)
	checkStored(t, s.stored(t)[0], d, payload)
	if _, err := s.Registry().Revoke(t.Context(), registry.KindDevice, "w-0001", "a test"); err != nil {
		t.Error(err)
	}
	m.Kill()
	if text := s.readiness(t, http.StatusServiceUnavailable); !strings.Contains(text, "no readings from the MQTT source") || !strings.Contains(text, m.Address) {
		t.Errorf("/readyz says %q", text)
	}
	if s.counted(t, "pulsegate_source_connected") != 0 {
		t.Error("the metrics do not say that it is not connected")
	}
}
