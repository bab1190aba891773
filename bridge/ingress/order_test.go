package ingress_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

func TestAcknowledgementsKeepTheOrderOfPublishes(t *testing.T) {
	t.Parallel()
	const messages = 1000
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		random := rand.New(rand.NewPCG(1, uint64(version)))
		sent := make(chan error, 1)
		go func() {
			for _, pk := range publishes(1, messages) {
				if err := c.TrySend(pk); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		go settleInRandomOrder(b, random, messages)
		for id := 1; id <= messages; id++ {
			ack := c.Expect(packets.Puback)
			if int(ack.PacketID) != id {
				t.Fatalf("PUBACK %d in place of %d", ack.PacketID, id)
			}
			if version == 4 && len(ack.Raw) != 4 {
				t.Fatalf("PUBACK %x, longer than MQTT 3.1.1 allows", ack.Raw)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		c.Ping()
	})
}

// settleInRandomOrder begins once the connection is at its bound, so that there
// is an order to be mixed up.
func settleInRandomOrder(b *broker, random *rand.Rand, messages int) {
	outcomes := []verify.Outcome{verify.Accepted, verify.BadSignature, verify.Duplicate, verify.InvalidReading}
	var open []call
	for seen := 0; seen < messages || len(open) > 0; {
		if seen < 64 || seen < messages && len(open) == 0 {
			open, seen = append(open, <-b.calls), seen+1
			continue
		}
		select {
		case c := <-b.calls:
			open, seen = append(open, c), seen+1
		default:
			i := random.IntN(len(open))
			open[i].done(ingress.Disposition{Outcome: outcomes[random.IntN(len(outcomes))]})
			open = append(open[:i], open[i+1:]...)
		}
	}
}

// Settled one right after the other from many goroutines, acknowledgements
// could overtake each other on their way to the socket.
func TestAcknowledgementsKeepTheirOrderWhenWritten(t *testing.T) {
	t.Parallel()
	const messages = 20_000
	b := open(t, nil)
	b.settle = func(c call) { go c.done(accepted) }
	c := b.connect(t, 4, "w-1")
	go func() {
		for _, pk := range publishes(1, messages) {
			if c.TrySend(pk) != nil {
				return
			}
		}
	}()
	for id := 1; id <= messages; id++ {
		c.ExpectBytes(0x40, 2, byte(id>>8), byte(id))
	}
}

func TestAFailedStoreEndsTheConnection(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		c.Send(publishes(1, 5)...)
		calls := b.take(t, 5)
		calls[4].done(accepted)
		calls[2].done(failed)
		calls[3].done(rejected)
		c.Ping() // read, and nothing answered: the first two are still open
		calls[1].done(rejected)
		calls[0].done(accepted)
		for id := uint16(1); id <= 2; id++ {
			if ack := c.Expect(packets.Puback); ack.PacketID != id {
				t.Fatalf("PUBACK %d in place of %d", ack.PacketID, id)
			}
		}
		if version == 5 {
			if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x89 {
				t.Errorf("DISCONNECT %#x, want 0x89", bye.ReasonCode)
			}
		}
		c.ExpectEnd()
	})
}

func TestAFailedQoS0IsLostAndNothingElse(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	c := b.connect(t, 5, "w-1")
	c.Send(publish(0, 0), publish(1, 1))
	calls := b.take(t, 2)
	calls[0].done(failed)
	calls[1].done(accepted)
	c.ExpectBytes(0x40, 2, 0, 1)
	c.Ping()
}

func TestWhatIsBeingStoredKeepsItsPlaceBeyondTheConnection(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.InFlight = 1 })
	c := b.connect(t, 5, "w-1")
	c.Send(publish(1, 1))
	first := b.next(t)
	c.Close()
	other := b.connect(t, 5, "w-2")
	other.Send(publish(1, 1))
	b.quiet(t)
	first.done(accepted)
	b.next(t).done(accepted)
	other.ExpectBytes(0x40, 2, 0, 1)
}

func TestBoundOfOneConnection(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 4 })
		c := b.connect(t, version, "w-1")
		c.Send(publishes(1, 10)...)
		calls := b.take(t, 4)
		b.quiet(t)
		calls[1].done(accepted) // cannot be answered before the first
		b.quiet(t)
		calls[0].done(accepted)
		c.ExpectBytes(0x40, 2, 0, 1)
		c.ExpectBytes(0x40, 2, 0, 2)
		calls = append(calls[2:], b.take(t, 2)...)
		for id := byte(3); id <= 6; id++ { // from now on one out, one in
			b.quiet(t)
			calls[0].done(accepted)
			c.ExpectBytes(0x40, 2, 0, id)
			calls = append(calls[1:], b.next(t))
		}
	})
}

func TestBoundOfAllConnections(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.InFlight = 4 })
	first, second := b.connect(t, 4, "w-1"), b.connect(t, 5, "w-2")
	first.Send(publishes(1, 3)...)
	calls := b.take(t, 3)
	second.Send(publishes(1, 3)...)
	calls = append(calls, b.next(t))
	b.quiet(t)
	calls[1].done(rejected)
	if c := b.next(t); c.connection.ClientID != "w-2" {
		t.Errorf("the place went to %s", c.connection.ClientID)
	}
	b.quiet(t)
	calls[0].done(accepted)
	b.next(t)
	first.ExpectBytes(0x40, 2, 0, 1)
}

func TestOneWhoReadsNothingBlocksOnlyHimself(t *testing.T) {
	t.Parallel()
	long := ingress.Disposition{Outcome: verify.Stale, Reason: strings.Repeat("x", 60_000)}
	handled := make(chan string, 1<<16)
	b := open(t, func(o *ingress.Options) { o.InFlight, o.ReceiveMaximum = 1, 1 })
	b.settle = func(c call) {
		handled <- c.connection.ClientID
		if c.connection.ClientID == "stalled" {
			c.done(long)
			return
		}
		c.done(accepted)
	}
	stalled := b.connect(t, 5, "stalled")
	go func() {
		for stalled.TrySend(publish(1, 1)) == nil {
		}
	}()
	awaitQuiet(t, handled)

	other := b.connect(t, 5, "other")
	for range 10 {
		other.Send(publish(7, 1))
		other.ExpectBytes(0x40, 2, 0, 7)
	}
	b.connect(t, 5, "stalled") // the same device from a new connection gets in
	other.Send(publish(8, 1))
	other.ExpectBytes(0x40, 2, 0, 8)
}

// awaitQuiet returns when nothing has been handled for a while, which is when
// all buffers on the way are full.
func awaitQuiet(t *testing.T, handled <-chan string) {
	t.Helper()
	end := time.After(mqttest.Patience)
	for {
		select {
		case <-handled:
		case <-time.After(3 * soon):
			return
		case <-end:
			t.Fatal("the client that reads nothing is never held up")
		}
	}
}
