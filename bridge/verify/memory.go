package verify

import (
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// BytesPerReading is what the Memory costs for each identity that it holds, in
// bytes, at the most: a map slot of 32 bytes and one of bookkeeping, at the
// worst filling that Go's maps leave after growing.
const BytesPerReading = 96

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
	mu     sync.Mutex
	limit  int
	kept   map[int64]map[reading.Identity]struct{}
	held   map[reading.Identity]*hold
	count  int
	oldest int64
}

type hold struct {
	second  int64
	waiting []func(stored bool)
}

// NewMemory returns a Memory for at most limit identities.
func NewMemory(limit int) *Memory {
	return &Memory{
		limit: limit,
		kept:  make(map[int64]map[reading.Identity]struct{}),
		held:  make(map[reading.Identity]*hold),
	}
}

// Reserve claims an identity. It must be given the same expiry for the same
// identity each time: the signed timestamp plus a constant. If the answer is
// Pending, settled is called once, by whoever keeps or gives back.
func (m *Memory) Reserve(id reading.Identity, now, expiry time.Time, settled func(stored bool)) Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now.Unix())
	second := expiry.Unix()
	if _, ok := m.kept[second][id]; ok {
		return Stored
	}
	if h, ok := m.held[id]; ok {
		h.waiting = append(h.waiting, settled)
		return Pending
	}
	m.held[id] = &hold{second: second}
	return First
}

// Keep settles a reservation: the reading is stored. It reports whether the
// identity is remembered; where the memory is full it is not.
func (m *Memory) Keep(id reading.Identity) bool {
	m.mu.Lock()
	h := m.release(id)
	room := h != nil && m.count < m.limit
	if room {
		m.remember(id, h.second)
	}
	m.mu.Unlock()
	h.tell(true)
	return room
}

// GiveBack settles a reservation: the reading is not stored, so that a copy of
// it is not taken for a replay.
func (m *Memory) GiveBack(id reading.Identity) {
	m.mu.Lock()
	h := m.release(id)
	m.mu.Unlock()
	h.tell(false)
}

// Size is how many identities are remembered.
func (m *Memory) Size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

func (m *Memory) release(id reading.Identity) *hold {
	h := m.held[id]
	delete(m.held, id)
	return h
}

func (m *Memory) remember(id reading.Identity, second int64) {
	set := m.kept[second]
	if set == nil {
		set = make(map[reading.Identity]struct{})
		m.kept[second] = set
		if len(m.kept) == 1 || second < m.oldest {
			m.oldest = second
		}
	}
	if _, again := set[id]; !again {
		set[id] = struct{}{}
		m.count++
	}
}

// forget drops the sets of seconds that are over. Seconds without a set are
// passed over by going through the sets, of which there are few.
func (m *Memory) forget(now int64) {
	if len(m.kept) == 0 || m.oldest >= now {
		return
	}
	m.oldest = 1<<63 - 1
	for second, set := range m.kept {
		if second < now {
			m.count -= len(set)
			delete(m.kept, second)
			continue
		}
		m.oldest = min(m.oldest, second)
	}
}

// tell runs outside the lock: those who wait may come back at once.
func (h *hold) tell(stored bool) {
	if h == nil {
		return
	}
	for _, settled := range h.waiting {
		settled(stored)
	}
}
