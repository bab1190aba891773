package ingress

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"
)

const (
	// leastPause is how long the listener waits after a failed accept, such as one
	// for want of file descriptors, before it tries again: twice as long each time
	// up to mostPause, until one succeeds.
	leastPause = 10 * time.Millisecond
	mostPause  = time.Second
)

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

	// open takes the place of net.Listen in tests.
	open func(network, address string) (net.Listener, error)
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
	packetDeadline  time.Duration
	balancers       []netip.Prefix
	log             zerolog.Logger
	closing         chan struct{}
	*shared

	mu   sync.Mutex
	open map[*connection]struct{}
}

// listen takes the address.
func listen(of Listener, o Options, s *shared) (*listener, error) {
	open := of.open
	if open == nil {
		open = net.Listen
	}
	tcp, err := open("tcp", of.Address)
	if err != nil {
		return nil, fmt.Errorf("mqtt: cannot listen on %s: %w; is another broker running there? %s chooses another address", of.Address, err, of.Setting)
	}
	return &listener{
		of: of, tcp: tcp, connectDeadline: o.ConnectDeadline, packetDeadline: o.PacketDeadline, balancers: o.Balancers,
		log: o.Log, shared: s,
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
	begin := func(c *connection) { l.converse(c, establish) }
	if l.of.WebSocket != nil {
		begin = l.serveWeb(establish).enter
	}
	for {
		c, err := l.accept()
		if err != nil {
			return
		}
		go func() {
			if l.arrived(c) != nil {
				l.remove(c)
				return
			}
			begin(c)
		}()
	}
}

// accept returns the next connection for which there is room. Its error is that
// the listener is closed.
func (l *listener) accept() (*connection, error) {
	pause := leastPause
	for {
		conn, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			l.sampled.Warn("a connection could not be accepted; trying again", func(e *zerolog.Event) { e.Err(err).Dur("pause", pause) })
			select {
			case <-time.After(pause):
			case <-l.closing:
				return nil, net.ErrClosed
			}
			pause = min(2*pause, mostPause)
		default:
			pause = leastPause
			c := l.wrap(conn)
			if err = l.add(c); l.makeRoom(c, err) {
				err = l.add(c)
			}
			if err == nil {
				return c, nil
			}
			l.noteRefused(c, err)
			_ = conn.Close()
		}
	}
}

// converse speaks MQTT until the connection ends.
func (l *listener) converse(c *connection, establish listeners.EstablishFn) {
	defer l.remove(c)
	defer func() {
		if cause := recover(); cause != nil {
			l.panics.Add(1)
			l.sampled.Error("a connection was closed because handling its packet failed", func(e *zerolog.Event) {
				e.Str("remote", c.RemoteAddr().String()).Bytes("stack", debug.Stack())
			})
		}
	}()
	if err := c.hello(); err != nil {
		l.log.Debug().Str("remote", c.RemoteAddr().String()).Str("cause", err.Error()).Msg("no CONNECT")
		return
	}
	err := establish(l.ID(), c)
	if q := c.queue.Load(); q != nil && errors.Is(err, packets.ErrPacketTooLarge) {
		q.handler.Handle(Message{Form: Oversize}, func(Disposition) {})
	}
	if err != nil {
		l.log.Debug().Str("remote", c.RemoteAddr().String()).Str("cause", err.Error()).Msg("connection ended")
	}
}

// remove may be called again: HTTP and WebSocket close what they give up.
func (l *listener) remove(c *connection) {
	c.leave.Do(func() {
		defer l.serving.Done()
		_ = c.Close()
		c.end()
		l.arriving.Delete(c)
		l.forget(c)
		l.giveUp(c)
	})
}

func (l *listener) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// stop ends accepting.
func (l *listener) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
	default:
		close(l.closing)
		_ = l.tcp.Close()
	}
}

func (l *listener) connections() []*connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.open))
}

// Close stops accepting, lets Mochi say goodbye to its clients, and closes
// every socket, also those of peers that were never clients.
func (l *listener) Close(goodbye listeners.CloseFn) {
	l.stop()
	connections := l.connections()
	for _, c := range connections {
		c.hurry() // a peer that does not read must not hold up the goodbye
	}
	goodbye(l.ID())
	for _, c := range connections {
		_ = c.socket.Close()
		c.end()
	}
}
