// Package engine provides the NATS that Pulsegate stores in: a nats-server within the process, or a connection to a real
// one. It owns the data directory's lock, the accounts and the files with the credentials.
package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// DefaultListen is the embedded server's client address where Options.Listen is empty: loopback, NATS' own port.
const DefaultListen = "127.0.0.1:4222"

const (
	flushTimeout = 2 * time.Second
	// pingEvery is how often a silent connection to NATS is asked whether it lives.
	pingEvery = 2 * time.Second
)

// Options says where the engine keeps its data and which NATS it uses.
type Options struct {
	// Dir is the data directory, created with mode 0700. One process at a time may use it, with an embedded server or not.
	Dir string
	// Listen is the embedded server's client address as host:port; port 0 takes a free one. Empty is DefaultListen.
	Listen string
	// Sync is how often the embedded JetStream writes through to the disk: "always" (also when empty; every message is
	// on the disk before it is acknowledged) or a duration such as "2m".
	Sync string
	// MaxStore is how many bytes the embedded JetStream may use in Dir. Open fails when the disk has less. 0 leaves the
	// limit to the server (three quarters of what is free).
	MaxStore int64
	// Remote, where its URL or URLFile is set, names a real server to connect to instead of embedding one.
	Remote Remote
	// Log receives the server's and the connection's messages. They hold no credentials and no payloads.
	Log zerolog.Logger
}

// Engine is a running NATS with the gate's connection to it. Its methods are safe for concurrent use.
type Engine struct {
	conn   *nats.Conn
	server *server.Server // nil where the server is a remote one
	url    string
	lock   *flock.Flock

	closing  sync.Once
	closeErr error
}

// Open locks the data directory, starts or reaches NATS and connects to it as the gate. Each error is one line that says
// what to do. The context bounds the wait for a remote server; it has no effect after Open has returned.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.Dir == "" {
		return nil, errors.New("no data directory given: name one")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", o.Dir, err)
	}
	o.Dir = dir
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	e := &Engine{lock: lock}
	if o.Remote.URL != "" || o.Remote.URLFile != "" {
		err = e.dial(ctx, o)
	} else {
		err = e.embed(o)
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Conn returns the gate's connection, named "pulsegate". It reconnects without limit and buffers nothing while
// disconnected: a publish then fails at once instead of being sent later, when its reading is no longer fresh.
func (e *Engine) Conn() *nats.Conn { return e.conn }

// URL returns where clients connect, without credentials: the embedded server's real address, or the remote's URL as
// configured.
func (e *Engine) URL() string { return e.url }

// Embedded reports whether the server runs in this process.
func (e *Engine) Embedded() bool { return e.server != nil }

// Close flushes and closes the gate's connection, stops an embedded server, waits until it has ended, and unlocks the
// data directory. Further calls do nothing and return the first one's error.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		if e.conn != nil {
			// A server that is away cannot take what is left; its publishers have been told by their own timeouts.
			if e.conn.IsConnected() {
				_ = e.conn.FlushTimeout(flushTimeout)
			}
			e.conn.Close()
		}
		if e.server != nil {
			e.server.Shutdown()
			e.server.WaitForShutdown()
		}
		if err := e.lock.Unlock(); err != nil {
			e.closeErr = fmt.Errorf("unlock the data directory: %w", err)
		}
	})
	return e.closeErr
}

func connectionOptions(log zerolog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name("pulsegate"),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		// Shorter than the registry's lease, so that the restart of a server does
		// not cost it; the jitter keeps replicas from coming all at once.
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		// A NATS that does not read must not hold the connection's lock for long.
		nats.FlusherTimeout(flushTimeout),
		// A host or firewall that has died says nothing: then another server is taken after some pings.
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			// A nil error is the gate's own closing.
			if err != nil {
				log.Warn().Err(err).Msg("NATS connection lost, reconnecting")
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info().Str("url", c.ConnectedUrlRedacted()).Msg("NATS connection restored")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Error().Err(err).Msg("NATS connection error")
		}),
	}
}
