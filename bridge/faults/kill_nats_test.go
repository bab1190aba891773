//go:build linux

package faults

import "testing"

// TestNATSKilled kills the only NATS server at random moments, and starts it
// again each time.
func TestNATSKilled(t *testing.T) {
	t.Parallel()
	random := chance(t)
	kills := either(2, 20)
	n := startNATS(t, 1)
	g := newGateAt(t, n)
	g.start()
	w := newWard(t, g.mqtt, g.enrol(20), load{rate: pace})
	w.start()
	for range kills {
		w.await(1 + random.IntN(500))
		n.servers[0].kill()
		n.servers[0].start()
	}
	w.await(100)
	w.settle("nats-kill-9", kills, g.credentials)
	g.stop()
}

// TestLeaderKilled kills, in a cluster of three, the server that leads the
// stream, and starts it again once another has taken its place and readings
// are stored there.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	for _, f := range either(liveAndLate()[:1], liveAndLate()) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			random := chance(t)
			kills := either(1, 20)
			n := startNATS(t, 3)
			js := n.jetstream()
			g := newGateAt(t, n, f.settings...)
			g.start()
			w := newWard(t, g.mqtt, g.enrol(f.devices), f.load)
			w.start()
			for range kills {
				w.await(1 + random.IntN(f.some))
				leader := n.leader(js)
				leader.kill()
				w.await(f.some)
				leader.start()
			}
			n.leader(js)
			w.settle("leader-kill-9-"+f.name, kills, g.credentials)
			g.stop()
		})
	}
}
