package egress_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// TestLiveCopiesAreFoundUpToTheBounds stores a reading live as early and as late
// before and after its timestamp as the options allow, by making these so.
func TestLiveCopiesAreFoundUpToTheBounds(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, forgetful())
	if a := publish(t, d.store(t, 20*time.Second), record(1)); a.err != nil {
		t.Fatal(a.err)
	}
	metadata, err := d.first(t, "VITALS", 1)[0].Metadata()
	need(t, err)
	d.forgets(t)
	const deadline, straggle = 20 * time.Second, 10 * time.Second
	window := func(o egress.LateOptions) egress.LateOptions {
		o.Window = o.MaxAge + o.MaxFuture + deadline + 2*o.Tolerance + straggle
		return o
	}
	at0 := metadata.Timestamp
	before := at0.Truncate(time.Minute).Add(-time.Minute - time.Microsecond)
	after := at0.Truncate(time.Minute).Add(2 * time.Minute)
	for name, c := range map[string]struct {
		timestamp time.Time
		options   egress.LateOptions
	}{
		"latest":   {before, egress.LateOptions{MaxAge: at0.Sub(before) - deadline - straggle - 2*time.Second, MaxFuture: time.Second, Tolerance: 2 * time.Second}},
		"earliest": {after, egress.LateOptions{MaxAge: time.Minute, MaxFuture: after.Sub(at0) - 2*time.Second, Tolerance: 2 * time.Second}},
	} {
		k := d.keeper(t, deadline, window(c.options))
		k.forward(time.Hour)
		if a := publishLate(t, k.Store, at(1, c.timestamp)); a.err != nil || !a.Duplicate || a.Sequence != 1 {
			t.Errorf("%s: %+v, want a duplicate of 1", name, a)
		}
	}
}

// TestManyCopiesOfAMinute needs several requests, and leaves out other devices.
func TestManyCopiesOfAMinute(t *testing.T) {
	const readings = 300
	d := openDepot(t)
	d.ensure(t, forgetful())
	now := time.Now()
	first := d.keeper(t, 25*time.Second, lateOptions())
	var all sync.WaitGroup
	for n := range readings {
		other := at(readings+n, now)
		other.Device = "w-2"
		for _, publish := range []func(func(egress.Confirmation, error)){
			func(done func(egress.Confirmation, error)) { first.Publish(at(n, now), done) },
			func(done func(egress.Confirmation, error)) { first.Publish(other, done) },
		} {
			all.Add(1)
			publish(func(_ egress.Confirmation, err error) {
				if err != nil {
					t.Error(err)
				}
				all.Done()
			})
		}
	}
	all.Wait()
	d.forgets(t)
	second := d.keeper(t, 25*time.Second, lateOptions())
	second.forward(time.Hour)
	for n := range readings + 1 {
		all.Add(1)
		second.PublishLate(at(n, now), func(c egress.Confirmation, err error) {
			if want := n < readings; err != nil || c.Duplicate != want {
				t.Errorf("reading %d: %+v %v, want duplicate %v", n, c, err, want)
			}
			all.Done()
		})
	}
	all.Wait()
	second.looked(t, 1)
}

// TestAResultIsKeptForAWhile counts look-ups as the clock goes on.
func TestAResultIsKeptForAWhile(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 20*time.Second, lateOptions())
	old := anHourAgo()
	for n, c := range []struct {
		forward time.Duration
		want    uint64
	}{{0, 1}, {14 * time.Second, 1}, {21 * time.Second, 2}, {0, 2}} {
		k.forward(c.forward)
		if a := publishLate(t, k.Store, at(n, old)); a.err != nil || a.Duplicate {
			t.Errorf("reading %d: %+v", n, a)
		}
		k.looked(t, c.want)
	}
}

// TestResultsAreBounded keeps no more identities than it may, the newest.
func TestResultsAreBounded(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 20*time.Second, lateOptions())
	k.KeepAtMost(2)
	old := anHourAgo().Add(-time.Hour)
	store := func(k *keeper, n int) {
		if a := publishLate(t, k.Store, at(n, old.Add(time.Duration(n)*time.Minute))); a.err != nil {
			t.Error(a.err)
		}
	}
	for n := range 4 {
		store(k, n)
	}
	if kept, waiting, identities := k.Kept(); kept != 4 || waiting != 0 || identities != 0 {
		t.Errorf("%d empty results kept with %d identities, %d wait", kept, identities, waiting)
	}
	k = d.keeper(t, 20*time.Second, lateOptions())
	k.KeepAtMost(2)
	for n := range 4 {
		store(k, n)
	}
	if kept, waiting, identities := k.Kept(); kept != 2 || waiting != 0 || identities != 2 {
		t.Errorf("%d results kept with %d identities, want 2 with 2; %d wait", kept, identities, waiting)
	}
	store(k, 3)
	k.looked(t, 4)
	store(k, 0)
	k.looked(t, 5)
}

