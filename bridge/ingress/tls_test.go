package ingress_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/certs"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// authorities are one for the server and one for clients.
type authorities struct{ servers, clients *certstest.Authority }

func newAuthorities(t *testing.T) authorities {
	t.Helper()
	return authorities{certstest.New(t), certstest.New(t)}
}

// server is the configuration of one that takes certificates if it demands any.
func (a authorities) server(t *testing.T, d ingress.Demand) *tls.Config {
	t.Helper()
	pair := a.servers.Issue(t, "the gate")
	files := certs.Files{Cert: pair.Cert, Key: pair.Key}
	if d == ingress.Certificate || d == ingress.PasswordAndCertificate {
		files.ClientCA = a.clients.File
	}
	source, err := certs.Open(files, certs.Options{Now: time.Now, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return source.Config()
}

// client is the configuration of one that shows these certificates.
func (a authorities) client(pairs ...certstest.Pair) *tls.Config {
	c := &tls.Config{RootCAs: a.servers.Pool}
	for _, p := range pairs {
		c.Certificates = append(c.Certificates, p.Certificate)
	}
	return c
}

// openAt is a broker with these listeners.
func openAt(t *testing.T, change func(*ingress.Options), all ...ingress.Listener) *broker {
	t.Helper()
	return open(t, func(o *ingress.Options) {
		o.Listeners = all
		for i := range o.Listeners {
			o.Listeners[i].Address = "127.0.0.1:0"
		}
		if change != nil {
			change(o)
		}
	})
}

// host is the address of the listener with a scheme.
func (b *broker) host(t testing.TB, scheme string) string {
	t.Helper()
	for _, text := range b.URLs() {
		if u, err := url.Parse(text); err == nil && u.Scheme == scheme {
			return u.Host
		}
	}
	t.Fatalf("nothing listens for %s: %v", scheme, b.URLs())
	return ""
}

func (b *broker) dialTLS(t *testing.T, c *tls.Config, version byte) *mqttest.Client {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: mqttest.Patience}, "tcp", b.host(t, "mqtts"), c)
	if err != nil {
		t.Fatal(err)
	}
	return mqttest.Over(t, conn, version)
}

// shutOut expects that the handshake fails. In TLS 1.3 the client hears of it
// only when it reads.
func (b *broker) shutOut(t *testing.T, c *tls.Config) {
	t.Helper()
	before := b.HandshakesFailed()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: mqttest.Patience}, "tcp", b.host(t, "mqtts"), c)
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(mqttest.Patience))
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "tls: ") {
		t.Errorf("it ends with %v, want an alert of TLS", err)
	}
	for b.HandshakesFailed() == before {
		runtime.Gosched()
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	b := openAt(t, nil, ingress.Listener{TLS: a.server(t, ingress.Password)})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := a.client()
		config.MinVersion, config.MaxVersion = version, version
		c := b.dialTLS(t, config, 5)
		if ack := c.Connect("w-1", mqttest.Login("w-1", "a password")); ack.ReasonCode != 0 {
			t.Fatalf("CONNACK %x", ack.Raw)
		}
		c.Send(publish(1, 1))
		call := b.next(t)
		if met := call.connection; met.Certificate != "" || met.Demand != ingress.Password || met.Password != "a password" {
			t.Errorf("the door met %+v", met)
		}
		call.done(accepted)
		c.ExpectBytes(0x40, 2, 0, 1)
		c.Close()
	}
	old := a.client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	b.shutOut(t, old)
	plain := mqttest.Dial(t, b.host(t, "mqtts"), 4)
	plain.SendRaw([]byte{0x10, 15, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 3, 'w', '-', '1'})
	for { // an alert of TLS, and the end
		if _, err := plain.Next(); err != nil {
			break
		}
	}
	if strings.Contains(b.log.String(), `"level":"error"`) || strings.Contains(b.log.String(), `"level":"warn"`) {
		t.Errorf("strangers fill the log:\n%s", b.log)
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	b := openAt(t, nil, ingress.Listener{TLS: a.server(t, ingress.Certificate), Demand: ingress.Certificate})
	for name, run := range map[string]struct {
		pair certstest.Pair
		want string
	}{
		"a name":    {a.clients.Issue(t, "w-1"), "w-1"},
		"two names": {a.clients.Issue(t, "w-1", certstest.AndNamed("w-2")), ""},
		"no name":   {a.clients.Issue(t, ""), ""},
	} {
		c := b.dialTLS(t, a.client(run.pair), 5)
		c.Connect("w-1")
		all := b.admitted()
		if met := all[len(all)-1]; met.Certificate != run.want || met.Demand != ingress.Certificate {
			t.Errorf("%s: the door met %+v, want the name %q", name, met, run.want)
		}
	}
	before := len(b.admitted())
	for name, config := range map[string]*tls.Config{
		"none":           a.client(),
		"another's":      a.client(certstest.New(t).Issue(t, "w-1")),
		"the server's":   a.client(a.servers.Issue(t, "w-1")),
		"expired":        a.client(a.clients.Issue(t, "w-1", certstest.Until(time.Now().Add(-time.Minute)))),
		"one of servers": a.client(a.clients.Issue(t, "w-1", certstest.ForServers)),
	} {
		t.Run(name, func(t *testing.T) {
			// Else the client would keep what the server does not ask for.
			pairs := config.Certificates
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(pairs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &pairs[0], nil
			}
			b.shutOut(t, config)
		})
	}
	if len(b.admitted()) != before {
		t.Error("one reached the door")
	}
}

