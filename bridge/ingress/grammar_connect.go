package ingress

import (
	"bytes"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// connect checks CONNECT, and learns the version from it. What can be answered
// is answered: in MQTT 3.1.1 only what has a return code.
func (g *grammar) connect(c *cursor) *fault {
	name, version := string(c.text()), c.byte()
	if c.bad || name != "MQTT" && name != "MQIsdp" {
		return errMalformed // [MQTT-3.1.2-1]
	}
	if name == "MQTT" && version != 4 && version != 5 || name == "MQIsdp" && version != 3 {
		return unsupported(version)
	}
	g.version = version
	f := g.connectFields(c)
	if f == nil {
		f = c.end()
	}
	if f != nil && f.connack == nil && version == 5 {
		return &fault{f.Code, []byte{packets.Connack << 4, 3, 0, f.Code.Code, 0}}
	}
	return f
}

// unsupported refuses a version as it would expect it [MQTT-3.1.2-2].
func unsupported(version byte) *fault {
	f := &fault{packets.ErrUnsupportedProtocolVersion, []byte{packets.Connack << 4, 2, 0, 1}}
	if version > 5 {
		f.connack = []byte{packets.Connack << 4, 3, 0, f.Code.Code, 0}
	}
	return f
}

func (g *grammar) connectFields(c *cursor) *fault {
	flags := c.byte()
	will, qos, retain := flags&4 != 0, flags>>3&3, flags&0x20 != 0
	password, user := flags&0x40 != 0, flags&0x80 != 0
	switch {
	case flags&1 != 0, // [MQTT-3.1.2-3]
		qos == 3, !will && (qos != 0 || retain), // [MQTT-3.1.2-11] to [MQTT-3.1.2-13]
		g.version < 5 && password && !user: // 3.1.1: [MQTT-3.1.2-22]
		return &fault{Code: packets.ErrMalformedFlags}
	}
	c.uint16() // keep alive
	if found := c.properties(g.version, inConnect); found.has(authenticationMethod) {
		return &fault{packets.ErrBadAuthenticationMethod, []byte{packets.Connack << 4, 3, 0, packets.ErrBadAuthenticationMethod.Code, 0}} // [MQTT-4.12.0-1]
	}
	if id := c.text(); len(id) == 0 && flags&2 == 0 && g.version < 5 && !c.bad {
		return &fault{packets.ErrClientIdentifierNotValid, []byte{packets.Connack << 4, 2, 0, 2}} // 3.1.1: [MQTT-3.1.3-8]
	}
	if will {
		c.properties(g.version, inWill)
		c.text()
		c.binary()
	}
	if user {
		c.text()
	}
	if password {
		c.binary()
	}
	return nil
}

// cursor reads a packet's body. After a read that fails all others do.
type cursor struct {
	rest []byte
	bad  bool
	// broken is what a property breaks.
	broken *fault
}

func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.rest) {
		c.bad, c.rest = true, nil
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return uint16(b[0])<<8 | uint16(b[1])
	}
	return 0
}

func (c *cursor) binary() []byte { return c.take(int(c.uint16())) }

// text reads a UTF-8 string, without surrogates and NUL [MQTT-1.5.4-1]
// [MQTT-1.5.4-2].
func (c *cursor) text() []byte {
	b := c.binary()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		c.bad = true
	}
	return b
}

// varint decodes a variable byte integer (MQTT 5, 1.5.5), and says how many
// bytes it takes: none if it is not all there, or too long.
func varint(b []byte) (value, size int) {
	for i := 0; i < len(b) && i < 4; i++ {
		value |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}

func (c *cursor) varint() int {
	value, size := varint(c.rest)
	if size == 0 || size > 1 && c.rest[size-1] == 0 { // [MQTT-1.5.5-1]
		c.bad = true
	}
	c.take(size)
	return value
}

// end says what was wrong. Nothing may be left over.
func (c *cursor) end() *fault {
	switch {
	case c.broken != nil:
		return c.broken
	case c.bad, len(c.rest) > 0:
		return errMalformed
	}
	return nil
}
