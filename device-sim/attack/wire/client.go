package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// largest is the size in bytes of the largest packet that is read: a broker
// answers with less.
const largest = 64 << 10

// Answer is a packet from the broker.
type Answer struct {
	Type byte
	// Body is what follows the fixed header.
	Body []byte
	// version is the client's.
	version byte
}

// Code is the reason code of CONNACK, PUBACK, PUBREC, PUBCOMP or DISCONNECT,
// success where the packet leaves it out, and the lowest of SUBACK's and
// UNSUBACK's: one granted subscription is enough for a spy.
func (a Answer) Code() byte {
	at := 2
	switch a.Type {
	case Connack:
		at = 1
	case Disconnect:
		at = 0
	case Suback, Unsuback:
		return a.lowest()
	}
	if len(a.Body) <= at {
		return 0
	}
	return a.Body[at]
}

// Reason is the reason string of PUBACK or PUBREC (MQTT 5, 3.4.2.2.2), empty
// without one, or if another property comes first.
func (a Answer) Reason() string {
	const reasonString = 0x1F
	if a.version < MQTT5 || len(a.Body) < 4 {
		return ""
	}
	length, n := binary.Uvarint(a.Body[3:])
	if n <= 0 || uint64(len(a.Body)-3-n) < length || length < 3 || a.Body[3+n] != reasonString {
		return ""
	}
	rest := a.Body[3+n+1:]
	size := int(binary.BigEndian.Uint16(rest))
	return string(rest[2:min(2+size, len(rest))])
}

// Codes are those of SUBACK and UNSUBACK, one a filter.
func (a Answer) Codes() []byte {
	if len(a.Body) < 2 {
		return nil
	}
	rest := a.Body[2:]
	if a.version >= MQTT5 {
		rest = skipProperties(rest)
	}
	return rest
}

// lowest is 0xFF without any.
func (a Answer) lowest() byte {
	code := byte(0xFF)
	for _, c := range a.Codes() {
		code = min(code, c)
	}
	return code
}

// ID is the packet identifier of PUBACK, PUBREC, PUBCOMP, SUBACK or UNSUBACK.
func (a Answer) ID() uint16 {
	if len(a.Body) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a.Body)
}

// Number is the value of CONNACK's property that is a number of two bytes, and
// whether it is there (MQTT 5, 3.2.2.3).
func (a Answer) Number(property byte) (uint16, bool) {
	if a.version < MQTT5 || a.Type != Connack || len(a.Body) < 3 {
		return 0, false
	}
	length, n := binary.Uvarint(a.Body[2:])
	if n <= 0 || uint64(len(a.Body)-2-n) < length {
		return 0, false
	}
	for rest := a.Body[2+n:][:length]; len(rest) > 0; {
		size := 1 + propertySize(rest)
		if size > len(rest) {
			return 0, false
		}
		if rest[0] == property && size == 3 {
			return binary.BigEndian.Uint16(rest[1:]), true
		}
		rest = rest[size:]
	}
	return 0, false
}

// propertySize is the size of the first property's value, by the table of MQTT 5,
// 2.2.2.2, for those that CONNACK may have.
func propertySize(rest []byte) int {
	text := func(at int) int {
		if len(rest) < at+2 {
			return len(rest)
		}
		return 2 + int(binary.BigEndian.Uint16(rest[at:]))
	}
	switch rest[0] {
	case 0x11, 0x27:
		return 4
	case 0x13, 0x21, 0x22:
		return 2
	case 0x24, 0x25, 0x28, 0x29, 0x2A:
		return 1
	case 0x26:
		name := text(1)
		return name + text(1+name)
	}
	return text(1)
}

func skipProperties(b []byte) []byte {
	length, n := binary.Uvarint(b)
	if n <= 0 || uint64(len(b)-n) < length {
		return nil
	}
	return b[n+int(length):]
}

// Client is one connection. It is not safe for concurrent use, but one
// goroutine may send while another reads.
type Client struct {
	version  byte
	patience time.Duration
	conn     net.Conn
	in       *bufio.Reader
}

// Dial connects TCP and sends nothing. Nothing that the client does takes longer
// than patience.
func Dial(ctx context.Context, address string, version byte, patience time.Duration) (*Client, error) {
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return Over(conn, version, patience), nil
}

// Over is Dial on a connection that is there, such as one of TLS.
func Over(conn net.Conn, version byte, patience time.Duration) *Client {
	return &Client{version: version, patience: patience, conn: conn, in: bufio.NewReaderSize(conn, 512)}
}

// Version is the protocol's that the client was dialled for.
func (c *Client) Version() byte { return c.version }

// Send writes packets, or any bytes, in one piece.
func (c *Client) Send(packets ...[]byte) error {
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return err
	}
	_, err := c.conn.Write(all)
	return err
}

// Next returns the next packet. Its error is os.ErrDeadlineExceeded if none
// came in time.
func (c *Client) Next() (Answer, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return Answer{}, err
	}
	first, err := c.in.ReadByte()
	if err != nil {
		return Answer{}, err
	}
	length, err := binary.ReadUvarint(c.in)
	if err != nil {
		return Answer{}, err
	}
	if length > largest {
		return Answer{}, fmt.Errorf("the broker sends a packet of %d bytes", length)
	}
	a := Answer{Type: first >> 4, Body: make([]byte, length), version: c.version}
	if _, err := io.ReadFull(c.in, a.Body); err != nil {
		return Answer{}, errors.Join(errors.New("the broker sent part of a packet"), err)
	}
	return a, nil
}

// Request sends, and returns the next packet. A write that fails is no error,
// since a broker may refuse before it has read all.
func (c *Client) Request(packets ...[]byte) (Answer, error) {
	_ = c.Send(packets...)
	return c.Next()
}

// Finish tells the broker that nothing more will be sent, if the connection can.
func (c *Client) Finish() error {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// Close closes the socket.
func (c *Client) Close() { _ = c.conn.Close() }
