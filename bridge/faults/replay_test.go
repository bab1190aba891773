//go:build linux

package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
)

// TestRestartWhileReplayed kills the gate, whose own memory of readings is then
// gone, while an attacker with a gateway's password sends again at random what
// devices sent before and after: what JetStream remembers, and what it has
// forgotten.
func TestRestartWhileReplayed(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"live": 0, "late": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := chance(t)
			kills := either(2, 10)
			g := newGate(t, forgetful()...)
			g.start()
			devices := g.enrol(5)
			w := newWard(t, g.mqtt, devices, load{rate: 4, age: age})
			attackers := []*replayer{
				w.newReplayer(g.mqtt, g.enrolGateway("g-1"), devices), w.newReplayer(g.mqtt, g.enrolGateway("g-2"), devices),
			}
			w.start()
			for _, a := range attackers {
				a.replay(rand.New(rand.NewPCG(random.Uint64(), 0)), 25)
			}
			for range kills {
				w.await(20 + random.IntN(40))
				g.kill()
				g.start()
				for _, a := range attackers {
					a.awaitAnswers(a.answered, 20)
				}
			}
			for _, a := range attackers {
				a.awaitAnswers(a.old, 20)
			}
			w.settle("restart-while-replayed-"+name, kills, g.credentials)
			t.Logf("%d replays were answered", attackers[0].answered.count()+attackers[1].answered.count())
			g.stop()
		})
	}
}

// TestCopiesAtTwoReplicas sends each reading to one replica and a copy of it to
// another at the same time: fresh readings, and readings that are late from the
// start, which the duplicate window does not know for long.
func TestCopiesAtTwoReplicas(t *testing.T) {
	t.Parallel()
	for _, f := range liveAndLate() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			n := startNATS(t, 1)
			a, b := newGateAt(t, n, f.settings...), newGateAt(t, n, f.settings...)
			a.start()
			key, err := os.ReadFile(filepath.Join(a.dir, bridge.MasterKeyFile))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(b.dir, bridge.MasterKeyFile), key, 0o600))
			b.start()
			devices := a.enrol(f.devices)
			copies := make(chan captured, 1000)
			f.load.observer.Sent = func(s fleet.Sending) {
				select {
				case copies <- captureOf(s):
				default:
				}
			}
			w := newWard(t, a.mqtt, devices, f.load)
			var copier *replayer
			answered := newTally()
			for _, id := range []string{"g-1", "g-2", "g-3", "g-4"} {
				copier = w.newReplayer(b.mqtt, a.enrolGateway(id), devices)
				copier.answered = answered
				copier.copy(copies)
			}
			w.start()
			w.await(either(f.some, 20*f.some))
			copier.awaitAnswers(answered, 20)
			w.settle("copies-at-two-replicas-"+f.name, 1, a.credentials)
			t.Logf("%d copies were answered", answered.count())
			a.stop()
			b.stop()
		})
	}
}
