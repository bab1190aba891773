package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// probeEvery is how often the store is asked while no reading shows that it
	// is there.
	probeEvery = time.Second
	// probeLimit bounds one such question.
	probeLimit = 2 * time.Second
	// silence is how long a healthy store may at most not have been heard of.
	silence = 2*probeEvery + probeLimit
	// tryAgain is how long after the last failed reading readings count as
	// failing, if the store answers all the same. Then it is given another
	// chance: some troubles, such as a full disk, only readings show.
	tryAgain = 5 * time.Second
	// little is the room in bytes that hardly any reading can do with.
	little = 512
)

// ErrFull says that the stream of readings has reached its limit. It takes more
// once its oldest readings have reached their age, or the limit is raised.
var ErrFull = errors.New("the stream " + StreamVitals + " is full")

// health is what is known of the store. Not to have heard of it is enough for it
// to be unavailable, whatever hangs and whoever could not say so.
type health struct {
	// heard is when the store last stored a reading or answered a probe, and
	// cause is why a later probe failed.
	heard time.Time
	cause error
	// failing is since when readings fail, zero once one has been stored, and
	// failed is when one failed last.
	failing, failed time.Time
}

// Err says why readings should be sent elsewhere for now, or nil. It does not
// block.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, limit := s.options.Now(), s.options.UnavailableAfter
	unheard := limit
	if s.health.cause == nil {
		unheard += silence
	}
	if away := now.Sub(s.health.heard); away >= unheard {
		return fmt.Errorf("the store has been unavailable for %v: %w", away.Round(time.Second), cmp.Or(s.health.cause, errors.New("it does not answer")))
	}
	if since := now.Sub(s.health.failing); !s.health.failing.IsZero() && since >= limit && now.Sub(s.health.failed) <= tryAgain {
		return fmt.Errorf("no reading could be stored for %v", since.Round(time.Second))
	}
	return nil
}

// probe asks the store how it is, unless a reading has just shown it.
func (s *Store) probe(now time.Time) {
	if !s.overdueProbe(now) {
		return
	}
	err := s.ask()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.health.cause = err
		return
	}
	if s.health.cause != nil {
		s.health.failing = time.Time{} // what readings failed for is over
	}
	s.health.heard, s.health.cause = s.options.Now(), nil
}

func (s *Store) overdueProbe(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health.cause != nil || now.Sub(s.health.heard) >= probeEvery
}

// ask is answered by the stream's leader. It may block as long as NATS does not
// read.
func (s *Store) ask() error {
	if status := s.nc.Status(); status != nats.CONNECTED {
		return fmt.Errorf("NATS is not connected: %v", status)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	stream, err := s.js.Stream(ctx, StreamVitals)
	if err != nil {
		return fmt.Errorf("asking for stream %s: %w", StreamVitals, err)
	}
	info := stream.CachedInfo()
	if info.Cluster != nil && info.Cluster.Leader == "" { // another replica has answered
		return fmt.Errorf("stream %s has no leader", StreamVitals)
	}
	if limit := info.Config.MaxBytes; limit > 0 && info.State.Bytes+little > uint64(limit) {
		return fmt.Errorf("%w: %d of %d bytes", ErrFull, info.State.Bytes, limit)
	}
	return nil
}

// wellAt notes that a reading has been stored; its caller holds the lock.
func (h *health) wellAt(now time.Time) { *h = health{heard: now} }

// failedAt notes that a reading which was published at a time has failed.
func (h *health) failedAt(now, published time.Time) {
	h.failed = now
	if h.failing.IsZero() {
		h.failing = published
	}
}
