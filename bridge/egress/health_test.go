package egress_test

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// patient is a store that says after 15 s of its clock that it is unavailable,
// and that clock, which the test can put forward.
type patient struct {
	*egress.Store
	ahead atomic.Int64
}

func (d *depot) patient(t *testing.T, deadline time.Duration) *patient {
	t.Helper()
	p := &patient{}
	var err error
	p.Store, err = egress.NewStore(d.nc, egress.Options{
		Deadline: deadline, UnavailableAfter: 15 * time.Second, Replica: "r", Log: zerolog.Nop(),
		Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) },
	})
	need(t, err)
	t.Cleanup(func() { need(t, p.Close(soon(t))) })
	return p
}

func (p *patient) forward(d time.Duration) { p.ahead.Add(int64(d)) }

// turns waits until the store says that it is unavailable for that reason, or,
// where that is empty, that it is not.
func (p *patient) turns(t *testing.T, reason string) {
	t.Helper()
	for end := soon(t); ; time.Sleep(5 * time.Millisecond) {
		err := p.Err()
		if (err == nil) == (reason == "") && (err == nil || strings.Contains(err.Error(), reason)) {
			return
		}
		if end.Err() != nil {
			t.Fatalf("the store says %v, want %q", err, reason)
		}
	}
}

func (p *patient) fails(t *testing.T, n int) {
	t.Helper()
	if a := publish(t, p.Store, record(n)); !errors.Is(a.err, egress.ErrNotStored) {
		t.Fatalf("the answer is %+v, want that it is not stored", a)
	}
}

// TestNATSIsAwayAndNobodyPublishes takes the server away while no reading could
// show it, and brings it back while none is let in.
func TestNATSIsAwayAndNobodyPublishes(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	d.ensure(t, depotLayout())
	p := d.patient(t, time.Minute)
	p.forward(18 * time.Second) // a clock that jumps is no outage
	if err := p.Err(); err != nil {
		t.Errorf("at first: %v", err)
	}
	p.forward(-18 * time.Second)
	d.stop()
	for d.nc.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	if err := p.Err(); err != nil {
		t.Errorf("unavailable before its time: %v", err)
	}
	p.forward(16 * time.Second)
	p.turns(t, "NATS is not connected")
	d.start(t)
	p.turns(t, "")
}

// TestTheStreamIsAwayAndNobodyPublishes does the same to the stream alone.
func TestTheStreamIsAwayAndNobodyPublishes(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	d.ensure(t, depotLayout())
	p := d.patient(t, time.Minute)
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	p.forward(16 * time.Second)
	p.turns(t, "asking for stream VITALS")
	d.ensure(t, depotLayout())
	p.turns(t, "")
}

// TestReadingsThatFailedInAnOutageAreOverWithIt lets readings fail in an outage
// until its very end. By the store's clock, which is put back for that, the last
// failure is yet to come when the outage is over.
func TestReadingsThatFailedInAnOutageAreOverWithIt(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	d.ensure(t, depotLayout())
	p := d.patient(t, 100*time.Millisecond)
	need(t, d.js.DeleteStream(soon(t), "VITALS"))
	p.fails(t, 1)
	p.forward(90 * time.Second)
	p.fails(t, 2)
	p.forward(-60 * time.Second)
	p.turns(t, "asking for stream VITALS")
	d.ensure(t, depotLayout())
	p.turns(t, "")
}

// TestAHungStoreIsUnavailable holds NATS up until sending blocks, and with it
// whoever asks.
func TestAHungStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	r := newRelay(t, d.server.Addr().String())
	d.connect(t, r.url())
	t.Cleanup(r.resume)
	d.ensure(t, depotLayout())
	p := d.patient(t, time.Hour)
	r.pause()
	sent := make(chan struct{}, 1)
	go func() {
		large := record(1)
		large.Payload = bytes.Repeat([]byte("x"), 4096)
		for range 8 << 10 {
			p.Publish(large, func(egress.Confirmation, error) {})
			select {
			case sent <- struct{}{}:
			default:
			}
		}
	}()
	for blocked := false; !blocked; {
		select {
		case <-sent:
		case <-time.After(500 * time.Millisecond):
			blocked = true
		}
	}
	p.forward(20 * time.Second)
	p.turns(t, "the store has been unavailable for")
	r.resume()
	p.turns(t, "")
}

// TestAFullStreamIsUnavailable fills it, and gives it room again.
func TestAFullStreamIsUnavailable(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	l := depotLayout()
	l.Vitals.MaxBytes = 16 << 10
	d.ensure(t, l)
	p := d.patient(t, 100*time.Millisecond)
	for n, full := 0, false; !full; n++ {
		err := publish(t, p.Store, record(n)).err // which may be that this machine is slow
		full = err != nil && strings.Contains(err.Error(), "maximum bytes exceeded")
	}
	if err := p.Err(); err != nil {
		t.Errorf("unavailable after one failure: %v", err)
	}
	p.forward(16 * time.Second)
	p.turns(t, "the stream VITALS is full")
	l.Vitals.MaxBytes = 1 << 20
	vitals := d.config(t, "VITALS")
	vitals.MaxBytes = l.Vitals.MaxBytes
	_, err := d.js.UpdateStream(soon(t), vitals)
	need(t, err)
	p.turns(t, "")
}

// TestReadingsFailThoughTheStoreAnswers makes every reading too large for the
// stream, which no question to it shows.
func TestReadingsFailThoughTheStoreAnswers(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	d.ensure(t, depotLayout())
	p := d.patient(t, 100*time.Millisecond)
	limit := func(size int32) {
		vitals := d.config(t, "VITALS")
		vitals.MaxMsgSize = size
		_, err := d.js.UpdateStream(soon(t), vitals)
		need(t, err)
	}
	limit(10)
	p.fails(t, 1)
	if err := p.Err(); err != nil {
		t.Errorf("unavailable after one failure: %v", err)
	}
	p.forward(16 * time.Second)
	p.fails(t, 2)
	p.turns(t, "no reading could be stored for")
	p.forward(6 * time.Second) // another chance
	p.turns(t, "")
	p.fails(t, 3)
	p.turns(t, "no reading could be stored for 2")
	limit(-1)
	for end := soon(t); publish(t, p.Store, record(4)).err != nil; { // where this machine is slow
		need(t, end.Err())
	}
	if err := p.Err(); err != nil {
		t.Errorf("unavailable though one was stored: %v", err)
	}
}
