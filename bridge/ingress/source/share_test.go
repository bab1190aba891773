package source_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
)

func sharing(id string) func(*source.Options) {
	return func(o *source.Options) { o.ClientID, o.Share = id, "pulsegate" }
}

// Two replicas divide the messages. What is unacknowledged when one ends, and
// its part of what comes while it is away, Mosquitto keeps for it.
func TestReplicasDivideTheMessages(t *testing.T) {
	t.Parallel()
	const n = 200
	b := mosquittest.Start(t)
	one, other := open(t, b, sharing("one")), open(t, b, sharing("other"))
	device := b.Publisher(t, "w-1")
	device.Publish(topic, payloads(numbers(1, n)...)...)
	late := time.After(6 * mqttest.Patience)
	var seen []string
	left := 0
	for range n {
		select {
		case c := <-one.calls:
			if left++; left > 10 {
				c.done(accepted)
				seen = append(seen, string(c.Payload))
			}
		case c := <-other.calls:
			c.done(accepted)
			seen = append(seen, string(c.Payload))
		case <-late:
			t.Fatal("the messages do not arrive")
		}
	}
	if left < 20 || left > n-20 {
		t.Fatalf("one got %d of %d", left, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	one.Close(ctx)
	device.Publish(topic, payloads(numbers(n+1, 2*n)...)...)
	// Back again. None of its messages was acknowledged, since the first was not.
	one = open(t, b, sharing("one"))
	for !complete(seen, 2*n) {
		select {
		case c := <-one.calls:
			c.done(accepted)
			seen = append(seen, string(c.Payload))
		case c := <-other.calls:
			c.done(accepted)
			seen = append(seen, string(c.Payload))
		case <-late:
			t.Fatal("the messages do not arrive")
		}
	}
	if one.Received() < uint64(left+n/4) {
		t.Errorf("one got %d after its return, and had left %d", one.Received(), left)
	}
}

// complete says whether all numbers up to n have been seen.
func complete(seen []string, n int) bool {
	if len(seen) < n {
		return false
	}
	all := slices.Clone(seen)
	slices.Sort(all)
	return len(slices.Compact(all)) == n
}
