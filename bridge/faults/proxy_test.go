//go:build linux

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is the way to one address, which can be broken.
type network struct {
	t        *testing.T
	address  string
	upstream string
	proxy    *toxiproxy.Proxy
}

// newNetwork leads from an address of its own to another.
func newNetwork(t *testing.T, upstream string) *network {
	t.Helper()
	n := &network{t: t, address: address(t), upstream: upstream}
	n.heal()
	t.Cleanup(func() { n.proxy.Stop() })
	return n
}

// heal lets new connections through. Those that were open before are closed.
func (n *network) heal() {
	n.t.Helper()
	if n.proxy != nil {
		n.proxy.Stop()
	}
	// A new one each time, since taking a toxic away can wait without end for a
	// connection that is broken.
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n.proxy = toxiproxy.NewProxy(server, "network", n.address, n.upstream)
	must(n.t, n.proxy.Start())
}

// cut closes all connections and refuses new ones.
func (n *network) cut() { n.proxy.Stop() }

// silence lets nothing through any more, and tells nobody.
func (n *network) silence() {
	n.t.Helper()
	n.spoil("timeout", `"timeout": 0`)
}

// slow delays everything, in each direction.
func (n *network) slow(by, jitter time.Duration) {
	n.t.Helper()
	n.spoil("latency", fmt.Sprintf(`"latency": %d, "jitter": %d`, by.Milliseconds(), jitter.Milliseconds()))
}

func (n *network) spoil(kind, attributes string) {
	n.t.Helper()
	for _, way := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, kind, way, attributes)
		_, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
		must(n.t, err)
	}
}
