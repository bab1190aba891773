package verify

import (
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// BytesPerReading is what the Memory costs for each identity that it holds, in
// bytes, at the most: a map slot of 17 bytes and one of bookkeeping, at the
// worst filling that Go's maps leave after growing.
const BytesPerReading = 48

// BytesPerSecond is what each second of the window costs besides, in bytes, at
// the most: a map that is hardly filled.
const BytesPerSecond = 512

// Claim is the answer to a reservation.
type Claim uint8

const (
	// First means that the caller holds the reservation now, and owes the
	// Memory a Keep or a GiveBack.
	First Claim = iota
	// Stored means that the identity was kept before.
	Stored
	// Pending means that somebody else holds the reservation; the caller will
	// be told what became of it.
	Pending
)

// Memory remembers which readings were stored, check 8. It is exact: an
// identity is found from its Keep until it expires, and is never confused with
// another. Its memory is at most limit × BytesPerReading, and BytesPerSecond for
// each second that a kept identity expires in.
//
// An identity is bound to the bytes of its reading, hence to one signed
// timestamp and one time of expiry. So identities are kept in one set for each
// second of expiry; looking up needs no search, forgetting is dropping a set.
//
// It is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	limit int
	// sets are the identities by the second of their expiry.
	sets map[int64]*set
	// waiting are those to be told about an identity that is being stored.
	waiting map[short][]func(stored bool)
	count   int
	oldest  int64
}

// short is the first half of an identity. RFC 2104, section 5, allows a MAC to be
// cut to that, and two readings do not share it either.
type short [16]byte

type set struct {
	// stored says of each identity whether it is; false is being stored.
	stored map[short]bool
	// count is how many are.
	count int
}

// NewMemory returns a Memory for at most limit identities.
func NewMemory(limit int) *Memory {
	return &Memory{
		limit:   limit,
		sets:    make(map[int64]*set),
		waiting: make(map[short][]func(stored bool)),
	}
}

// Reserve claims an identity. It and what settles the claim must be given the
// same expiry for the same identity each time: the signed timestamp plus a
// constant. If the answer is Pending, settled is called once, by whoever keeps
// or gives back.
func (m *Memory) Reserve(of reading.Identity, now, expiry time.Time, settled func(stored bool)) Claim {
	id := short(of[:16])
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now.Unix())
	set := m.set(expiry.Unix())
	stored, known := set.stored[id]
	switch {
	case stored:
		return Stored
	case known:
		m.waiting[id] = append(m.waiting[id], settled)
		return Pending
	}
	set.stored[id] = false
	return First
}

// Keep settles a reservation: the reading is stored. It reports whether the
// identity is remembered; where the memory is full it is not.
func (m *Memory) Keep(of reading.Identity, expiry time.Time) bool {
	id := short(of[:16])
	m.mu.Lock()
	set := m.sets[expiry.Unix()]
	room := set != nil && m.count < m.limit
	switch {
	case room:
		set.stored[id] = true
		set.count++
		m.count++
	case set != nil:
		delete(set.stored, id)
	}
	waiting := m.settle(id)
	m.mu.Unlock()
	tell(waiting, true)
	return room
}

// GiveBack settles a reservation: the reading is not stored, so that a copy of
// it is not taken for a replay.
func (m *Memory) GiveBack(of reading.Identity, expiry time.Time) {
	id := short(of[:16])
	m.mu.Lock()
	if set := m.sets[expiry.Unix()]; set != nil {
		delete(set.stored, id)
	}
	waiting := m.settle(id)
	m.mu.Unlock()
	tell(waiting, false)
}

// Size is how many identities are remembered.
func (m *Memory) Size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

func (m *Memory) settle(id short) []func(stored bool) {
	if len(m.waiting) == 0 {
		return nil
	}
	waiting := m.waiting[id]
	delete(m.waiting, id)
	return waiting
}

func (m *Memory) set(second int64) *set {
	of := m.sets[second]
	if of == nil {
		of = &set{stored: make(map[short]bool)}
		m.sets[second] = of
		if len(m.sets) == 1 || second < m.oldest {
			m.oldest = second
		}
	}
	return of
}

// forget drops the sets of seconds that are over. Seconds without a set are
// passed over by going through the sets, of which there are few.
func (m *Memory) forget(now int64) {
	if len(m.sets) == 0 || m.oldest >= now {
		return
	}
	m.oldest = 1<<63 - 1
	for second, set := range m.sets {
		if second >= now {
			m.oldest = min(m.oldest, second)
			continue
		}
		m.count -= set.count
		delete(m.sets, second)
	}
}

// tell runs outside the lock: those who wait may come back at once.
func tell(waiting []func(stored bool), stored bool) {
	for _, settled := range waiting {
		settled(stored)
	}
}
