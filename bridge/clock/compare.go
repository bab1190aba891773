package clock

import (
	"context"
	"fmt"
	"time"
)

const (
	// soon is how long a comparison that could not tell waits for the next.
	soon = 100 * time.Millisecond
	// leastPatience and mostPatience bound how long one question may take: less is
	// common under load, more would only delay the next.
	leastPatience = time.Second
	mostPatience  = 5 * time.Second
)

// moment is a time by both of the machine's clocks, the first read first.
type moment struct {
	elapsed time.Duration
	wall    time.Time
}

// comparison is what one question to NATS has shown.
type comparison struct {
	moment
	// offset is how far NATS' clock was ahead at wall, give or take margin.
	offset, margin time.Duration
}

func (c *Clock) compareAlways(ctx context.Context) {
	defer close(c.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-timer.C:
			timer.Reset(c.compare(ctx))
		case <-c.wake:
			c.report(c.state.Load())
			timer.Reset(0)
		}
	}
}

// compare asks once and returns when to ask again.
func (c *Clock) compare(ctx context.Context) time.Duration {
	began := moment{c.options.Elapsed(), c.options.Wall().Round(0)}
	server, err := c.ask(ctx)
	if ctx.Err() != nil {
		return 0
	}
	// A jump that is noticed from here on makes the state another, and the
	// comparison void.
	old := c.state.Load()
	c.report(old)
	if err != nil {
		c.stayUnknown(old, fmt.Errorf("asking NATS for the time: %w", err))
		return c.options.Every
	}
	return c.decide(old, c.measure(began, server))
}

func (c *Clock) ask(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, min(max(2*c.options.Tolerance, leastPatience), mostPatience))
	defer cancel()
	return c.options.Ask(ctx)
}

// measure reads the machine's clock after the answer has come. NATS' clock was
// read at some moment since began, so by now it shows server and at most the
// time that has passed since. That is more than has elapsed where the machine
// slept, and the machine's clock then shows it.
func (c *Clock) measure(began moment, server time.Time) comparison {
	m := comparison{moment: moment{c.options.Elapsed(), c.options.Wall()}}
	wall := m.wall.Round(0)
	m.margin = max(c.options.Elapsed()-began.elapsed, wall.Sub(began.wall)) / 2
	m.offset = server.Round(0).Sub(wall) + m.margin
	return m
}

// decide puts the clock right or wrong where the comparison leaves no doubt.
func (c *Clock) decide(old *state, m comparison) time.Duration {
	tolerance := c.options.Tolerance
	var s *state
	switch {
	case m.offset.Abs() <= tolerance-m.margin:
		s = c.confirmed(old, m)
	case m.offset.Abs() > tolerance+m.margin:
		s = c.wrong(old, m)
	default:
		c.stayUnknown(old, fmt.Errorf("NATS took %v to answer, which is too long to tell", 2*m.margin))
		return min(soon, c.options.Every)
	}
	if !c.state.CompareAndSwap(old, s) {
		return 0
	}
	if old.standing == unknown {
		close(c.compared)
	}
	c.report(s)
	c.reportBack(old, s)
	return c.options.Every
}

// confirmed tells the time by the machine's clock from here on.
func (c *Clock) confirmed(old *state, m comparison) *state {
	s := anchored(m.moment)
	s.standing, s.offset = right, m.offset
	if s.behind(old) <= 2*c.options.Tolerance {
		s.last = old.last
	}
	return s
}

// behind is by how much a new state's first time is before the last of an old.
func (s *state) behind(old *state) time.Duration {
	return time.Duration(old.last.Load() - s.anchor.UnixNano())
}

func (c *Clock) wrong(old *state, m comparison) *state {
	s := *old
	s.standing, s.offset = off, m.offset
	s.err = fmt.Errorf("this machine's clock is %s NATS', and %v are allowed: set the clock that is wrong, with NTP; or raise freshness.clock_tolerance",
		direction(m.offset, "behind", "ahead of"), c.options.Tolerance)
	return &s
}

// stayUnknown adds why a clock that was never compared is not yet.
func (c *Clock) stayUnknown(old *state, cause error) {
	if old.standing == unknown {
		s := *old
		s.err = fmt.Errorf("%w: %w", errUnknown, cause)
		c.state.CompareAndSwap(old, &s)
	}
}

// report logs what is not in the log yet.
func (c *Clock) report(s *state) {
	if s.standing == c.logged {
		return
	}
	switch s.standing {
	case jumped:
		c.options.Log.Warn().Err(s.err).Msg("no reading is judged for now")
	case off:
		c.options.Log.Error().Err(s.err).Msg("no reading is judged for now")
	case right:
		if c.logged != unknown {
			c.options.Log.Info().Stringer("offset", s.offset).Msg("this machine's clock agrees with NATS' again: readings are judged")
		}
	}
	c.logged = s.standing
}

// reportBack logs that time has gone back, if readings were judged before.
func (c *Clock) reportBack(old, s *state) {
	if s.last != old.last && old.standing != unknown {
		c.options.Log.Warn().Stringer("lag", s.behind(old).Round(time.Millisecond)).
			Msg("NATS' clock and this machine's have been set back: readings sent again may pass as new if they are from before and the duplicate window has forgotten them")
	}
}
