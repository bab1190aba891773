package egress

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

const (
	// lookupWorkers is how many look-ups are under way at once.
	lookupWorkers = 2
	// lookupRate is how many begin in a second, lookupBurst how many at once
	// after a rest.
	lookupRate, lookupBurst = 100, 20
	// lookupTime is how many microseconds of each second look-ups may take, and
	// lookupTimeBurst how many after a rest: an outage is followed by many. One
	// costs the more, the more devices there are; but whoever replays what he once
	// recorded gets no more of the store than this.
	lookupTime, lookupTimeBurst = 250_000, 5_000_000
	// groupsKept and identitiesKept bound the results that are kept.
	groupsKept, identitiesKept = 1024, 1 << 17
)

var errQueueFull = errors.New("too many late readings of this device wait to be looked up")

// groupKey names the readings that share a look-up.
type groupKey struct {
	patient, device string
	minute          time.Time
}

// candidate is a reading that waits for a look-up.
type candidate struct {
	identity reading.Identity
	token    uint64
}

// result is what one look-up found.
type result struct {
	// began is before the first question to the stream.
	began time.Time
	// held has the sequences of what the stream holds.
	held map[reading.Identity]uint64
	// err is why the stream cannot be searched for this group.
	err error
}

type group struct {
	key     groupKey
	waiting []candidate
	// crowd is how many may wait before those who have given up are left out.
	crowd int
	// result is nil until the look-up is done.
	result *result
}

// groups are the look-ups that are wanted, and the results that are still good.
type groups struct {
	times lateTimes
	now   func() time.Time
	// waits says whether a publication still waits.
	waits func(token uint64) bool
	// most bounds the identities that are kept, mostOfOne those of one group.
	most, mostOfOne int
	limiter         *rate.Limiter
	// spent counts the microseconds that look-ups took.
	spent   *rate.Limiter
	lookups atomic.Uint64

	mu    sync.Mutex
	turns turns
	byKey map[groupKey]*group
	// kept are the groups that have a result, the oldest first, and identities
	// is how many these hold.
	kept       []*group
	identities int
}

func newGroups(o Options, waits func(token uint64) bool) (*groups, error) {
	times, err := o.Late.times(o.Deadline)
	if err != nil {
		return nil, err
	}
	return &groups{
		times: times, now: o.Now, waits: waits, most: identitiesKept, mostOfOne: identitiesOfGroup,
		turns: newTurns(), limiter: rate.NewLimiter(lookupRate, lookupBurst),
		spent: rate.NewLimiter(lookupTime, lookupTimeBurst), byKey: make(map[groupKey]*group),
	}, nil
}

// join returns a result that is good at a time, or lets the candidate wait for
// one.
func (gs *groups) join(key groupKey, c candidate, now time.Time) (*result, error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.forget(now)
	g := gs.byKey[key]
	if g == nil || !gs.good(g, now) {
		g = &group{key: key}
		if !gs.turns.push(g) {
			return nil, errQueueFull
		}
		gs.byKey[key] = g
	}
	if g.result == nil {
		g.waiting = append(g.waiting, c)
		if len(g.waiting) > g.crowd {
			gs.thin(g)
			g.crowd = 2*len(g.waiting) + 16
		}
	}
	return g.result, nil
}

// good says whether a group's result can be used, or is yet to come.
func (gs *groups) good(g *group, now time.Time) bool {
	return g.result == nil || passed(g.result.began, now) < gs.times.keep
}

// thin leaves out those who have given up; its caller holds the lock.
func (gs *groups) thin(g *group) {
	g.waiting = slices.DeleteFunc(g.waiting, func(c candidate) bool { return !gs.waits(c.token) })
}

// wanted says whether somebody still waits for a group's look-up. A group that
// nobody waits for is forgotten.
func (gs *groups) wanted(g *group) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.thin(g); len(g.waiting) == 0 {
		delete(gs.byKey, g.key)
	}
	return len(g.waiting) > 0
}

// candidates are those who wait for a group's look-up.
func (gs *groups) candidates(g *group) []candidate {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return slices.Clone(g.waiting)
}

// again puts a group at the end of its line. Where there is no room, those who
// wait for it wait for their deadline.
func (gs *groups) again(g *group) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if !gs.turns.push(g) {
		delete(gs.byKey, g.key)
	}
}

// next is the group whose turn it is, or nil.
func (gs *groups) next() *group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.turns.pop()
}

// found keeps a group's result and returns those who waited for it.
func (gs *groups) found(g *group, r *result) []candidate {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	waiting := g.waiting
	g.waiting, g.result = nil, r
	gs.kept = append(gs.kept, g)
	gs.identities += len(r.held)
	gs.forget(gs.now())
	return waiting
}

// forget drops results that are too old or too many; its caller holds the lock.
func (gs *groups) forget(now time.Time) {
	for len(gs.kept) > 0 {
		oldest := gs.kept[0]
		if gs.good(oldest, now) && len(gs.kept) <= groupsKept && gs.identities <= gs.most {
			return
		}
		gs.kept[0], gs.kept = nil, gs.kept[1:]
		gs.identities -= len(oldest.result.held)
		if gs.byKey[oldest.key] == oldest {
			delete(gs.byKey, oldest.key)
		}
	}
}

func (s *Store) startLookups() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stopped.Go(func() {
		<-s.stop
		cancel()
	})
	for range lookupWorkers {
		s.stopped.Go(func() { s.serveGroups(ctx) })
	}
}

func (s *Store) serveGroups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.groups.turns.ready:
		}
		if g := s.groups.next(); g != nil {
			s.serve(ctx, g)
		}
	}
}

// serve looks a group up, if somebody waits for it.
func (s *Store) serve(ctx context.Context, g *group) {
	if !s.groups.wanted(g) || s.groups.limiter.Wait(ctx) != nil {
		return
	}
	s.groups.lookups.Add(1)
	r, began := &result{began: s.options.Now()}, time.Now()
	var err error
	if r.held, err = s.lookUp(ctx, g.key); errors.Is(err, ErrTooMany) {
		r.err, err = err, nil
	}
	if err != nil {
		s.blame(s.groups.candidates(g), err)
		// Most likely the next look-up would fail too.
		_, _ = await(ctx, nil, pause)
		s.groups.again(g)
		return
	}
	took := time.Since(began) // by a clock that nobody puts forward
	for _, c := range s.groups.found(g, r) {
		s.decide(c, r)
	}
	_ = s.groups.spent.WaitN(ctx, min(int(took.Microseconds()), s.groups.spent.Burst()))
}

func (s *Store) waits(token uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[token] != nil
}

// blame notes why those who wait must wait on.
func (s *Store) blame(waiting []candidate, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range waiting {
		if p := s.pending[c.token]; p != nil {
			p.cause = cause
		}
	}
}
