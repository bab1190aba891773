package egress_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

func TestALateReadingIsStoredApart(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	seen, err := d.nc.SubscribeSync("vitals.>")
	need(t, err)
	r := at(1, time.Date(2025, 11, 22, 1, 4, 59, 999, time.FixedZone("", 3600)))
	a := publishLate(t, d.keeper(t, 20*time.Second, lateOptions()).Store, r)
	if a.err != nil || a.Duplicate || a.Sequence != 1 || a.Took <= 0 {
		t.Fatalf("answer %+v", a)
	}
	const subject = "vitals.late.p-1.w-1.202511220004"
	stored := d.first(t, "VITALS", 1)[0]
	if stored.Subject() != subject || !bytes.Equal(stored.Data(), r.Payload) {
		t.Errorf("stored is %q on %s, want %q", stored.Data(), stored.Subject(), r.Payload)
	}
	checkHeaders(t, stored.Headers(), r)
	shown, err := seen.NextMsgWithContext(soon(t))
	need(t, err)
	if shown.Subject != subject || !bytes.Equal(shown.Data, r.Payload) {
		t.Errorf("shown is %q on %s, want %q", shown.Data, shown.Subject, r.Payload)
	}
}

// TestAConsumerReadsLateReadings stores and reads under the accounts that the
// gate runs on.
func TestAConsumerReadsLateReadings(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 1)
	shown, err := l.consumer.SubscribeSync(egress.SubjectLate)
	need(t, err)
	need(t, l.consumer.Flush())
	k := (&depot{nc: l.engine.Conn()}).keeper(t, 20*time.Second, lateOptions())
	r := at(1, anHourAgo())
	if a := publishLate(t, k.Store, r); a.err != nil || a.Duplicate {
		t.Fatalf("answer %+v", a)
	}
	want := egress.LateSubject(r.Patient, r.Device, r.Timestamp)
	m, err := shown.NextMsgWithContext(soon(t))
	need(t, err)
	if m.Subject != want {
		t.Errorf("shown on %s, want %s", m.Subject, want)
	}
	reader, err := egress.NewReader(l.consumer, egress.StreamVitals, egress.SubjectLate)
	need(t, err)
	var got []string
	_, err = reader.Read(t.Context(), 0, func(m egress.Stored) error { got = append(got, m.Subject); return nil })
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("read %q, %v, want %s", got, err, want)
	}
}

// TestWithinTheWindowNothingIsLookedUp publishes what is a little too old, while
// the stream remembers all of its copies.
func TestWithinTheWindowNothingIsLookedUp(t *testing.T) {
	d := openDepot(t)
	l := depotLayout()
	l.DuplicateWindow = 10 * time.Minute
	d.ensure(t, l)
	o := lateOptions()
	o.Window = l.DuplicateWindow
	k := d.keeper(t, 20*time.Second, o)
	r := at(1, time.Now().Add(-2*time.Minute))
	for n, want := range []bool{false, true} {
		if a := publishLate(t, k.Store, r); a.err != nil || a.Duplicate != want || a.Sequence != 1 {
			t.Errorf("publish %d: %+v, want duplicate %v of 1", n, a, want)
		}
	}
	r = at(2, time.Now().Add(-2*time.Minute))
	if a := publish(t, k.Store, r); a.err != nil {
		t.Fatal(a.err)
	}
	if a := publishLate(t, k.Store, r); a.err != nil || !a.Duplicate || a.Sequence != 2 {
		t.Errorf("a copy of a live reading: %+v, want a duplicate of 2", a)
	}
	k.looked(t, 0)
}

// TestTheOldestThatNeedsNoLookup takes the age from the bounds of the options.
func TestTheOldestThatNeedsNoLookup(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	o := lateOptions()
	o.Window = 10 * time.Minute
	// 5 minutes are for stragglers, 20 s for the deadline.
	const oldest = 10*time.Minute - 5*time.Second - 4*time.Second - 20*time.Second - 5*time.Minute
	for n, c := range []struct {
		age  time.Duration
		want uint64
	}{{oldest - 5*time.Second, 0}, {oldest, 1}} {
		k := d.keeper(t, 20*time.Second, o)
		if a := publishLate(t, k.Store, at(n, time.Now().Add(-c.age))); a.err != nil || a.Duplicate {
			t.Errorf("%v old: %+v", c.age, a)
		}
		k.looked(t, c.want)
	}
}

