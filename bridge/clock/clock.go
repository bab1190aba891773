// Package clock tells the time by which readings are judged, and when nothing
// may be judged.
//
// That time is not the machine's clock as it is read, but the machine's clock at
// the last moment when NATS' clock confirmed it, carried on by monotonic time. A
// step of the machine's clock thus reaches no judgement before NATS has
// confirmed it; it only makes the clock doubtful, and from then on Read returns
// an error with the time.
//
// # Why that is enough
//
// A copy of a reading is recognised for as long as JetStream remembers the
// first, by the clock of the stream's leader: for max_age + max_future + the
// store's deadline + twice the tolerance. Every time that Read returns without
// an error was within the tolerance of that clock when it was confirmed. So
// what NATS has forgotten is too old for the gate, whichever way the machine's
// clock moved in between.
//
// # Going backwards
//
// Where a confirmed time is behind what was told before, the time stands still
// until it has caught up. That is at most twice the tolerance, since both were
// confirmed, and what stands still is never further ahead of NATS than the
// tolerance. More means that NATS' own clock has been set back (or that the
// first comparison corrected the clock, before which nothing was judged); only
// then time goes back. Standing still until then would refuse every honest
// reading as one from the future.
//
// # What remains possible
//
//   - NATS' clock moves away from this one, or a leader with another clock takes
//     over: noticed by the next comparison, after Options.Every and a round trip.
//     What is judged until then can be judged by a wrong clock.
//   - NATS' own clock is set back by more than twice the tolerance, and the gate's
//     with it, as where one machine has both: readings from before that are fresh
//     again, and JetStream may have forgotten them. No second clock shows which of
//     the two times is right. It is logged.
//   - NATS' clock is set forward: JetStream forgets early, and does not remember
//     when it is set right again.
//   - Monotonic time stands still, as while the machine sleeps, for less than the
//     tolerance: until the next comparison the time told is behind by that. While
//     NATS does not answer it drifts too, by 0.2 s an hour at 50 ppm; but nothing
//     is stored then.
package clock

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Options say what a Clock goes by.
type Options struct {
	// Wall is the machine's clock; nil is time.Now.
	Wall func() time.Time
	// Elapsed is monotonic time since any fixed moment; nil is the machine's. A
	// step of Wall must not move it. It may stand still while the machine sleeps.
	Elapsed func() time.Duration
	// Tolerance is how far the machine's clock may be from NATS'. With 0 it is
	// never right.
	Tolerance time.Duration
	// Ask returns the time of NATS' clock. It is called from one goroutine of the
	// Clock, and should return when ctx is done.
	Ask func(ctx context.Context) (time.Time, error)
	// Every is how often NATS is asked; 0 is one second.
	Every time.Duration
	Log   zerolog.Logger
}

// Clock is safe for concurrent use.
type Clock struct {
	options Options
	state   atomic.Pointer[state]
	// wake makes NATS be asked at once.
	wake chan struct{}
	// compared is closed after the first comparison.
	compared chan struct{}
	stop     context.CancelFunc
	stopped  chan struct{}
	// logged is what the log says. Only the goroutine that asks uses it.
	logged standing
}

type standing int

const (
	unknown standing = iota // never compared
	right
	jumped
	off
)

// state is never changed: a new one takes its place, so that a time and what is
// to be thought of it come from one moment.
type state struct {
	// anchor is the machine's clock at elapsed, with its monotonic reading where
	// it has one, and bare the same without: that is not compared by the
	// monotonic reading.
	anchor, bare time.Time
	elapsed      time.Duration
	// last is the latest time that was told, in nanoseconds since 1970. States
	// share it until time goes back: then whoever still has an old state does not
	// raise the new one's.
	last     *atomic.Int64
	standing standing
	// err is nil if standing is right.
	err error
	// offset is how far NATS' clock was ahead, unless standing is unknown.
	offset time.Duration
}

var errUnknown = errors.New("this machine's clock has not been compared with NATS' yet")

