package clock_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
)

// patience is how long a real test waits for what must happen.
const patience = 30 * time.Second

func realClock(t testing.TB, o clock.Options) *clock.Clock {
	t.Helper()
	if o.Ask == nil {
		o.Ask = func(context.Context) (time.Time, error) { return time.Now(), nil }
	}
	o.Log = zerolog.Nop()
	c := clock.New(o)
	t.Cleanup(func() { need(t, c.Close(context.Background())) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	need(t, c.First(ctx))
	return c
}

// TestTheMonotonicReadingIsNeverEarly compares with the machine's own clock, as
// a lease would: as it goes, and while time stands still.
func TestTheMonotonicReadingIsNeverEarly(t *testing.T) {
	begin := time.Now()
	var fast atomic.Int64
	answered := make(chan struct{})
	c := realClock(t, clock.Options{
		Wall: func() time.Time {
			now := time.Now()
			for time.Since(now) < time.Millisecond { // as if others had the processor
			}
			return now
		},
		Elapsed:   func() time.Duration { return time.Since(begin) + time.Duration(fast.Load()) },
		Tolerance: time.Hour, Every: time.Millisecond,
		Ask: func(ctx context.Context) (time.Time, error) {
			select {
			case answered <- struct{}{}:
			case <-time.After(time.Millisecond):
			}
			return time.Now(), ctx.Err()
		},
	})
	late := func() time.Duration {
		t.Helper()
		least := time.Since(begin)
		now := c.Now()
		if !strings.Contains(now.String(), " m=") {
			t.Fatalf("%v has no monotonic reading", now)
		}
		if now.Sub(begin) < least {
			t.Fatalf("the monotonic reading is early by %v", least-now.Sub(begin))
		}
		return now.Sub(begin) - time.Since(begin)
	}
	if d := late(); d > time.Minute {
		t.Errorf("the monotonic reading is late by %v", d)
	}
	fast.Store(int64(30 * time.Minute)) // as if the machine's clock had been set back by that
	if d := late(); d < 29*time.Minute || d > 30*time.Minute {
		t.Errorf("the monotonic reading is late by %v, want half an hour", d)
	}
	for range 2 { // the answer before the second has been weighed by then
		<-answered
	}
	before := c.Now().Round(0)
	if now := c.Now().Round(0); now != before {
		t.Errorf("time does not stand still: it went on by %v", now.Sub(before))
	}
	late()
}

// stepped is a machine's clock that others set, and true time.
type stepped struct {
	begin time.Time
	ahead atomic.Int64
}

func (s *stepped) truth() time.Time { return s.begin.Round(0).Add(time.Since(s.begin)) }
func (s *stepped) wall() time.Time  { return s.truth().Add(time.Duration(s.ahead.Load())) }

// TestManyRead has several goroutines read while the clock is set to and fro.
// No time is before one that any of them was told earlier, and what is told
// without an error is within the tolerance of the truth.
func TestManyRead(t *testing.T) {
	const readers, readings = 4, 20_000
	s := &stepped{begin: time.Now()}
	c := realClock(t, clock.Options{
		Wall: s.wall, Elapsed: func() time.Duration { return time.Since(s.begin) },
		Tolerance: tolerance, Every: time.Millisecond,
		Ask: func(context.Context) (time.Time, error) { return s.truth(), nil },
	})
	var latest, judged, doubted atomic.Int64
	read := func() {
		earlier, before := latest.Load(), s.truth()
		now, err := c.Read()
		after := s.truth()
		if now.UnixNano() < earlier {
			t.Errorf("time went back by %v", time.Duration(earlier-now.UnixNano()))
		}
		for l := latest.Load(); l < now.UnixNano() && !latest.CompareAndSwap(l, now.UnixNano()); l = latest.Load() {
		}
		if err != nil {
			doubted.Add(1)
			return
		}
		judged.Add(1)
		if now.Before(before.Add(-tolerance)) || now.After(after.Add(tolerance)) {
			t.Errorf("the time is %v, at %v", now, after)
		}
	}
	var reading, setting sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for n := 0; (n < readings || judged.Load() < readings || doubted.Load() < readings) && time.Since(s.begin) < patience; n++ {
				read()
			}
		})
	}
	stop := make(chan struct{})
	setting.Go(func() { s.upset(stop) })
	reading.Wait()
	close(stop)
	setting.Wait()
	if judged.Load() < readings || doubted.Load() < readings {
		t.Errorf("%d readings were judged and %d not: too few to show anything", judged.Load(), doubted.Load())
	}
}

// upset sets the clock every half millisecond, at every other time right.
func (s *stepped) upset(stop chan struct{}) {
	random := rand.New(rand.NewPCG(1, 2))
	ticker := time.NewTicker(500 * time.Microsecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		within := tolerance
		if n%4 == 1 {
			within = time.Hour
		}
		s.ahead.Store(random.Int64N(2*int64(within)) - int64(within))
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	c := realClock(t, clock.Options{Tolerance: tolerance})
	if n := testing.AllocsPerRun(10_000, func() { _, _ = c.Read() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	c := realClock(b, clock.Options{Tolerance: tolerance})
	for name, read := range map[string]func(){
		"Read":      func() { _, _ = c.Read() },
		"NowAndErr": func() { _, _ = c.Now(), c.Err() },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				read()
			}
		})
		b.Run(name+"InParallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					read()
				}
			})
		})
	}
}
