package clock_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
)

func TestAClockThatIsOff(t *testing.T) {
	for _, c := range []struct {
		machine, nats, trip time.Duration
		says                string
	}{
		{0, tolerance + time.Millisecond, 0, "2.001s behind NATS'"},
		{0, -tolerance - time.Millisecond, 0, "2.001s ahead of NATS'"},
		{time.Second, -time.Hour, 0, "1h0m1s ahead of NATS'"},
		{0, -time.Hour, 3900 * time.Millisecond, "ahead of NATS'"},
		{0, 100 * 365 * 24 * time.Hour, 0, "behind NATS'"},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			compared(t, w)
			set(&w.machine, c.machine)
			set(&w.nats, c.nats)
			set(&w.there, c.trip)
			pass(time.Second + c.trip)
			_, err := w.Read()
			says(t, err, c.says, "2s are allowed", "set the clock that is wrong, with NTP", "freshness.clock_tolerance")
			set(&w.there, 0)
			pass(time.Minute)
			says(t, w.Err(), c.says)
			if offset, _ := w.Offset(); offset != c.nats-c.machine {
				t.Errorf("the offset is %v, want %v", offset, c.nats-c.machine)
			}
			set(&w.machine, 0)
			set(&w.nats, 0)
			pass(time.Second)
			if _, err := w.Read(); err != nil || w.told() != 0 {
				t.Errorf("right again, the time is %v ahead, %v", w.told(), err)
			}
		})
	}
}

// TestWhatARoundTripLeavesOpen tries the limits of what a comparison can tell.
// NATS' clock is read at one end of the trip, where it is worst.
func TestWhatARoundTripLeavesOpen(t *testing.T) {
	for name, c := range map[string]struct {
		nats, there, back time.Duration
		known             bool
		says              string
	}{
		"quick":             {nats: tolerance, known: true},
		"surely right":      {there: 2 * time.Second, back: 1900 * time.Millisecond, known: true},
		"just right":        {nats: time.Second, there: time.Second, known: true},
		"not quite":         {nats: time.Second, back: 1002 * time.Millisecond, known: true},
		"may be off":        {nats: time.Second, there: 1002 * time.Millisecond},
		"may be right":      {nats: tolerance + time.Millisecond, back: 10 * time.Millisecond},
		"looks off":         {nats: tolerance - time.Millisecond, there: 10 * time.Millisecond},
		"surely off":        {nats: 2*tolerance + time.Millisecond, back: 2 * time.Second, known: true, says: "behind"},
		"off the other way": {nats: -2*tolerance - time.Millisecond, there: 2 * time.Second, known: true, says: "ahead"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				set(&w.nats, c.nats)
				set(&w.there, c.there)
				set(&w.back, c.back)
				w.open(t)
				pass(c.there + c.back)
				if _, known := w.Offset(); known != c.known {
					t.Fatalf("known is %v, want %v: %v", known, c.known, w.Err())
				}
				if c.known && c.says == "" {
					need(t, w.Err())
				} else if c.known {
					says(t, w.Err(), c.says)
				} else {
					says(t, w.Err(), "not been compared", "too long to tell")
				}
				pass(100 * time.Millisecond)
				if again := w.asked.Load() == 2; again == c.known {
					t.Errorf("NATS was asked again soon: %v, want %v", again, !c.known)
				}
			})
		})
	}
}

// TestWhatCannotBeToldChangesNothing has each state meet answers that are too
// slow, answers that never come, and errors.
func TestWhatCannotBeToldChangesNothing(t *testing.T) {
	states := map[string]func(*testing.T, *world){
		"right": func(*testing.T, *world) {},
		"off":   func(_ *testing.T, w *world) { set(&w.nats, time.Minute); pass(time.Second) },
	}
	troubles := map[string]func(*world){
		"slow":  func(w *world) { set(&w.there, 3999*time.Millisecond); set(&w.machine, time.Second) },
		"lost":  func(w *world) { set(&w.back, time.Hour) },
		"error": func(w *world) { w.away.Store(true) },
	}
	for state, enter := range states {
		for trouble, begin := range troubles {
			t.Run(state+", "+trouble, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					compared(t, w)
					enter(t, w)
					before := w.Err()
					begin(w)
					set(&w.nats, 0)
					asked := w.asked.Load()
					pass(time.Minute)
					if _, err := w.Read(); (err == nil) != (before == nil) {
						t.Errorf("was %v, is %v", before, err)
					}
					if n := w.asked.Load() - asked; n < 10 || n > 60 {
						t.Errorf("NATS was asked %d times in a minute", n)
					}
					set(&w.machine, time.Hour)
					_, err := w.Read()
					if before == nil {
						says(t, err, "jumped")
					}
					pass(time.Minute)
					if w.Err() == nil {
						t.Error("a jump has healed without an answer")
					}
					set(&w.machine, 0)
					set(&w.there, 0)
					set(&w.back, 0)
					w.away.Store(false)
					pass(10 * time.Second)
					need(t, w.Err())
				})
			})
		}
	}
}

