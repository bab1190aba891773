package limits_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/limits"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func after(d time.Duration) time.Time { return begin.Add(d) }

func TestBucketSlowsBeforeItRefuses(t *testing.T) {
	b := limits.NewBuckets[string](limits.Rate{PerSecond: 10, Burst: 5}, 10).Of("w-1")
	for i := range 5 {
		if wait, ok := b.Take(begin); wait != 0 || !ok {
			t.Fatalf("token %d of the burst: wait %v, %v", i, wait, ok)
		}
	}
	for i := 1; i <= 20; i++ {
		want := time.Duration(i) * 100 * time.Millisecond
		if wait, ok := b.Take(begin); wait.Round(time.Microsecond) != want || !ok {
			t.Fatalf("%d over the burst: wait %v, %v, want %v", i, wait, ok, want)
		}
	}
	for range 3 {
		if wait, ok := b.Take(begin); wait != limits.MostWait || ok {
			t.Fatalf("over the longest wait: %v, %v", wait, ok)
		}
	}
	// What was refused has cost nothing.
	if wait, ok := b.Take(after(2 * time.Second)); wait.Round(time.Microsecond) != 100*time.Millisecond || !ok {
		t.Errorf("two seconds later: wait %v, %v", wait, ok)
	}
}

func TestDefaultsAdmitBurstAndRate(t *testing.T) {
	b := limits.NewBuckets[string](limits.Rate{PerSecond: 50, Burst: 4000}, 10).Of("w-1")
	for range 4000 {
		if wait, ok := b.Take(begin); wait != 0 || !ok {
			t.Fatal("the burst is not admitted")
		}
	}
	// A millisecond of tolerance, since 20 ms is no sum of powers of two.
	for i := range 500 {
		if wait, ok := b.Take(after(time.Duration(i+1) * 20 * time.Millisecond)); wait > time.Millisecond || !ok {
			t.Fatalf("reading %d at 50 a second waits %v, %v", i, wait, ok)
		}
	}
}

func TestBucketsAreApartAndBounded(t *testing.T) {
	all := limits.NewBuckets[int](limits.Rate{PerSecond: 1, Burst: 1}, 2)
	held := all.Hold(1)
	if wait, _ := held.Take(begin); wait != 0 {
		t.Fatal("the first token is not free")
	}
	if wait, _ := all.Of(2).Take(begin); wait != 0 {
		t.Error("another key's token is gone")
	}
	if wait, _ := all.Of(1).Take(begin); wait == 0 {
		t.Error("the same key has two buckets")
	}
	all.Of(3)
	all.Of(4) // 1 and 2 are forgotten
	if wait, _ := held.Take(begin); wait != 0 {
		t.Error("who holds a bucket that was forgotten keeps it, beside a new one")
	}
	if wait, _ := all.Of(1).Take(begin); wait == 0 {
		t.Error("who holds a bucket that was forgotten does not share the new one")
	}
}

func TestAddressOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:51234": "192.0.2.7", "192.0.2.7": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
		"": "", "pipe": "", "host:1": "",
	} {
		if got := limits.AddressOf(remote).String(); got != want {
			t.Errorf("%q is %q, want %q", remote, got, want)
		}
	}
	if limits.AddressOf("[2001:db8::1]:1") != limits.AddressOf("[2001:db8::2]:2") || limits.AddressOf("192.0.2.7:1") == limits.AddressOf("192.0.2.8:1") {
		t.Error("addresses compare wrongly")
	}
}

func pair(name string) limits.Pair {
	return limits.Pair{Address: limits.AddressOf("192.0.2.7:1"), Name: name}
}

func TestLockoutLocksThePairAlone(t *testing.T) {
	l := limits.NewLockouts(3, time.Minute, 10)
	for i, want := range []limits.Lock{limits.Open, limits.Open, limits.Shut, limits.Locked} {
		if got := l.Failed(pair("w-1"), begin); got != want {
			t.Errorf("failure %d: %v, want %v", i+1, got, want)
		}
	}
	elsewhere := limits.Pair{Address: limits.AddressOf("192.0.2.8:1"), Name: "w-1"}
	for name, p := range map[string]limits.Pair{"another name": pair("w-2"), "another address": elsewhere} {
		for range 9 {
			if wait, ok := l.Turn(p, begin); wait != 0 || !ok {
				t.Errorf("%s: waits %v, %v", name, wait, ok)
			}
		}
	}
	for i := range 6 {
		if wait, ok := l.Turn(pair("w-1"), begin); wait != time.Duration(i)*time.Second || !ok {
			t.Errorf("attempt %d waits %v, %v", i, wait, ok)
		}
	}
	if _, ok := l.Turn(pair("w-1"), begin); ok {
		t.Error("there is no end of those who wait")
	}
	if wait, ok := l.Turn(pair("w-1"), after(time.Minute)); wait != 0 || !ok {
		t.Errorf("after the lockout: waits %v, %v", wait, ok)
	}
	// All has been forgiven but the failure while it was locked.
	for i, want := range []limits.Lock{limits.Open, limits.Open, limits.Shut} {
		if got := l.Failed(pair("w-1"), after(2*time.Minute)); got != want {
			t.Errorf("failure %d after the lockout: %v, want %v", i+1, got, want)
		}
	}
}

