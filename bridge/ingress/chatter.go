package ingress

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"
)

const (
	// chatterRate and chatterBurst are how much one connection may say a second, and
	// at once, that is no PUBLISH: pings, filters to subscribe to, acknowledgements
	// of nothing. Who says more is read more slowly.
	chatterRate  = 50
	chatterBurst = 1000
)

// chatter is what a connection says beside publishing. Each message is charged
// for by the Handler; this costs as much, and nobody else counts it.
type chatter struct {
	limiter *rate.Limiter
	// owed are the QoS 2 publishes whose PUBREL is free.
	owed int
}

// take returns how long who says so much has to wait.
func (c *chatter) take(n int) time.Duration {
	if c.limiter == nil {
		c.limiter = rate.NewLimiter(chatterRate, chatterBurst)
	}
	return c.limiter.ReserveN(time.Now(), min(n, chatterBurst)).Delay()
}

// charge lets the connection wait for what it has said, and is not read
// meanwhile.
func (c *connection) charge(pk packets.Packet) {
	switch pk.FixedHeader.Type {
	case packets.Connect, packets.Disconnect:
	case packets.Publish:
		if pk.FixedHeader.Qos == 2 {
			c.chatter.owed++
		}
	case packets.Subscribe, packets.Unsubscribe:
		c.pause(c.chatter.take(len(pk.Filters)))
	case packets.Pubrel:
		if c.chatter.owed > 0 {
			c.chatter.owed--
			return
		}
		fallthrough
	default:
		c.pause(c.chatter.take(1))
	}
}

// pause waits, but not for a connection that ends.
func (c *connection) pause(wait time.Duration) {
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var ended <-chan struct{} // nil before it is let in: then nobody waits for it
	if q := c.queue.Load(); q != nil {
		ended = q.ctx.Done()
	}
	select {
	case <-timer.C:
	case <-ended:
	}
}
