//go:build linux

package faults

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pulsegate/pulsegate/bridge"
)

// TestUpgrade stops the gate as a service manager does, and starts it again, time
// and again, while devices send.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	random := chance(t)
	restarts := either(2, 20)
	g := newGate(t)
	g.start()
	w := newWard(t, g.mqtt, g.enrol(20), load{rate: pace})
	w.start()
	for range restarts {
		w.await(1 + random.IntN(500))
		g.stop()
		g.start()
	}
	w.await(100)
	w.settle("upgrade", restarts, g.credentials)
	g.stop()
}

// TestRollingUpgrade restarts two replicas in turn behind a balancer that leads
// devices to the one that runs.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	random := chance(t)
	rounds := either(1, 10)
	n := startNATS(t, 1)
	a := newGateAt(t, n)
	a.start()
	b := newGateAt(t, n)
	key, err := os.ReadFile(filepath.Join(a.dir, bridge.MasterKeyFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(b.dir, bridge.MasterKeyFile), key, 0o600))
	b.start()
	balancer := newNetwork(t, a.mqtt)
	w := newWard(t, balancer.address, a.enrol(20), load{rate: pace})
	w.start()
	for range rounds {
		for stopped, other := range map[*gate]*gate{a: b, b: a} {
			w.await(1 + random.IntN(500))
			stopped.stop()
			balancer.upstream = other.mqtt
			balancer.heal()
			w.await(100)
			stopped.start()
		}
	}
	w.settle("rolling-upgrade", 2*rounds, a.credentials)
	a.stop()
	b.stop()
}

// TestBackup copies the data directory of a gate that is stopped, and lets
// another go on with the copy, while devices wait and an attacker replays: it has
// all readings, knows the devices, and takes no reading twice.
func TestBackup(t *testing.T) {
	t.Parallel()
	random := chance(t)
	g := newGate(t)
	g.start()
	devices := g.enrol(10)
	w := newWard(t, g.mqtt, devices, load{rate: pace})
	attacker := w.newReplayer(g.mqtt, g.enrolGateway("g-1"), devices)
	w.start()
	attacker.replay(rand.New(rand.NewPCG(random.Uint64(), 0)), 25)
	w.await(200)
	g.stop()
	backup := filepath.Join(t.TempDir(), "backup")
	if out, err := exec.Command("cp", "-a", g.dir, backup).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	must(t, os.RemoveAll(g.dir))
	restored := newGateIn(t, backup, "MQTT_LISTEN="+g.mqtt)
	restored.start()
	w.await(200)
	attacker.awaitAnswers(attacker.answered, 20)
	w.settle("backup-and-restore", 1, restored.credentials)
	restored.stop()
}
