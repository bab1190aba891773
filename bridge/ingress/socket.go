package ingress

import (
	"bufio"
	"container/list"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
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
	// remote is the client's address, also behind a balancer. It and early, what
	// came with a PROXY protocol header, belong to the goroutine that reads.
	remote net.Addr
	early  *bufio.Reader

	mu       sync.Mutex
	brief    bool
	hurrying bool
}

// RemoteAddr is the client's.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// Read returns what came with the PROXY protocol header first.
func (s *socket) Read(b []byte) (int, error) {
	if s.early == nil {
		return s.Conn.Read(b)
	}
	n, err := s.early.Read(b)
	if s.early.Buffered() == 0 {
		s.early = nil
	}
	return n, err
}

// Write gives the peer writeLimit to take what is written.
func (s *socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.limitWrite()
	s.mu.Unlock()
	return s.Conn.Write(b)
}

func (s *socket) limitWrite() {
	limit := writeLimit
	if s.brief {
		limit = goodbyeLimit
	}
	if !s.hurrying {
		_ = s.Conn.SetWriteDeadline(time.Now().Add(limit))
	}
}

// SetDeadline sets that of reading alone. Mochi sets one for both directions
// with each packet that it reads, by the keep alive; a PUBACK that waited for
// the store longer than that would then fail.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetWriteDeadline does nothing: TLS and WebSocket set their own, some of them
// in the past.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// brisk leaves every further write, and one that is blocked, goodbyeLimit.
func (s *socket) brisk() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.brief = true
	s.limitWrite()
}

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
	// patience is the keep alive and half as long again, zero before CONNECT is
	// accepted.
	patience time.Duration
	in       inbound
	// balanced is a connection that a balancer must introduce.
	balanced bool
	// counted is where the connection counts, nil where it does not; strange and
	// strangeThere are its places among the strangers of all addresses and of its
	// own, nil once it is let in. All three belong to addresses.
	counted               *crowd
	strange, strangeThere *list.Element
	// owner is the listener that accepted it, which it leaves once; its place may
	// be given away before.
	owner         *listener
	vacate, leave sync.Once

	queue atomic.Pointer[queue]
	// parting is set once a DISCONNECT goes out.
	parting atomic.Bool
	// chatter belongs to the goroutine that reads.
	chatter chatter
	// will is what CONNECT asked for; only the reading goroutine looks at it.
	will *Message
}

func connectionOf(cl *mqtt.Client) *connection { return cl.Net.Conn.(*connection) }

// handshake does that of TLS, if there is one. The deadline of CONNECT is set; a
// context with it would cost a goroutine.
func (c *connection) handshake() error {
	if c.secure == nil {
		return nil
	}
	return c.secure.Handshake()
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

// Close closes all layers, and lets go of one that waits at a bound. The goodbyes
// of TLS and WebSocket take no longer than goodbyeLimit.
func (c *connection) Close() error {
	c.socket.hurry()
	c.end()
	return c.Conn.Close()
}

func (c *connection) hurry() { c.socket.hurry() }

// parted says whether a packet that is about to be sent follows a DISCONNECT, after
// which nothing may be sent [MQTT-3.14.4-1]. One that is a DISCONNECT also ends the
// acknowledgements.
func (c *connection) parted(packet byte) bool {
	if packet != packets.Disconnect {
		return c.parting.Load()
	}
	if c.parting.Swap(true) {
		return true
	}
	c.end()
	return false
}

// end closes the queue of a connection that was let in.
func (c *connection) end() {
	if q := c.queue.Load(); q != nil {
		q.close()
	}
}
