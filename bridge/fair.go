package bridge

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

const (
	// bucketsKept is how many devices, addresses, and pairs of both are
	// remembered, of each: more than may be connected at once.
	bucketsKept = 1 << 17
	// suspectsKept is the same for pairs that have failed.
	suspectsKept = 1 << 16
	// stallShare is how many milliseconds of each second a gateway's connection
	// is slowed at most: whoever is over his limit then holds up the others that
	// the gateway carries, but does not keep them out.
	stallShare = 500
	// strayBatch is for how many strays a connection pays at once, afterwards:
	// waiting for each alone costs more than the look at it.
	strayBatch = 16
)

// carried names the budget of a device: by whom its readings come, since a
// gateway must not use up what the device has on its own, or at another gateway.
type carried struct{ by, device string }

// fairness is what one sender may cost.
type fairness struct {
	addresses *limits.Buckets[limits.Address]
	// arrivals are for CONNECT, apart from addresses, lest strangers use up what
	// those have to publish with who are let in from the same address.
	arrivals *limits.Buckets[limits.Address]
	devices  *limits.Buckets[carried]
	// strays are for what no device can be charged for, since its signature is
	// not right: who sent it pays, at the address where he is.
	strays *limits.Buckets[limits.Pair]
	// allStrays is for those of all senders together: were every connection of a
	// flood ready to be judged at all times, an honest one would wait for its turn
	// on the processors behind each of them, many times for each reading.
	allStrays *limits.Bucket
	// logins and signatures are apart, lest one who guesses a password ends the
	// connection of one who has it.
	logins, signatures *limits.Lockouts
	// stopping is done when nobody is to be slowed any more.
	stopping context.Context
	stop     context.CancelFunc
	slowed   atomic.Uint64
	lockouts atomic.Uint64
}

func newFairness(c config.Limits) *fairness {
	device := limits.Rate{PerSecond: c.DeviceRate, Burst: c.DeviceBurst}
	address := limits.Rate{PerSecond: c.AddressRate, Burst: c.AddressBurst}
	f := &fairness{
		addresses:  limits.NewBuckets[limits.Address](address, bucketsKept),
		arrivals:   limits.NewBuckets[limits.Address](address, bucketsKept),
		devices:    limits.NewBuckets[carried](device, bucketsKept),
		strays:     limits.NewBuckets[limits.Pair](device, bucketsKept),
		allStrays:  limits.NewBucket(limits.Rate{PerSecond: c.ForgedRate, Burst: strayBatch}),
		logins:     limits.NewLockouts(c.LockoutAfter, time.Duration(c.Lockout), suspectsKept),
		signatures: limits.NewLockouts(c.LockoutAfter, time.Duration(c.Lockout), suspectsKept),
	}
	f.stopping, f.stop = context.WithCancel(context.Background())
	return f
}

func (f *fairness) gauges(m *monitor.Metrics) {
	m.Counter("pulsegate_slowed_total", "Messages and logins after which, or before which, the sender was made to wait, because it was over a limit.", func() float64 { return float64(f.slowed.Load()) })
	m.Counter("pulsegate_lockouts_total", "Pairs of address and name that were locked out for failed logins or bad signatures.", func() float64 { return float64(f.lockouts.Load()) })
}

// pause lets the connection's own goroutine, and so its socket, wait.
func (f *fairness) pause(wait time.Duration) {
	if wait <= 0 || f.stopping.Err() != nil {
		return
	}
	f.slowed.Add(1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.stopping.Done():
	}
}

// admit lets a CONNECT wait as long as its address has to, and its pair for bad
// signatures, and says whether the credentials are to be looked at then.
func (f *fairness) admit(p limits.Pair, now time.Time) ingress.Admission {
	ofAddress, some := f.arrivals.Of(p.Address).Take(now)
	if !some {
		return ingress.Unavailable
	}
	ofSignatures, good := f.signatures.Turn(p, now)
	if !good {
		return ingress.BadCredentials
	}
	f.pause(max(ofAddress, ofSignatures))
	return ingress.Welcome
}

