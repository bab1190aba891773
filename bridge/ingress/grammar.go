package ingress

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// fault is why a packet ends its connection.
type fault struct {
	packets.Code
	// connack answers a CONNECT; nil leaves it without an answer.
	connack []byte
}

var (
	errMalformed = &fault{Code: packets.ErrMalformedPacket}
	errProtocol  = &fault{Code: packets.ErrProtocolViolation}
	errTooLarge  = &fault{Code: packets.ErrPacketTooLarge}
	errFlags     = &fault{Code: packets.ErrMalformedFlags}
	errQoS       = &fault{Code: packets.ErrMalformedQos}
	errLength    = &fault{Code: packets.ErrMalformedVariableByteInteger}
	errDup       = &fault{Code: packets.ErrProtocolViolationDupNoQos}
	errSecond    = &fault{Code: packets.ErrProtocolViolationSecondConnect}
	errFirst     = &fault{Code: packets.ErrProtocolViolationRequireFirstConnect}
	errNoFilter  = &fault{Code: packets.ErrProtocolViolationNoFilters}
	errNoID      = &fault{Code: packets.ErrProtocolViolationNoPacketID}
	errOptions   = &fault{Code: packets.Code{Code: packets.ErrMalformedPacket.Code, Reason: "malformed packet: subscription options"}}
	errNoLocal   = &fault{Code: packets.ErrProtocolViolationInvalidSharedNoLocal}
)

// grammar is the form that a client's packets must have, by MQTT 3.1.1 and 5. It
// says nothing of what Mochi checks itself once a packet is decoded: topics,
// topic aliases, who may do what.
type grammar struct {
	// version is that of CONNECT, 0 before it.
	version byte
}

// packet returns the size in bytes of the packet that b begins with: 0 if more
// is to come. What is wrong is found as early as it can be.
func (g *grammar) packet(b []byte) (int, *fault) {
	if len(b) == 0 {
		return 0, nil
	}
	if f := g.header(b[0]); f != nil {
		return 0, f
	}
	length, size, f := remaining(b[1:])
	if f != nil || size == 0 {
		return 0, f
	}
	all := 1 + size + length
	if all > maxPacket || g.version == 0 && all > maxConnect {
		return 0, errTooLarge
	}
	if len(b) < all {
		return 0, nil
	}
	c := &cursor{rest: b[1+size : all]}
	if f := g.body(b[0], c); f != nil {
		return 0, f
	}
	return all, nil
}

// header checks a packet's first byte (MQTT 5, 2.1.2 and 2.1.3).
func (g *grammar) header(first byte) *fault {
	kind, flags := first>>4, first&0xF
	if kind == packets.Connect && g.version != 0 {
		return errSecond // [MQTT-3.1.0-2]
	}
	if kind != packets.Connect && g.version == 0 {
		return errFirst // [MQTT-3.1.0-1]
	}
	switch kind {
	case packets.Publish:
		if flags>>1&3 == 3 {
			return errQoS // [MQTT-3.3.1-4]
		}
		if flags&8 != 0 && flags>>1&3 == 0 {
			return errDup // [MQTT-3.3.1-2]
		}
		return nil
	case packets.Pubrel, packets.Subscribe, packets.Unsubscribe:
		flags ^= 2
	case packets.Connect, packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Pingreq, packets.Disconnect:
	case packets.Auth:
		// One that wants it is refused at CONNECT.
		return errProtocol
	default: // what only a server sends, and what does not exist
		return errProtocol
	}
	if flags != 0 {
		return errFlags // [MQTT-2.1.3-1]
	}
	return nil
}

// remaining decodes a packet's length, and says in how many bytes it is: none if
// more are to come.
func remaining(b []byte) (length, size int, f *fault) {
	length, size = varint(b)
	switch {
	case size == 0 && len(b) >= 4, size > 1 && b[size-1] == 0: // [MQTT-1.5.5-1]
		return 0, 0, errLength
	}
	return length, size, nil
}

// body checks what follows the fixed header.
func (g *grammar) body(first byte, c *cursor) *fault {
	switch kind := first >> 4; kind {
	case packets.Connect:
		return g.connect(c)
	case packets.Publish:
		return g.publish(first, c)
	case packets.Subscribe, packets.Unsubscribe:
		return g.filters(kind, c)
	case packets.Pingreq:
	case packets.Disconnect:
		g.reason(kind, c)
	default:
		if c.uint16() == 0 && !c.bad {
			return errNoID // [MQTT-2.2.1-3]
		}
		g.reason(kind, c)
	}
	return c.end()
}

func (g *grammar) publish(first byte, c *cursor) *fault {
	c.text()
	if first&6 != 0 && c.uint16() == 0 && !c.bad {
		return errNoID // [MQTT-2.2.1-3]
	}
	c.properties(g.version, inPublish)
	c.rest = nil // the payload
	return c.end()
}

// filters checks SUBSCRIBE and UNSUBSCRIBE.
func (g *grammar) filters(kind byte, c *cursor) *fault {
	if c.uint16() == 0 && !c.bad {
		return errNoID // [MQTT-2.2.1-3]
	}
	c.properties(g.version, propertiesOf[kind])
	if len(c.rest) == 0 && !c.bad {
		return errNoFilter // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
	}
	for len(c.rest) > 0 && !c.bad {
		filter := c.text()
		if kind == packets.Unsubscribe {
			continue
		}
		if f := g.options(filter, c.byte()); f != nil {
			return f
		}
	}
	return c.end()
}

// options checks those of a subscription (MQTT 5, 3.8.3.1; 3.1.1, 3.8.3).
func (g *grammar) options(filter []byte, o byte) *fault {
	reserved := byte(0xFC)
	if g.version == 5 {
		reserved = 0xC0
	}
	switch {
	case o&reserved != 0, o&3 == 3, g.version == 5 && o>>4&3 == 3: // [MQTT-3.8.3-4] [MQTT-3.8.3-5]
		return errOptions
	case o&4 != 0 && strings.HasPrefix(string(filter), "$share/"): // [MQTT-3.8.3-4]
		return errNoLocal
	}
	return nil
}

// reason checks what MQTT 5 may add: a reason code, and properties after it.
func (g *grammar) reason(kind byte, c *cursor) {
	if g.version != 5 || len(c.rest) == 0 {
		return
	}
	c.byte()
	if len(c.rest) > 0 {
		c.properties(g.version, propertiesOf[kind])
	}
}
