package ingress

import "github.com/mochi-mqtt/server/v2/packets"

var (
	errProperty  = &fault{Code: packets.ErrMalformedProperties}
	errRepeated  = &fault{Code: packets.Code{Code: packets.ErrProtocolViolation.Code, Reason: "protocol violation: a property is repeated"}}
	errValue     = &fault{Code: packets.Code{Code: packets.ErrProtocolViolation.Code, Reason: "protocol violation: a property's value is not allowed"}}
	errNoMethod  = &fault{Code: packets.Code{Code: packets.ErrProtocolViolation.Code, Reason: "protocol violation: authentication data without a method"}}
	errSurplusID = &fault{Code: packets.ErrProtocolViolationSurplusSubID}
)

// place is a set of the places at which a client may send a property.
type place uint8

const (
	inConnect place = 1 << iota
	inWill
	inPublish
	inSubscribe
	inUnsubscribe
	inAck
	inDisconnect
)

var propertiesOf = map[byte]place{
	packets.Puback: inAck, packets.Pubrec: inAck, packets.Pubrel: inAck, packets.Pubcomp: inAck,
	packets.Subscribe: inSubscribe, packets.Unsubscribe: inUnsubscribe, packets.Disconnect: inDisconnect,
}

// shape is the data type of a property.
type shape uint8

const (
	bit      shape = iota // one byte, 0 or 1
	two                   // two bytes
	twoSome               // two bytes, not 0
	four                  // four bytes
	fourSome              // four bytes, not 0
	number                // a variable byte integer, not 0
	text
	binary
	pair // of strings, as often as one likes
)

const (
	subscriptionID       = 0x0B
	authenticationMethod = 0x15
	authenticationData   = 0x16
)

// properties are those that clients send (MQTT 5, 2.2.2.2).
var properties = [0x2B]struct {
	shape
	place
}{
	0x01:                 {bit, inPublish | inWill},         // payload format indicator
	0x02:                 {four, inPublish | inWill},        // message expiry interval
	0x03:                 {text, inPublish | inWill},        // content type
	0x08:                 {text, inPublish | inWill},        // response topic
	0x09:                 {binary, inPublish | inWill},      // correlation data
	subscriptionID:       {number, inPublish | inSubscribe}, // refused in PUBLISH
	0x11:                 {four, inConnect | inDisconnect},  // session expiry interval
	authenticationMethod: {text, inConnect},                 //
	authenticationData:   {binary, inConnect},               //
	0x17:                 {bit, inConnect},                  // request problem information
	0x18:                 {four, inWill},                    // will delay interval
	0x19:                 {bit, inConnect},                  // request response information
	0x1F:                 {text, inAck | inDisconnect},      // reason string
	0x21:                 {twoSome, inConnect},              // receive maximum
	0x22:                 {two, inConnect},                  // topic alias maximum
	0x23:                 {two, inPublish},                  // topic alias; Mochi checks it
	0x26:                 {pair, ^place(0)},                 // user property
	0x27:                 {fourSome, inConnect},             // maximum packet size
}

// found is the set of properties that a packet has.
type found uint64

func (f found) has(id int) bool { return f>>id&1 != 0 }

// properties reads those of a packet, in MQTT 5 only. They end where their length
// says.
func (c *cursor) properties(version byte, where place) (all found) {
	if version != 5 {
		return 0
	}
	inner := &cursor{rest: c.take(c.varint())}
	for len(inner.rest) > 0 && inner.broken == nil && !inner.bad {
		all = inner.property(all, where)
	}
	if all.has(authenticationData) && !all.has(authenticationMethod) && inner.broken == nil {
		inner.broken = errNoMethod // MQTT 5, 3.1.2.11.10
	}
	if inner.bad && inner.broken == nil {
		inner.broken = errProperty
	}
	if c.broken == nil {
		c.broken = inner.broken
	}
	c.bad = c.bad || inner.bad
	return all
}

func (c *cursor) property(all found, where place) found {
	id := c.varint()
	if c.bad || id >= len(properties) || properties[id].place&where == 0 {
		c.broken = errProperty
		return all
	}
	p := properties[id]
	switch {
	case all.has(id) && p.shape != pair:
		c.broken = errRepeated
	case id == subscriptionID && where == inPublish:
		c.broken = errSurplusID // [MQTT-3.3.4-6]
	case !c.value(p.shape) && !c.bad:
		c.broken = errValue
	}
	return all | 1<<id
}

// value reads one, and says whether it is allowed.
func (c *cursor) value(s shape) bool {
	switch s {
	case bit:
		return c.byte() <= 1
	case two:
		c.take(2)
	case twoSome:
		return c.uint16() != 0
	case four:
		c.take(4)
	case fourSome:
		high, low := c.uint16(), c.uint16()
		return high|low != 0
	case number:
		return c.varint() != 0
	case text:
		c.text()
	case binary:
		c.binary()
	case pair:
		c.text()
		c.text()
	}
	return true
}