// Each is left waiting on purpose; only its deadline ends it.
func TestTLSAndWebSocketInTime(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	secure := a.server(t, ingress.Password)
	b := openAt(t, func(o *ingress.Options) { o.ConnectDeadline = 5 * soon },
		ingress.Listener{TLS: secure}, ingress.Listener{WebSocket: &ingress.WebSocket{}}, ingress.Listener{TLS: secure, WebSocket: &ingress.WebSocket{}})
	mute := []*mqttest.Client{
		mqttest.Dial(t, b.host(t, "mqtts"), 4), mqttest.Dial(t, b.host(t, "wss"), 4), mqttest.Dial(t, b.host(t, "ws"), 4),
		b.dialTLS(t, a.client(), 5), mqttest.Over(t, b.dialWeb(t, "ws", nil), 5), mqttest.Over(t, b.dialWeb(t, "wss", a.client()), 5),
	}
	for _, c := range mute {
		for {
			if _, err := c.Next(); err != nil { // one of HTTP is told why
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection stays open")
				}
				break
			}
		}
	}
	for b.Connections() > 0 {
		runtime.Gosched()
	}
}

func TestCloseWithEveryKindOfConnection(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	secure := a.server(t, ingress.Password)
	b := openAt(t, func(o *ingress.Options) { o.MaxConnections = 8 }, ingress.Listener{}, ingress.Listener{TLS: secure},
		ingress.Listener{WebSocket: &ingress.WebSocket{}}, ingress.Listener{TLS: secure, WebSocket: &ingress.WebSocket{}})
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		mqttest.Dial(t, b.host(t, scheme), 4)
	}
	clients := []*mqttest.Client{
		b.dial(t, 5), b.dialTLS(t, a.client(), 5), mqttest.Over(t, b.dialWeb(t, "ws", nil), 5), mqttest.Over(t, b.dialWeb(t, "wss", a.client()), 5),
	}
	for i, c := range clients {
		if ack := c.Connect([]string{"w-1", "w-2", "w-3", "w-4"}[i]); ack.ReasonCode != 0 {
			t.Fatalf("CONNACK %x", ack.Raw)
		}
	}
	for b.Connections() < 8 {
		runtime.Gosched()
	}
	mqttest.Dial(t, b.host(t, "ws"), 5)
	until(t, "the bound is that of all together", func() bool { all, _ := b.Crowded(); return all == 1 && b.Connections() == 8 })
	ctx, cancel := context.WithTimeout(t.Context(), mqttest.Patience/2)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if pk, err := c.Next(); err != nil || pk.ReasonCode != 0x9C {
			t.Errorf("%x (%v), want DISCONNECT 0x9c", pk.Raw, err)
		}
		c.ExpectEnd()
	}
	if n := b.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func TestATakeoverFromAnotherListener(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	b := openAt(t, nil, ingress.Listener{}, ingress.Listener{TLS: a.server(t, ingress.Password)}, ingress.Listener{WebSocket: &ingress.WebSocket{}})
	next := []*mqttest.Client{b.dialTLS(t, a.client(), 5), mqttest.Over(t, b.dialWeb(t, "ws", nil), 5), b.dial(t, 5)}
	old := b.connect(t, 5, "w-1")
	for _, c := range next {
		c.Connect("w-1")
		if bye, err := old.Next(); err != nil || bye.ReasonCode != 0x8E {
			t.Errorf("%x (%v), want DISCONNECT 0x8e", bye.Raw, err)
		}
		old.ExpectEnd()
		old = c
	}
	b.Disconnect("w-1")
	if bye, err := old.Next(); err != nil || bye.ReasonCode != 0x98 {
		t.Errorf("%x (%v), want DISCONNECT 0x98", bye.Raw, err)
	}
}
