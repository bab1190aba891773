package ingress

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

var (
	errFull    = errors.New("as many connections are open as may be")
	errCrowded = errors.New("as many connections of this address are open as may be")
	errClosing = errors.New("the listener is closed")
)

func (l *listener) wrap(conn net.Conn) *connection {
	s := &socket{Conn: conn, remote: conn.RemoteAddr()}
	c := &connection{Conn: s, socket: s, demand: l.of.Demand, deadline: time.Now().Add(l.connectDeadline)}
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
		l.sampled.Warn().Str("balancer", c.RemoteAddr().String()).Str("cause", err.Error()).
			Msg("an address listed in mqtt.proxy_protocol did not begin its connection with a PROXY protocol header; let the balancer send it, or take the address from the list")
		return err
	}
	if err := l.count(c); err != nil {
		l.noteRefused(c, err)
		return err
	}
	return nil
}

// count enters a connection under its address.
func (l *listener) count(c *connection) error {
	from := sender(c.RemoteAddr())
	if !l.addresses.enter(from) {
		return errCrowded
	}
	c.counted, c.counts = from, true
	return nil
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
	l.sampled.Warn().Str("remote", c.RemoteAddr().String()).Err(why).Msg("a connection was refused")
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
	if !c.balanced {
		if err := l.count(c); err != nil {
			l.room.Release(1)
			return err
		}
	}
	l.open[c] = struct{}{}
	l.serving.Add(1)
	return nil
}
