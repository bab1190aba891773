package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/gorilla/websocket"

	"github.com/pulsegate/pulsegate/bridge/config"
)

// door is a listener for devices.
type door struct {
	setting, address string
	// demand is one of config's Client constants.
	demand            string
	secure, webSocket bool
}

func (e *examination) doors() []door {
	m := e.Config.MQTT
	var all []door
	if m.Listen != "" {
		all = append(all, door{setting: "mqtt.listen", address: m.Listen, demand: config.ClientPassword})
	}
	if m.TLS.Listen != "" {
		all = append(all, door{setting: "mqtt.tls.listen", address: m.TLS.Listen, demand: m.TLS.Client, secure: true})
	}
	if m.WebSocket.Listen != "" {
		d := door{setting: "mqtt.websocket.listen", address: m.WebSocket.Listen, demand: config.ClientPassword, webSocket: true}
		if m.WebSocket.Scheme == config.SchemeSecure {
			d.demand, d.secure = m.TLS.Client, true
		}
		all = append(all, d)
	}
	return all
}

// dial connects as a device would.
func (e *examination) dial(ctx context.Context, d door) (net.Conn, error) {
	var secure *tls.Config
	if d.secure {
		var err error
		if secure, err = e.pinned(); err != nil {
			return nil, err
		}
	}
	if d.webSocket {
		return e.dialWebSocket(ctx, d, secure)
	}
	conn, err := e.dialTCP(ctx, "tcp", d.address)
	if err != nil || secure == nil {
		return conn, err
	}
	over := tls.Client(conn, secure)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return over, nil
}

// dialTCP speaks the PROXY protocol where the gate expects it from this machine:
// UNKNOWN leaves it its own address.
func (e *examination) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: look whether the gate listens there", err)
	}
	from, err := netip.ParseAddrPort(conn.LocalAddr().String())
	for _, text := range e.Config.MQTT.ProxyProtocol {
		block, bad := netip.ParsePrefix(text)
		if err != nil || bad != nil || !block.Contains(from.Addr().Unmap()) {
			continue
		}
		_, err = conn.Write([]byte("PROXY UNKNOWN\r\n"))
		break
	}
	return conn, err
}

// pinned is TLS with exactly the certificate that the configuration names: the
// address that it is dialled by is seldom the name that devices know.
func (e *examination) pinned() (*tls.Config, error) {
	file := e.Config.MQTT.TLS.Cert
	expected, err := readCertificates(file)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(state.PeerCertificates[0].Raw, expected[0].Raw) {
				return fmt.Errorf("the listener shows another certificate than %s holds: unless that is new this second, the gate's log says why it has not taken it up", file)
			}
			return nil
		},
	}
	if e.Cert != "" {
		pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (e *examination) dialWebSocket(ctx context.Context, d door, secure *tls.Config) (net.Conn, error) {
	dialer := websocket.Dialer{NetDialContext: e.dialTCP, TLSClientConfig: secure, Subprotocols: []string{"mqtt"}}
	scheme := config.SchemePlain
	if d.secure {
		scheme = config.SchemeSecure
	}
	conn, answer, err := dialer.DialContext(ctx, scheme+"://"+d.address, http.Header{})
	if answer != nil && err != nil {
		return nil, fmt.Errorf("WebSocket: %w (%s)", err, answer.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("WebSocket: %w", err)
	}
	return &frames{Conn: conn}, nil
}

// frames is the stream of bytes that binary WebSocket frames carry (MQTT 5, 6).
type frames struct {
	*websocket.Conn
	current io.Reader
}

// Read implements net.Conn.
func (f *frames) Read(p []byte) (int, error) {
	for {
		if f.current == nil {
			_, next, err := f.NextReader()
			if err != nil {
				return 0, err
			}
			f.current = next
		}
		n, err := f.current.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		f.current = nil
		if n > 0 {
			return n, nil
		}
	}
}

// Write implements net.Conn.
func (f *frames) Write(p []byte) (int, error) {
	if err := f.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline implements net.Conn.
func (f *frames) SetDeadline(t time.Time) error {
	return errors.Join(f.SetReadDeadline(t), f.SetWriteDeadline(t))
}
