package siege

import (
	"context"
	"slices"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

func packetAttacks() []Attack {
	return []Attack{
		{
			Name: "packet-order", Description: "packets where none may come, of types that no client sends, with flags that none may have",
			Expected: "the connection's end, or no answer where MQTT allows it", run: provoking(packetOrder),
		},
		{
			Name: "malformed-packets", Description: "lengths that lie, strings that are none, packets without what they must have",
			Expected: "the connection's end", run: provoking(malformed),
		},
		{
			Name: "malformed-connect", Description: "CONNECT of unknown protocols, with forbidden flags, without a name, and what is no MQTT",
			Expected: "CONNACK refuses, or the connection's end", run: provoking(malformedConnect),
		},
		{
			Name: "topic-alias", Description: "topic aliases, of which the gate allows none",
			Expected: "the connection's end", run: provoking(topicAlias),
		},
		{
			Name: "oversized", Description: "packets that say they have 16 KiB and one, a MiB, 256 MiB, and a length of five bytes",
			Expected: "the connection's end, before the rest of the packet is sent", run: provoking(oversized),
		},
		{
			Name: "truncated", Description: "valid packets cut off anywhere, and then nothing more",
			Expected: "the connection's end", run: truncated,
		},
		{
			Name: "user-property-bomb", Description: "as many user properties as fit a packet, and more",
			Expected: "an answer that repeats none of them, or the connection's end; more than fit: its end", run: propertyBomb,
		},
		{
			Name: "random-mutation", Description: "valid streams of packets with random changes, reproducible by the seed",
			Expected: "the connection's end at the latest when the stream ends", run: mutation,
		},
	}
}

// provocation is something wrong that is sent.
type provocation struct {
	what string
	// stranger sends it before CONNECT.
	stranger bool
	// version is 0 for each.
	version byte
	bytes   []byte
	want    expectation
}

// provoking sends each, and a PINGREQ after it that shows whether the connection
// stayed open.
func provoking(all func(*trial, byte) []provocation) func(context.Context, *trial) {
	return func(ctx context.Context, t *trial) {
		for _, version := range versions {
			for _, p := range all(t, version) {
				if p.version != 0 && p.version != version {
					continue
				}
				send := func(c *wire.Client) { t.judge(p.what, request(c, p.bytes, wire.Ping()), p.want) }
				if p.stranger {
					t.stranger(ctx, version, send)
				} else {
					t.insider(ctx, version, func(c *wire.Client, _ registry.Credentials) { send(c) })
				}
			}
		}
	}
}

func packetOrder(t *trial, version byte) []provocation {
	who := t.Credentials[len(t.Credentials)-1]
	message := wire.Message{Version: version, Topic: who.Topic, ID: 1, QoS: 1, Payload: []byte("x")}
	twice := message
	twice.QoS = 3
	unreleased := anyOf(code(wire.Pubcomp, 0x92, 0x00), ended)
	return []provocation{
		{what: "PUBLISH before CONNECT", stranger: true, bytes: message.Bytes(), want: ended},
		{what: "SUBSCRIBE before CONNECT", stranger: true, bytes: wire.Subscription(version, 1, "#"), want: ended},
		{what: "PINGREQ before CONNECT", stranger: true, bytes: wire.Ping(), want: ended},
		{what: "DISCONNECT before CONNECT", stranger: true, bytes: wire.Packet(wire.FirstDisconnect, nil), want: ended},
		{what: "a second CONNECT", bytes: login(who, version).Bytes(), want: ended},
		{what: "type 0", bytes: wire.Packet(0x00, nil), want: ended},
		{what: "CONNACK", bytes: wire.Packet(0x20, []byte{0, 0}), want: ended},
		{what: "SUBACK", bytes: wire.Packet(0x90, []byte{0, 1, 0}), want: ended},
		{what: "UNSUBACK", bytes: wire.Packet(0xB0, []byte{0, 1}), want: ended},
		{what: "PINGRESP", bytes: wire.Packet(0xD0, nil), want: ended},
		{what: "AUTH", bytes: wire.Packet(wire.FirstAuth, nil), want: ended},
		{what: "PUBACK of nothing", bytes: wire.Acknowledgement(wire.FirstPuback, 7), want: anyOf(ignored, ended)},
		{what: "PUBREC of nothing", bytes: wire.Acknowledgement(wire.FirstPubrec, 7), want: anyOf(ignored, ended, expectation{"PUBREL", isPubrel})},
		{what: "PUBCOMP of nothing", bytes: wire.Acknowledgement(wire.FirstPubcomp, 7), want: anyOf(ignored, ended)},
		{what: "PUBREL of nothing", bytes: wire.Acknowledgement(wire.FirstPubrel, 7), want: unreleased},
		{what: "PUBREL with wrong flags", bytes: wire.Acknowledgement(0x60, 7), want: ended},
		{what: "SUBSCRIBE with wrong flags", bytes: append([]byte{0x80}, wire.Subscription(version, 1, "a")[1:]...), want: ended},
		{what: "PINGREQ with wrong flags", bytes: wire.Packet(0xC1, nil), want: ended},
		{what: "DISCONNECT with wrong flags", bytes: wire.Packet(0xE1, nil), want: ended},
		{what: "PUBLISH at QoS 3", bytes: twice.Bytes(), want: ended},
	}
}

// isPubrel is the answer to a PUBREC that MQTT demands whatever came before
// (MQTT 5, 4.3.3).
func isPubrel(r reply) bool { return r.Type == 6 }

func malformed(_ *trial, version byte) []provocation {
	five := byte(wire.MQTT5)
	subscribe := func(body ...byte) []byte { return wire.Packet(wire.FirstSubscribe, body) }
	return []provocation{
		{what: "SUBSCRIBE that ends in its filter", bytes: subscribe(0, 1, 0, 0, 1, 'a'), version: five, want: ended},
		{what: "SUBSCRIBE whose filter is longer than it", bytes: subscribe(0, 1, 0, 0, 9, 'a', 0), version: five, want: ended},
		{what: "SUBSCRIBE without a filter", bytes: wire.Subscription(version, 1), want: ended},
		{what: "SUBSCRIBE with identifier 0", bytes: wire.Subscription(version, 0, "a"), want: ended},
		{what: "SUBSCRIBE of one byte", bytes: subscribe(0), want: ended},
		{what: "UNSUBSCRIBE without a filter", bytes: wire.Packet(wire.FirstUnsubscribe, []byte{0, 1, 0}), version: five, want: ended},
		{what: "UNSUBSCRIBE of nothing", bytes: wire.Packet(wire.FirstUnsubscribe, nil), want: ended},
		{what: "PUBLISH of nothing", bytes: wire.Packet(0x32, nil), want: ended},
		{what: "PUBLISH whose topic is longer than it", bytes: wire.Packet(0x30, []byte{0xFF, 0xFF, 'a'}), want: ended},
		{what: "PUBLISH without its identifier", bytes: wire.Packet(0x32, wire.Text("a")), want: ended},
		{what: "PUBLISH with identifier 0", bytes: wire.Message{Version: version, Topic: "a", QoS: 1}.Bytes(), want: ended},
		{what: "PUBLISH whose properties are longer than it", bytes: wire.Packet(0x32, slices.Concat(wire.Text("a"), []byte{0, 1, 0x7F, 0})), version: five, want: ended},
		{what: "PUBLISH with an unknown property", bytes: wire.Message{Version: five, Topic: "a", Properties: []byte{0x7E, 1}}.Bytes(), version: five, want: ended},
		{what: "PUBLISH with half a property", bytes: wire.Message{Version: five, Topic: "a", Properties: []byte{0x02, 1}}.Bytes(), version: five, want: ended},
		{what: "a topic that is not UTF-8", bytes: wire.Message{Version: version, Topic: "a\xff\xfe"}.Bytes(), want: ended},
		{what: "a topic with U+0000", bytes: wire.Message{Version: version, Topic: "a\x00b"}.Bytes(), want: ended},
		{what: "a topic with a wildcard", bytes: wire.Message{Version: version, Topic: "wearables/+/vitals"}.Bytes(), want: ended},
		{what: "PUBACK of one byte", bytes: wire.Packet(wire.FirstPuback, []byte{0}), want: ended},
		{what: "PUBREL of one byte", bytes: wire.Packet(wire.FirstPubrel, []byte{0}), want: ended},
	}
}

func malformedConnect(t *trial, version byte) []provocation {
	l := login(t.Credentials[len(t.Credentials)-1], version)
	refused := anyOf(refusal(wire.Connack), ended)
	change := func(at int, value byte) []byte {
		b := l.Bytes()
		b[at] = value
		return b
	}
	// Where the parts of CONNECT stand: its length takes one byte or two.
	body := len(l.Bytes()) - len(connectBody(l))
	named := func(id, user string) []byte {
		other := l
		other.ID, other.User = id, user
		return other.Bytes()
	}
	return []provocation{
		{what: "another protocol's name", stranger: true, bytes: change(body+2, 'X'), want: refused},
		{what: "protocol version 0", stranger: true, bytes: change(body+6, 0), want: refused},
		{what: "protocol version 6", stranger: true, bytes: change(body+6, 6), want: refused},
		{what: "the reserved flag", stranger: true, bytes: change(body+7, 0xC3), want: refused},
		{what: "a will's QoS without a will", stranger: true, bytes: change(body+7, 0xCA), want: refused},
		{what: "no client id", stranger: true, bytes: named("", l.User), want: refused},
		{what: "a client id of 60,000 bytes", stranger: true, bytes: named(strings.Repeat("x", 60000), l.User), want: refused},
		{what: "a client id that is not UTF-8", stranger: true, bytes: named("w-\xff", l.User), want: refused},
		{what: "a user name with U+0000", stranger: true, bytes: named(l.ID, "w-\x00"), want: refused},
		{what: "CONNECT of nothing", stranger: true, bytes: wire.Packet(wire.FirstConnect, nil), want: refused},
		{what: "HTTP", stranger: true, bytes: []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), want: refused},
		{what: "a TLS hello", stranger: true, bytes: []byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3}, want: refused},
	}
}

