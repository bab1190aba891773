package limits

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Sampling says what a Sampler lets through.
type Sampling[K comparable] struct {
	// Each is for one key, All for all of them together.
	Each, All Rate
	// Keys is how many keys are told apart at once. Those beyond it are counted
	// under what Rest makes of them, of which there must be few.
	Keys int
	Rest func(K) K
}

// Sampler picks the events that are kept, and counts the others exactly. It is
// safe for concurrent use.
type Sampler[K comparable] struct {
	sampling Sampling[K]
	mu       sync.Mutex
	all      *rate.Limiter
	tallies  map[K]*tally
}

// tally is one key's.
type tally struct {
	limiter *rate.Limiter
	// idle is true if there has been no event since the last report.
	idle bool
	LeftOut
}

// LeftOut counts events of one key that were not kept.
type LeftOut struct {
	// From and Until are when the first and the last of them happened.
	From, Until time.Time
	Count       uint64
}

func (l *LeftOut) add(other LeftOut) {
	if l.Count == 0 || other.From.Before(l.From) {
		l.From = other.From
	}
	if l.Count == 0 || other.Until.After(l.Until) {
		l.Until = other.Until
	}
	l.Count += other.Count
}

// NewSampler returns a Sampler.
func NewSampler[K comparable](s Sampling[K]) *Sampler[K] {
	return &Sampler[K]{sampling: s, all: s.All.limiter(), tallies: make(map[K]*tally)}
}

// Keep says whether an event is to be kept; else it has been counted.
func (s *Sampler[K]) Keep(key K, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tally(key)
	// A key's own limit comes first, so that one flood leaves room for others.
	if t.limiter.AllowN(now, 1) && s.all.AllowN(now, 1) {
		return true
	}
	t.add(LeftOut{now, now, 1})
	return false
}

// Drop counts an event that was to be kept, and could not be.
func (s *Sampler[K]) Drop(key K, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally(key).add(LeftOut{now, now, 1})
}

func (s *Sampler[K]) tally(key K) *tally {
	t := s.tallies[key]
	if t == nil && len(s.tallies) >= s.sampling.Keys {
		key = s.sampling.Rest(key)
		t = s.tallies[key]
	}
	if t == nil {
		t = &tally{limiter: s.sampling.Each.limiter()}
		s.tallies[key] = t
	}
	t.idle = false
	return t
}

// Report tells what was left out since it was last told, by key, and forgets it
// where tell returns true; the rest is told again next time. tell is not called
// under a lock. Between two reports at least as much time must pass as a key's
// bucket takes to fill, since a key without an event in between is forgotten.
func (s *Sampler[K]) Report(tell func(K, LeftOut) bool) (all bool) {
	all = true
	for key, l := range s.collect() {
		if !tell(key, l) {
			all = false
			s.giveBack(key, l)
		}
	}
	return all
}

func (s *Sampler[K]) collect() map[K]LeftOut {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := make(map[K]LeftOut)
	for key, t := range s.tallies {
		if t.idle {
			delete(s.tallies, key)
			continue
		}
		t.idle = true
		if t.Count > 0 {
			counted[key] = t.LeftOut
			t.LeftOut = LeftOut{}
		}
	}
	return counted
}

func (s *Sampler[K]) giveBack(key K, l LeftOut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally(key).add(l)
}
