package ingress

import (
	"io"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// defaultPacketDeadline is Options.PacketDeadline where that is zero.
	defaultPacketDeadline = 30 * time.Second
	// keptRoom is how much memory in bytes a connection keeps for the beginning of
	// a packet when it holds none.
	keptRoom = 512
	// leastRoom is what room for something of unknown size begins with, in bytes.
	leastRoom = 256
)

// inbound is what a connection has received and Mochi has not. Mochi decodes a
// packet as it comes, and takes some that are not well formed, or panics; so it
// sees whole packets only, and only those that the grammar admits.
type inbound struct {
	grammar grammar
	// held begins with ready bytes of whole packets.
	held  []byte
	ready int
	// failed is why nothing more is received.
	failed error
	// limit is how long a packet may take from the first wait for the rest of it.
	limit time.Duration
	// idle is until when the next packet must have begun.
	idle time.Time
}

// Read returns bytes of whole packets. It is called by one goroutine.
func (c *connection) Read(b []byte) (int, error) {
	in := &c.in
	if in.ready == 0 && in.failed == nil {
		if n := c.receive(b); n > 0 {
			return n, nil
		}
	}
	if in.ready > 0 {
		return in.hand(b), nil
	}
	if f, ok := in.failed.(fault); ok {
		c.in.failed = f.Code
		c.explain(f)
	}
	return 0, in.failed
}

// hello waits for a whole CONNECT. Only then does Mochi get the connection: what
// it takes for one is much more than a peer that says nothing is worth.
func (c *connection) hello() error {
	_, err := c.Read(nil)
	return err
}

// receive waits for a whole packet. It returns how many bytes of b are packets;
// none if they are held, since b has no room, or if the connection has failed.
func (c *connection) receive(b []byte) int {
	in := &c.in
	hurried := false
	for in.ready == 0 && in.failed == nil {
		if len(in.held) > 0 && !hurried {
			hurried = true
			_ = c.Conn.SetReadDeadline(sooner(in.idle, time.Now().Add(in.limit)))
		}
		if len(in.held) >= len(b) {
			c.receiveLarge()
			continue
		}
		k := copy(b, in.held)
		n, err := c.Conn.Read(b[k:])
		whole, err := in.scan(b[:k+n], err)
		in.keep(b[whole : k+n])
		if in.failed = err; whole > 0 {
			return whole
		}
	}
	return 0
}

// receiveLarge receives more of a packet that is larger than Mochi's buffer.
func (c *connection) receiveLarge() {
	in := &c.in
	var err error
	in.held, err = readMore(c.Conn, in.held)
	in.ready, in.failed = in.scan(in.held, err)
}

// readMore appends what comes next. The room that it takes grows with what has
// come, not with what was announced.
func readMore(from io.Reader, b []byte) ([]byte, error) {
	k := len(b)
	if k == cap(b) {
		b = append(make([]byte, 0, max(2*k, leastRoom)), b...)
	}
	n, err := from.Read(b[k:cap(b)])
	return b[:k+n], err
}

// scan returns how many bytes are whole packets that may be handed on, and why
// nothing after them may.
func (in *inbound) scan(b []byte, err error) (int, error) {
	whole := 0
	for {
		n, f := in.grammar.packet(b[whole:])
		if f != nil {
			return whole, *f
		}
		if n == 0 {
			return whole, err
		}
		whole += n
	}
}

// hand moves packets from held to b.
func (in *inbound) hand(b []byte) int {
	n := copy(b, in.held[:in.ready])
	in.ready -= n
	in.held = in.held[n:]
	if len(in.held) == 0 {
		in.held = nil
	}
	return n
}

// keep holds the beginning of a packet.
func (in *inbound) keep(b []byte) {
	if len(b) == 0 && cap(in.held) > keptRoom {
		in.held = nil
		return
	}
	in.held = append(in.held[:0], b...)
}

// SetDeadline says until when the next packet must have begun. Mochi sets it for
// each packet by the keep alive, but rounds half as long again down.
func (c *connection) SetDeadline(t time.Time) error {
	if c.patience > 0 {
		t = time.Now().Add(c.patience)
	}
	c.in.idle = t
	return c.Conn.SetReadDeadline(t)
}

// explain tells the peer why its connection ends, where its version of MQTT can.
func (c *connection) explain(f fault) {
	c.hurry()
	if f.connack != nil {
		_, _ = c.Conn.Write(f.connack)
		return
	}
	if q := c.queue.Load(); q != nil && c.in.grammar.version == 5 {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: f.Code.Code}
		pk.Properties.ReasonString = f.Reason
		_ = q.client.WritePacket(pk)
	}
}

// sooner returns the earlier of two times, the first of which may be zero: never.
func sooner(a, b time.Time) time.Time {
	if !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
