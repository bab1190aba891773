package egress_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// keeper is a store that takes late readings, and its clock, which the test can
// put forward.
type keeper struct {
	*egress.Store
	ahead atomic.Int64
}

// lateOptions, with a deadline of 20 s, leave 31 s for stragglers: readings up
// to 60 s old are published without a look-up, and results are good for 34.5 s.
func lateOptions() egress.LateOptions {
	return egress.LateOptions{
		MaxAge: time.Minute, MaxFuture: 5 * time.Second, Tolerance: 2 * time.Second, Window: 2 * time.Minute,
	}
}

func (d *depot) keeper(t testing.TB, deadline time.Duration, o egress.LateOptions) *keeper {
	t.Helper()
	k := &keeper{}
	var err error
	k.Store, err = egress.NewStore(d.nc, egress.Options{
		Deadline: deadline, UnavailableAfter: 15 * time.Second, Late: o, Replica: "gate-1", Log: zerolog.Nop(),
		Now: func() time.Time { return time.Now().Add(time.Duration(k.ahead.Load())) },
	})
	need(t, err)
	t.Cleanup(func() { _ = k.Close(context.Background()) })
	return k
}

func (k *keeper) forward(d time.Duration) { k.ahead.Add(int64(d)) }

func (k *keeper) looked(t *testing.T, times uint64) {
	t.Helper()
	if got := k.Lookups(); got != times {
		t.Errorf("the stream was searched %d times, want %d", got, times)
	}
}

// forgetful is a layout whose stream hardly remembers identities.
func forgetful() egress.Layout {
	l := depotLayout()
	l.DuplicateWindow = 100 * time.Millisecond
	return l
}

// forgets waits until JetStream does not know any more what was stored so far.
func (d *depot) forgets(t *testing.T) {
	t.Helper()
	probe := &nats.Msg{Subject: "gate.in.vitals.probe", Header: nats.Header{jetstream.MsgIDHeader: {nuid.Next()}}}
	_, err := d.js.PublishMsg(soon(t), probe)
	need(t, err)
	for end := soon(t); ; time.Sleep(5 * time.Millisecond) {
		ack, err := d.js.PublishMsg(end, probe)
		need(t, err)
		if !ack.Duplicate {
			return
		}
	}
}

func at(n int, timestamp time.Time) egress.Record {
	r := record(n)
	r.Timestamp = timestamp
	return r
}

// anHourAgo is the middle of a minute, so that seconds around it are of its group.
func anHourAgo() time.Time {
	return time.Now().Add(-time.Hour).Truncate(time.Minute).Add(30 * time.Second)
}

func publishLate(t testing.TB, s *egress.Store, r egress.Record) answer {
	t.Helper()
	answers := make(chan answer, 2)
	s.PublishLate(r, func(c egress.Confirmation, err error) { answers <- answer{c, err} })
	return receive(t, answers)
}

// stored checks that each of the readings is in the stream once.
func (d *depot) stored(t *testing.T, readings int) {
	t.Helper()
	stored := d.inStream(t)
	for n := range readings {
		if times := stored[string(record(n).Payload)]; times != 1 {
			t.Errorf("reading %d is stored %d times, want once", n, times)
		}
	}
}

func lateOptionsFor(deadline time.Duration) egress.LateOptions {
	o := lateOptions()
	o.Window += deadline
	return o
}
