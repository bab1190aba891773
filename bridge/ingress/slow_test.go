package ingress_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// whole is a PUBLISH at QoS 1 as it goes over the wire in either version.
func whole(version byte) []byte {
	b := []byte{0x32, 0, 0, 1, 't', 0, 1}
	if version == 5 {
		b = append(b, 0)
	}
	b = append(b, make([]byte, 100)...)
	b[1] = byte(len(b) - 2)
	return b
}

// A packet that was begun must come to its end, however long the keep alive is.
// Not parallel: it counts goroutines.
func TestSlowWritersAreEnded(t *testing.T) {
	b := open(t, func(o *ingress.Options) { o.PacketDeadline = 10 * soon })
	honest := b.connect(t, 5, "honest")
	before := runtime.NumGoroutine()
	ended := make(chan error, 50)
	for i := range cap(ended) {
		version := 4 + byte(i%2)
		c := b.connect(t, version, fmt.Sprintf("w-%d", i))
		go func() {
			for _, one := range whole(version) { // ten times the deadline
				if c.TryRaw([]byte{one}) != nil {
					break
				}
				time.Sleep(soon)
			}
			_, err := c.Next()
			ended <- err
		}()
	}
	for i := range cap(ended) {
		if err := <-ended; err == nil {
			t.Fatal("a slow writer is answered")
		}
		if i%10 == 0 {
			honest.Send(publish(1, 1))
			b.next(t).done(accepted)
			honest.ExpectBytes(0x40, 2, 0, 1)
		}
	}
	b.quiet(t)
	until(t, "their goroutines have ended", func() bool { return b.Connections() == 1 && runtime.NumGoroutine() <= before })
}

// While the gate does not read, a packet's time stands still.
func TestAPacketThatWaitsUnreadIsNotSlow(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, func(o *ingress.Options) { o.ReceiveMaximum, o.PacketDeadline = 1, 3*soon })
		c := b.connect(t, version, "w-1")
		c.SendRaw(append(append(whole(version), whole(version)...), whole(version)[:9]...))
		first := b.next(t)
		b.quietFor(t, 6*soon)
		first.done(accepted)
		c.SendRaw(whole(version)[9:])
		for range 2 {
			b.next(t).done(accepted)
		}
		for range 3 {
			c.Expect(packets.Puback)
		}
		c.Ping()
	})
}

// [MQTT-3.1.2-22]: one and a half times the keep alive, also of an odd number.
func TestKeepAliveAndAHalf(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		t.Parallel()
		b := open(t, nil)
		keepalive := func(seconds uint16) mqttest.Option {
			return func(pk *packets.Packet) { pk.Connect.Keepalive = seconds }
		}
		none := b.connect(t, version, "w-2", keepalive(0))
		began := time.Now()
		c := b.connect(t, version, "w-1", keepalive(1))
		c.ExpectEnd()
		if after := time.Since(began); after < 1500*time.Millisecond {
			t.Errorf("it ends after %s", after)
		}
		none.Ping()
	})
}

// However the bytes are cut, the packets are the same.
func TestPacketsInPieces(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		b.settle = func(c call) { c.done(accepted) }
		c := b.connect(t, version, "w-1")
		stream, want := whole(version), 1
		for _, payload := range []int{0, 100, 2030, 2048, 5000, 16_000} {
			one := publish(1, 1)
			one.Payload = make([]byte, payload)
			stream, want = append(stream, mqttest.Bytes(t, version, one)...), want+1
		}
		for _, size := range []int{7, 107, 1000, 2048, 4096, len(stream)} {
			go func() {
				for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
					if c.TryRaw(rest[:min(size, len(rest))]) != nil {
						return
					}
				}
			}()
			for range want {
				c.ExpectBytes(0x40, 2, 0, 1)
			}
		}
		for _, one := range whole(version) {
			c.SendRaw([]byte{one})
		}
		c.ExpectBytes(0x40, 2, 0, 1)
	})
}
