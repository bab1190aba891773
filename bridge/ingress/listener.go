package ingress

import (
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/rs/zerolog"
)

// acceptPause is how long the listener waits after a failed accept, such as one
// for want of file descriptors, before it tries again.
const acceptPause = 50 * time.Millisecond

const (
	// writeLimit is how long a peer may leave what is written to it unread.
	writeLimit = 30 * time.Second
	// goodbyeLimit is the same for one whose connection ends.
	goodbyeLimit = time.Second
)

// listener is Mochi's source of connections. Unlike Mochi's own it outlives a
// failed accept and a panic in a packet's decoding, gives CONNECT a deadline,
// bounds the connections, and closes even those that never said a word.
type listener struct {
	tcp             net.Listener
	maximum         int
	connectDeadline time.Duration
	log             zerolog.Logger
	closing         chan struct{}
	// serving is Mochi's own wait group. Counting each connection before Mochi
	// does keeps its Add from racing with the Wait of its Close.
	serving *sync.WaitGroup

	mu   sync.Mutex
	open map[*connection]struct{}
}

// connection is a client's socket, and what belongs to it.
type connection struct {
	net.Conn
	queue atomic.Pointer[queue]
	// will is what CONNECT asked for; only the reading goroutine looks at it.
	will *Message

	mu       sync.Mutex
	hurrying bool
}

func connectionOf(cl *mqtt.Client) *connection { return cl.Net.Conn.(*connection) }

// SetDeadline sets that of reading alone. Mochi sets one for both directions
// with each packet that it reads, by the keep alive; a PUBACK that waited for
// the store longer than that would then fail.
func (c *connection) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Write gives the peer writeLimit to take what is written: whoever writes holds
// the client's lock, and a takeover waits for that.
func (c *connection) Write(b []byte) (int, error) {
	c.mu.Lock()
	if !c.hurrying {
		_ = c.SetWriteDeadline(time.Now().Add(writeLimit))
	}
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// hurry leaves all further writing, and one that is blocked, goodbyeLimit.
func (c *connection) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurrying = true
	_ = c.SetWriteDeadline(time.Now().Add(goodbyeLimit))
}

// end closes the queue of a connection that was let in.
func (c *connection) end() {
	if q := c.queue.Load(); q != nil {
		q.close()
	}
}

func newListener(tcp net.Listener, o Options, serving *sync.WaitGroup) *listener {
	return &listener{
		tcp: tcp, maximum: o.MaxConnections, connectDeadline: o.ConnectDeadline, log: o.Log, serving: serving,
		closing: make(chan struct{}),
		open:    make(map[*connection]struct{}),
	}
}

// Init does nothing: the address is taken before Mochi is asked.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener.
func (l *listener) ID() string { return "mqtt" }

// Address is where it listens.
func (l *listener) Address() string { return l.tcp.Addr().String() }

// Protocol names its transport.
func (l *listener) Protocol() string { return "tcp" }

// Serve accepts connections until the listener closes.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.log.Warn().Err(err).Msg("a connection could not be accepted; trying again")
			select {
			case <-time.After(acceptPause):
			case <-l.closing:
				return
			}
		default:
			l.admit(&connection{Conn: conn}, establish)
		}
	}
}

func (l *listener) admit(c *connection, establish listeners.EstablishFn) {
	if !l.add(c) {
		_ = c.Close()
		return
	}
	go func() {
		defer l.remove(c)
		defer func() {
			if cause := recover(); cause != nil {
				l.log.Error().Str("remote", c.RemoteAddr().String()).Bytes("stack", debug.Stack()).
					Msg("a connection was closed because handling its packet failed")
			}
		}()
		_ = c.SetDeadline(time.Now().Add(l.connectDeadline))
		if err := establish(l.ID(), c); err != nil {
			l.log.Debug().Str("remote", c.RemoteAddr().String()).Str("cause", err.Error()).Msg("connection ended")
		}
	}()
}

func (l *listener) add(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return false
	default:
	}
	if len(l.open) >= l.maximum {
		return false
	}
	l.open[c] = struct{}{}
	l.serving.Add(1)
	return true
}

func (l *listener) remove(c *connection) {
	defer l.serving.Done()
	_ = c.Close()
	c.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
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
		_ = c.Close()
		c.end()
	}
}
