package source

import (
	"testing"
	"time"
)

func within(t *testing.T, what string, d, most time.Duration) {
	t.Helper()
	if d < most/2 || d > most {
		t.Errorf("%s: %v, want %v to %v", what, d, most/2, most)
	}
}

func TestPause(t *testing.T) {
	var p pause
	for _, most := range []time.Duration{leastPause, 2 * leastPause, 4 * leastPause, 8 * leastPause, 16 * leastPause, 32 * leastPause, 64 * leastPause, mostPause, mostPause} {
		within(t, "a failure", p.failed(), most)
	}
	within(t, "after a connection", p.lost(steady), leastPause)
	for range 100 {
		p.failed()
	}
	within(t, "after many failures", p.failed(), mostPause)
	for range enough - 1 {
		within(t, "after a brief connection", p.lost(0), leastPause)
		if p.takenOver() {
			t.Error("taken over too soon")
		}
	}
	within(t, "after one more brief connection", p.lost(0), 2*leastPause)
	within(t, "after yet one more", p.lost(0), 4*leastPause)
	if !p.takenOver() {
		t.Error("nobody says that two may use one client id")
	}
	within(t, "after a steady connection", p.lost(steady), leastPause)
	if p.takenOver() {
		t.Error("a steady connection does not count")
	}
}
