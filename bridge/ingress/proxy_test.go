package ingress_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pires/go-proxyproto"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// introduction is a PROXY protocol header for a client.
func introduction(t *testing.T, version byte, client string) []byte {
	t.Helper()
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
	to := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1883}
	if from.IP.To4() != nil {
		to.IP = net.ParseIP("198.51.100.1")
	}
	b, err := proxyproto.HeaderProxyFromAddrs(version, from, to).Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// introduced dials and says that first.
func (b *broker) introduced(t *testing.T, scheme string, header []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", b.host(t, scheme))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(header); err != nil {
		t.Fatal(err)
	}
	return conn
}

// local is what balancers say of their own checks: LOCAL in version 2.
var local = []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")

func TestTheClientBehindABalancer(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	b := openAt(t, func(o *ingress.Options) { o.Balancers = loopback },
		ingress.Listener{}, ingress.Listener{TLS: a.server(t, ingress.Password)},
		ingress.Listener{WebSocket: &ingress.WebSocket{}}, ingress.Listener{WebSocket: &ingress.WebSocket{}, TLS: a.server(t, ingress.Password)})
	secure := a.client()
	secure.ServerName = "127.0.0.1"
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		for want, header := range map[string][]byte{
			"192.0.2.7:4711":     introduction(t, 1, "192.0.2.7:4711"),
			"192.0.2.8:4711":     introduction(t, 2, "192.0.2.8:4711"),
			"[2001:db8::7]:4711": introduction(t, 2, "[2001:db8::7]:4711"),
			"[2001:db8::8]:4711": introduction(t, 1, "[2001:db8::8]:4711"),
			"127.0.0.1:":         local,
			"127.0.0.1":          []byte("PROXY UNKNOWN\r\n"),
		} {
			conn := b.introduced(t, scheme, header)
			if strings.HasSuffix(scheme, "s") && scheme != "ws" {
				conn = tls.Client(conn, secure)
			}
			if strings.HasPrefix(scheme, "ws") {
				conn = upgraded(t, conn)
			}
			c := mqttest.Over(t, conn, 5)
			if ack := c.Connect("w-1"); ack.ReasonCode != 0 {
				t.Fatalf("%s: CONNACK %x", scheme, ack.Raw)
			}
			met := b.admitted()
			if got := met[len(met)-1].Remote; !strings.HasPrefix(got, want) {
				t.Errorf("%s: the door met %s, want %s", scheme, got, want)
			}
			c.Close()
		}
	}
}

func upgraded(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: func(string, string) (net.Conn, error) { return conn, nil }}
	ws, _, err := d.Dial("ws://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &page{Conn: ws.NetConn(), ws: ws}
}

// A header counts from those alone who are listed: others speak MQTT, of which
// it is none.
func TestWhoMaySayWhoConnects(t *testing.T) {
	t.Parallel()
	connect := []byte{0x10, 15, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 3, 'w', '-', '1'}
	b := openAt(t, func(o *ingress.Options) { o.Balancers = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, ingress.Listener{})
	for _, version := range []byte{1, 2} {
		conn := b.introduced(t, "mqtt", append(introduction(t, version, "203.0.113.1:1"), connect...))
		mqttest.Over(t, conn, 4).ExpectEnd()
	}
	if n := len(b.admitted()); n > 0 {
		t.Errorf("the door met %d", n)
	}
	b = openAt(t, func(o *ingress.Options) { o.Balancers, o.ConnectDeadline = loopback, 5*soon }, ingress.Listener{})
	for name, said := range map[string][]byte{
		"no header":             connect,
		"a broken header":       append([]byte("PROXY TCP4 192.0.2.7\r\n"), connect...),
		"an unended header":     []byte("PROXY TCP4 192.0.2.7 198.51.100.1 1"),
		"an unended header 2":   introduction(t, 2, "192.0.2.7:1")[:20],
		"a header without end":  append([]byte("PROXY "), make([]byte, 1000)...),
		"silence":               nil,
		"no more than a header": introduction(t, 2, "192.0.2.7:1"),
	} {
		c := mqttest.Over(t, b.introduced(t, "mqtt", said), 4)
		c.ExpectEnd()
		if n := len(b.admitted()); n > 0 {
			t.Errorf("%s: the door met %d", name, n)
		}
	}
	if !strings.Contains(b.log.String(), "mqtt.proxy_protocol") {
		t.Errorf("the log does not say what to do:\n%s", b.log.String())
	}
}

// The share of an address is the client's: its balancer has none.
func TestTheShareBehindABalancer(t *testing.T) {
	t.Parallel()
	b := openAt(t, func(o *ingress.Options) { o.Balancers, o.MaxConnectionsPerAddress = loopback, 1 }, ingress.Listener{})
	for _, client := range []string{"192.0.2.7:1", "192.0.2.8:1", "[2001:db8::1]:1"} {
		c := mqttest.Over(t, b.introduced(t, "mqtt", introduction(t, 2, client)), 5)
		if ack := c.Connect(client); ack.ReasonCode != 0 {
			t.Fatalf("%s: CONNACK %x", client, ack.Raw)
		}
	}
	for _, client := range []string{"192.0.2.7:2", "[2001:db8::2]:2"} {
		mqttest.Over(t, b.introduced(t, "mqtt", introduction(t, 2, client)), 5).ExpectEnd()
	}
	if _, address := b.Crowded(); address != 2 {
		t.Errorf("%d are refused, want 2", address)
	}
}

// Balancers look every few seconds whether somebody listens.
func TestABalancersCheckIsNoNews(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	failed := make(chan string, 10)
	b := openAt(t, func(o *ingress.Options) {
		o.Balancers = loopback
		o.HandshakeFailed = func(remote string, err error) { failed <- remote + ": " + err.Error() }
	}, ingress.Listener{}, ingress.Listener{TLS: a.server(t, ingress.Password)}, ingress.Listener{WebSocket: &ingress.WebSocket{}})
	for _, scheme := range []string{"mqtt", "mqtts", "ws"} {
		for _, said := range [][]byte{nil, local, []byte("PROXY UNKNOWN\r\n"), introduction(t, 1, "192.0.2.7:1")} {
			conn := b.introduced(t, scheme, said)
			_ = conn.(*net.TCPConn).CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(mqttest.Patience))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s, %q: %v", scheme, said, err)
			}
			conn = b.introduced(t, scheme, said)
			_ = conn.(*net.TCPConn).SetLinger(0) // some checks end with a reset
			_ = conn.Close()
		}
	}
	until(t, "they have ended", func() bool { return b.Connections() == 0 })
	if b.HandshakesFailed() != 0 || len(failed) > 0 {
		t.Errorf("%d are counted as failed handshakes: %v", b.HandshakesFailed(), len(failed))
	}
	if text := b.log.String(); strings.Contains(text, `"level":"warn"`) || strings.Contains(text, `"level":"error"`) {
		t.Errorf("the log says\n%s", text)
	}
}
