package ingress_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// sized returns n QoS 1 publishes whose payloads are that large.
func sized(n, size int) []packets.Packet {
	pks := publishes(1, n)
	for i := range pks {
		pks[i].Payload = bytes.Repeat([]byte("x"), size)
	}
	return pks
}

// weight is what a message takes of the bounds at least: its payload and topic.
func weight(calls []call) (bytes int64) {
	for _, c := range calls {
		bytes += int64(len(c.Topic) + len(c.Payload))
	}
	return bytes
}

// until waits for something that no event tells.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(mqttest.Patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never is so: " + what)
		}
	}
}

// Devices fill the bound while nothing is decided. What is in the gate never
// exceeds it, and in the end all have been handled and answered.
func TestBytesInFlightStayWithinTheirBound(t *testing.T) {
	t.Parallel()
	const bound, devices, messages, size = 64 << 10, 16, 12, 3000
	b := open(t, func(o *ingress.Options) { o.InFlightBytes = bound })
	var clients []*mqttest.Client
	for i := range devices {
		clients = append(clients, b.connect(t, 4+byte(i%2), fmt.Sprintf("w-%d", i)))
		clients[i].Send(sized(messages, size)...)
	}
	var open []call
	until(t, "the bound is reached", func() bool {
		for len(b.calls) > 0 {
			open = append(open, <-b.calls)
		}
		return weight(open) > bound-2*size
	})
	b.quiet(t)
	random := rand.New(rand.NewPCG(1, 2))
	for handled := len(open); len(open) > 0; {
		if n, held := b.InFlight(); held > bound || weight(open) > held || n < len(open) {
			t.Fatalf("%d messages of %d bytes are in flight, of %d: %d of %d bytes are with the handler", n, held, bound, len(open), weight(open))
		}
		i := random.IntN(len(open))
		open[i].done(accepted)
		open = append(open[:i], open[i+1:]...)
		for handled < devices*messages && (len(open) == 0 || len(b.calls) > 0) {
			open, handled = append(open, b.next(t)), handled+1
		}
	}
	for _, c := range clients {
		for id := byte(1); id <= messages; id++ {
			c.ExpectBytes(0x40, 2, 0, id)
		}
	}
	if n, held := b.InFlight(); n != 0 || held != 0 {
		t.Errorf("in the end %d messages of %d bytes are in flight", n, held)
	}
}

// One connection has the bytes of its receive maximum in readings, and a packet
// that is larger than that gets in alone.
func TestBytesOfOneConnection(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 3 })
	c := b.connect(t, 5, "w-1")
	c.Send(sized(1, 5000)...)
	c.Send(sized(1, 5000)...)
	c.Send(sized(1, 16_000)...)
	c.Send(sized(2, 5000)...)
	calls := b.take(t, 2)
	b.quiet(t) // though a third place is free
	calls[1].done(accepted)
	b.quiet(t)
	calls[0].done(accepted)
	large := b.next(t)
	b.quiet(t)
	if len(large.Payload) != 16_000 {
		t.Errorf("the message has %d bytes", len(large.Payload))
	}
	large.done(accepted)
	for _, c := range b.take(t, 2) {
		c.done(accepted)
	}
	for range 5 {
		c.Expect(packets.Puback)
	}
}

// One who always has more to send gets no more than his turn.
func TestOneWhoFloodsDoesNotStarveOthers(t *testing.T) {
	t.Parallel()
	const flood, few = 50_000, 10 // many, since the modest one must be read some time
	b := open(t, func(o *ingress.Options) { o.InFlight = 4 })
	greedy, modest := b.connect(t, 4, "greedy"), b.connect(t, 5, "modest")
	go func() { _ = greedy.TrySend(publishes(1, flood)...) }()
	open := b.take(t, 4)
	modest.Send(publishes(1, few)...)
	for handled, left := 0, few; left > 0; handled++ {
		if handled > flood/2 {
			t.Fatalf("%d messages of the one were handled, and %d of the other wait", handled, left)
		}
		open[0].done(accepted)
		open = append(open[1:], b.next(t))
		if open[3].connection.ClientID == "modest" {
			left--
		}
	}
}

// One who waits in line for a place and is taken over leaves the line.
func TestATakenOverConnectionLeavesTheLine(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.InFlight = 1 })
	first, old := b.connect(t, 5, "w-1"), b.connect(t, 5, "w-2")
	first.Send(publish(1, 1))
	holding := b.next(t)
	late := publish(1, 1)
	late.Payload = []byte("of the old connection")
	old.Send(late)
	b.quiet(t)
	taker := b.connect(t, 5, "w-2")
	until(t, "the old connection ends", func() bool { return b.Connections() == 2 })
	holding.done(accepted)
	taker.Send(publish(1, 1))
	if c := b.next(t); string(c.Payload) != "payload" {
		t.Errorf("handled is what came %s", c.Payload)
	} else {
		c.done(accepted)
	}
	taker.ExpectBytes(0x40, 2, 0, 1)
}

