package bridge_test

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// TestAGatewayNeitherMakesNorChanges lets a gateway bring what a device signed,
// again, and then what nobody signed.
func TestAGatewayNeitherMakesNorChanges(t *testing.T) {
	t.Parallel()
	s := start(t, small(t))
	d, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	g := s.gateway(t, "g-1")
	true1 := d.sign(t)
	bring := func(what, topic string, payload []byte, code byte) {
		t.Helper()
		g.Send(mqttest.Publish(1, 1, topic, payload))
		if ack := g.Expect(packets.Puback); ack.ReasonCode != code {
			t.Errorf("%s: PUBACK %#x, want %#x", what, ack.ReasonCode, code)
		}
	}
	bring("what the device signed", d.Topic, true1, 0)
	bring("a copy", d.Topic, true1, 0)
	bring("a changed one", d.Topic, tampered(d.sign(t)), 0x87)
	bring("another's key", d.Topic, other.sign(t), 0x87)
	bring("another's topic", other.Topic, d.sign(t), 0x87)
	bring("its own", "wearables/g-1/vitals", d.sign(t), 0x87)
	onceEach(t, s.stored(t), "live", d, [][]byte{true1})
}
