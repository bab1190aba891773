package verify_test

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

func identity(n int) (id reading.Identity) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func unawaited(t testing.TB) func(bool) {
	return func(bool) { t.Error("somebody was told who does not wait") }
}

// TestOneOfManyIsFirst lets many claim the same reading at once, over and over:
// exactly one is first, and all others learn what it came to.
func TestOneOfManyIsFirst(t *testing.T) {
	const claimants = 32
	for round := range 50 {
		stored := round%2 == 0
		m := verify.NewMemory(10)
		expiry := judgedAt.Add(maxAge)
		var first, told, others atomic.Int32
		var claims, answers sync.WaitGroup
		answers.Add(claimants - 1)
		for range claimants {
			claims.Go(func() {
				switch m.Reserve(identity(1), judgedAt, expiry, func(was bool) {
					if was == stored {
						told.Add(1)
					}
					answers.Done()
				}) {
				case verify.First:
					first.Add(1)
				case verify.Pending:
					others.Add(1)
				}
			})
		}
		claims.Wait()
		if first.Load() != 1 || others.Load() != claimants-1 {
			t.Fatalf("%d were first and %d pending, want 1 and %d", first.Load(), others.Load(), claimants-1)
		}
		settle(t, m, expiry, stored)
		answers.Wait()
		if told.Load() != claimants-1 {
			t.Fatalf("%d were told that stored is %v, want %d", told.Load(), stored, claimants-1)
		}
		want := verify.First
		if stored {
			want = verify.Stored
		}
		if got := m.Reserve(identity(1), judgedAt, expiry, unawaited(t)); got != want {
			t.Fatalf("after stored=%v the next claim is %v, want %v", stored, got, want)
		}
	}
}

func settle(t testing.TB, m *verify.Memory, expiry time.Time, stored bool) {
	t.Helper()
	if !stored {
		m.GiveBack(identity(1), expiry)
	} else if !m.Keep(identity(1), expiry) {
		t.Fatal("the reading is not remembered")
	}
}

// TestClaimsWhileSettling races claims against settling: whoever is first
// stores, and no reading is stored twice.
func TestClaimsWhileSettling(t *testing.T) {
	const claimants, readings = 16, 200
	m := verify.NewMemory(readings)
	expiry := judgedAt.Add(maxAge)
	var stored [readings]atomic.Int32
	var outcomes, claims sync.WaitGroup
	outcomes.Add(claimants * readings)
	for range claimants {
		claims.Go(func() {
			for n := range readings {
				switch m.Reserve(identity(n), judgedAt, expiry, func(was bool) {
					if !was {
						t.Error("told that it was not stored")
					}
					outcomes.Done()
				}) {
				case verify.First:
					stored[n].Add(1)
					if !m.Keep(identity(n), expiry) {
						t.Error("the reading is not remembered")
					}
					outcomes.Done()
				case verify.Stored:
					outcomes.Done()
				}
			}
		})
	}
	claims.Wait()
	outcomes.Wait()
	for n := range stored {
		if times := stored[n].Load(); times != 1 {
			t.Errorf("reading %d was stored %d times", n, times)
		}
	}
	if m.Size() != readings {
		t.Errorf("the memory holds %d, want %d", m.Size(), readings)
	}
}

// TestSettlingMayClaimAgain settles with someone waiting who comes back at once.
func TestSettlingMayClaimAgain(t *testing.T) {
	m := verify.NewMemory(10)
	expiry := judgedAt.Add(maxAge)
	m.Reserve(identity(1), judgedAt, expiry, unawaited(t))
	var again verify.Claim = 99
	m.Reserve(identity(1), judgedAt, expiry, func(stored bool) {
		again = m.Reserve(identity(1), judgedAt, expiry, unawaited(t))
	})
	m.GiveBack(identity(1), expiry)
	if again != verify.First {
		t.Errorf("the one who waited is %v, want First", again)
	}
}

