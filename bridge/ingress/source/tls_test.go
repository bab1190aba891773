package source_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
)

// secured is a Mosquitto that demands a client certificate.
type secured struct {
	*mosquittest.Broker
	servers, clients *certstest.Authority
}

func startSecured(t *testing.T, options ...certstest.Option) *secured {
	t.Helper()
	s := &secured{servers: certstest.New(t), clients: certstest.New(t)}
	shown := s.servers.Issue(t, "the broker", options...)
	s.Broker = mosquittest.Start(t, "cafile "+s.clients.File, "certfile "+shown.Cert, "keyfile "+shown.Key, "require_certificate true")
	return s
}

// with connects by a scheme and shows certificates.
func (s *secured) with(scheme string, c *tls.Config) func(*source.Options) {
	return func(o *source.Options) {
		o.Brokers = []string{scheme + "://" + s.Address}
		o.TLS = func() (*tls.Config, error) { return c, nil }
	}
}

func (s *secured) client(t *testing.T) *tls.Config {
	return &tls.Config{RootCAs: s.servers.Pool, Certificates: []tls.Certificate{s.clients.Issue(t, "gate").Certificate}}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b := startSecured(t)
	var asked atomic.Int64
	g := start(t, func(o *source.Options) {
		c := b.client(t)
		b.with("mqtts", c)(o)
		o.TLS = func() (*tls.Config, error) { asked.Add(1); return c, nil }
	})
	g.connected(t)
	before := asked.Load()
	b.Kill()
	g.broken(t, "mqtts://"+b.Address)
	b.Run(t)
	g.connected(t)
	if asked.Load() == before {
		t.Error("the certificates are not asked for again")
	}
	g.close(t)
}

func TestTLSThatIsNotRight(t *testing.T) {
	t.Parallel()
	b := startSecured(t)
	elsewhere := startSecured(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"elsewhere"}, nil })
	// The names tell the log apart.
	for want, change := range map[string]func(*source.Options){
		"certificate required":                b.with("mqtts", &tls.Config{RootCAs: b.servers.Pool}),
		"signed by unknown authority":         b.with("mqtts", &tls.Config{RootCAs: b.clients.Pool}),
		"cannot validate certificate for 127": elsewhere.with("mqtts", elsewhere.client(t)),
		"no supported versions":               b.with("mqtts", &tls.Config{RootCAs: b.servers.Pool, MaxVersion: tls.VersionTLS11}),
	} {
		g := start(t, change)
		g.until(t, want, func() bool { return g.Err() != nil && strings.Contains(g.Err().Error(), want) })
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	servers := certstest.New(t)
	for scheme, secure := range map[string]*tls.Config{
		"ws": nil, "wss": {Certificates: []tls.Certificate{servers.Issue(t, "the broker").Certificate}},
	} {
		// Debian's Mosquitto has WebSocket too, but not on every machine.
		address := freeAddress(t)
		startMochi(t, listeners.NewWebsocket(listeners.Config{ID: scheme, Address: address, TLSConfig: secure}), 2)
		g := start(t, func(o *source.Options) {
			o.Brokers = []string{scheme + "://" + address + "/mqtt"}
			o.TLS = func() (*tls.Config, error) { return &tls.Config{RootCAs: servers.Pool}, nil }
		})
		g.connected(t)
		g.close(t)
	}
}
