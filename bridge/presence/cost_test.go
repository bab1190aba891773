package presence_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// mostOfOne is how many bytes a record may take.
const mostOfOne = 96

func TestARecordIsSmall(t *testing.T) {
	if presence.SizeOfRecord > mostOfOne {
		t.Errorf("a record takes %d bytes, more than %d", presence.SizeOfRecord, mostOfOne)
	}
}

func TestAnAcceptedReadingAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a := w.start()
	seq := uint64(0)
	a.hears("w-1", seq)
	if n := testing.AllocsPerRun(1000, func() {
		seq += 2
		a.hears("w-1", seq)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// fleet is so many devices that a replica knows.
func fleet(b *testing.B, n int) (*world, *replica, []string) {
	b.Helper()
	w := newWorld(b)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("w-%06d", i)
		w.devices[ids[i]] = &verify.Device{ID: ids[i], Patient: "p-1"}
	}
	return w, w.start(), ids
}

// BenchmarkLive is what an accepted reading costs: of one device, and of a
// hundred thousand whose records are in no cache.
func BenchmarkLive(b *testing.B) {
	for _, n := range []int{1, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, a, ids := fleet(b, n)
			rand.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			now, held := time.Now(), make([]presence.Held, n) // each connection's
			for i := range ids {
				a.Live(&held[i], ids[i], presence.Sighting{Received: now, Measured: now, HasSeq: true})
			}
			a.Turn()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				a.Live(&held[i%n], ids[i%n], presence.Sighting{Received: now, Measured: now, Seq: uint64(i / n), HasSeq: true})
			}
		})
	}
}

// BenchmarkFleet is what 100,000 devices cost that are all heard every minute:
// memory, and the time that their replica's work takes in each second.
func BenchmarkFleet(b *testing.B) {
	const n = 100_000
	w, a, _ := fleet(b, 0)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("w-%06d", i)
		w.devices[ids[i]] = &verify.Device{ID: ids[i], Patient: "p-1"}
	}
	before := heap()
	for _, id := range ids {
		a.Changed(id)
	}
	a.Turn()
	b.ReportMetric(float64(heap()-before)/n, "B/device")
	var worked time.Duration
	for i := range b.N {
		for _, id := range ids[i%60*n/60 : (i%60+1)*n/60] {
			a.hears(id, 1)
		}
		w.advance(time.Second)
		began := time.Now()
		a.Turn()
		worked += time.Since(began)
	}
	b.ReportMetric(float64(worked.Microseconds())/float64(b.N), "us/s")
	if a.Waiting() > 0 {
		b.Error("devices that are heard wait to be called silent")
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