func TestLockoutForgivesWhatIsRare(t *testing.T) {
	l := limits.NewLockouts(20, time.Minute, 10)
	for i := range 200 {
		if lock := l.Failed(pair("w-1"), after(time.Duration(i)*3*time.Second)); lock != limits.Open {
			t.Fatalf("failure %d, three seconds after the one before: %v", i, lock)
		}
	}
	one := limits.NewLockouts(1, time.Minute, 10)
	if lock := one.Failed(pair("w-1"), begin); lock != limits.Shut {
		t.Errorf("the first of one failure: %v", lock)
	}
}

func sampler(each, all, keys int) *limits.Sampler[string] {
	return limits.NewSampler(limits.Sampling[string]{
		Each: limits.Rate{PerSecond: each, Burst: each}, All: limits.Rate{PerSecond: all, Burst: all},
		Keys: keys, Rest: func(string) string { return "rest" },
	})
}

// told is what a report says, by key.
func told(s *limits.Sampler[string], take bool) map[string]limits.LeftOut {
	all := make(map[string]limits.LeftOut)
	s.Report(func(key string, l limits.LeftOut) bool {
		all[key] = l
		return take
	})
	return all
}

func TestSamplerCountsExactly(t *testing.T) {
	s := sampler(5, 1000, 3)
	kept := make(map[string]int)
	for i := range 1000 {
		for k := range 10 {
			key := fmt.Sprint(k)
			if s.Keep(key, after(time.Duration(i)*time.Millisecond)) {
				kept[key]++
			}
		}
	}
	s.Drop("0", after(2*time.Second))
	first, again := told(s, false), told(s, true)
	if len(first) != 4 || len(again) != 4 {
		t.Fatalf("%d keys, then %d; want 3 and the rest", len(first), len(again))
	}
	sum := 0
	for key, l := range again {
		if l != first[key] {
			t.Errorf("%s: what was not taken has changed: %+v, %+v", key, first[key], l)
		}
		sum += int(l.Count)
	}
	for key, n := range kept {
		if n > 10 && key < "3" {
			t.Errorf("%d of %s were kept in a second", n, key)
		}
		sum += n
	}
	if sum != 10_001 {
		t.Errorf("%d events in all, want 10001", sum)
	}
	if l := again["0"]; !l.Until.Equal(after(2*time.Second)) || !l.From.After(begin) || l.From.After(after(time.Second)) {
		t.Errorf("from %v until %v", l.From, l.Until)
	}
	if left := told(s, true); len(left) != 0 {
		t.Errorf("told again: %v", left)
	}
}

func TestSamplerBoundsAllKeysTogether(t *testing.T) {
	s := sampler(5, 20, 100)
	kept := 0
	for i := range 1000 {
		if s.Keep(fmt.Sprint(i%50), begin) {
			kept++
		}
	}
	left := 0
	for _, l := range told(s, true) {
		left += int(l.Count)
	}
	if kept != 20 || left != 980 {
		t.Errorf("%d kept, %d counted", kept, left)
	}
}

func TestSamplerForgetsKeys(t *testing.T) {
	s := sampler(1, 1000, 1)
	s.Keep("a", begin)
	told(s, true)
	told(s, true) // nothing in between
	s.Keep("b", begin)
	s.Keep("b", begin)
	if left := told(s, true); left["b"].Count != 1 {
		t.Errorf("an idle key takes another's place: %v", left)
	}
}

func TestSamplerIsExactUnderRace(t *testing.T) {
	s := sampler(5, 50, 8)
	var mu sync.Mutex
	sum := 0
	count := func(n int) { mu.Lock(); sum += n; mu.Unlock() }
	tell := func(_ string, l limits.LeftOut) bool {
		if l.Count%2 == 0 {
			return false
		}
		count(int(l.Count))
		return true
	}
	var running sync.WaitGroup
	for w := range 4 {
		running.Go(func() {
			for i := range 5000 {
				if s.Keep(fmt.Sprint((w+i)%20), begin) {
					count(1)
				}
				if i%100 == 0 {
					s.Report(tell)
				}
			}
		})
	}
	running.Wait()
	s.Report(func(_ string, l limits.LeftOut) bool { count(int(l.Count)); return true })
	if sum != 20_000 {
		t.Errorf("%d of 20000 events", sum)
	}
}

// BenchmarkAccepted is what limits cost an accepted reading of a device with a
// connection of its own, the time that it needs included.
func BenchmarkAccepted(b *testing.B) {
	r := limits.Rate{PerSecond: 1_000_000_000, Burst: 1_000_000_000}
	device := limits.NewBuckets[string](r, 1000).Hold("w-1")
	address := limits.NewBuckets[limits.Address](r, 1000).Hold(limits.AddressOf("192.0.2.7:1"))
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		if _, ok := address.Take(now); !ok {
			b.Fatal("refused")
		}
		if _, ok := device.Take(now); !ok {
			b.Fatal("refused")
		}
	}
}

// BenchmarkCarried is the same by way of a gateway.
func BenchmarkCarried(b *testing.B) {
	type carried struct{ by, device string }
	r := limits.Rate{PerSecond: 1_000_000_000, Burst: 1_000_000_000}
	devices := limits.NewBuckets[carried](r, 1000)
	address := limits.NewBuckets[limits.Address](r, 1000).Hold(limits.AddressOf("192.0.2.7:1"))
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		if _, ok := address.Take(now); !ok {
			b.Fatal("refused")
		}
		if _, ok := devices.Of(carried{"g-1", "w-1"}).Take(now); !ok {
			b.Fatal("refused")
		}
	}
}
