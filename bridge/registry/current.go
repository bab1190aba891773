package registry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lease is how long a replica may judge by what it knows, after a moment at
	// which it is certain that it knew everything. A change that all replicas
	// with a lease have applied is in force everywhere.
	lease = 2 * time.Second
	// renewEvery is how often the lease is renewed.
	renewEvery = 500 * time.Millisecond
	// renewLimit bounds one renewal.
	renewLimit = time.Second
	// renewPause is how long a failed renewal waits for the next.
	renewPause = 50 * time.Millisecond
	// announceLead is how long before it looks a replica without a lease tells the
	// others that it will have one.
	announceLead = 100 * time.Millisecond
	// roundsApart is the least time between two rounds.
	roundsApart = 5 * time.Millisecond
)

// currency keeps a replica's knowledge of the bucket up to date, and knows how
// sure that is.
//
// A round asks the bucket's stream for its last sequence and waits until the
// watch has brought it. Whoever asked before the round began is then answered:
// a refusal that is confirmed so was not due to a lag. All that wait share one
// round, so a flood of forged readings costs no more look-ups than a trickle.
type currency struct {
	// since is when the last successful round began, in nanoseconds after
	// origin by the monotonic clock, and one more; 0 is never.
	since  atomic.Int64
	origin time.Time
	wake   chan struct{}
	// made is when the bucket that has been loaded was made. Only the goroutine
	// that runs the rounds uses it.
	made time.Time

	mu      sync.Mutex
	waiting []waiter
	closed  bool
}

type waiter struct {
	deadline time.Time
	done     func(current bool)
}

// Leased says whether this replica is allowed to judge at a time of its clock:
// whether what it knows was everything there was, a moment ago.
func (r *Registry) Leased(now time.Time) bool {
	since := r.currency.since.Load()
	return since != 0 && now.Sub(r.currency.origin)-time.Duration(since-1) < lease
}

// Confirm calls done once, soon, from another goroutine: with true when this
// replica has applied every change that was made before the call, or with false
// if that is not known before the deadline. done must not block: it holds up
// all others that wait.
func (r *Registry) Confirm(deadline time.Time, done func(current bool)) {
	if !r.currency.queue(waiter{deadline, done}) {
		go done(false)
		return
	}
	r.wakeUp()
}

func (r *Registry) wakeUp() {
	select {
	case r.currency.wake <- struct{}{}:
	default: // a round will begin anyway
	}
}

// keepCurrent runs rounds until the registry is closed.
func (r *Registry) keepCurrent() {
	defer r.working.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.closing:
			r.currency.answer(r.currency.close(), false)
			return
		case <-timer.C:
		case <-r.currency.wake:
		}
		next := renewEvery
		if !r.round() {
			next = renewPause
		}
		timer.Reset(next)
		r.rest()
	}
}

// rest keeps rounds apart, so that forged readings, each of which asks for one,
// cannot make the bucket answer more than a bounded number of times a second.
func (r *Registry) rest() { r.pause(roundsApart) }

// pause ends early when the registry is closed.
func (r *Registry) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.closing:
	}
}

// round renews the lease, answers those who waited before it began, and tells
// the other replicas how far this one is.
func (r *Registry) round() bool {
	waiting := r.currency.take()
	began := r.options.Now()
	if !r.renew(began) {
		r.currency.putBack(waiting, r.options.Now())
		return false
	}
	r.currency.since.Store(int64(began.Sub(r.currency.origin)) + 1)
	r.currency.answer(waiting, true)
	_ = r.announce() // the next round says it again
	return true
}

func (r *Registry) renew(began time.Time) bool {
	// The others do not wait for a replica that they have not heard for long. They
	// must know of it before it looks how far it has to be, or a change that is
	// made right after that would not wait for it.
	if !r.Leased(began) {
		if r.announce() != nil {
			return false
		}
		// In a cluster the announcement and the look go different ways.
		r.pause(announceLead)
	}
	ctx, cancel := context.WithTimeout(r.context, renewLimit)
	defer cancel()
	return r.catchUp(ctx)
}

// catchUp returns true once all that the bucket held at the call is applied. A
// watch that does not bring it in time is begun anew: after an outage of NATS
// it would notice only by missing heartbeats.
func (r *Registry) catchUp(ctx context.Context) bool {
	applied := r.Revision()
	last, made, err := r.lastSequence(ctx)
	if err != nil {
		return false
	}
	// A stream's new leader may lag for a moment. What is still behind when the
	// lease is over has been set back.
	setBack := last < applied && !r.Leased(r.options.Now())
	if setBack || !made.Equal(r.currency.made) {
		r.options.Log.Warn().Msg("the registry's bucket has been replaced; loading it anew")
		r.currency.made = made
		r.watch.anew.Store(true)
		r.watchAgain()
		return false
	}
	if last < applied {
		return false
	}
	if r.await(ctx, last) == nil {
		return true
	}
	if r.Revision() == applied {
		r.watchAgain()
	}
	return false
}

// queue says whether somebody will answer.
func (c *currency) queue(w waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.waiting = append(c.waiting, w)
	}
	return !c.closed
}

func (c *currency) close() []waiter {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.take()
}

func (c *currency) take() []waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.waiting
	c.waiting = nil
	return taken
}

// putBack lets those wait on whose deadline is not over.
func (c *currency) putBack(waiting []waiter, now time.Time) {
	var over []waiter
	c.mu.Lock()
	for _, w := range waiting {
		if now.Before(w.deadline) {
			c.waiting = append(c.waiting, w)
		} else {
			over = append(over, w)
		}
	}
	c.mu.Unlock()
	c.answer(over, false)
}

func (c *currency) answer(waiting []waiter, current bool) {
	for _, w := range waiting {
		w.done(current)
	}
}
