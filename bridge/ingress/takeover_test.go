package ingress_test

import (
	"sync/atomic"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

func TestTakeover(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		for _, options := range [][]mqttest.Option{nil, {mqttest.Resume}} {
			old := b.connect(t, version, "w-1", options...)
			old.Send(publish(1, 1))
			stored := b.next(t)
			taker := b.connect(t, version, "w-1", options...)
			if version == 5 {
				if bye := old.Expect(packets.Disconnect); bye.ReasonCode != 0x8E {
					t.Errorf("DISCONNECT %#x, want 0x8e", bye.ReasonCode)
				}
			}
			old.ExpectEnd()
			stored.done(accepted) // answers nobody, least of all the new connection
			taker.Send(publish(1, 1))
			b.next(t).done(rejected)
			if ack := taker.Expect(packets.Puback); version == 5 && ack.ReasonCode != 0x87 {
				t.Errorf("PUBACK %x", ack.Raw)
			}
		}
	})
}

// TestNothingFollowsADisconnect ends a connection while its messages are being
// answered [MQTT-3.14.4-1].
func TestNothingFollowsADisconnect(t *testing.T) {
	t.Parallel()
	var decided atomic.Int32
	b := open(t, nil)
	b.settle = func(c call) {
		if decided.Add(1)%20 == 0 {
			b.Disconnect("w-1")
		}
		go c.done(rejected)
	}
	for range 200 {
		c := b.connect(t, 5, "w-1")
		go func() {
			for id := range 60 {
				if c.TrySend(publish(uint16(id+1), 1)) != nil {
					return
				}
			}
		}()
		for told := false; ; {
			pk, err := c.Next()
			if err != nil {
				break
			}
			if told {
				t.Fatalf("a packet of type %d follows the DISCONNECT", pk.FixedHeader.Type)
			}
			told = pk.FixedHeader.Type == packets.Disconnect
		}
	}
}

// TestTakeoversAtOnce: of those who come with one name at the same instant one
// remains at most, and an operator can end that.
func TestTakeoversAtOnce(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	for range 50 {
		var all []*mqttest.Client
		for range 8 {
			all = append(all, b.dial(t, 5))
		}
		until(t, "all are there", func() bool { return b.Connections() == len(all) })
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
		pk.Connect.ProtocolName, pk.Connect.ClientIdentifier, pk.Connect.Clean = []byte("MQTT"), "w-1", true
		for _, c := range all {
			go func() { _ = c.TrySend(pk) }()
		}
		until(t, "only one is open", func() bool { return b.Connections() <= 1 })
		until(t, "none is open", func() bool { b.Disconnect("w-1"); return b.Connections() == 0 })
	}
}