func TestForgettingByTheSignedTime(t *testing.T) {
	m := verify.NewMemory(10)
	keep := func(n int, expiry time.Time) {
		t.Helper()
		if c := m.Reserve(identity(n), judgedAt, expiry, unawaited(t)); c != verify.First || !m.Keep(identity(n), expiry) {
			t.Fatalf("reading %d cannot be kept", n)
		}
	}
	soon, later := judgedAt.Add(900*time.Millisecond), judgedAt.Add(90*time.Second)
	keep(2, later)
	keep(1, soon)
	for _, c := range []struct {
		now    time.Time
		soon   verify.Claim
		held   int
		reason string
	}{
		{judgedAt, verify.Stored, 2, "nothing has expired"},
		{soon, verify.Stored, 2, "an identity is held until its expiry, that instant included"},
		{soon.Add(time.Second), verify.First, 1, "its second is over"},
	} {
		if got := m.Reserve(identity(1), c.now, soon, unawaited(t)); got != c.soon {
			t.Errorf("at %v: %v, want %v: %s", c.now, got, c.soon, c.reason)
		}
		if m.Size() != c.held {
			t.Errorf("at %v: %d held, want %d", c.now, m.Size(), c.held)
		}
	}
	m.GiveBack(identity(1), soon)
	if got := m.Reserve(identity(2), later, later, unawaited(t)); got != verify.Stored {
		t.Errorf("the later one is %v, want Stored", got)
	}
	if got := m.Reserve(identity(3), later.Add(time.Second), later.Add(maxAge), unawaited(t)); got != verify.First || m.Size() != 0 {
		t.Errorf("after all: %v with %d held, want First with 0", got, m.Size())
	}
}

// TestForgettingOneSecondLeavesTheNext forgets one set at the instant at which
// the next one expires.
func TestForgettingOneSecondLeavesTheNext(t *testing.T) {
	m := verify.NewMemory(10)
	for n := range 3 {
		expiry := judgedAt.Add(time.Duration(n) * time.Second)
		m.Reserve(identity(n), judgedAt, expiry, unawaited(t))
		m.Keep(identity(n), expiry)
	}
	now := judgedAt.Add(time.Second)
	for n, want := range []verify.Claim{verify.First, verify.Stored, verify.Stored} {
		if got := m.Reserve(identity(n), now, judgedAt.Add(time.Duration(n)*time.Second), unawaited(t)); got != want {
			t.Errorf("reading %d is %v, want %v", n, got, want)
		}
	}
	if m.Size() != 2 {
		t.Errorf("%d are held, want 2", m.Size())
	}
}

func TestAFullMemorySaysSo(t *testing.T) {
	m := verify.NewMemory(2)
	expiry := judgedAt.Add(time.Second)
	for n := range 3 {
		if c := m.Reserve(identity(n), judgedAt, expiry, unawaited(t)); c != verify.First {
			t.Fatalf("reading %d: %v", n, c)
		}
		if remembered := m.Keep(identity(n), expiry); remembered != (n < 2) {
			t.Errorf("reading %d: remembered is %v", n, remembered)
		}
	}
	if m.Size() != 2 {
		t.Errorf("%d are held, want 2", m.Size())
	}
	if c := m.Reserve(identity(0), judgedAt, expiry, unawaited(t)); c != verify.Stored {
		t.Errorf("what was remembered is %v, want Stored", c)
	}
	if c := m.Reserve(identity(2), judgedAt, expiry, unawaited(t)); c != verify.First {
		t.Errorf("what was not remembered is %v, want First", c)
	}
	m.GiveBack(identity(2), expiry)
	next := expiry.Add(time.Second)
	m.Reserve(identity(4), next, next, unawaited(t))
	if !m.Keep(identity(4), next) {
		t.Error("there is no room though all have expired")
	}
}

// TestMemoryIsBounded measures what identities cost where Go's maps are filled
// worst, just after they have grown, and where they are filled well.
func TestMemoryIsBounded(t *testing.T) {
	worst := 0.0
	for _, c := range []struct{ readings, seconds int }{{200_000, 1}, {200_000, 66}, {60_000, 66}, {120_000, 1}} {
		cost := cost(c.readings, c.seconds)
		if limit := c.readings*verify.BytesPerReading + c.seconds*verify.BytesPerSecond; cost > float64(limit) {
			t.Errorf("%d readings in %d seconds cost %.0f bytes, more than %d", c.readings, c.seconds, cost, limit)
		}
		worst = max(worst, cost/float64(c.readings))
	}
	if worst < 0.75*verify.BytesPerReading {
		t.Errorf("a reading costs at most %.1f bytes; %d is overstated", worst, verify.BytesPerReading)
	}
	if few := cost(660, 660); few > 660*(verify.BytesPerReading+verify.BytesPerSecond) {
		t.Errorf("readings alone in their second cost %.0f bytes each", few/660)
	}
}

func cost(readings, seconds int) float64 {
	before := heap()
	m := verify.NewMemory(readings)
	for n := range readings {
		expiry := judgedAt.Add(time.Duration(n%seconds) * time.Second)
		m.Reserve(identity(n), judgedAt, expiry, nil)
		m.Keep(identity(n), expiry)
	}
	after := heap()
	runtime.KeepAlive(m)
	return float64(after) - float64(before)
}

// heap collects twice: the first time may leave what finalizers still hold.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
