package ingress_test

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// marker stands in everything that a device may send and a log must not hold.
const marker = "MARKER"

// TestTheLogHoldsNothingThatWasSent goes every way on which Mochi logs packets.
func TestTheLogHoldsNothingThatWasSent(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 1 })
		b.settle = func(c call) { c.done(ingress.Disposition{Outcome: rejected.Outcome, Reason: marker}) }
		secret := mqttest.Login("w-1", marker)
		end := func(pks ...packets.Packet) {
			t.Helper()
			c := b.dial(t, version)
			c.Connect("w-1", secret)
			c.Send(pks...)
			for {
				if _, err := c.Next(); err != nil {
					return
				}
			}
		}
		second := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
		second.Connect.ProtocolName, second.Connect.ClientIdentifier = []byte("MQTT"), "w-1"
		mqttest.Login("w-1", marker)(&second)
		mqttest.Will(marker, []byte(marker))(&second)
		end(second)
		end(mqttest.Publish(1, 1, marker+"/#", []byte(marker)))
		end(mqttest.Publish(1, 1, "", []byte(marker)))
		end(mqttest.Publish(1, 1, "topic/"+marker, []byte(marker)), mqttest.Publish(2, 1, marker+"/+", []byte(marker)))
		end(mqttest.Subscribe(1, marker), mqttest.Subscribe(1))
		end(mqttest.Publish(0, 0, "topic", []byte(marker)), packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})

		c := b.dial(t, version)
		c.Connect("w-1", secret, mqttest.Will(marker, []byte(marker)))
		c.ExpectEnd()
		c = b.dial(t, version)
		c.Connect("w-1", secret)
		c.SendRaw(append([]byte{0x32, 20, 0, 15}, strings.Repeat(marker, 3)...)) // a topic longer than the packet, and the end
		c.Close()
		b.shut(t)
		text := b.log.String()
		if strings.Contains(text, marker) {
			t.Errorf("the log holds what was sent:\n%s", text)
		}
		if !strings.Contains(text, "error processing packet") {
			t.Errorf("the log does not hold what this test is about:\n%s", text)
		}
	})
}
