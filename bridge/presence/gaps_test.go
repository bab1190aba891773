package presence_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/presence"
)

// numbered is a reading with its number, measured so many seconds after the
// first.
type numbered struct {
	seq    uint64
	second int
}

func TestGaps(t *testing.T) {
	for name, c := range map[string]struct {
		readings []numbered
		missing  uint64
	}{
		"none":                    {[]numbered{{5, 0}, {6, 1}, {7, 2}}, 0},
		"from nothing":            {[]numbered{{5, 0}}, 0},
		"one":                     {[]numbered{{5, 0}, {7, 2}}, 1},
		"two gaps":                {[]numbered{{5, 0}, {7, 2}, {8, 3}, {18, 13}}, 10},
		"out of order":            {[]numbered{{5, 0}, {7, 2}, {6, 1}, {8, 3}}, 1},
		"the same again":          {[]numbered{{5, 0}, {5, 0}, {6, 1}}, 0},
		"counted anew":            {[]numbered{{500, 0}, {0, 1}, {1, 2}, {3, 4}}, 1},
		"counted anew at once":    {[]numbered{{500, 0}, {1, 0}, {501, 1}}, 0},
		"set forward":             {[]numbered{{5, 0}, {5 + 1<<20 + 1, 1}, {5 + 1<<20 + 2, 2}}, 0},
		"as far as can be missed": {[]numbered{{5, 0}, {5 + 1<<20, 1}}, 1<<20 - 1},
		"the largest":             {[]numbered{{0, 0}, {1<<53 - 1, 1}, {0, 2}, {2, 3}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.enrol(w1)
			a := w.start()
			start, _ := w.read()
			for _, r := range c.readings {
				a.Live(&a.held, "w-1", presence.Sighting{Received: start, Measured: start.Add(time.Duration(r.second) * time.Second), Seq: r.seq, HasSeq: true})
			}
			if s, _ := a.Of("w-1"); s.Missing != c.missing || a.Missing() != c.missing {
				t.Errorf("missing %d, in all %d, want %d", s.Missing, a.Missing(), c.missing)
			}
		})
	}
}

// TestGapsAcrossReplicas lets a device go elsewhere and come back: what it sent
// there is not missing here. What it did not send while it was silent is.
func TestGapsAcrossReplicas(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a, b := w.start(), w.start()
	hears := func(r *replica, seq uint64) {
		w.advance(time.Second)
		r.hears("w-1", seq)
		w.together(a, b)
	}
	hears(a, 1)
	hears(b, 2)
	hears(b, 5)
	hears(a, 6)
	hears(a, 7)
	w.pass(silentAfter+notice, a, b)
	hears(a, 100)
	if a.Missing() != 92 || b.Missing() != 2 {
		t.Errorf("missing %d and %d, want 92 and 2", a.Missing(), b.Missing())
	}
}

// TestGapsByAnotherBroker counts where each replica gets every reading, of which
// another may store some, and not where they take turns.
func TestGapsByAnotherBroker(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	for way, want := range map[presence.Way]uint64{presence.ByBroker: 3, presence.InTurns: 0} {
		a := w.start()
		now, _ := w.read()
		s := presence.Sighting{Received: now, HasSeq: true, Way: way}
		for _, seq := range []uint64{1, 2, 3, 4, 8} {
			s.Seq, s.Measured = seq, now.Add(time.Duration(seq)*time.Second)
			if seq%2 == 0 {
				a.Copy(&a.held, "w-1", s)
			} else {
				a.Live(&a.held, "w-1", s)
			}
		}
		if a.Missing() != want {
			t.Errorf("way %d: missing %d, want %d", way, a.Missing(), want)
		}
		a.stop()
	}
}
