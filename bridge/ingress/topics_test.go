package ingress_test

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Mochi drops some of these without an acknowledgement; a client would wait for
// it, and send again, for ever.
func TestTopicsOfTheBrokerAreAnswered(t *testing.T) {
	t.Parallel()
	topics := []string{"$SYS/broker/version", "$sys", "$share", "$SHARE/group/topic", "$share/a", "$", "/", " ", "wearables//vitals", strings.Repeat("t", 9000)}
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		for _, topic := range topics {
			for _, qos := range []byte{1, 2} {
				c.Send(mqttest.Publish(0x1234, qos, topic, []byte("payload")))
				call := b.next(t)
				if strings.HasPrefix(topic, "$") == (call.Topic == topic) {
					t.Errorf("%q reached the handler as %q", topic, call.Topic)
				}
				call.done(ingress.Disposition{Outcome: verify.Malformed, AboutTopic: true})
				pk, err := c.Next()
				if err != nil || pk.PacketID != 0x1234 || version == 5 && pk.ReasonCode != 0x90 {
					t.Fatalf("%q at QoS %d: %x, %v", topic, qos, pk.Raw, err)
				}
			}
		}
	})
}

func TestProtocolErrorsEndTheConnection(t *testing.T) {
	t.Parallel()
	alias := publish(1, 1)
	alias.Properties.TopicAlias, alias.Properties.TopicAliasFlag = 1, true
	second := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	second.Connect.ProtocolName, second.Connect.ClientIdentifier = []byte("MQTT"), "w-1"
	aliasOnly := alias
	aliasOnly.TopicName = ""
	for name, run := range map[string]struct {
		pk   packets.Packet
		code byte
	}{
		"wildcard +":                 {mqttest.Publish(1, 1, "wearables/+/vitals", nil), 0x82},
		"wildcard #":                 {mqttest.Publish(1, 1, "#", nil), 0x82},
		"no topic":                   {mqttest.Publish(1, 1, "", nil), 0x82},
		"a second CONNECT":           {second, 0x82},
		"topic alias":                {alias, 0x94},
		"topic alias without topic":  {aliasOnly, 0x94},
		"subscription without topic": {mqttest.Subscribe(1), 0x82},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version byte) {
				if version == 4 && strings.HasPrefix(name, "topic alias") {
					t.Skip("MQTT 3.1.1 has no topic aliases")
				}
				b := open(t, nil)
				c := b.connect(t, version, "w-1")
				c.Send(run.pk)
				if version == 5 {
					if bye := c.Expect(packets.Disconnect); bye.ReasonCode != run.code {
						t.Errorf("DISCONNECT %#x, want %#x", bye.ReasonCode, run.code)
					}
				}
				c.ExpectEnd()
				b.quiet(t)
			})
		})
	}
}
