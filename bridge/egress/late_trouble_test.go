package egress_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

func TestALateReadingFailsAtItsDeadline(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 700*time.Millisecond, lateOptions())
	away := d.nc.StatusChanged(nats.RECONNECTING)
	d.stop()
	<-away
	a := publishLate(t, k.Store, at(0, anHourAgo()))
	if !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), "looking for late copies: NATS does not answer") {
		t.Errorf("the error is %v", a.err)
	}
	d.start(t)
	d.await(t)
	eventually(t, func() error { return publishLate(t, k.Store, at(0, anHourAgo())).err })
	d.stored(t, 1)
}

func TestALateReadingWaitsForNATS(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 25*time.Second, lateOptions())
	d.stop()
	answers := make(chan answer, 2)
	k.PublishLate(at(0, anHourAgo()), func(c egress.Confirmation, err error) { answers <- answer{c, err} })
	d.start(t)
	if a := receive(t, answers); a.err != nil || a.Duplicate {
		t.Errorf("the answer is %+v", a)
	}
}

func TestCloseFailsWhatWaitsForALookup(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	o := lateOptionsFor(time.Hour)
	k := d.keeper(t, time.Hour, o)
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	answers := make(chan answer, 40)
	done := func(c egress.Confirmation, err error) { answers <- answer{c, err} }
	for n := range 20 {
		k.PublishLate(at(n, anHourAgo().Add(-time.Duration(n)*time.Hour)), done)
	}
	if k.Pending() != 20 {
		t.Errorf("%d are pending, want 20", k.Pending())
	}
	need(t, k.Close(context.Background()))
	k.PublishLate(at(20, anHourAgo()), done)
	for range 21 {
		if a := receive(t, answers); !errors.Is(a.err, egress.ErrNotStored) {
			t.Errorf("the error is %v, want ErrNotStored", a.err)
		}
	}
	if k.Pending() != 0 || len(answers) != 0 {
		t.Errorf("%d are pending and %d answered again", k.Pending(), len(answers))
	}
}

func TestALateReadingMustStandAfterTheLookup(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 20*time.Second, lateOptions())
	fallen := errors.New("the device was revoked")
	r := at(0, anHourAgo())
	r.Stands = func() error { return fallen }
	if a := publishLate(t, k.Store, r); !errors.Is(a.err, egress.ErrWithdrawn) || !errors.Is(a.err, fallen) {
		t.Errorf("the answer is %+v", a)
	}
	if n := d.messages(t, "VITALS"); n != 0 {
		t.Errorf("%d readings are stored", n)
	}
	var asked atomic.Int64
	r.Stands = func() error {
		if asked.Add(1) < 3 {
			return egress.ErrNotYet
		}
		return nil
	}
	if a := publishLate(t, k.Store, r); a.err != nil || a.Duplicate || asked.Load() != 3 {
		t.Errorf("asked %d times: %+v", asked.Load(), a)
	}
}

// TestTooManyGroups fills a device's line while NATS is away.
func TestTooManyGroups(t *testing.T) {
	const groups = egress.LineLength + 100
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 2*time.Second, lateOptions())
	d.stop()
	var full atomic.Int64
	var all sync.WaitGroup
	all.Add(groups)
	answers := make([]atomic.Int64, groups)
	for n := range groups {
		r := at(n, anHourAgo().Add(-time.Duration(n)*time.Minute))
		k.PublishLate(r, func(_ egress.Confirmation, err error) {
			if !errors.Is(err, egress.ErrNotStored) {
				t.Errorf("group %d: %v", n, err)
			} else if strings.Contains(err.Error(), "too many late readings of this device wait") {
				full.Add(1)
			}
			answers[n].Add(1)
			all.Done()
		})
	}
	all.Wait()
	// Some groups have left the line for their look-up.
	if got := full.Load(); got == 0 || got > 100 {
		t.Errorf("%d found the line full, want at most 100 and some", got)
	}
	for n := range answers {
		if got := answers[n].Load(); got != 1 {
			t.Errorf("group %d was answered %d times", n, got)
		}
	}
	d.start(t)
	d.await(t)
	// A question that was lost with the connection is waited for, for a while.
	eventually(t, func() error { return publishLate(t, k.Store, at(0, anHourAgo())).err })
	for end := soon(t); ; time.Sleep(5 * time.Millisecond) {
		_, waiting, _ := k.Kept()
		if waiting == 0 {
			return
		}
		if end.Err() != nil {
			t.Fatalf("%d groups are left though nobody waits for them", waiting)
		}
	}
}

// TestManyLookupsAreNoOutage lets copies wait too long for their turn: who
// replays old readings must not make the store count as unavailable.
func TestManyLookupsAreNoOutage(t *testing.T) {
	const groups = 150
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 300*time.Millisecond, lateOptions())
	timestamp := func(n int) time.Time { return anHourAgo().Add(-time.Duration(n) * time.Minute) }
	for n := range groups {
		r := at(n, timestamp(n))
		m := &nats.Msg{
			Subject: "gate.in." + egress.LateSubject(r.Patient, r.Device, r.Timestamp),
			Header:  nats.Header{"Nats-Msg-Id": {r.Identity.String()}},
		}
		_, err := d.js.PublishMsg(soon(t), m)
		need(t, err)
	}
	for range 2 {
		var failed, found atomic.Int64
		var all sync.WaitGroup
		all.Add(groups)
		for n := range groups {
			k.PublishLate(at(n, timestamp(n)), func(c egress.Confirmation, err error) {
				if err != nil {
					failed.Add(1)
				} else if c.Duplicate {
					found.Add(1)
				}
				all.Done()
			})
		}
		all.Wait()
		if failed.Load() == 0 || found.Load()+failed.Load() != groups {
			t.Errorf("%d failed and %d were found of %d, want some and all others", failed.Load(), found.Load(), groups)
		}
		if err := k.Err(); err != nil {
			t.Errorf("the store says %v", err)
		}
		for range 3 { // the probe keeps the store well meanwhile
			k.forward(5 * time.Second)
		}
	}
}

// TestWhatWasSleptThroughIsNotPublished lets the process sleep longer than the
// stream remembers: its publish must not go out again.
func TestWhatWasSleptThroughIsNotPublished(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	published, err := d.nc.SubscribeSync("gate.in.vitals.>")
	need(t, err)
	for n := range 3 {
		k := d.keeper(t, 20*time.Second, lateOptions())
		answers := make(chan answer, 2)
		k.Publish(record(n), func(c egress.Confirmation, err error) { answers <- answer{c, err} })
		_, err = published.NextMsgWithContext(soon(t))
		need(t, err)
		k.forward(time.Hour)
		if a := receive(t, answers); !errors.Is(a.err, egress.ErrNotStored) {
			t.Errorf("the answer is %+v", a)
		}
		need(t, k.Close(soon(t)))
	}
	need(t, d.nc.Flush())
	if n, _, err := published.Pending(); n != 0 || err != nil {
		t.Errorf("%d went out again: %v", n, err)
	}
}
