package clock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
)

func TestNothingIsJudgedBeforeTheFirstComparison(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.away.Store(true)
		w.open(t)
		says(t, w.Err(), "not been compared with NATS' yet")
		pass(0)
		if _, err := w.Read(); err == nil || !errors.Is(err, errAway) {
			t.Errorf("the error is %v, want one that says why", err)
		}
		if _, known := w.Offset(); known {
			t.Error("the offset is known")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := w.First(ctx)
		says(t, err, "nobody answers", "deadline exceeded")
		if n := w.asked.Load(); n < 10 || n > 11 {
			t.Errorf("NATS was asked %d times in 10 s, want once a second", n)
		}
		set(&w.machine, -time.Hour)
		set(&w.nats, -time.Hour)
		w.away.Store(false)
		need(t, w.First(t.Context()))
		pass(0)
		if _, err := w.Read(); err != nil || w.told() != -time.Hour {
			t.Errorf("after a right answer the time is %v ahead, %v", w.told(), err)
		}
		if len(w.lines()) != 0 {
			t.Errorf("an ordinary start is logged: %s", w.log.String())
		}
	})
}

func TestFirstGoesOnIfTheClockIsOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		set(&w.nats, time.Hour)
		compared(t, w)
		says(t, w.Err(), "1h0m0s behind NATS'")
	})
}

// TestAJumpIsSeenAtTheVeryNextReading steps the machine's clock alone, which
// must not move what is told, and then NATS' as well.
func TestAJumpIsSeenAtTheVeryNextReading(t *testing.T) {
	for name, c := range map[string]struct {
		step time.Duration
		says string
	}{
		"ahead":     {tolerance + time.Millisecond, "jumped 2.001s ahead"},
		"back":      {-tolerance - time.Millisecond, "jumped 2.001s back"},
		"far ahead": {time.Hour, "jumped 1h0m0s ahead"},
		"far back":  {-time.Hour, "jumped 1h0m0s back"},
		"to zero":   {-30 * 365 * 24 * time.Hour, "back"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				compared(t, w)
				pass(300 * time.Millisecond)
				asked := w.asked.Load()
				set(&w.machine, c.step)
				now, err := w.Read()
				says(t, err, c.says)
				says(t, w.Err(), c.says)
				if !now.Equal(w.truth()) {
					t.Errorf("the step moved the time by %v", now.Sub(w.truth()))
				}
				set(&w.nats, c.step)
				pass(0)
				if n := w.asked.Load() - asked; n != 1 {
					t.Errorf("NATS was asked %d times at once, want 1", n)
				}
				need(t, w.Err())
				pass(3 * tolerance) // time may have to stand still first
				if w.told() != c.step {
					t.Errorf("after NATS confirmed the step the time is %v ahead", w.told())
				}
			})
		})
	}
}

func TestASmallStepIsNoJump(t *testing.T) {
	for _, step := range []time.Duration{tolerance, -tolerance} {
		inWorld(t, func(t *testing.T, w *world) {
			compared(t, w)
			set(&w.machine, step)
			if _, err := w.Read(); err != nil {
				t.Errorf("a step by %v: %v", step, err)
			}
			pass(10 * time.Second)
			if _, err := w.Read(); err != nil {
				t.Errorf("%v from NATS: %v", step, err)
			}
			if offset, known := w.Offset(); !known || offset != -step {
				t.Errorf("the offset is %v, %v; want %v", offset, known, -step)
			}
		})
	}
}

// TestAPauseIsNoJump lets the process stand still between the readings of the
// two clocks.
func TestAPauseIsNoJump(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		compared(t, w)
		w.away.Store(true) // or it would be compared again meanwhile
		pause := func() { time.Sleep(time.Minute) }
		w.interrupt.Store(&pause)
		if _, err := w.Read(); err != nil {
			t.Error(err)
		}
		if w.interrupt.Load() != nil {
			t.Error("the machine's clock was not read")
		}
	})
}

