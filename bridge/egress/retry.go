package egress

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// every calls f once a period until the Store is closed.
func (s *Store) every(period time.Duration, f func(now time.Time)) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			f(s.options.Now())
		}
	}
}

// sendAgain publishes again what got no answer, in the order in which it came.
func (s *Store) sendAgain(now time.Time) {
	due := s.due(now)
	slices.SortFunc(due, func(a, b *publication) int { return cmp.Compare(a.token, b.token) })
	for _, p := range due {
		s.retry(p)
	}
}

// retry asks first whether the reading still stands: much may have changed
// while it waited.
func (s *Store) retry(p *publication) {
	var err error
	if p.stands != nil {
		err = p.stands()
	}
	switch {
	case err == nil:
		if s.timely(p) {
			s.send(p)
		}
	case errors.Is(err, ErrNotYet):
		s.notSent(p)
		s.postpone(p.token, err)
	case s.take(p.token) != nil:
		p.done(Confirmation{}, fmt.Errorf("%w: %w", ErrWithdrawn, err))
	}
}

// timely says whether a publication may go out. After its deadline it may not: by
// then, where the machine slept or sending was held up, the stream may have
// forgotten an earlier attempt.
func (s *Store) timely(p *publication) bool {
	return s.waits(p.token) && passed(p.started, s.options.Now()) <= s.options.Deadline
}

// passed is the time between two readings of the clock, by the wall or by the
// monotonic clock, whichever is longer: the one may be set, the other stands
// still while the machine sleeps.
func passed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// notSent takes back an attempt that was none.
func (s *Store) notSent(p *publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.attempts--
}

func (s *Store) due(now time.Time) []*publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*publication
	for _, p := range s.pending {
		if !p.again.IsZero() && now.After(p.again) {
			p.again = now.Add(patience)
			p.attempts++
			due = append(due, p)
		}
	}
	return due
}

func (s *Store) giveUp(now time.Time) {
	for _, p := range s.overdue(now) {
		p.fail()
	}
}

func (s *Store) overdue(now time.Time) []*publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	var over []*publication
	for token, p := range s.pending {
		if now.After(p.deadline) {
			delete(s.pending, token)
			over = append(over, p)
			// What was never published says nothing of the store.
			if p.attempts > 0 {
				s.health.failedAt(now, p.started)
			}
		}
	}
	return over
}

func (p *publication) fail() {
	cause := p.cause
	if cause == nil {
		cause = errors.New("the store did not answer in time")
	}
	p.done(Confirmation{}, fmt.Errorf("%w: %w", ErrNotStored, cause))
}
