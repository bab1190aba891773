package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// A retry after a failed store is no replay: it is stored, and acknowledged.
func TestAFailedStoreCanBeTriedAgain(t *testing.T) {
	n := newCluster(t)
	s := startAt(t, n, func(c *config.Config) { c.Store.Deadline = config.Duration(300 * time.Millisecond) })
	d := s.enrol(t, "w-0001", "p-0001")
	triage, events := s.subscribe(t, "consumer", "vitals.>"), s.subscribe(t, "security", "rejected.>")
	var sent [][]byte
	for _, version := range []byte{4, 5} {
		payload := d.sign(t)
		sent = append(sent, payload)
		n.vitals(t, 1)
		for range 2 {
			c := s.dial(t, d, version)
			c.Send(mqttest.Publish(1, 1, d.Topic, payload), mqttest.Publish(2, 1, d.Topic, tampered(payload)))
			if version == 5 {
				if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x89 {
					t.Errorf("DISCONNECT %#x, want 0x89", bye.ReasonCode)
				}
			}
			c.ExpectEnd()
			if r := receiveRejection(t, events); r.Outcome != "bad_signature" {
				t.Errorf("rejection %+v", r)
			}
		}
		n.vitals(t, 1<<20)
		c := s.dial(t, d, version)
		c.Send(mqttest.Publish(1, 1, d.Topic, payload))
		c.ExpectBytes(0x40, 2, 0, 1)
		if m := receive(t, triage); !bytes.Equal(m.Data, payload) {
			t.Errorf("arrived as %s", m.Data)
		}
		c.Send(mqttest.Publish(2, 1, d.Topic, payload))
		c.ExpectBytes(0x40, 2, 0, 2)
		if r := receiveRejection(t, events); r.subject != "rejected.duplicate.w-0001" {
			t.Errorf("rejection %+v", r)
		}
	}
	stored := s.stored(t)
	if len(stored) != len(sent) {
		t.Fatalf("%d are stored, want %d", len(stored), len(sent))
	}
	for i := range sent {
		checkStored(t, stored[i], d, sent[i])
	}
}

// Two copies at the same instant are one stored reading, and both acknowledged
// once it is.
func TestCopiesAtTheSameInstant(t *testing.T) {
	n := newCluster(t)
	s := startAt(t, n, nil)
	d := s.enrol(t, "w-0001", "p-0001")
	events := s.subscribe(t, "security", "rejected.>")
	c := s.dial(t, d, 5)
	payload := d.sign(t)
	n.vitals(t, 1) // holds the first up
	c.Send(mqttest.Publish(1, 1, d.Topic, payload), mqttest.Publish(2, 1, d.Topic, payload), mqttest.Publish(3, 2, d.Topic, payload))
	c.Ping() // all three are in the gate, none is acknowledged
	if stored := s.stored(t); len(stored) != 0 {
		t.Fatalf("%d are stored", len(stored))
	}
	n.vitals(t, 1<<20)
	c.ExpectBytes(0x40, 2, 0, 1)
	c.ExpectBytes(0x40, 2, 0, 2)
	c.ExpectBytes(0x50, 2, 0, 3)
	stored := s.stored(t)
	if len(stored) != 1 {
		t.Fatalf("%d are stored, want 1", len(stored))
	}
	checkStored(t, stored[0], d, payload)
	for range 2 {
		if r := receiveRejection(t, events); r.subject != "rejected.duplicate.w-0001" {
			t.Errorf("rejection %+v", r)
		}
	}
}

