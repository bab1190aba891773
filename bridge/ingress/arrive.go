package ingress

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

var (
	errFull    = errors.New("as many connections are open as may be")
	errCrowded = errors.New("as many connections of this address are open as may be")
	errClosing = errors.New("the listener is closed")
)

// scattered is a limit, and up to half as long again. Thousands of connections
// that come together and say nothing must not end together: closing them would
// keep the processors from everybody else.
func scattered(limit time.Duration) time.Duration { return limit + rand.N(limit/2+1) }

func (l *listener) wrap(conn net.Conn) *connection {
	s := &socket{Conn: conn, remote: conn.RemoteAddr()}
	c := &connection{Conn: s, socket: s, demand: l.of.Demand, deadline: time.Now().Add(scattered(l.connectDeadline)), owner: l}
	c.in.limit = l.packetDeadline
	c.balanced = l.balances(s.remote)
	if l.of.TLS != nil {
		c.secure = tls.Server(s, l.of.TLS)
		c.Conn = c.secure
	}
	_ = c.SetDeadline(c.deadline)
	return c
}

// balances says whether an address is that of a balancer.
func (l *listener) balances(a net.Addr) bool {
	ip := ipOf(a)
	return slices.ContainsFunc(l.balancers, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// arrived does what comes before MQTT and WebSocket.
func (l *listener) arrived(c *connection) error {
	if c.balanced {
		if err := l.introduced(c); err != nil {
			return err
		}
	}
	return l.secured(c)
}

// introduced learns from a balancer who connects.
func (l *listener) introduced(c *connection) error {
	switch err := c.socket.introduced(); {
	case errors.Is(err, errHealthCheck):
		return err
	case err != nil:
		l.sampled.Warn("an address listed in mqtt.proxy_protocol did not begin its connection with a PROXY protocol header; let the balancer send it, or take the address from the list",
			func(e *zerolog.Event) { e.Str("balancer", c.RemoteAddr().String()).Str("cause", err.Error()) })
		return err
	}
	if l.addresses.enter(c) || l.makeRoom(c, errCrowded) && l.addresses.enter(c) {
		return nil
	}
	l.noteRefused(c, errCrowded)
	return errCrowded
}

// makeRoom closes the connection that has been a stranger for longest, of all or
// of the address of c, and says whether there is one. Who is honest is let in long
// before his turn; whoever opens connections and says nothing closes his own.
func (l *listener) makeRoom(c *connection, why error) bool {
	if why != errFull && why != errCrowded {
		return false
	}
	oldest := l.addresses.oldest(why, c)
	if oldest == nil {
		return false
	}
	l.noteRefused(oldest, why)
	oldest.owner.giveUp(oldest)
	_ = oldest.socket.Close() // nothing above it: other goroutines may be using that
	return true
}

// giveUp gives a connection's place away.
func (l *listener) giveUp(c *connection) {
	c.vacate.Do(func() {
		l.mu.Lock()
		delete(l.open, c)
		l.mu.Unlock()
		l.addresses.leave(c)
		l.room.Release(1)
	})
}

func (l *listener) noteRefused(c *connection, why error) {
	switch why {
	case errFull:
		l.full.Add(1)
	case errCrowded:
		l.crowded.Add(1)
	default:
		return
	}
	l.sampled.Warn("a connection was refused", func(e *zerolog.Event) { e.Str("remote", c.socket.RemoteAddr().String()).Err(why) })
}

// secured does the TLS handshake. One that fails is the peer's affair, and
// strangers do it often.
func (l *listener) secured(c *connection) error {
	err := c.handshake()
	if c.balanced && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		return err // a check, which ends before TLS begins
	}
	if err != nil {
		l.handshakesFailed.Add(1)
		if l.handshakeFailed != nil {
			l.handshakeFailed(c.RemoteAddr().String(), err)
		}
		l.log.Debug().Str("remote", c.RemoteAddr().String()).Str("cause", err.Error()).Msg("TLS handshake failed")
	}
	return err
}

// add enters a connection that was accepted. One that a balancer introduces is
// counted for its address later.
func (l *listener) add(c *connection) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return errClosing
	default:
	}
	if !l.room.TryAcquire(1) {
		return errFull
	}
	if !c.balanced && !l.addresses.enter(c) {
		l.room.Release(1)
		return errCrowded
	}
	l.open[c] = struct{}{}
	l.serving.Add(1)
	return nil
}
