// Package limits bounds what one sender may cost: token buckets by a key, locks
// for those who keep failing, and samples of events that keep exact counts. All
// of it takes bounded memory, and the time is passed in; it must not go back.
package limits

import (
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// MostWait is the longest that a message over its limit is waited for. What
// would have to wait longer is refused.
const MostWait = 2 * time.Second

// Rate is what a token bucket grants.
type Rate struct {
	// PerSecond is how many in the long run, Burst how many at once after a rest.
	PerSecond, Burst int
}

func (r Rate) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst) }

// Bucket is one token bucket. It is safe for concurrent use.
type Bucket struct {
	limiter *rate.Limiter
	// forgotten is true once another one may have taken the key's place.
	forgotten atomic.Bool
}

// NewBucket returns a full bucket that belongs to no key.
func NewBucket(r Rate) *Bucket { return &Bucket{limiter: r.limiter()} }

// Take takes a token. It returns how long its taker has to wait now that it has
// it, or false and MostWait: then there will be none soon, and it took none.
func (b *Bucket) Take(now time.Time) (wait time.Duration, ok bool) { return b.TakeN(now, 1) }

// TakeN takes n tokens at once, no more than the burst, or none.
func (b *Bucket) TakeN(now time.Time, n int) (wait time.Duration, ok bool) {
	if b.limiter.AllowN(now, n) {
		return 0, true
	}
	r := b.limiter.ReserveN(now, n)
	wait = r.DelayFrom(now)
	if wait > MostWait {
		r.CancelAt(now)
		return MostWait, false
	}
	return wait, true
}

// Buckets are token buckets of one rate, each under a key. It is safe for
// concurrent use.
type Buckets[K comparable] struct {
	rate Rate
	all  *lru.Cache[K, *Bucket]
}

// NewBuckets returns Buckets that remember at most so many keys, at least 1, of
// some 300 bytes each. One that is forgotten, as the least recently asked for,
// begins anew with a full burst.
func NewBuckets[K comparable](r Rate, most int) *Buckets[K] {
	all, err := lru.NewWithEvict(most, func(_ K, b *Bucket) { b.forgotten.Store(true) })
	if err != nil {
		panic(err) // most is a constant of the program
	}
	return &Buckets[K]{rate: r, all: all}
}

// Of returns the bucket of a key.
func (b *Buckets[K]) Of(key K) *Bucket {
	if one, ok := b.all.Get(key); ok {
		return one
	}
	fresh := NewBucket(b.rate)
	if one, ok, _ := b.all.PeekOrAdd(key, fresh); ok {
		return one
	}
	return fresh
}

// Held is a key's bucket in the hands of one connection, which saves looking it
// up for every message. It is not safe for concurrent use.
type Held[K comparable] struct {
	of     *Buckets[K]
	key    K
	bucket *Bucket
}

// Hold returns the bucket of a key for a connection. It is made only when
// something is taken.
func (b *Buckets[K]) Hold(key K) Held[K] { return Held[K]{of: b, key: key} }

// Take is Bucket.Take.
func (h *Held[K]) Take(now time.Time) (wait time.Duration, ok bool) {
	if h.bucket == nil || h.bucket.forgotten.Load() {
		h.bucket = h.of.Of(h.key)
	}
	return h.bucket.Take(now)
}
