package limits

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// turnsPerSecond is how many attempts a second a locked pair has.
	turnsPerSecond = 1
	// mostTurn is how long an attempt may wait for its turn.
	mostTurn = 5 * time.Second
)

// Pair is who fails: an address, and the name that somebody there claims. Never
// the name alone, whose owner may be elsewhere and honest, nor the address
// alone, which others share.
type Pair struct {
	Address Address
	Name    string
}

// Lockouts locks pairs out that keep failing. It is safe for concurrent use.
type Lockouts struct {
	after int
	lasts time.Duration
	pairs *lru.Cache[Pair, *suspect]
}

// suspect is a pair that has failed.
type suspect struct {
	mu sync.Mutex
	// failures is a bucket of those that are still taken.
	failures *rate.Limiter
	turns    *rate.Limiter
	until    time.Time
}

// NewLockouts locks a pair after so many failures, each of which is forgiven
// after lasts/after, and for that long. It remembers at most so many pairs, of
// some 400 bytes each, and forgets the one first that failed longest ago.
func NewLockouts(after int, lasts time.Duration, most int) *Lockouts {
	pairs, err := lru.New[Pair, *suspect](most)
	if err != nil {
		panic(err) // most is a constant of the program
	}
	return &Lockouts{after: after, lasts: lasts, pairs: pairs}
}

func (l *Lockouts) suspect(p Pair) *suspect {
	if s, ok := l.pairs.Get(p); ok {
		return s
	}
	fresh := &suspect{
		// The failure that finds the bucket empty is the last one.
		failures: rate.NewLimiter(rate.Limit(float64(l.after)/l.lasts.Seconds()), l.after-1),
		turns:    rate.NewLimiter(turnsPerSecond, 1),
	}
	if s, ok, _ := l.pairs.PeekOrAdd(p, fresh); ok {
		return s
	}
	return fresh
}

// Lock is what a failure means for its pair.
type Lock uint8

const (
	// Open lets the pair go on.
	Open Lock = iota
	// Shut is the failure that locked the pair.
	Shut
	// Locked is a failure of a pair that is locked.
	Locked
)

// Failed counts a failure.
func (l *Lockouts) Failed(p Pair, now time.Time) Lock {
	s := l.suspect(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	enough := !s.failures.AllowN(now, 1)
	switch {
	case now.Before(s.until):
		return Locked
	case enough:
		s.until = now.Add(l.lasts)
		return Shut
	}
	return Open
}

// Turn returns how long an attempt of a pair has to wait, or false if too many
// wait already; nothing and true while the pair is not locked. A locked pair is
// held to turnsPerSecond rather than kept out, so that the owner of the name, if he
// is at that address too, may still get in.
func (l *Lockouts) Turn(p Pair, now time.Time) (wait time.Duration, ok bool) {
	s, ok := l.pairs.Peek(p)
	if !ok {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.until) {
		return 0, true
	}
	r := s.turns.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > mostTurn {
		r.CancelAt(now)
		return 0, false
	}
	return wait, true
}
