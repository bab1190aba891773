//go:build linux

package faults

import (
	"testing"
	"time"
)

// TestPaused stops the gate or NATS in the midst of everything, with their
// sockets open, and lets them go on: for shorter than a reading may wait to be
// stored, and for longer.
func TestPaused(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"gate", "nats"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			random := chance(t)
			pauses := either([]time.Duration{200 * time.Millisecond, 4 * time.Second},
				[]time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second, 8 * time.Second, 20 * time.Second, 45 * time.Second})
			n := startNATS(t, 1)
			g := newGateAt(t, n, impatient)
			g.start()
			p := map[string]*process{"gate": g.process, "nats": n.servers[0].process}[side]
			w := newWard(t, g.mqtt, g.enrol(20), load{rate: pace})
			w.start()
			for _, pause := range pauses {
				w.await(1 + random.IntN(500))
				p.pause()
				time.Sleep(pause) // is the fault itself
				p.resume()
			}
			w.await(100)
			w.settle("pause-"+side, len(pauses), g.credentials)
			g.stop()
		})
	}
}