// guessed counts wrong credentials, and lets the answer of a pair that is locked
// wait for its turn, if it has one. Right ones never wait: nobody guesses what the
// gate has made of 256 bits, so a look at them tells nothing, and whoever guesses
// at the address of the name's owner must not keep the owner out.
func (f *fairness) guessed(p limits.Pair, now time.Time) {
	wait, _ := f.logins.Turn(p, now)
	f.failed(f.logins, p, now)
	f.pause(wait)
}

// failed counts a failure and says whether its pair is locked now.
func (f *fairness) failed(l *limits.Lockouts, p limits.Pair, now time.Time) (locked bool) {
	lock := l.Failed(p, now)
	if lock == limits.Shut {
		f.lockouts.Add(1)
	}
	return lock != limits.Open
}

// purse is what one connection pays from. Only the goroutine that reads the
// connection takes from it.
type purse struct {
	pair    limits.Pair
	address limits.Held[limits.Address]
	own     limits.Held[carried]
	strays  limits.Held[limits.Pair]
	// owed is for how many strays allStrays has not been paid.
	owed int
	// stalls are the milliseconds that a gateway may still be made to wait; nil
	// for a device, which holds up nobody but itself.
	stalls *rate.Limiter
	// shared is true for another broker's connection.
	shared bool
}

func (f *fairness) purse(who registry.Identity, pair limits.Pair) purse {
	p := purse{
		pair: pair, address: f.addresses.Hold(pair.Address),
		own: f.devices.Hold(carried{who.ID, who.ID}), strays: f.strays.Hold(pair),
	}
	if who.Kind == registry.KindGateway {
		p.stalls = rate.NewLimiter(stallShare, int(limits.MostWait.Milliseconds()))
	}
	return p
}

// sourcePurse is that of another broker, by which all devices come. Who sent what
// is not right is not known there, so nobody pays for it: waiting would hold up
// everybody else.
func (f *fairness) sourcePurse(pair limits.Pair) purse {
	return purse{pair: pair, shared: true, stalls: rate.NewLimiter(stallShare, int(limits.MostWait.Milliseconds()))}
}

// byAddress takes for any message. Another broker's address is that of all
// devices.
func (p *purse) byAddress(now time.Time) (wait time.Duration, ok bool) {
	if p.shared {
		return 0, true
	}
	return p.address.Take(now)
}

// charge takes for a judged message from whom it can be ascribed to, and says
// how long the connection has to wait for that. A message that would otherwise
// be stored becomes RateLimited where waiting does not help.
func (c *caller) charge(v *verify.Verdict, now time.Time) (wait time.Duration) {
	wait, ok := c.take(v, now)
	if wait > 0 && c.purse.stalls != nil && !c.purse.stalls.AllowN(now, int(wait.Milliseconds())+1) {
		wait, ok = 0, false
	}
	if !ok && (v.Outcome == verify.Accepted || v.Outcome == verify.Late) {
		v.Outcome, v.Reason = verify.RateLimited, "the device sends faster than it may"
	}
	return wait
}

// take charges a device only for what it certainly sent itself, or by way of a
// gateway that carries it; all else is charged to the connection.
func (c *caller) take(v *verify.Verdict, now time.Time) (wait time.Duration, ok bool) {
	switch {
	case c.purse.shared && v.Authentic:
		return c.fair.devices.Of(carried{c.name, v.Device.ID}).Take(now)
	case c.purse.shared:
		return 0, true
	case !v.Authentic:
	case v.Device.ID == c.identity.ID:
		return c.purse.own.Take(now)
	case c.purse.stalls != nil && c.registry.Carries(c.identity.ID, v.Device.ID):
		return c.fair.devices.Of(carried{c.identity.ID, v.Device.ID}).Take(now)
	}
	wait, ok = c.purse.strays.Take(now)
	if c.purse.owed++; c.purse.owed == strayBatch {
		c.purse.owed = 0
		ofAll, _ := c.fair.allStrays.TakeN(now, strayBatch)
		wait = max(wait, ofAll)
	}
	return wait, ok
}