// TestTimeStandsStill steps the machine's clock back by less than the tolerance.
func TestTimeStandsStill(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const step, moment = -1500 * time.Millisecond, 10 * time.Millisecond
		compared(t, w)
		set(&w.machine, step)
		before, still := w.Now(), 0
		for range 500 {
			pass(moment)
			now, err := w.Read()
			switch {
			case err != nil:
				t.Fatal(err)
			case now.Before(before):
				t.Fatalf("time went back by %v", before.Sub(now))
			case now.Equal(before):
				still++
			}
			before = now
		}
		if stood := time.Duration(still) * moment; stood < -step-2*moment || stood > -step+2*moment {
			t.Errorf("time stood still for %v, want %v", stood, -step)
		}
		if w.told() != step {
			t.Errorf("in the end the time is %v ahead, want the machine's clock, which is %v ahead", w.told(), step)
		}
	})
}

// TestAWrongClockDoesNotMoveTheTime sets the machine's clock ahead for an hour
// and right again: the time goes on as if nothing had been.
func TestAWrongClockDoesNotMoveTheTime(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		inWorld(t, func(t *testing.T, w *world) {
			compared(t, w)
			set(&w.machine, step)
			for range 60 {
				if _, err := w.Read(); err == nil || w.told() != 0 {
					t.Fatalf("the time is %v ahead, %v", w.told(), err)
				}
				pass(time.Minute)
			}
			set(&w.machine, 0)
			pass(time.Second)
			if _, err := w.Read(); err != nil || w.told() != 0 {
				t.Errorf("set right, the time is %v ahead, %v", w.told(), err)
			}
		})
	}
}

// TestTimeGoesBackOnlyWithNATS has both clocks set back: by as much as may be
// waited for, and by more.
func TestTimeGoesBackOnlyWithNATS(t *testing.T) {
	for step, told := range map[time.Duration]time.Duration{
		-2 * tolerance:                    0,
		-2*tolerance - time.Millisecond:   -2*tolerance - time.Millisecond,
		-8 * time.Hour:                    -8 * time.Hour,
		-2*tolerance + 10*time.Nanosecond: 0,
	} {
		inWorld(t, func(t *testing.T, w *world) {
			compared(t, w)
			w.Now()
			set(&w.machine, step)
			set(&w.nats, step)
			_, err := w.Read()
			says(t, err, "back")
			pass(0)
			if now, err := w.Read(); err != nil || now.Sub(w.truth()) != told {
				t.Errorf("set back by %v the time is %v ahead, %v; want %v", step, now.Sub(w.truth()), err, told)
			}
			if logged := strings.Contains(w.log.String(), "may pass as new"); logged != (told != 0) {
				t.Errorf("set back by %v the log says: %s", step, w.log.String())
			}
			pass(3 * tolerance)
			if w.told() != step {
				t.Errorf("set back by %v the time is %v ahead in the end", step, w.told())
			}
		})
	}
}

// TestNobodyReads sets the clocks back while nobody asks for the time.
func TestNobodyReads(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		compared(t, w)
		set(&w.machine, -time.Hour)
		set(&w.nats, -time.Hour)
		pass(time.Minute)
		if lines := w.lines(); len(lines) != 1 || !strings.Contains(lines[0], "may pass as new") {
			t.Errorf("the log says: %s", w.log.String())
		}
		if w.told() != -time.Hour {
			t.Errorf("the time is %v ahead", w.told())
		}
	})
}

func TestClose(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		compared(t, w)
		set(&w.there, time.Hour)
		pass(1500 * time.Millisecond)
		began := time.Now()
		need(t, w.Close(t.Context()))
		need(t, w.Close(t.Context()))
		if took := time.Since(began); took != 0 {
			t.Errorf("Close waited %v for an answer", took)
		}
		asked := w.asked.Load()
		pass(time.Minute)
		if w.asked.Load() != asked || w.told() != 0 {
			t.Error("NATS is asked after Close, or time stands still")
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		c := clock.New(clock.Options{Tolerance: tolerance, Log: zerolog.Nop(), Ask: func(context.Context) (time.Time, error) {
			<-answer
			return time.Now(), nil
		}})
		synctest.Wait()
		began := time.Now()
		says(t, c.Close(context.Background()), "still being asked")
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("Close took %v", took)
		}
		close(answer)
		synctest.Wait()
		says(t, c.First(t.Context()), "closed")
		says(t, c.Err(), "not been compared")
	})
}
