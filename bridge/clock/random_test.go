package clock_test

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWhateverHappens sets the machine's clock at random, and lets questions take
// long or fail. While NATS' clock is true, every time without an error is within
// the tolerance of it, and no time is before the one told last.
func TestWhateverHappens(t *testing.T) {
	var judged, doubted int
	for seed := range uint64(100) {
		inWorld(t, func(t *testing.T, w *world) {
			random := rand.New(rand.NewPCG(seed, 0))
			compared(t, w)
			last := w.Now()
			for range 300 {
				w.upset(random)
				pass(time.Duration(random.Int64N(int64(2 * time.Second))))
				now, err := w.Read()
				if now.Before(last) {
					t.Fatalf("seed %d: time went back by %v", seed, last.Sub(now))
				}
				last = now
				if err != nil {
					doubted++
					continue
				}
				judged++
				if wrong := now.Sub(w.truth()); wrong.Abs() > tolerance {
					t.Fatalf("seed %d: judged by a time that is %v ahead", seed, wrong)
				}
			}
		})
	}
	if judged < 5_000 || doubted < 5_000 {
		t.Errorf("%d readings were judged and %d not: too few to show anything", judged, doubted)
	}
}

// upset changes one thing.
func (w *world) upset(random *rand.Rand) {
	within := func(most time.Duration) int64 { return random.Int64N(int64(2*most)) - int64(most) }
	switch random.IntN(8) {
	case 0:
		w.machine.Add(within(time.Hour))
	case 1, 2:
		w.machine.Add(within(tolerance))
	case 3, 4:
		w.machine.Store(within(tolerance))
	case 5:
		w.away.Store(random.IntN(3) == 0)
	case 6:
		w.there.Store(random.Int64N(int64(tolerance)))
		w.back.Store(random.Int64N(int64(tolerance)))
	case 7:
		set(&w.there, 0)
		set(&w.back, 0)
	}
}
