//go:build linux

package faults

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestGateKilled kills the gate at random moments, and starts it again each
// time, while devices send and an attacker forges. Sometimes it is killed again
// while it starts.
func TestGateKilled(t *testing.T) {
	t.Parallel()
	for _, f := range liveAndLate() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			random := chance(t)
			kills := either(3, 20)
			g := newGate(t, f.settings...)
			g.start()
			devices := g.enrol(f.devices)
			w := newWard(t, g.mqtt, devices, f.load)
			w.start()
			w.forge(g.mqtt, g.enrolGateway("g-1"), devices)
			for range kills {
				w.await(1 + random.IntN(f.some))
				g.kill()
				if random.IntN(3) == 0 {
					g.killStarting(random)
				}
				g.start()
			}
			w.await(f.some)
			w.settle("gate-kill-9-"+f.name, kills, g.credentials)
			g.stop()
		})
	}
}

// killStarting kills the gate somewhere in its start.
func (g *gate) killStarting(random *rand.Rand) {
	g.t.Helper()
	g.launch()
	time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond)))) // the moment is random
	g.kill()
}