// Copies that wait for a store that fails are not acknowledged either.
func TestCopiesOfWhatIsNotStored(t *testing.T) {
	n := newCluster(t)
	s := startAt(t, n, func(c *config.Config) { c.Store.Deadline = config.Duration(300 * time.Millisecond) })
	d := s.enrol(t, "w-0001", "p-0001")
	c := s.dial(t, d, 4)
	payload := d.sign(t)
	n.vitals(t, 1)
	c.Send(mqttest.Publish(1, 1, d.Topic, payload), mqttest.Publish(2, 1, d.Topic, payload))
	c.ExpectEnd()
	n.vitals(t, 1<<20)
	c = s.dial(t, d, 4)
	c.Send(mqttest.Publish(1, 1, d.Topic, payload), mqttest.Publish(2, 1, d.Topic, payload))
	c.ExpectBytes(0x40, 2, 0, 1)
	c.ExpectBytes(0x40, 2, 0, 2)
	if stored := s.stored(t); len(stored) != 1 {
		t.Errorf("%d are stored, want 1", len(stored))
	}
}

// The store goes away under load, longer than a reading may wait, twice.
// Afterwards what was acknowledged is stored, all of it and once.
func TestTheStoreGoesAwayUnderLoad(t *testing.T) {
	t.Parallel()
	const devices, outages = 8, 2
	n := newCluster(t)
	s := startAt(t, n, func(c *config.Config) {
		c.Store.Deadline = config.Duration(500 * time.Millisecond)
		c.MQTT.ReceiveMaximum, c.MQTT.InFlight = 16, 64
	})
	var all []registry.Credentials
	for i := range devices {
		all = append(all, s.enrol(t, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i)).Credentials)
	}
	books, err := ledger.Open("")
	must(t, err)
	acknowledged := make(chan struct{}, 1<<20)
	resent := make(chan struct{}, 1<<20)
	f, err := fleet.New(fleet.Options{
		Broker: s.MQTT(), Credentials: all, Rate: 200, Ledger: books, Drain: 20 * time.Second, Logger: zerolog.Nop(),
		Observer: fleet.Observer{
			Acknowledged: func(fleet.Acknowledgement) { acknowledged <- struct{}{} },
			Sent: func(a fleet.Sending) {
				if a.Attempt > 1 {
					resent <- struct{}{}
				}
			},
		},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { _, err := f.Run(ctx); ended <- err }()
	for range outages {
		drain(acknowledged)
		count(t, acknowledged, 500)
		n.stop()
		drain(resent)
		count(t, resent, 2*devices) // connections were closed, and readings come again
		n.run(t)
	}
	drain(acknowledged)
	count(t, acknowledged, 500)
	cancel()
	must(t, <-ended)
	summary := f.Summary()
	if summary.Unacknowledged() != 0 || summary.Resent == 0 {
		t.Errorf("the fleet: %+v", summary)
	}
	entries, err := books.Entries()
	must(t, err)
	var stored []ledger.StoredReading
	for _, m := range s.stored(t) {
		stored = append(stored, ledger.StoredReading{Subject: m.Subject, Payload: m.Data})
	}
	a := ledger.Settle(entries, stored)
	if a.Authentic.Lost != 0 || a.Authentic.Duplicated != 0 || a.Forged != 0 || a.Misfiled != 0 || a.Authentic.Delivered != a.Authentic.Sent {
		t.Errorf("settled: %+v, forged %d, misfiled %d", a.Authentic, a.Forged, a.Misfiled)
	}
	// The registry, too, is watched again.
	late := s.enrol(t, "w-late", "p-late")
	c := s.dial(t, late, 5)
	c.Send(mqttest.Publish(1, 1, late.Topic, late.sign(t)))
	c.ExpectBytes(0x40, 2, 0, 1)
	t.Logf("settled: %+v; sent again %d times, over %d connections", a.Authentic, summary.Resent, summary.Connections)
}

func drain(events <-chan struct{}) {
	for len(events) > 0 {
		<-events
	}
}

func count(t *testing.T, events <-chan struct{}, n int) {
	t.Helper()
	end := time.After(2 * mqttest.Patience)
	for range n {
		select {
		case <-events:
		case <-end:
			t.Fatal("nothing more happens")
		}
	}
}
