package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// payload220 is a reading of the size that wearables usually send.
func payload220(t testing.TB, key []byte) []byte {
	t.Helper()
	const text = `{"device_id":"w-1","patient_id":"p-1","timestamp":1763766000.123,"seq":42,"spo2":97,"heart_rate":72,"note":"%s"}`
	bare, err := reading.Sign(key, fmt.Appendf(nil, text, ""))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := reading.Sign(key, fmt.Appendf(nil, text, strings.Repeat("x", 220-len(bare))))
	if err != nil || len(payload) != 220 {
		t.Fatalf("%d bytes (%v), want 220", len(payload), err)
	}
	return payload
}

// ways are what a message costs, by what becomes of it.
func ways(t testing.TB) map[string]struct {
	topic   string
	payload []byte
	want    verify.Outcome
	allocs  float64
} {
	type way = struct {
		topic   string
		payload []byte
		want    verify.Outcome
		allocs  float64
	}
	return map[string]way{
		"accept":         {"wearables/w-1/vitals", payload220(t, trueKey), verify.Accepted, 3},
		"bad_signature":  {"wearables/w-1/vitals", payload220(t, otherKey), verify.BadSignature, 0},
		"unknown_device": {"wearables/w-9/vitals", payload220(t, otherKey), verify.UnknownDevice, 0},
	}
}

func TestAllocations(t *testing.T) {
	for name, w := range ways(t) {
		s := verifierAt(t, judgedAt, sound().directory()).Session("w-1")
		got := testing.AllocsPerRun(200, func() {
			if v := s.Check(w.topic, w.payload); v.Outcome != w.want {
				t.Fatalf("%s: %v (%s)", name, v.Outcome, v.Reason)
			}
		})
		if got > w.allocs {
			t.Errorf("%s: %v allocations, at most %v are allowed", name, got, w.allocs)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, w := range ways(b) {
		b.Run(name, func(b *testing.B) {
			s := verifierAt(b, judgedAt, sound().directory()).Session("w-1")
			b.ReportAllocs()
			b.SetBytes(int64(len(w.payload)))
			for b.Loop() {
				if v := s.Check(w.topic, w.payload); v.Outcome != w.want {
					b.Fatalf("%v (%s)", v.Outcome, v.Reason)
				}
			}
		})
	}
}

// BenchmarkMemory claims and keeps readings, as fast as 100,000 a second of
// their time.
func BenchmarkMemory(b *testing.B) {
	m := verify.NewMemory(1 << 24)
	now := judgedAt
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%100_000 == 0 {
			now = now.Add(1e9)
		}
		expiry := now.Add(2e9)
		if m.Reserve(identity(n), now, expiry, nil) != verify.First || !m.Keep(identity(n), expiry) {
			b.Fatal("not kept")
		}
	}
}
