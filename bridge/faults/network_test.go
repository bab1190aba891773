//go:build linux

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// damage is what happens to a network, and for how many acknowledgements or how
// long.
type damage struct {
	name string
	do   func(*network)
	// lasts is how long it does; 0 where readings still pass, and then it is
	// for some acknowledgements.
	lasts time.Duration
}

func damages() []damage {
	second := either(time.Second, 12*time.Second)
	return []damage{
		{"cut", (*network).cut, second},
		{"silence", (*network).silence, second},
		{"delay", func(n *network) { n.slow(80*time.Millisecond, 60*time.Millisecond) }, 0},
	}
}

// TestNetworkBroken breaks the network between devices and gate, or between
// gate and NATS, and heals it again.
func TestNetworkBroken(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"devices-gate", "gate-nats"} {
		for _, d := range damages() {
			t.Run(where+"-"+d.name, func(t *testing.T) {
				t.Parallel()
				random := chance(t)
				rounds := either(1, 5)
				servers := startNATS(t, 1)
				toNATS := newNetwork(t, servers.servers[0].address)
				g := newGateAt(t, servers, impatient, "NATS_URL_FILE="+viaNetwork(t, servers, toNATS))
				g.start()
				toGate := newNetwork(t, g.mqtt)
				broken := map[string]*network{"devices-gate": toGate, "gate-nats": toNATS}[where]
				w := newWard(t, toGate.address, g.enrol(20), load{rate: pace})
				w.start()
				for range rounds {
					w.await(1 + random.IntN(500))
					d.do(broken)
					if d.lasts > 0 {
						time.Sleep(d.lasts) // is the fault itself
					} else {
						w.await(500)
					}
					broken.heal()
				}
				w.await(100)
				w.settle(fmt.Sprintf("network-%s-%s", where, d.name), rounds, g.credentials)
				g.stop()
			})
		}
	}
}

// viaNetwork returns a file with the gate's URL by way of networks.
func viaNetwork(t *testing.T, n *natsServers, ways ...*network) string {
	t.Helper()
	user, _, _ := strings.Cut(n.url("gate"), "@")
	var urls []string
	for _, way := range ways {
		urls = append(urls, user+"@"+way.address)
	}
	file := engine.URLFile(t.TempDir(), "gate")
	must(t, os.WriteFile(filepath.Clean(file), []byte(strings.Join(urls, ",")+"\n"), 0o600))
	return file
}

// TestNATSGoesDark lets the connection to NATS fall silent without an end, as a
// dead host or firewall does, while NATS is still to be reached by another
// address.
func TestNATSGoesDark(t *testing.T) {
	t.Parallel()
	random := chance(t)
	n := startNATS(t, 1)
	dark, other := newNetwork(t, n.servers[0].address), newNetwork(t, n.servers[0].address)
	g := newGateAt(t, n, impatient, "NATS_URL_FILE="+viaNetwork(t, n, dark, other))
	other.cut() // so that the gate takes the first
	g.start()
	w := newWard(t, g.mqtt, g.enrol(20), load{rate: pace})
	w.start()
	w.await(1 + random.IntN(500))
	other.heal()
	dark.silence()
	began := time.Now()
	w.await(1000)
	t.Logf("stored again after %v", time.Since(began).Round(time.Millisecond))
	w.settle("nats-goes-dark", 1, g.credentials)
	g.stop()
}