// QoS 1 and 2 share the receive maximum (MQTT 5, 3.3.4): one who owes PUBREL for
// as many as it allows may send neither.
func TestUnreleasedCountForBothQoS(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 3 })
	for _, qos := range []byte{1, 2} {
		c := b.connect(t, 5, "w-1")
		c.Send(publish(1, 2), publish(2, 1), publish(3, 2))
		calls := b.take(t, 3)
		for i := range calls {
			calls[len(calls)-1-i].done(accepted)
		}
		c.ExpectBytes(0x50, 2, 0, 1)
		c.ExpectBytes(0x40, 2, 0, 2)
		c.ExpectBytes(0x50, 2, 0, 3)
		c.Send(publish(4, 2)) // the third that is unreleased
		b.next(t).done(accepted)
		c.ExpectBytes(0x50, 2, 0, 4)
		c.Send(mqttest.Pubrel(3))
		c.ExpectBytes(0x70, 2, 0, 3)
		c.Send(publish(5, 1)) // in its place
		b.next(t).done(accepted)
		c.ExpectBytes(0x40, 2, 0, 5)
		c.Send(publish(6, 2))
		b.next(t).done(accepted)
		c.ExpectBytes(0x50, 2, 0, 6)
		c.Send(publish(7, qos))
		if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x93 {
			t.Errorf("DISCONNECT %#x, want 0x93", bye.ReasonCode)
		}
		c.ExpectEnd()
		b.quiet(t)
	}
}

// [MQTT-3.3.4-7] [MQTT-4.9.0-2]: what waits for PUBREC counts for the receive
// maximum, as does what waits for PUBREL, and what is refused counts no more.
func TestUndecidedCountForTheReceiveMaximum(t *testing.T) {
	t.Parallel()
	const most = 3
	for name, run := range map[string]struct {
		// released, unreleased, refused and undecided are how many at QoS 2 come
		// before.
		released, unreleased, refused, undecided int
		// then comes one of each of these, of which so many are taken; ends says
		// that the last is one too many.
		then  []byte
		taken int
		ends  bool
	}{
		"undecided, then QoS 2":    {0, 0, 0, 3, []byte{2}, 0, true},
		"undecided, then QoS 1":    {0, 0, 0, 3, []byte{1}, 0, true},
		"undecided, then QoS 0":    {0, 0, 0, 2, []byte{0}, 1, false},
		"as many as may be":        {0, 0, 0, 2, []byte{2}, 1, false},
		"one more than that":       {0, 0, 0, 2, []byte{2, 2}, 1, true},
		"some of both":             {0, 1, 0, 1, []byte{2, 2}, 1, true},
		"some of both, then QoS 1": {0, 1, 0, 1, []byte{1, 1}, 1, false},
		"released make room":       {2, 1, 0, 1, []byte{2, 2}, 1, true},
		"refused make room":        {0, 1, 2, 1, []byte{2, 2}, 1, true},
		"unreleased, then QoS 1":   {0, 2, 0, 0, []byte{1, 1}, 1, false},
		"unreleased, then QoS 0":   {0, 3, 0, 0, []byte{0, 0}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = most })
			c := b.connect(t, 5, "w-1")
			id := uint16(0)
			send := func(qos byte) {
				id++
				c.Send(publish(id, qos))
			}
			settled := func(n int, d ingress.Disposition, after func()) {
				for range n {
					send(2)
					b.next(t).done(d)
					c.Expect(packets.Pubrec)
					after()
				}
			}
			settled(run.released, accepted, func() { c.Send(mqttest.Pubrel(id)); c.Expect(packets.Pubcomp) })
			settled(run.unreleased, accepted, func() {})
			settled(run.refused, rejected, func() {})
			for range run.undecided {
				send(2)
				b.next(t)
			}
			for _, qos := range run.then {
				send(qos)
			}
			b.take(t, run.taken)
			if run.ends {
				if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x93 {
					t.Errorf("DISCONNECT %#x, want 0x93", bye.ReasonCode)
				}
				c.ExpectEnd()
			}
			b.quiet(t)
		})
	}
}

// Beyond the receive maximum, QoS 1 waits behind what is decided without its
// client, and goes on afterwards.
func TestQoS1BeyondTheReceiveMaximumGoesOn(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 3 })
	c := b.connect(t, 5, "w-1")
	c.Send(publish(1, 2), publish(2, 1), publish(3, 1), publish(4, 1), publish(5, 1))
	calls := b.take(t, 3)
	b.quiet(t)
	calls[0].done(accepted) // which still counts, as unreleased
	b.quiet(t)
	calls[1].done(accepted)
	fourth := b.next(t)
	b.quiet(t)
	calls[2].done(accepted)
	b.next(t).done(accepted)
	fourth.done(accepted)
	c.ExpectBytes(0x50, 2, 0, 1)
	for id := byte(2); id <= 5; id++ {
		c.ExpectBytes(0x40, 2, 0, id)
	}
	c.Ping()
}
