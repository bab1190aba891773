package ingress_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// page is a browser's WebSocket, as a stream.
type page struct {
	net.Conn
	ws *websocket.Conn
	in io.Reader
}

func (p *page) Read(b []byte) (int, error) {
	for {
		if p.in == nil {
			kind, in, err := p.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("a frame that is not binary")
			}
			p.in = in
		}
		n, err := p.in.Read(b)
		if err == io.EOF {
			p.in, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (p *page) Write(b []byte) (int, error) {
	return len(b), p.ws.WriteMessage(websocket.BinaryMessage, b)
}

// ask asks for a WebSocket with that origin, if any.
func (b *broker) ask(t *testing.T, scheme string, config *tls.Config, protocol, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: config, HandshakeTimeout: mqttest.Patience}
	if protocol != "" {
		d.Subprotocols = []string{"another", protocol}
	}
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	ws, answer, err := d.Dial(scheme+"://"+b.host(t, scheme)+"/mqtt", header)
	if ws != nil {
		t.Cleanup(func() { _ = ws.Close() })
	}
	return ws, answer, err
}

func (b *broker) dialWeb(t *testing.T, scheme string, config *tls.Config) *page {
	t.Helper()
	ws, answer, err := b.ask(t, scheme, config, "mqtt", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
		t.Fatalf("the subprotocol is %q, want mqtt [MQTT-6.0.0-4]", got)
	}
	return &page{Conn: ws.NetConn(), ws: ws}
}

func openWeb(t *testing.T, origins ...string) *broker {
	t.Helper()
	return openAt(t, nil, ingress.Listener{WebSocket: &ingress.WebSocket{Origins: origins}, Demand: ingress.Password})
}

// recorded gathers what a client would send, so that a test can cut it.
type recorded struct {
	net.Conn
	bytes.Buffer
}

func (r *recorded) Read([]byte) (int, error)        { return 0, io.EOF }
func (r *recorded) Write(b []byte) (int, error)     { return r.Buffer.Write(b) }
func (r *recorded) Close() error                    { return nil }
func (r *recorded) SetReadDeadline(time.Time) error { return nil }

// Packets need not begin or end with frames [MQTT-6.0.0-2].
func TestFramesAreAStream(t *testing.T) {
	t.Parallel()
	var sent recorded
	writer := mqttest.Over(t, &sent, 5)
	writer.Send(publishes(1, 3)...)
	stream := sent.Bytes()
	b := openWeb(t)
	for _, size := range []int{1, 7, len(stream)} {
		p := b.dialWeb(t, "ws", nil)
		c := mqttest.Over(t, p, 5)
		c.Connect("w-1", mqttest.Login("w-1", "a password"))
		for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			c.SendRaw(rest[:min(size, len(rest))])
			c.SendRaw(nil) // an empty frame says nothing
		}
		for i, call := range b.take(t, 3) {
			if call.connection.Demand != ingress.Password || call.connection.Password != "a password" {
				t.Errorf("the door met %+v", call.connection)
			}
			call.done(accepted)
			c.ExpectBytes(0x40, 2, 0, byte(i+1))
		}
	}
}

func TestTextFramesCloseTheConnection(t *testing.T) {
	t.Parallel()
	b := openWeb(t)
	p := b.dialWeb(t, "ws", nil)
	mqttest.Over(t, p, 5).Connect("w-1")
	if err := p.ws.WriteMessage(websocket.TextMessage, []byte{0xC0, 0}); err != nil {
		t.Fatal(err)
	}
	_ = p.SetReadDeadline(time.Now().Add(mqttest.Patience))
	if _, _, err := p.ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
		t.Errorf("it ends with %v, want 1003 [MQTT-6.0.0-1]", err)
	}
}

func TestPingAndGoodbye(t *testing.T) {
	t.Parallel()
	b := openWeb(t)
	p := b.dialWeb(t, "ws", nil)
	c := mqttest.Over(t, p, 5)
	c.Connect("w-1")
	pong := make(chan string, 1)
	p.ws.SetPongHandler(func(data string) error { pong <- data; return nil })
	if err := p.ws.WriteControl(websocket.PingMessage, []byte("are you there?"), time.Now().Add(mqttest.Patience)); err != nil {
		t.Fatal(err)
	}
	c.Ping() // the one comes before the other
	if got := <-pong; got != "are you there?" {
		t.Errorf("the pong holds %q", got)
	}
	b.Disconnect("w-1")
	if bye, err := c.Next(); err != nil || bye.ReasonCode != 0x98 {
		t.Errorf("%x (%v), want DISCONNECT 0x98", bye.Raw, err)
	}
	if _, err := p.Read(make([]byte, 1)); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("it ends with %v, want 1000", err)
	}
}

func TestWhoGetsNoWebSocket(t *testing.T) {
	t.Parallel()
	b := openWeb(t, "https://ward.example.org")
	here := "http://" + b.host(t, "ws")
	for name, run := range map[string]struct {
		protocol, origin string
		status           int
	}{
		"no subprotocol":      {"", "", http.StatusBadRequest},
		"another subprotocol": {"mqttv3.1", "", http.StatusBadRequest},
		"no origin":           {"mqtt", "", http.StatusSwitchingProtocols},
		"the same host":       {"mqtt", here, http.StatusSwitchingProtocols},
		"one of the list":     {"mqtt", "https://WARD.example.org", http.StatusSwitchingProtocols},
		"another scheme":      {"mqtt", "http://ward.example.org", http.StatusForbidden},
		"a foreign origin":    {"mqtt", "https://evil.example.org", http.StatusForbidden},
		"another port":        {"mqtt", "http://127.0.0.1:1", http.StatusForbidden},
		"null":                {"mqtt", "null", http.StatusForbidden},
		"a suffix":            {"mqtt", "https://ward.example.org.evil.example", http.StatusForbidden},
	} {
		_, answer, err := b.ask(t, "ws", nil, run.protocol, run.origin)
		if answer == nil || answer.StatusCode != run.status {
			t.Errorf("%s: %v (%v), want status %d", name, answer, err, run.status)
		}
	}
	if len(b.admitted()) > 0 {
		t.Error("one reached the door")
	}
}

// What is not a WebSocket, or never becomes one, leaves its place to others.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	b := openAt(t, func(o *ingress.Options) { o.MaxConnections = 1 }, ingress.Listener{WebSocket: &ingress.WebSocket{}})
	const request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	for name, text := range map[string]string{
		"no upgrade": "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"no HTTP":    "\x10\x0f\x00\x04MQTT\r\n\r\n",
		"too early":  request + "frames before the answer",
		"too large":  "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 1<<16),
	} {
		conn, err := net.Dial("tcp", b.host(t, "ws"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.SetDeadline(time.Now().Add(mqttest.Patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		_ = conn.Close()
		for b.Connections() > 0 {
			runtime.Gosched()
		}
	}
	c := mqttest.Over(t, b.dialWeb(t, "ws", nil), 5)
	if ack := c.Connect("w-1"); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %x", ack.Raw)
	}
}
