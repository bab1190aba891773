package siege

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

func TestMutationsAreReproducible(t *testing.T) {
	packets := stream(wire.MQTT5, registry.Credentials{Topic: "wearables/w-1/vitals"})
	before := bytes.Join(packets, nil)
	one, two := rand.New(rand.NewPCG(7, 0)), rand.New(rand.NewPCG(7, 0))
	different := 0
	for range 2000 {
		a, b := mutate(one, packets), mutate(two, packets)
		if !bytes.Equal(a, b) {
			t.Fatal("one seed, two streams")
		}
		if len(a) == 0 {
			t.Fatal("nothing is left")
		}
		if !bytes.Equal(a, before) {
			different++
		}
	}
	if different < 1800 {
		t.Errorf("only %d of 2000 are changed", different)
	}
	if !bytes.Equal(bytes.Join(packets, nil), before) {
		t.Error("what was to be mutated has been changed")
	}
}

func TestP99(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(200-i))
	}
	for _, c := range []struct {
		of   []time.Duration
		want time.Duration
	}{{nil, 0}, {all[:1], 200}, {all, 198}, {all[:100], 199}} {
		if got := p99(c.of); got != c.want {
			t.Errorf("of %d: %d, want %d", len(c.of), got, c.want)
		}
	}
}

// TestReportAddsRounds: a row that went otherwise, or was not tried, in any round is
// no success.
func TestReportAddsRounds(t *testing.T) {
	good, bad := Row{Attack: "a"}, Row{Attack: "a"}
	good.met()
	bad.otherwise("it burnt")
	for _, c := range []struct {
		rows []Row
		ok   bool
	}{
		{[]Row{good, good}, true}, {[]Row{good, bad, bad}, false}, {[]Row{good, {Attack: "b"}}, false},
		{[]Row{good, {Attack: "a", Untried: 1}}, false},
	} {
		var r Report
		for _, row := range c.rows {
			r.add(row)
		}
		if (r.Err() == nil) != c.ok {
			t.Errorf("%+v: %v", r.Rows, r.Err())
		}
	}
	var r Report
	r.add(good)
	r.add(bad)
	if row := r.Rows[0]; len(r.Rows) != 1 || row.Tried != 2 || row.AsExpected != 1 || row.Otherwise != 1 || len(row.Findings) != 1 {
		t.Errorf("%+v", r.Rows)
	}
}

// late is a context whose deadline is over, and that has not noticed.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

func TestTheEndOfAnAttackIsNoFinding(t *testing.T) {
	tried := &trial{siege: &siege{Options: Options{Broker: "127.0.0.1:1", Patience: time.Second}}}
	if _, ok := tried.dial(late{t.Context()}, wire.MQTT5); ok || tried.row.Otherwise != 0 {
		t.Errorf("%+v", tried.row)
	}
	if _, ok := tried.dial(t.Context(), wire.MQTT5); ok || tried.row.Otherwise != 1 {
		t.Errorf("nobody listens: %+v", tried.row)
	}
}
