// Package wire writes and reads single MQTT packets, right and wrong ones. It
// does nothing by itself: no pings, no acknowledgements, no reconnecting.
package wire

import (
	"encoding/binary"
	"slices"
)

// Types of control packets (MQTT 5, 2.1.2).
const (
	Connack    = 2
	Publish    = 3
	Puback     = 4
	Pubrec     = 5
	Pubcomp    = 7
	Suback     = 9
	Unsuback   = 11
	Pingresp   = 13
	Disconnect = 14
)

// First bytes of packets that clients send, with the flags that they must have
// (MQTT 5, 2.1.3).
const (
	FirstConnect     = 0x10
	FirstPublish     = 0x30
	FirstPuback      = 0x40
	FirstPubrec      = 0x50
	FirstPubrel      = 0x62
	FirstPubcomp     = 0x70
	FirstSubscribe   = 0x82
	FirstUnsubscribe = 0xA2
	FirstPingreq     = 0xC0
	FirstDisconnect  = 0xE0
	FirstAuth        = 0xF0
)

// Versions of the protocol, as CONNECT has them.
const (
	MQTT311 = 4
	MQTT5   = 5
)

// Will is what CONNECT leaves behind.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
}

// Login is a CONNECT with a clean session.
type Login struct {
	Version            byte
	ID, User, Password string
	// Keepalive is in seconds.
	Keepalive uint16
	Will      *Will
	// Properties are encoded ones, for MQTT 5 only.
	Properties []byte
}

// Bytes is the packet.
func (l Login) Bytes() []byte {
	flags := byte(0xC2) // user name, password, clean start (MQTT 5, 3.1.2.3)
	if l.Will != nil {
		flags |= 0x04 | l.Will.QoS<<3
		if l.Will.Retain {
			flags |= 0x20
		}
	}
	body := append(Text("MQTT"), l.Version, flags)
	body = binary.BigEndian.AppendUint16(body, l.Keepalive)
	body = append(body, properties(l.Version, l.Properties)...)
	body = append(body, Text(l.ID)...)
	if l.Will != nil {
		body = append(body, properties(l.Version, nil)...)
		body = append(body, Text(l.Will.Topic)...)
		body = append(body, Text(string(l.Will.Payload))...)
	}
	body = append(body, Text(l.User)...)
	return Packet(FirstConnect, append(body, Text(l.Password)...))
}

// Message is a PUBLISH.
type Message struct {
	Version byte
	Topic   string
	// ID is the packet identifier, left out at QoS 0.
	ID      uint16
	QoS     byte
	Retain  bool
	Payload []byte
	// Properties are encoded ones, for MQTT 5 only.
	Properties []byte
}

// Bytes is the packet.
func (m Message) Bytes() []byte {
	first := FirstPublish | m.QoS<<1
	if m.Retain {
		first |= 1
	}
	body := Text(m.Topic)
	if m.QoS > 0 {
		body = binary.BigEndian.AppendUint16(body, m.ID)
	}
	body = append(body, properties(m.Version, m.Properties)...)
	return Packet(first, append(body, m.Payload...))
}

// Subscription is a SUBSCRIBE at QoS 1 to some filters.
func Subscription(version byte, id uint16, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	body = append(body, properties(version, nil)...)
	for _, f := range filters {
		body = append(append(body, Text(f)...), 1)
	}
	return Packet(FirstSubscribe, body)
}

// Acknowledgement is any packet of a packet identifier alone.
func Acknowledgement(first byte, id uint16) []byte {
	return Packet(first, binary.BigEndian.AppendUint16(nil, id))
}

// Ping is a PINGREQ.
func Ping() []byte { return Packet(FirstPingreq, nil) }

// Packet puts the fixed header before a body.
func Packet(first byte, body []byte) []byte {
	// The same encoding as MQTT's (MQTT 5, 1.5.5).
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

// Text is a string with its length, which is cut off where it does not fit.
func Text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// UserProperty is one (MQTT 5, 3.3.2.3.7).
func UserProperty(name, value string) []byte {
	return slices.Concat([]byte{0x26}, Text(name), Text(value))
}

// TopicAlias is one (MQTT 5, 3.3.2.3.4).
func TopicAlias(alias uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0x23}, alias)
}

// properties is their length and they, in MQTT 5.
func properties(version byte, encoded []byte) []byte {
	if version < MQTT5 {
		return nil
	}
	return append(binary.AppendUvarint(nil, uint64(len(encoded))), encoded...)
}
