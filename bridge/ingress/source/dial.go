package source

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// dial opens a connection to a broker, TLS and WebSocket included. The second
// result is what to close: closing TLS itself would wait for a peer that reads
// nothing.
func (o Options) dial(ctx context.Context, b broker) (conn, socket net.Conn, err error) {
	var secure *tls.Config
	if b.secure() {
		if secure, err = o.clientTLS(b); err != nil {
			return nil, nil, err
		}
	}
	if b.url.Scheme == "ws" || b.url.Scheme == "wss" {
		deadline, _ := ctx.Deadline()
		conn, err = mqtt.NewWebsocket(b.url.String(), secure, max(time.Until(deadline), time.Millisecond), nil, nil)
		return conn, conn, err
	}
	if socket, err = new(net.Dialer).DialContext(ctx, "tcp", b.address); err != nil || secure == nil {
		return socket, socket, err
	}
	over := tls.Client(socket, secure)
	if err = over.HandshakeContext(ctx); err != nil {
		_ = socket.Close()
		return nil, nil, err
	}
	return over, socket, nil
}

// clientTLS is TLS 1.2 or later (RFC 8996), with the broker's name checked.
func (o Options) clientTLS(b broker) (*tls.Config, error) {
	c := &tls.Config{}
	if o.TLS != nil {
		given, err := o.TLS()
		if err != nil {
			return nil, err
		}
		c = given.Clone()
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if c.ServerName == "" {
		c.ServerName = b.url.Hostname()
	}
	return c, nil
}