// depotOn prepares a server on which a test answers some requests itself.
func depotOn(t *testing.T, nc *nats.Conn) *depot {
	t.Helper()
	js, err := jetstream.New(nc)
	need(t, err)
	d := &depot{nc: nc, js: js}
	d.ensure(t, forgetful())
	return d
}

// TestNoReplicaIsBelieved lets requests that any replica may answer be answered
// by one that is behind and has nothing yet.
func TestNoReplicaIsBelieved(t *testing.T) {
	nc := serverWith(t, `jetstream: enabled
accounts { GATE { jetstream: enabled, users: [{user: gate, password: password}]
  mappings: {"$JS.API.DIRECT.GET.VITALS": "behind"} } }`)
	_, err := nc.Subscribe("behind", func(m *nats.Msg) {
		need(t, m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}}))
	})
	need(t, err)
	d := depotOn(t, nc)
	live, late := at(0, time.Now()), at(1, anHourAgo())
	k := d.keeper(t, 20*time.Second, lateOptions())
	if a := publish(t, k.Store, live); a.err != nil {
		t.Fatal(a.err)
	}
	if a := publishLate(t, k.Store, late); a.err != nil {
		t.Fatal(a.err)
	}
	d.forgets(t)
	k.forward(time.Hour)
	for _, r := range []egress.Record{live, late} {
		if a := publishLate(t, k.Store, r); a.err != nil || !a.Duplicate {
			t.Errorf("a copy: %+v, want a duplicate", a)
		}
	}
}

// TestALeaderThatCannotReadIsNotBelieved lets requests for one message be
// answered as nats-server does where it cannot read its files.
func TestALeaderThatCannotReadIsNotBelieved(t *testing.T) {
	nc := serverWith(t, `jetstream: enabled
accounts { GATE { jetstream: enabled, users: [{user: gate, password: password}]
  mappings: {"$JS.API.STREAM.MSG.GET.VITALS": "blind"} } }`)
	d := depotOn(t, nc)
	r := at(0, anHourAgo())
	m := &nats.Msg{Subject: "gate.in." + egress.LateSubject(r.Patient, r.Device, r.Timestamp), Header: nats.Header{"Nats-Msg-Id": {r.Identity.String()}}, Data: r.Payload}
	_, err := d.js.PublishMsg(soon(t), m)
	need(t, err)
	d.forgets(t)
	_, err = nc.Subscribe("blind", func(m *nats.Msg) {
		need(t, m.Respond([]byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`)))
	})
	need(t, err)
	k := d.keeper(t, 500*time.Millisecond, lateOptions())
	if a := publishLate(t, k.Store, r); !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), "contradicts itself") {
		t.Errorf("the answer is %+v, want that it is not stored", a)
	}
	d.stored(t, 1)
	// Where there is nothing, the same answer is true.
	if a := publishLate(t, k.Store, at(1, r.Timestamp.Add(-time.Hour))); a.err != nil || a.Duplicate {
		t.Errorf("another: %+v", a)
	}
}

// TestTooManyForALookup stores more in a minute than is read of it.
func TestTooManyForALookup(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	old := anHourAgo()
	k := d.keeper(t, 20*time.Second, lateOptions())
	for n := range 3 {
		if a := publishLate(t, k.Store, at(n, old)); a.err != nil {
			t.Fatal(a.err)
		}
	}
	k = d.keeper(t, 20*time.Second, lateOptions())
	k.ReadAtMost(2)
	for range 2 {
		if a := publishLate(t, k.Store, at(3, old)); !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), "more readings around that time") {
			t.Errorf("the answer is %+v", a)
		}
	}
	k.looked(t, 1)
	if a := publishLate(t, k.Store, at(3, old.Add(time.Hour))); a.err != nil {
		t.Errorf("another minute: %v", a.err)
	}
}

// TestLookupsRest gives ten look-ups a second the time that they need; two are
// under way, and one is free.
func TestLookupsRest(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	k := d.keeper(t, 20*time.Second, lateOptions())
	k.SpendAtMost(10, 1)
	began := time.Now()
	for n := range 7 {
		if a := publishLate(t, k.Store, at(n, anHourAgo().Add(-time.Duration(n)*time.Minute))); a.err != nil {
			t.Error(a.err)
		}
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("7 look-ups took %v, want at least 400 ms", took)
	}
}

func TestWindowsThatAreTooShort(t *testing.T) {
	d := openDepot(t)
	o := lateOptions()
	o.Window = 89*time.Second - 1
	_, err := egress.NewStore(d.nc, egress.Options{Deadline: 20 * time.Second, Late: o, Replica: "r", Now: time.Now, Log: zerolog.Nop()})
	if err == nil || !strings.Contains(err.Error(), "shorter than the 1m29s") {
		t.Errorf("the error is %v", err)
	}
	a := publishLate(t, d.store(t, time.Second), at(0, anHourAgo()))
	if !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), "takes no late readings") {
		t.Errorf("a store without late readings: %+v", a)
	}
}
