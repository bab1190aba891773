package ingress

import (
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"golang.org/x/sync/semaphore"

	"github.com/pulsegate/pulsegate/bridge/limits"
)

// shared is what all listeners of a broker have together.
type shared struct {
	// room is for as many connections as may be open at once.
	room *semaphore.Weighted
	// addresses bounds those of each address, and knows the strangers among all.
	addresses *addresses
	// full and crowded are how many connections were refused for want of room in
	// all, and of one address.
	full, crowded atomic.Uint64
	// serving is Mochi's own wait group. Counting each connection before Mochi
	// does keeps its Add from racing with the Wait of its Close.
	serving *sync.WaitGroup
	// arriving are the connections that the Door may have let in already, but
	// that Mochi does not know yet, with their client ids: they too must close
	// when somebody is disconnected.
	arriving sync.Map
	inFlight *flight
	// draining is set once new connections are refused.
	draining atomic.Bool
	// present are the clients that were let in last under each id. Mochi's own
	// table may lack one, or hold another: two that come at once do not see each
	// other there.
	present sync.Map
	// known is that table.
	known *mqtt.Clients
	// turnedAway are the connections that were refused as Unavailable.
	turnedAway atomic.Uint64
	// panics are the connections that ended in one.
	panics atomic.Uint64
	// handshakesFailed are those of TLS.
	handshakesFailed atomic.Uint64
	// handshakeFailed is Options.HandshakeFailed.
	handshakeFailed func(remote string, err error)
	// sampled is for what strangers can cause as often as they like.
	sampled *limits.Log
}

// forget takes a client out of all tables, also one whose session Mochi would
// keep, or that ended in a panic.
func (s *shared) forget(c *connection) {
	q := c.queue.Load()
	if q == nil {
		return
	}
	s.present.CompareAndDelete(q.client.ID, q.client)
	if cl, ok := s.known.Get(q.client.ID); ok && cl == q.client {
		s.known.Delete(cl.ID)
	}
}
