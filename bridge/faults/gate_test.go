//go:build linux

package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// gate is a running `pulsegate serve`, which keeps its addresses when it is
// started again.
type gate struct {
	*process
	dir, mqtt, http string
	// credentials is the directory with the URL files of NATS' other users.
	credentials string
}

// impatient lets a reading wait so long for the store: longer than a slow machine
// needs for what the devices have in flight at once, and no longer than that.
const impatient = "STORE_DEADLINE=3s"

// newGate prepares a gate with an embedded store. Settings are of the
// environment, without their prefix: "FRESHNESS_MAX_AGE=2s".
func newGate(t *testing.T, settings ...string) *gate {
	t.Helper()
	return newGateIn(t, t.TempDir(), settings...)
}

// newGateIn has its data in a directory of the caller's.
func newGateIn(t *testing.T, dir string, settings ...string) *gate {
	t.Helper()
	g := &gate{dir: dir, mqtt: address(t), http: address(t)}
	g.credentials = g.dir
	g.process = newProcess(t, "the gate", regexp.MustCompile(`^pulsegate \S+ is ready: `), program(t, gateProgram), "serve")
	g.set("DATA="+g.dir, "MQTT_LISTEN="+g.mqtt, "HTTP_LISTEN="+g.http, "NATS_LISTEN="+address(t),
		"STORE_VITALS_MAX_BYTES=256MiB", "STORE_REJECTIONS_MAX_BYTES=16MiB", "STORE_AUDIT_MAX_BYTES=8MiB", "STORE_DEVICES_MAX_BYTES=8MiB",
		"MQTT_RECEIVE_MAXIMUM=16")
	g.set(settings...)
	return g
}

// newGateAt prepares a gate that stores in a NATS of its own.
func newGateAt(t *testing.T, n *natsServers, settings ...string) *gate {
	t.Helper()
	g := newGate(t, "NATS_URL_FILE="+engine.URLFile(n.credentials, "gate"), fmt.Sprintf("STORE_REPLICAS=%d", len(n.servers)))
	g.credentials = n.credentials
	g.set(settings...)
	return g
}

// set adds settings, of which the last one counts.
func (g *gate) set(settings ...string) {
	for _, s := range settings {
		g.environ = append(g.environ, "PULSEGATE_"+s)
	}
}

// user logs in to NATS.
func (g *gate) user(name string) *nats.Conn {
	g.t.Helper()
	text, err := os.ReadFile(engine.URLFile(g.credentials, name))
	must(g.t, err)
	nc, err := nats.Connect(strings.TrimSpace(string(text)), nats.MaxReconnects(-1), nats.Timeout(patience))
	must(g.t, err)
	g.t.Cleanup(nc.Close)
	return nc
}

// enrol adds devices w-0000 and on, each with a patient of its own.
func (g *gate) enrol(n int) []registry.Credentials {
	g.t.Helper()
	nc := g.user("operator")
	defer nc.Close()
	operator := registry.NewClient(nc, "faults")
	var all []registry.Credentials
	for i := range n {
		result, err := operator.Add(g.t.Context(), registry.New{
			Kind: registry.KindDevice, ID: fmt.Sprintf("w-%04d", i), Patient: fmt.Sprintf("p-%04d", i),
		})
		must(g.t, err)
		all = append(all, *result.Credentials)
	}
	return all
}

// enrolGateway adds a gateway that may bring the readings of every device.
func (g *gate) enrolGateway(id string) registry.Credentials {
	g.t.Helper()
	nc := g.user("operator")
	defer nc.Close()
	result, err := registry.NewClient(nc, "faults").Add(g.t.Context(), registry.New{
		Kind: registry.KindGateway, ID: id, Prefixes: []string{"w-"},
	})
	must(g.t, err)
	return *result.Credentials
}

// address returns a free one on loopback, each time another.
func address(t *testing.T) string {
	t.Helper()
	for range lastPort - firstPort {
		a := fmt.Sprintf("127.0.0.1:%d", nextPort())
		if l, err := net.Listen("tcp", a); err == nil {
			must(t, l.Close())
			return a
		}
	}
	t.Fatal("no free port")
	return ""
}

// The ports are none that the system gives to outgoing connections, since a
// program that is down must find its own free again.
const firstPort, lastPort = 15_000, 32_000

var nextPort = func() func() int {
	var given atomic.Int64
	first := rand.IntN(lastPort - firstPort)
	return func() int { return firstPort + (first+int(given.Add(1)))%(lastPort-firstPort) }
}()
