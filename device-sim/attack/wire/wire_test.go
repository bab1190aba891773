package wire_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// body decodes the fixed header and returns what follows.
func body(t *testing.T, packet []byte) (packets.Packet, []byte) {
	t.Helper()
	var pk packets.Packet
	if err := pk.FixedHeader.Decode(packet[0]); err != nil {
		t.Fatal(err)
	}
	rest := bytes.NewBuffer(packet[1:])
	length, _, err := packets.DecodeLength(rest)
	if err != nil || length != rest.Len() {
		t.Fatalf("length %d of %d: %v", length, rest.Len(), err)
	}
	return pk, rest.Bytes()
}

// TestBrokersReadIt compares what is written with what a broker's decoder reads.
func TestBrokersReadIt(t *testing.T) {
	for _, version := range []byte{wire.MQTT311, wire.MQTT5} {
		pk, rest := body(t, wire.Login{
			Version: version, ID: "w-1", User: "u", Password: "p", Keepalive: 7,
			Will: &wire.Will{Topic: "t", Payload: []byte("w"), QoS: 1, Retain: true}, Properties: wire.UserProperty("a", "b"),
		}.Bytes())
		pk.ProtocolVersion = version
		c := &pk.Connect
		if err := pk.ConnectDecode(rest); err != nil || pk.ConnectValidate() != packets.CodeSuccess ||
			c.ClientIdentifier != "w-1" || string(c.Username) != "u" || string(c.Password) != "p" || c.Keepalive != 7 ||
			c.WillTopic != "t" || string(c.WillPayload) != "w" || c.WillQos != 1 || !c.WillRetain {
			t.Errorf("version %d: CONNECT %+v: %v", version, c, err)
		}
		pk, rest = body(t, wire.Message{
			Version: version, Topic: "t", ID: 9, QoS: 2, Retain: true, Payload: []byte("x"), Properties: wire.TopicAlias(3),
		}.Bytes())
		pk.ProtocolVersion = version
		if err := pk.PublishDecode(rest); err != nil || pk.TopicName != "t" || pk.PacketID != 9 || string(pk.Payload) != "x" ||
			pk.FixedHeader.Qos != 2 || !pk.FixedHeader.Retain || version == wire.MQTT5 && pk.Properties.TopicAlias != 3 {
			t.Errorf("version %d: PUBLISH %+v: %v", version, pk, err)
		}
		pk, rest = body(t, wire.Subscription(version, 4, "a", "b"))
		pk.ProtocolVersion = version
		if err := pk.SubscribeDecode(rest); err != nil || pk.PacketID != 4 || len(pk.Filters) != 2 || pk.Filters[1].Filter != "b" {
			t.Errorf("version %d: SUBSCRIBE %+v: %v", version, pk, err)
		}
	}
}

// TestAnswers reads what a broker's encoder writes.
func TestAnswers(t *testing.T) {
	connack := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: 0x87}
	connack.Properties.ServerKeepAlive, connack.Properties.ServerKeepAliveFlag = 1200, true
	connack.Properties.ReceiveMaximum = 64
	connack.Properties.MaximumPacketSize = 16384
	connack.Properties.ReasonString = "because"
	connack.Properties.User = []packets.UserProperty{{Key: "a", Val: "b"}}
	suback := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: 4, ReasonCodes: []byte{0x87, 1, 0x8F}}
	suback.Properties.ReasonString = "no"
	var out bytes.Buffer
	if err := connack.ConnackEncode(&out); err != nil {
		t.Fatal(err)
	}
	if err := suback.SubackEncode(&out); err != nil {
		t.Fatal(err)
	}
	a, b := pair(t, out.Bytes())
	if a.Type != wire.Connack || a.Code() != 0x87 {
		t.Errorf("CONNACK %+v", a)
	}
	for property, want := range map[byte]uint16{0x13: 1200, 0x21: 64} {
		if got, ok := a.Number(property); !ok || got != want {
			t.Errorf("property %#x is %d (%t)", property, got, ok)
		}
	}
	if _, ok := a.Number(0x22); ok {
		t.Error("a topic alias maximum that is not there")
	}
	if b.Type != wire.Suback || b.ID() != 4 || b.Code() != 1 || len(b.Codes()) != 3 {
		t.Errorf("SUBACK %+v", b)
	}
}

// pair receives two packets that are sent over TCP.
func pair(t *testing.T, sent []byte) (first, second wire.Answer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Write(sent)
			_ = conn.Close()
		}
	}()
	c, err := wire.Dial(t.Context(), l.Addr().String(), wire.MQTT5, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if first, err = c.Next(); err != nil {
		t.Fatal(err)
	}
	if second, err = c.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(); err == nil {
		t.Error("a third packet")
	}
	return first, second
}
