package ingress

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

const (
	// writeLimit is how long a peer may leave what is written to it unread.
	writeLimit = 30 * time.Second
	// goodbyeLimit is the same for one whose connection ends.
	goodbyeLimit = time.Second
)

// socket is the bottom of every connection, below TLS and WebSocket. It alone
// decides how long a write may take, whoever asks for what: whoever writes holds
// the client's lock, and a takeover waits for that.
type socket struct {
	net.Conn
	mu       sync.Mutex
	hurrying bool
}

// Write gives the peer writeLimit to take what is written.
func (s *socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	if !s.hurrying {
		_ = s.Conn.SetWriteDeadline(time.Now().Add(writeLimit))
	}
	s.mu.Unlock()
	return s.Conn.Write(b)
}

// SetDeadline sets that of reading alone. Mochi sets one for both directions
// with each packet that it reads, by the keep alive; a PUBACK that waited for
// the store longer than that would then fail.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetWriteDeadline does nothing: TLS and WebSocket set their own, some of them
// in the past.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// hurry leaves all further writing, and one that is blocked, goodbyeLimit in
// all.
func (s *socket) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hurrying {
		s.hurrying = true
		_ = s.Conn.SetWriteDeadline(time.Now().Add(goodbyeLimit))
	}
}

// connection is a client's connection, and what belongs to it. What is embedded
// is the topmost layer, which MQTT is spoken on.
type connection struct {
	net.Conn
	socket *socket
	// secure is nil without TLS.
	secure *tls.Conn
	demand Demand
	// deadline is when CONNECT must be there.
	deadline time.Time
	leave    sync.Once

	queue atomic.Pointer[queue]
	// will is what CONNECT asked for; only the reading goroutine looks at it.
	will *Message
}

func connectionOf(cl *mqtt.Client) *connection { return cl.Net.Conn.(*connection) }

// handshake does that of TLS, if there is one.
func (c *connection) handshake() error {
	if c.secure == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), c.deadline)
	defer cancel()
	return c.secure.HandshakeContext(ctx)
}

// certificate is the name in the client's certificate, which the handshake has
// verified, or empty.
func (c *connection) certificate() string {
	if c.secure == nil {
		return ""
	}
	chain := c.secure.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return ""
	}
	return commonName(chain[0])
}

// Close closes all layers. The goodbyes of TLS and WebSocket take no longer than
// goodbyeLimit.
func (c *connection) Close() error {
	c.socket.hurry()
	return c.Conn.Close()
}

func (c *connection) hurry() { c.socket.hurry() }

// end closes the queue of a connection that was let in.
func (c *connection) end() {
	if q := c.queue.Load(); q != nil {
		q.close()
	}
}
