package ingress

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"
)

// acceptPause is how long the listener waits after a failed accept, such as one
// for want of file descriptors, before it tries again.
const acceptPause = 50 * time.Millisecond

// Listener is one address, and what is spoken and demanded there.
type Listener struct {
	// Address is that of TCP, host:port.
	Address string
	// Setting is what chooses the address, for the error if it cannot be had.
	Setting string
	// TLS is nil without it. Its connections show a client's certificate if it
	// demands one.
	TLS *tls.Config
	// WebSocket is nil where MQTT is spoken without it.
	WebSocket *WebSocket
	// Demand is handed to the Door with each connection.
	Demand Demand
}

// WebSocket says who may open one.
type WebSocket struct {
	// Origins are the web origins (RFC 6454) that may connect beside those of
	// the same host, such as https://ward.example.org.
	Origins []string
}

// scheme is that of the listener's URL.
func (l Listener) scheme() string {
	scheme := "mqtt"
	if l.WebSocket != nil {
		scheme = "ws"
	}
	if l.TLS != nil {
		scheme += "s"
	}
	return scheme
}

// listener is Mochi's source of connections. Unlike Mochi's own it outlives a
// failed accept and a panic in a packet's decoding, gives the TLS handshake and
// CONNECT a deadline, bounds the connections, and closes even those that never
// said a word.
type listener struct {
	of              Listener
	tcp             net.Listener
	connectDeadline time.Duration
	log             zerolog.Logger
	closing         chan struct{}
	*shared

	mu   sync.Mutex
	open map[*connection]struct{}
}

// shared is what all listeners of a broker have together.
type shared struct {
	// room is for as many connections as may be open at once.
	room *semaphore.Weighted
	// serving is Mochi's own wait group. Counting each connection before Mochi
	// does keeps its Add from racing with the Wait of its Close.
	serving *sync.WaitGroup
	// arriving are the connections that the Door may have let in already, but
	// that Mochi does not know yet, with their client ids: they too must close
	// when somebody is disconnected.
	arriving sync.Map
	// handshakesFailed are those of TLS.
	handshakesFailed atomic.Uint64
	// handshakeFailed is Options.HandshakeFailed.
	handshakeFailed func(remote string, err error)
}

// listen takes the address.
func listen(of Listener, o Options, s *shared) (*listener, error) {
	tcp, err := net.Listen("tcp", of.Address)
	if err != nil {
		return nil, fmt.Errorf("mqtt: cannot listen on %s: %w; is another broker running there? %s chooses another address", of.Address, err, of.Setting)
	}
	return &listener{
		of: of, tcp: tcp, connectDeadline: o.ConnectDeadline, log: o.Log, shared: s,
		closing: make(chan struct{}),
		open:    make(map[*connection]struct{}),
	}, nil
}

// Init does nothing: the address is taken before Mochi is asked.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener by its URL.
func (l *listener) ID() string { return l.Protocol() + "://" + l.Address() }

// Address is where it listens.
func (l *listener) Address() string { return l.tcp.Addr().String() }

// Protocol is the scheme of its URL.
func (l *listener) Protocol() string { return l.of.scheme() }

// Serve accepts connections until the listener closes.
func (l *listener) Serve(establish listeners.EstablishFn) {
	if l.of.WebSocket != nil {
		l.serveWeb(establish)
		return
	}
	for {
		c, err := l.accept()
		if err != nil {
			return
		}
		go func() {
			if l.secured(c) != nil {
				l.remove(c)
				return
			}
			l.converse(c, establish)
		}()
	}
}

// accept returns the next connection for which there is room. Its error is that
// the listener is closed.
func (l *listener) accept() (*connection, error) {
	for {
		conn, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			l.log.Warn().Err(err).Msg("a connection could not be accepted; trying again")
			select {
			case <-time.After(acceptPause):
			case <-l.closing:
				return nil, net.ErrClosed
			}
		default:
			c := l.wrap(conn)
			if l.add(c) {
				return c, nil
			}
			_ = conn.Close()
		}
	}
}

func (l *listener) wrap(conn net.Conn) *connection {
	s := &socket{Conn: conn}
	c := &connection{Conn: s, socket: s, demand: l.of.Demand, deadline: time.Now().Add(l.connectDeadline)}
	if l.of.TLS != nil {
		c.secure = tls.Server(s, l.of.TLS)
		c.Conn = c.secure
	}
	_ = c.SetDeadline(c.deadline)
	return c
}

// secured does the TLS handshake. One that fails is the peer's affair, and
// strangers do it often.
func (l *listener) secured(c *connection) error {
	err := c.handshake()
	if err != nil {
		l.handshakesFailed.Add(1)
		if l.handshakeFailed != nil {
			l.handshakeFailed(c.RemoteAddr().String(), err)
		}
		l.log.Debug().Str("remote", c.RemoteAddr().String()).Str("cause", err.Error()).Msg("TLS handshake failed")
	}
	return err
}

// converse speaks MQTT until the connection ends.
func (l *listener) converse(c *connection, establish listeners.EstablishFn) {
	defer l.remove(c)
	defer func() {
		if cause := recover(); cause != nil {
			l.log.Error().Str("remote", c.RemoteAddr().String()).Bytes("stack", debug.Stack()).
				Msg("a connection was closed because handling its packet failed")
		}
	}()
	err := establish(l.ID(), c)
	if q := c.queue.Load(); q != nil && errors.Is(err, packets.ErrPacketTooLarge) {
		q.handler.Handle(Message{Form: Oversize}, func(Disposition) {})
	}
	if err != nil {
		l.log.Debug().Str("remote", c.RemoteAddr().String()).Str("cause", err.Error()).Msg("connection ended")
	}
}

func (l *listener) add(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return false
	default:
	}
	if !l.room.TryAcquire(1) {
		return false
	}
	l.open[c] = struct{}{}
	l.serving.Add(1)
	return true
}

// remove may be called again: HTTP and WebSocket close what they give up.
func (l *listener) remove(c *connection) {
	c.leave.Do(func() {
		defer l.serving.Done()
		_ = c.Close()
		c.end()
		l.arriving.Delete(c)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
		l.room.Release(1)
	})
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// Close stops accepting, lets Mochi say goodbye to its clients, and closes
// every socket, also those of peers that were never clients.
func (l *listener) Close(goodbye listeners.CloseFn) {
	l.mu.Lock()
	select {
	case <-l.closing:
		l.mu.Unlock()
		return
	default:
		close(l.closing)
	}
	connections := make([]*connection, 0, len(l.open))
	for c := range l.open {
		c.hurry() // a peer that does not read must not hold up the goodbye
		connections = append(connections, c)
	}
	l.mu.Unlock()
	_ = l.tcp.Close()
	goodbye(l.ID())
	for _, c := range connections {
		_ = c.socket.Close()
		c.end()
	}
}