// TestACopyIsFoundWhenJetStreamHasForgotten stores copies live and late, and
// again after that.
func TestACopyIsFoundWhenJetStreamHasForgotten(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, forgetful())
	first := d.keeper(t, 20*time.Second, lateOptions())
	live, late := at(0, time.Now()), at(1, anHourAgo())
	if a := publish(t, first.Store, live); a.err != nil {
		t.Fatal(a.err)
	}
	if a := publishLate(t, first.Store, late); a.err != nil || a.Duplicate {
		t.Fatalf("answer %+v", a)
	}
	d.forgets(t)
	if a := publish(t, first.Store, at(2, time.Now())); a.err != nil || a.Duplicate {
		t.Fatalf("answer %+v", a)
	}
	d.stop()
	d.start(t)
	d.connect(t, d.server.ClientURL())
	second := d.keeper(t, 20*time.Second, lateOptions())
	second.forward(time.Hour)
	for sequence, r := range []egress.Record{live, late} {
		for range 2 {
			a := publishLate(t, second.Store, r)
			if a.err != nil || !a.Duplicate || a.Sequence != uint64(sequence)+1 {
				t.Errorf("a copy: %+v, want a duplicate of %d", a, sequence+1)
			}
		}
	}
	second.looked(t, 2)
	d.stored(t, 3)
}

// TestOthersAreNoCopies stores readings of the same minute of another patient and
// another device, and the same bytes under another identity.
func TestOthersAreNoCopies(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, forgetful())
	k := d.keeper(t, 20*time.Second, lateOptions())
	r := at(0, anHourAgo())
	patient, device, identity, minute := r, r, at(1, r.Timestamp), r
	patient.Patient, device.Device, identity.Payload = "p-2", "w-2", r.Payload
	minute.Timestamp = r.Timestamp.Add(time.Minute)
	for n, r := range []egress.Record{r, patient, device, identity, minute} {
		if a := publishLate(t, k.Store, r); a.err != nil || a.Duplicate {
			t.Errorf("reading %d: %+v", n, a)
		}
		d.forgets(t)
	}
}

// TestTwoGatesRace gives both the same readings at once, with the stream
// restarted in between, and all of them once more when it has forgotten them.
func TestTwoGatesRace(t *testing.T) {
	const readings, minutes = 200, 5
	d := openDepot(t)
	d.ensure(t, depotLayout())
	race := func(t *testing.T, from, to int) (stored int64) {
		var news atomic.Int64
		var both sync.WaitGroup
		for range 2 {
			d.connect(t, d.server.ClientURL())
			k := d.keeper(t, 25*time.Second, lateOptions())
			for n := from; n < to; n++ {
				both.Add(1)
				k.PublishLate(at(n, anHourAgo().Add(time.Duration(n%minutes)*time.Minute)), func(c egress.Confirmation, err error) {
					if err != nil {
						t.Errorf("reading %d: %v", n, err)
					} else if !c.Duplicate {
						news.Add(1)
					}
					both.Done()
				})
			}
		}
		both.Wait()
		return news.Load()
	}
	if got := race(t, 0, readings/2); got != readings/2 {
		t.Errorf("%d were new, want %d", got, readings/2)
	}
	config := d.config(t, "VITALS")
	config.Duplicates = 100 * time.Millisecond
	_, err := d.js.UpdateStream(soon(t), config)
	need(t, err)
	d.stop()
	d.start(t)
	d.connect(t, d.server.ClientURL())
	d.forgets(t)
	config.Duplicates = 2 * time.Minute
	_, err = d.js.UpdateStream(soon(t), config)
	need(t, err)
	if got := race(t, 0, readings); got != readings/2 {
		t.Errorf("%d were new, want the other %d", got, readings/2)
	}
	d.stored(t, readings)
}

// TestAnHourIsReplayed sends what a device kept for an hour three times, and once
// more when JetStream has forgotten it.
func TestAnHourIsReplayed(t *testing.T) {
	const minutes, each, times = 60, 10, 3
	d := openDepot(t)
	d.ensure(t, depotLayout())
	began := time.Now()
	first := anHourAgo().Add(-time.Hour)
	replay := func(k *keeper, times int) (news int64) {
		var stored atomic.Int64
		var all sync.WaitGroup
		for range times {
			for n := range minutes * each {
				all.Add(1)
				k.PublishLate(at(n, first.Add(time.Duration(n)*time.Minute/each)), func(c egress.Confirmation, err error) {
					if err != nil {
						t.Errorf("reading %d: %v", n, err)
					} else if !c.Duplicate {
						stored.Add(1)
					}
					all.Done()
				})
			}
		}
		all.Wait()
		return stored.Load()
	}
	k := d.keeper(t, 25*time.Second, lateOptions())
	if got := replay(k, times); got != minutes*each {
		t.Errorf("%d were new, want %d", got, minutes*each)
	}
	if got := k.Lookups(); got > minutes+1 {
		t.Errorf("%d look-ups for %d minutes", got, minutes)
	}
	// 20 begin at once, and then 100 a second.
	if least := (minutes - 20) * time.Second / 100; time.Since(began) < least {
		t.Errorf("%d look-ups within %v, want at least %v", k.Lookups(), time.Since(began), least)
	}
	d.stop()
	d.start(t)
	d.connect(t, d.server.ClientURL())
	k = d.keeper(t, 25*time.Second, lateOptions())
	if got := replay(k, 1); got != 0 {
		t.Errorf("%d were new the second time", got)
	}
	d.stored(t, minutes*each)
}
