package source

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// oversize is the size of topic and payload, in bytes, from which a message
	// is refused unread; the embedded broker refuses such packets too.
	oversize = 16 << 10
	// trimmed is how much of a larger PUBLISH is read, in bytes: the longest
	// topic, and enough to be seen as oversize.
	trimmed = 1<<16 + oversize + 8
	// writeTimeout is how long the broker may leave a packet unread by its side
	// of the network.
	writeTimeout = 10 * time.Second
)

// Packet types in the high half of a packet's first byte (MQTT 3.1.1, 2.2.1).
const (
	typePublish = 3
	typeSuback  = 9
)

// guard stands between paho and the broker. It bounds what a packet makes paho
// allocate: a PUBLISH may have 256 MiB [MQTT-2.2.3], and one that ends the
// process would come again after each start. It stops a SUBACK of the wrong
// length, at which paho panics. It gives writes the deadline that paho gives
// only to its publishes, and tells at once when paho hangs up, since paho tells
// only after its handler has returned.
type guard struct {
	net.Conn
	socket  net.Conn
	hungUp  func()
	in      *bufio.Reader
	filters int

	// header is what of a packet's fixed header is yet to be given out, left
	// what of its body is, and excess what follows that and is passed over.
	header       []byte
	left, excess int
}

// newGuard wraps a connection on which so many filters are subscribed to.
// hungUp is called when it is closed, whoever does it.
func newGuard(conn, socket net.Conn, filters int, hungUp func()) *guard {
	return &guard{Conn: conn, socket: socket, filters: filters, hungUp: hungUp, in: bufio.NewReaderSize(conn, oversize)}
}

// Read implements net.Conn. Only one goroutine of paho's reads.
func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(g.header) == 0 && g.left == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.header) > 0 {
		n := copy(p, g.header)
		g.header = g.header[n:]
		return n, nil
	}
	n, err := g.in.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}

// next reads a fixed header (MQTT 3.1.1, 2.2).
func (g *guard) next() error {
	for g.excess > 0 {
		n, err := g.in.Discard(min(g.excess, oversize))
		if g.excess -= n; err != nil {
			return err
		}
	}
	first, err := g.in.ReadByte()
	if err != nil {
		return err
	}
	length, err := readLength(g.in)
	if err != nil {
		return err
	}
	switch kind := first >> 4; {
	case kind == typePublish && length > trimmed:
		length, g.excess = trimmed, length-trimmed
	case kind == typeSuback && length != 2+g.filters:
		return fmt.Errorf("the broker sent a SUBACK of %d bytes for %d filters", length, g.filters)
	case length > trimmed:
		return fmt.Errorf("the broker sent a packet of type %d with %d bytes", kind, length)
	}
	g.header = binary.AppendUvarint(append(g.header[:0:0], first), uint64(length))
	g.left = length
	return nil
}

// readLength reads the Remaining Length (MQTT 3.1.1, 2.2.3), of at most four
// bytes.
func readLength(in io.ByteReader) (int, error) {
	length := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			return length, nil
		}
	}
	return 0, errors.New("the broker sent a packet without an end to its length")
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// Close implements net.Conn.
func (g *guard) Close() error {
	g.hungUp()
	return g.socket.Close()
}