// New starts to compare the clocks. Until the first comparison nothing may be
// judged.
func New(o Options) *Clock {
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Elapsed == nil {
		start := time.Now()
		o.Elapsed = func() time.Duration { return time.Since(start) }
	}
	if o.Every <= 0 {
		o.Every = time.Second
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Clock{
		options: o, wake: make(chan struct{}, 1), compared: make(chan struct{}),
		stop: stop, stopped: make(chan struct{}),
	}
	first := anchored(moment{o.Elapsed(), o.Wall()})
	first.err = errUnknown
	c.state.Store(first)
	go c.compareAlways(ctx)
	return c
}

// anchored returns a state that tells the time from a moment on. Since elapsed
// was read first, the monotonic readings of what it tells may be late but never
// early.
func anchored(m moment) *state {
	s := &state{anchor: m.wall, bare: m.wall.Round(0), elapsed: m.elapsed, last: new(atomic.Int64)}
	s.last.Store(m.wall.UnixNano())
	return s
}

// Read returns the time and whether readings may be judged by it; the error says
// why not, and what to do. Both are of one moment, which two calls of Now and
// Err are not: between them a doubt may be over that there was about the time.
//
// The time is never before one that an earlier call returned, except as the
// package's description says. It keeps the monotonic reading of Options.Wall, so
// that times may be subtracted. That reading is never earlier than the true one,
// and later by as much as the time stands still. So a lease that began at a
// time.Now does not look fresher than it is; but let none begin at a time from
// here.
func (c *Clock) Read() (time.Time, error) {
	for {
		s, elapsed := c.state.Load(), c.options.Elapsed()
		if s.err == nil {
			if lead := c.lead(s, elapsed); lead != 0 {
				c.doubt(s, lead)
				continue
			}
		}
		return s.tell(elapsed), s.err
	}
}

// Now returns the time alone, for what needs a function. Judge by Read.
func (c *Clock) Now() time.Time {
	now, _ := c.Read()
	return now
}

// Err says why nothing may be judged, or nil. It reads no clock: a jump shows in
// it once Now or Read, or the next comparison, has met it.
func (c *Clock) Err() error { return c.state.Load().err }

// Offset is how far NATS' clock is ahead of this machine's, by the last
// comparison that was exact enough; known is false before the first.
func (c *Clock) Offset() (offset time.Duration, known bool) {
	s := c.state.Load()
	return s.offset, s.standing != unknown
}

// First waits for the first comparison, whatever comes out of it; Err tells. It
// fails when ctx is done before that, or the Clock closed.
func (c *Clock) First(ctx context.Context) error {
	select {
	case <-c.compared:
		return nil
	case <-c.stopped:
		return errors.New("the clock has been closed")
	case <-ctx.Done():
		return fmt.Errorf("waiting for NATS' clock: %w (%w)", c.Err(), ctx.Err())
	}
}

// closeLimit bounds how long Close waits for an Ask that does not heed its
// context.
const closeLimit = 2 * time.Second

// Close ends the comparisons, and waits for one that is under way until ctx is
// done, at most closeLimit. The time is told on, but no doubt heals any more.
func (c *Clock) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	c.stop()
	select {
	case <-c.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("NATS is still being asked for its clock: %w", ctx.Err())
	}
}

// tell returns the time when so much has elapsed.
func (s *state) tell(elapsed time.Duration) time.Time {
	now := s.anchor.Add(elapsed - s.elapsed)
	for n := now.UnixNano(); ; {
		last := s.last.Load()
		if n <= last {
			return now.Add(time.Duration(last - n))
		}
		if s.last.CompareAndSwap(last, n) {
			return now
		}
	}
}

// lead is by how much the machine's clock has jumped ahead, less than 0 if back,
// and 0 if it has not.
func (c *Clock) lead(s *state, elapsed time.Duration) time.Duration {
	wall := c.options.Wall()
	if c.within(s.leadAt(elapsed, wall)) {
		return 0
	}
	// The process may have stood still between the two readings. Then the second
	// look at the elapsed time is on the other side of it.
	lead := s.leadAt(c.options.Elapsed(), wall)
	if c.within(lead) {
		return 0
	}
	return lead
}

func (s *state) leadAt(elapsed time.Duration, wall time.Time) time.Duration {
	return wall.Sub(s.bare) - (elapsed - s.elapsed)
}

func (c *Clock) within(d time.Duration) bool { return d.Abs() <= c.options.Tolerance }

// doubt notes a jump, unless the state is another by now, and has NATS asked.
func (c *Clock) doubt(old *state, lead time.Duration) {
	s := *old
	s.standing = jumped
	s.err = fmt.Errorf("this machine's clock has jumped %s: nothing is judged until NATS' clock confirms it",
		direction(lead, "ahead", "back"))
	if c.state.CompareAndSwap(old, &s) {
		select {
		case c.wake <- struct{}{}:
		default: // NATS will be asked anyway
		}
	}
}

// direction says how much and which way.
func direction(d time.Duration, positive, negative string) string {
	way := positive
	if d < 0 {
		way = negative
	}
	return d.Abs().Round(time.Millisecond).String() + " " + way
}
