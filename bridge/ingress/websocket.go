package ingress

import (
	"bytes"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// subprotocol is the one that a client must offer [MQTT-6.0.0-3].
const subprotocol = "mqtt"

// largestHeader bounds the HTTP request of a client, in bytes: that of a browser is
// a tenth of it, but for cookies.
const largestHeader = 6 << 10

// errNotBinary ends a connection [MQTT-6.0.0-1].
var errNotBinary = errors.New("a WebSocket frame that is not binary")

// serveWeb answers HTTP requests until the listener closes, and speaks MQTT with
// those who become WebSockets. It returns where connections come in.
func (l *listener) serveWeb(establish listeners.EstablishFn) *lobby {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c := l.upgrade(w, r); c != nil {
				l.converse(c, establish)
			}
		}),
		ReadHeaderTimeout: l.connectDeadline, ReadTimeout: l.connectDeadline, MaxHeaderBytes: largestHeader,
		ErrorLog: stdlog.New(debugLog{l.log}, "", 0),
	}
	server.SetKeepAlivesEnabled(false)
	in := &lobby{listener: l, ready: make(chan *visitor)}
	go func() { _ = server.Serve(in) }() // ends when the listener is closed
	return in
}

// lobby is the listener as the HTTP server sees it. The server gets a connection
// with its whole request only: what it takes for one is much more than a peer
// that says nothing is worth.
type lobby struct {
	*listener
	ready chan *visitor
}

// enter waits for a request.
func (l *lobby) enter(c *connection) {
	v := &visitor{Conn: c.Conn, connection: c, leave: func() { l.remove(c) }}
	if v.listen() != nil {
		v.leave()
		return
	}
	select {
	case l.ready <- v:
	case <-l.closing:
		v.leave()
	}
}

func (l *lobby) Accept() (net.Conn, error) {
	select {
	case v := <-l.ready:
		return v, nil
	case <-l.closing:
		return nil, net.ErrClosed
	}
}

func (l *lobby) Addr() net.Addr { return l.tcp.Addr() }

func (l *lobby) Close() error { return l.tcp.Close() }

// visitor is a connection while it speaks HTTP, and below the WebSocket after.
type visitor struct {
	net.Conn
	connection *connection
	leave      func()
	// said is what the HTTP server has not read yet.
	said []byte
}

// listen reads a request's header, or as much as it is known to be too large by.
func (v *visitor) listen() error {
	for len(v.said) <= largestHeader && !bytes.Contains(v.said, []byte("\n\r\n")) && !bytes.Contains(v.said, []byte("\n\n")) {
		var err error
		if v.said, err = readMore(v.Conn, v.said); err != nil {
			return err
		}
	}
	return nil
}

// Read returns first what was read before.
func (v *visitor) Read(b []byte) (int, error) {
	if len(v.said) == 0 {
		return v.Conn.Read(b)
	}
	n := copy(b, v.said)
	if v.said = v.said[n:]; len(v.said) == 0 {
		v.said = nil
	}
	return n, nil
}

// Close is called by whoever gives the connection up before it is a WebSocket.
func (v *visitor) Close() error {
	v.leave()
	return nil
}

// upgrade makes a request a WebSocket, or answers why not and returns nil.
func (l *listener) upgrade(w http.ResponseWriter, r *http.Request) *connection {
	if websocket.IsWebSocketUpgrade(r) && !slices.Contains(websocket.Subprotocols(r), subprotocol) {
		http.Error(w, "the WebSocket subprotocol must be "+subprotocol, http.StatusBadRequest)
		return nil
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{subprotocol}, CheckOrigin: l.welcomes}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		l.log.Debug().Str("remote", r.RemoteAddr).Str("cause", err.Error()).Msg("no WebSocket")
		return nil
	}
	c := ws.NetConn().(*visitor).connection
	ws.SetPingHandler(func(said string) error {
		c.pause(c.chatter.take(1))
		_ = ws.WriteControl(websocket.PongMessage, []byte(said), time.Now().Add(goodbyeLimit))
		return nil
	})
	c.Conn = &frames{Conn: c.Conn, ws: ws}
	_ = c.SetDeadline(c.deadline) // becoming a WebSocket has lifted it
	return c
}

// welcomes keeps the pages of strangers from using a browser that can reach the
// gate. Who is no browser sends no Origin (RFC 6455, 10.2).
func (l *listener) welcomes(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(r.Header.Values("Origin")) == 0 {
		return true
	}
	if slices.ContainsFunc(l.of.WebSocket.Origins, func(allowed string) bool { return strings.EqualFold(allowed, origin) }) {
		return true
	}
	from, err := url.Parse(origin)
	return err == nil && from.Host != "" && strings.EqualFold(from.Host, r.Host)
}

// frames is a WebSocket as a stream of bytes: packets need not begin or end with
// its frames [MQTT-6.0.0-2].
type frames struct {
	net.Conn
	ws      *websocket.Conn
	message io.Reader
}

func (f *frames) Read(b []byte) (int, error) {
	for {
		if f.message == nil {
			kind, message, err := f.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				f.goodbye(websocket.CloseUnsupportedData, "MQTT is in binary frames")
				return 0, errNotBinary
			}
			f.message = message
		}
		n, err := f.message.Read(b)
		if errors.Is(err, io.EOF) {
			f.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (f *frames) Write(b []byte) (int, error) {
	if err := f.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close says goodbye as WebSocket does, and closes what is below.
func (f *frames) Close() error {
	f.goodbye(websocket.CloseNormalClosure, "")
	return f.Conn.Close()
}

func (f *frames) goodbye(code int, why string) {
	_ = f.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, why), time.Now().Add(goodbyeLimit))
}
