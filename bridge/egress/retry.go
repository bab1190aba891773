package egress

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// every calls f at each tick until the Store is closed.
func (s *Store) every(f func(now time.Time)) {
	ticker := time.NewTicker(tick)
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
		s.send(p)
	case errors.Is(err, ErrNotYet):
		s.notSent(p)
		s.postpone(p.token, err)
	case s.take(p.token) != nil:
		p.done(Confirmation{}, fmt.Errorf("%w: %w", ErrWithdrawn, err))
	}
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
		if now.After(p.again) {
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
			s.failed = now
			if s.failing.IsZero() {
				s.failing = p.started
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