func connectBody(l wire.Login) []byte {
	b := l.Bytes()
	if b[1] < 0x80 {
		return b[2:]
	}
	return b[3:]
}

func topicAlias(t *trial, _ byte) []provocation {
	who := t.Credentials[0]
	aliased := func(topic string, properties ...byte) []byte {
		return wire.Message{Version: wire.MQTT5, Topic: topic, ID: 1, QoS: 1, Payload: t.forged(who), Properties: properties}.Bytes()
	}
	five := byte(wire.MQTT5)
	return []provocation{
		{what: "alias 1 of a topic", version: five, bytes: aliased(who.Topic, wire.TopicAlias(1)...), want: ended},
		{what: "alias 65535 of a topic", version: five, bytes: aliased(who.Topic, wire.TopicAlias(65535)...), want: ended},
		{what: "alias 0", version: five, bytes: aliased(who.Topic, wire.TopicAlias(0)...), want: ended},
		{what: "two aliases", version: five, bytes: aliased(who.Topic, append(wire.TopicAlias(1), wire.TopicAlias(2)...)...), want: ended},
		{what: "an alias that stands for nothing", version: five, bytes: aliased("", wire.TopicAlias(1)...), want: ended},
		{what: "neither topic nor alias", version: five, bytes: aliased(""), want: ended},
	}
}

// oversized sends headers and a few bytes; the body would never come.
func oversized(*trial, byte) []provocation {
	var all []provocation
	for _, header := range []struct {
		what  string
		bytes []byte
	}{
		{"PUBLISH of 16 KiB and one", []byte{0x32, 0x81, 0x80, 0x01}},
		{"PUBLISH of a MiB", []byte{0x32, 0x80, 0x80, 0x40}},
		{"PUBLISH of 256 MiB", []byte{0x32, 0xFF, 0xFF, 0xFF, 0x7F}},
		{"SUBSCRIBE of 256 MiB", []byte{0x82, 0xFF, 0xFF, 0xFF, 0x7F}},
		{"a length of five bytes", []byte{0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}},
		{"CONNECT of 256 MiB", []byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q', 'T', 'T'}},
	} {
		all = append(all,
			provocation{what: header.what, bytes: header.bytes, want: ended},
			provocation{what: header.what + " before CONNECT", stranger: true, bytes: header.bytes, want: ended})
	}
	return all
}
