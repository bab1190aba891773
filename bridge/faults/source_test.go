//go:build linux

package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// TestGateKilledBehindMosquitto lets devices send to a Mosquitto, from which the
// gate takes the readings, and kills the gate at random moments. What counts as
// acknowledged is what Mosquitto acknowledged.
func TestGateKilledBehindMosquitto(t *testing.T) {
	t.Parallel()
	random := chance(t)
	kills := either(3, 10)
	m := startMosquitto(t)
	g := newGate(t, "SOURCE_URL=mqtt://"+m.address)
	g.start()
	w := newWard(t, m.address, g.enrol(20), load{rate: pace})
	w.start()
	for range kills {
		w.await(1 + random.IntN(500))
		g.kill()
		g.start()
	}
	w.await(100)
	w.end()
	g.awaitStored(int(w.fleet.Summary().Sent))
	w.settle("gate-kill-9-behind-mosquitto", kills, g.credentials)
	g.stop()
}

// mosquitto is a running broker.
type mosquitto struct {
	*process
	address string
}

func startMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		// Debian has it where only root looks.
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		absent(t, "mosquitto")
	}
	m := &mosquitto{address: address(t)}
	_, port, err := net.SplitHostPort(m.address)
	must(t, err)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	// It keeps any number of messages for a gate that is away; by default it
	// drops what is more than 1000.
	must(t, os.WriteFile(file, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", port), 0o600))
	m.process = newProcess(t, "mosquitto", regexp.MustCompile(`mosquitto version \S+ running`), path, "-c", file, "-v")
	m.start()
	return m
}

// awaitStored waits until the stream holds so many readings.
func (g *gate) awaitStored(n int) {
	g.t.Helper()
	js, err := jetstream.New(g.user("consumer"))
	must(g.t, err)
	eventually(g.t, "not everything is stored", func(ctx context.Context) error {
		stream, err := js.Stream(ctx, egress.StreamVitals)
		if err != nil {
			return err
		}
		if stored := stream.CachedInfo().State.Msgs; stored < uint64(n) {
			return fmt.Errorf("%d of %d", stored, n)
		}
		return nil
	})
}
