package egress

import (
	"errors"
	"fmt"
	"time"
)

// How a late reading comes to be stored once.
//
// Every publish, live or late, carries the reading's identity as Nats-Msg-Id.
// JetStream therefore refuses a copy that arrives within the duplicate window
// after the first was stored, whichever gate sends it and whatever restarts in
// between. What is left are copies that were stored earlier than that.
//
// Patient, device and timestamp are signed, so a copy can only stand on
// vitals.live.<patient>.<device>, stored within the bounds below, or on
// vitals.late.<patient>.<device>.<minute>. A look-up reads both from the stream's
// leader, and shows every copy that was stored when it began. What is stored later
// JetStream refuses to store again, as long as that arrives within the window
// counted from the look-up's beginning; so its result is good for a time, keep.
//
// All this, and JetStream's refusal of live copies too, supposes that a publish
// arrives at the latest a time straggle after its deadline. What lies longer in a
// socket, because NATS or the network stands still, may be stored twice. A longer
// duplicate window allows for longer stalls.

// longestStraggle bounds how far look-ups read where the window is long.
const longestStraggle = 5 * time.Minute

// LateOptions say how a Store recognises copies of late readings. They are those
// of verification and of the stream, and the same for all gates of a stream.
type LateOptions struct {
	// MaxAge is how old, and MaxFuture how far ahead, a live reading may be.
	MaxAge, MaxFuture time.Duration
	// Tolerance is how far the clocks of gates and NATS may be apart.
	Tolerance time.Duration
	// Window is the duplicate window of VITALS, at least MaxAge + MaxFuture +
	// Options.Deadline + 2 Tolerance.
	Window time.Duration
}

// lateTimes follow from LateOptions.
type lateTimes struct {
	// direct is up to which age the window covers all copies of a reading, so
	// that none needs to be looked up.
	direct time.Duration
	// keep is how long a look-up's result is good.
	keep time.Duration
	// Live copies of a minute's readings were stored between these two times
	// before its beginning and after its end.
	before, after time.Duration
}

func (o LateOptions) times(deadline time.Duration) (lateTimes, error) {
	if o == (LateOptions{}) {
		return lateTimes{}, nil
	}
	least := o.MaxAge + o.MaxFuture + deadline + 2*o.Tolerance
	if o.Window < least {
		return lateTimes{}, fmt.Errorf("the duplicate window of %v is shorter than the %v that late readings need", o.Window, least)
	}
	straggle := min(o.Window-least, longestStraggle)
	return lateTimes{
		direct: o.Window - o.MaxFuture - 2*o.Tolerance - deadline - straggle,
		// The other half is for a leader that was deposed and, cut off from the
		// new one, does not know it for some seconds: what it does not show is
		// as recent as that.
		keep: (o.Window - deadline - straggle) / 2,
		// One tolerance is for the clock of the gate that judged. Two are for
		// the order of the stream's times: at a change of its leader they may go
		// back.
		before: o.MaxFuture + 3*o.Tolerance,
		after:  o.MaxAge + deadline + straggle + 3*o.Tolerance,
	}, nil
}

// LateSubject is where a reading is kept that is authentic but too old for
// triage: one subject for each minute of the device's clock.
func LateSubject(patient, device string, timestamp time.Time) string {
	return "vitals.late." + patient + "." + device + "." + timestamp.UTC().Format("200601021504")
}

var errNotSearched = errors.New("the stream was not searched for copies in time: too many late readings wait, or it does not answer")

// PublishLate stores a reading that is too old for triage, under LateSubject,
// unless the stream holds it already, live or late. It calls done once, as
// Publish does; a copy that is found is confirmed as a duplicate.
func (s *Store) PublishLate(r Record, done func(Confirmation, error)) {
	p := s.publication(r, subjectGate+LateSubject(r.Patient, r.Device, r.Timestamp), done)
	if s.options.Late == (LateOptions{}) {
		p.cause = errors.New("this store takes no late readings")
		p.fail()
		return
	}
	if p.started.Sub(r.Timestamp) <= s.groups.times.direct {
		s.publish(p)
		return
	}
	p.again, p.attempts, p.cause = time.Time{}, 0, errNotSearched
	if !s.await(p) {
		p.fail()
		return
	}
	key := groupKey{r.Patient, r.Device, r.Timestamp.UTC().Truncate(time.Minute)}
	c := candidate{r.Identity, p.token}
	switch found, err := s.groups.join(key, c, p.started); {
	case err != nil:
		s.end(c.token, err)
	case found != nil:
		s.decide(c, found)
	}
}

// decide acts on what a look-up found.
func (s *Store) decide(c candidate, found *result) {
	sequence, stored := found.held[c.identity]
	switch {
	case found.err != nil:
		s.end(c.token, found.err)
	case stored:
		if p := s.take(c.token); p != nil {
			p.done(Confirmation{Duplicate: true, Sequence: sequence, Took: s.options.Now().Sub(p.started)}, nil)
		}
	default:
		if p := s.release(c.token); p != nil {
			s.retry(p)
		}
	}
}

// release lets a publication out; nil if it has ended already.
func (s *Store) release(token uint64) *publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[token]
	if p != nil {
		p.again, p.attempts, p.cause = s.options.Now().Add(patience), 1, nil
	}
	return p
}

// end fails a publication, unless it has ended already.
func (s *Store) end(token uint64, cause error) {
	if p := s.take(token); p != nil {
		p.cause = cause
		p.fail()
	}
}

// Lookups is how often the stream has been asked for copies of late readings.
func (s *Store) Lookups() uint64 { return s.groups.lookups.Load() }
