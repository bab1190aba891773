// Package mqttest is an MQTT client for tests that look at single packets and
// their bytes. It does nothing by itself: no pings, no acknowledgements, no
// reconnecting.
package mqttest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Patience bounds waiting for something that must come.
const Patience = 10 * time.Second

// Client is one connection.
type Client struct {
	// Version is 4 (MQTT 3.1.1) or 5.
	Version byte

	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// Packet is a packet as it was received.
type Packet struct {
	packets.Packet
	Raw []byte
}

// Dial connects TCP and sends nothing.
func Dial(t testing.TB, address string, version byte) *Client {
	t.Helper()
	return DialWith(t, net.Dialer{}, address, version)
}

// DialWith is Dial with a dialer of the caller's.
func DialWith(t testing.TB, d net.Dialer, address string, version byte) *Client {
	t.Helper()
	d.Timeout = Patience
	conn, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return Over(t, conn, version)
}

// Over speaks MQTT on a connection, such as one of TLS, and sends nothing yet.
func Over(t testing.TB, conn net.Conn, version byte) *Client {
	t.Helper()
	c := &Client{Version: version, t: t, conn: conn, in: bufio.NewReader(conn)}
	t.Cleanup(c.Close)
	return c
}

// Close closes the socket.
func (c *Client) Close() { _ = c.conn.Close() }

// Option changes a CONNECT.
type Option func(*packets.Packet)

// Login sets user name and password.
func Login(user, password string) Option {
	return func(pk *packets.Packet) {
		pk.Connect.Username, pk.Connect.UsernameFlag = []byte(user), true
		pk.Connect.Password, pk.Connect.PasswordFlag = []byte(password), true
	}
}

// Resume asks for the session that was, in place of a clean start.
func Resume(pk *packets.Packet) { pk.Connect.Clean = false }

// Will leaves a will.
func Will(topic string, payload []byte) Option {
	return func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, topic, payload
	}
}

// Connect sends CONNECT and returns the answer, which may be a refusal.
func (c *Client) Connect(id string, options ...Option) Packet {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	pk.Connect.ProtocolName = []byte("MQTT")
	pk.Connect.ClientIdentifier = id
	pk.Connect.Clean = true
	pk.Connect.Keepalive = 60
	for _, o := range options {
		o(&pk)
	}
	c.Send(pk)
	return c.Expect(packets.Connack)
}

// Send writes packets at once.
func (c *Client) Send(pks ...packets.Packet) {
	c.t.Helper()
	if err := c.TrySend(pks...); err != nil {
		c.t.Fatal(err)
	}
}

// TrySend is Send for a goroutine of its own, and for a peer that may have hung
// up.
func (c *Client) TrySend(pks ...packets.Packet) error {
	var out bytes.Buffer
	for _, pk := range pks {
		pk.ProtocolVersion = c.Version
		if err := encode(&pk, &out); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(out.Bytes())
	return err
}

// Bytes returns packets as they are sent.
func Bytes(t testing.TB, version byte, pks ...packets.Packet) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, pk := range pks {
		pk.ProtocolVersion = version
		if err := encode(&pk, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// TryRaw is SendRaw for a goroutine of its own, and for a peer that may have hung
// up.
func (c *Client) TryRaw(b []byte) error {
	_, err := c.conn.Write(b)
	return err
}

// SendRaw writes bytes.
func (c *Client) SendRaw(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// Publish returns a PUBLISH.
func Publish(id uint16, qos byte, topic string, payload []byte) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos},
		PacketID:    id, TopicName: topic, Payload: payload,
	}
}

// Subscribe returns a SUBSCRIBE at QoS 1.
func Subscribe(id uint16, filters ...string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: id}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	return pk
}

// Pubrel returns a PUBREL.
func Pubrel(id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: id}
}

// Ping sends PINGREQ and expects that nothing but its answer comes: whatever
// was sent before has then been read, and not been answered.
func (c *Client) Ping() {
	c.t.Helper()
	c.Send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.Expect(packets.Pingresp)
}

// Expect returns the next packet, which must be of that type.
func (c *Client) Expect(kind byte) Packet {
	c.t.Helper()
	pk, err := c.Next()
	if err != nil {
		c.t.Fatalf("%v instead of %s", err, packets.PacketNames[kind])
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("%s (%x) instead of %s", packets.PacketNames[pk.FixedHeader.Type], pk.Raw, packets.PacketNames[kind])
	}
	return pk
}

// ExpectBytes expects exactly one packet's bytes.
func (c *Client) ExpectBytes(want ...byte) {
	c.t.Helper()
	pk, err := c.Next()
	if err != nil {
		c.t.Fatalf("%v instead of %x", err, want)
	}
	if !bytes.Equal(pk.Raw, want) {
		c.t.Fatalf("%x instead of %x", pk.Raw, want)
	}
}

// ExpectEnd expects that the peer hangs up and says nothing more.
func (c *Client) ExpectEnd() {
	c.t.Helper()
	switch pk, err := c.Next(); {
	case err == nil:
		c.t.Fatalf("%s (%x) instead of the connection's end", packets.PacketNames[pk.FixedHeader.Type], pk.Raw)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.t.Fatal("the connection stays open")
	}
}

// Next returns the next packet, or why there is none.
func (c *Client) Next() (Packet, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(Patience))
	var raw bytes.Buffer
	first, err := c.in.ReadByte()
	if err != nil {
		return Packet{}, err
	}
	raw.WriteByte(first)
	length, _, err := packets.DecodeLength(recorder{c.in, &raw})
	if err != nil {
		return Packet{}, err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return Packet{}, err
	}
	raw.Write(body)
	pk := Packet{Raw: raw.Bytes()}
	pk.ProtocolVersion = c.Version
	if err := pk.FixedHeader.Decode(first); err != nil {
		return Packet{}, err
	}
	pk.FixedHeader.Remaining = length
	return pk, decode(&pk.Packet, body)
}

type recorder struct {
	from *bufio.Reader
	to   *bytes.Buffer
}

func (r recorder) ReadByte() (byte, error) {
	b, err := r.from.ReadByte()
	if err == nil {
		r.to.WriteByte(b)
	}
	return b, err
}

func encode(pk *packets.Packet, out *bytes.Buffer) error {
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk.ConnectEncode(out)
	case packets.Publish:
		return pk.PublishEncode(out)
	case packets.Pubrel:
		return pk.PubrelEncode(out)
	case packets.Subscribe:
		return pk.SubscribeEncode(out)
	case packets.Pingreq:
		return pk.PingreqEncode(out)
	case packets.Disconnect:
		return pk.DisconnectEncode(out)
	}
	return fmt.Errorf("a client sends no %s", packets.PacketNames[pk.FixedHeader.Type])
}

func decode(pk *packets.Packet, body []byte) error {
	switch pk.FixedHeader.Type {
	case packets.Connack:
		return pk.ConnackDecode(body)
	case packets.Publish:
		return pk.PublishDecode(body)
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		return pk.PubackDecode(body)
	case packets.Suback:
		return pk.SubackDecode(body)
	case packets.Unsuback:
		return pk.UnsubackDecode(body)
	case packets.Pingresp:
		return nil
	case packets.Disconnect:
		return pk.DisconnectDecode(body)
	}
	return fmt.Errorf("a broker sends no packet of type %d", pk.FixedHeader.Type)
}
