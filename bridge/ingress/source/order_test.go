package source_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// However settling goes, PUBACKs leave in the order of the PUBLISH packets
// [MQTT-4.6.0-2], those of refusals too.
func TestAcknowledgementsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b)
	const n = 500
	device := b.Publisher(t, "w-1")
	device.Publish(topic, payloads(numbers(1, n)...)...)
	calls := g.take(t, numbers(1, n)...)
	rand.Shuffle(n, func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	outcomes := verify.Outcomes()
	for i, c := range calls {
		go c.done(ingress.Disposition{Outcome: outcomes[i%len(outcomes)]})
	}
	b.Await(t, "Received PUBACK from gate", n)
	if got := b.Acknowledged("gate"); !slices.Equal(got, numbers(1, n)) {
		t.Errorf("acknowledged in the order %v", got)
	}
	if g.Received() != n || g.Reconnects() != 0 {
		t.Errorf("received %d over %d reconnects", g.Received(), g.Reconnects())
	}
	g.close(t)
	// Nothing is left in the session.
	g = open(t, b)
	device.Publish(topic, []byte("last"))
	g.settle(t, "last")
}

// What could not be stored comes again, and so does all that came after it,
// though that was stored.
func TestWhatIsNotStoredComesAgain(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b)
	b.Publisher(t, "w-1").Publish(topic, payloads(numbers(1, 6)...)...)
	calls := g.take(t, numbers(1, 6)...)
	calls[4].done(accepted)
	calls[2].done(failed)
	calls[3].done(accepted)
	calls[0].done(accepted)
	g.quiet(t) // the second is not settled, so the connection stands
	calls[1].done(accepted)
	again := g.take(t, numbers(3, 6)...)
	if got := b.Acknowledged("gate"); !slices.Equal(got, numbers(1, 2)) {
		t.Errorf("acknowledged: %v", got)
	}
	g.connected(t)
	if g.Reconnects() != 1 {
		t.Errorf("%d reconnects", g.Reconnects())
	}
	// The last of the first connection settles into nothing.
	calls[5].done(accepted)
	for _, c := range again {
		c.done(accepted)
	}
	g.close(t)
	b.Await(t, "Received PUBACK from gate", 6)
	g = open(t, b)
	g.quiet(t)
}

// A source that ends before its messages are settled has acknowledged none.
func TestNothingIsAcknowledgedEarly(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b)
	b.Publisher(t, "w-1").Publish(topic, payloads(numbers(1, 3)...)...)
	g.take(t, numbers(1, 3)...)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	g.Close(ctx)
	if !strings.Contains(g.log.String(), `"undecided":3`) {
		t.Errorf("nothing is said of the messages that were not settled: %s", g.log)
	}
	if got := b.Acknowledged("gate"); len(got) != 0 {
		t.Errorf("acknowledged: %v", got)
	}
	g = open(t, b)
	g.settle(t, numbers(1, 3)...)
}

// Mosquitto is killed and comes back with what it had saved.
func TestTheBrokerIsKilled(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b)
	b.Publisher(t, "w-1").Publish(topic, payloads(numbers(1, 4)...)...)
	calls := g.take(t, numbers(1, 4)...)
	calls[0].done(accepted)
	b.Await(t, "Received PUBACK from gate", 1)
	b.Save(t)
	b.Kill()
	g.broken(t, b.Address)
	// Settled meanwhile, but no longer to be acknowledged.
	calls[1].done(accepted)
	calls[2].done(failed)
	b.Run(t)
	g.settle(t, numbers(2, 4)...)
	g.connected(t)
	b.Publisher(t, "w-1").Publish(topic, []byte("5"))
	g.settle(t, "5")
	g.close(t)
	g = open(t, b)
	g.quiet(t)
}

// At either bound the socket is not read, and messages that an earlier
// connection left with the handler count too.
func TestBoundsInFlight(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*source.Options){
		"count": func(o *source.Options) { o.InFlight = 4 },
		"bytes": func(o *source.Options) { o.InFlightBytes = 4*int64(len(topic)+1) + 5 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := mosquittest.Start(t)
			g := open(t, b, change)
			b.Publisher(t, "w-1").Publish(topic, payloads(numbers(1, 9)...)...)
			calls := g.take(t, numbers(1, 4)...)
			g.quiet(t)
			calls[3].done(accepted) // not at the head: it is not acknowledged
			g.quiet(t)
			calls[0].done(accepted)
			calls = append(calls, g.take(t, "5")...)
			g.quiet(t)
			calls[1].done(failed)
			// The handler still has 3 and 5 of the first connection.
			calls = append(calls, g.take(t, "2", "3")...)
			g.quiet(t)
			calls[2].done(accepted)
			for _, c := range calls[4:] {
				c.done(accepted)
			}
			g.settle(t, numbers(4, 9)...)
		})
	}
}

// What is in flight at the end is waited for and acknowledged; what comes
// meanwhile is left to the broker, whose session stays.
func TestClose(t *testing.T) {
	t.Parallel()
	b := mosquittest.Start(t)
	g := open(t, b)
	device := b.Publisher(t, "w-1")
	device.Publish(topic, payloads(numbers(1, 3)...)...)
	calls := g.take(t, numbers(1, 3)...)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		g.close(t)
	}()
	calls[2].done(accepted)
	calls[1].done(accepted)
	select {
	case <-closed:
		t.Fatal("closed before the first was settled")
	case <-time.After(soon):
	}
	device.Publish(topic, []byte("4"))
	g.quiet(t)
	calls[0].done(accepted)
	<-closed
	g.Close(t.Context())
	device.Publish(topic, []byte("5"))
	b.Await(t, "Received DISCONNECT from gate", 1)
	if got := b.Acknowledged("gate"); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("acknowledged: %v", got)
	}
	g = open(t, b)
	g.settle(t, "4", "5")
}