// TestSlowDriftIsNoJump lets the clocks of machine and NATS run fast together, by
// a hundred times the tolerance in the end.
func TestSlowDriftIsNoJump(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		compared(t, w)
		drift := func() {
			w.machine.Add(int64(10 * time.Millisecond))
			w.nats.Add(int64(10 * time.Millisecond))
			pass(100 * time.Millisecond)
		}
		for range 20_000 {
			drift()
			if _, err := w.Read(); err != nil {
				t.Fatal(err)
			}
		}
		w.away.Store(true)
		for range 250 {
			drift()
		}
		_, err := w.Read()
		says(t, err, "jumped")
	})
}

// TestAJumpDuringAComparison steps the clock and has that noticed while the
// answer is being weighed: it says nothing of the time after it.
func TestAJumpDuringAComparison(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		compared(t, w)
		step := func() {
			set(&w.machine, time.Hour)
			set(&w.there, time.Second)
			_, err := w.Read()
			says(t, err, "jumped")
		}
		set(&w.there, 500*time.Millisecond)
		pass(1200 * time.Millisecond)
		w.interruptLate.Store(&step) // the answer is under way, and nothing else reads the clock
		pass(300 * time.Millisecond)
		if w.interruptLate.Load() != nil {
			t.Fatal("the machine's clock was not read")
		}
		says(t, w.Err(), "jumped")
		pass(2 * time.Second)
		says(t, w.Err(), "ahead of NATS'")
	})
}

// TestASleepDuringAComparison has the machine sleep while an answer is under
// way: what elapsed by its own account says nothing of how old the answer is.
func TestASleepDuringAComparison(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"right": 0, "off by the same": time.Minute} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				set(&w.nats, ahead)
				set(&w.back, time.Second)
				w.open(t)
				pass(500 * time.Millisecond)
				set(&w.back, 0)
				w.machine.Add(int64(time.Minute))
				w.nats.Add(int64(time.Minute))
				pass(500 * time.Millisecond)
				says(t, w.Err(), "too long to tell")
				pass(100 * time.Millisecond)
				if offset, known := w.Offset(); !known || offset != ahead {
					t.Errorf("the offset is %v, %v; want %v", offset, known, ahead)
				}
			})
		})
	}
}

// TestEachChangeIsLoggedOnce reads often in each state.
func TestEachChangeIsLoggedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		compared(t, w)
		stay := func() {
			for range 100 {
				w.Now()
				pass(100 * time.Millisecond)
			}
		}
		stay()
		set(&w.machine, time.Hour) // a jump, then off
		stay()
		set(&w.machine, 0)
		stay()
		set(&w.machine, time.Minute) // a jump that is confirmed
		set(&w.nats, time.Minute)
		stay()
		set(&w.nats, 0) // off without a jump
		stay()
		lines := w.lines()
		want := []string{"has jumped 1h0m0s ahead", "1h0m0s ahead of NATS'", "agrees with NATS' again",
			"has jumped 1m0s ahead", "agrees with NATS' again", "1m0s ahead of NATS'"}
		for i, part := range want {
			if i >= len(lines) || !strings.Contains(lines[i], part) {
				t.Fatalf("line %d does not say %q:\n%s", i, part, w.log.String())
			}
		}
		if len(lines) != len(want) {
			t.Errorf("%d lines, want %d:\n%s", len(lines), len(want), w.log.String())
		}
	})
}

// TestAnswersThatNeverComeAreGivenUp has a tolerance so great that twice of it
// would be too long to wait.
func TestAnswersThatNeverComeAreGivenUp(t *testing.T) {
	for tolerance, want := range map[time.Duration]time.Duration{
		time.Hour: 5 * time.Second, 2 * time.Second: 4 * time.Second, time.Millisecond: time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			waited := make(chan time.Duration, 1)
			c := clock.New(clock.Options{Tolerance: tolerance, Log: zerolog.Nop(), Ask: func(ctx context.Context) (time.Time, error) {
				began := time.Now()
				<-ctx.Done()
				waited <- time.Since(began)
				return time.Time{}, ctx.Err()
			}})
			if w := <-waited; w != want {
				t.Errorf("with a tolerance of %v an answer is waited for %v, want %v", tolerance, w, want)
			}
			need(t, c.Close(t.Context()))
		})
	}
}
