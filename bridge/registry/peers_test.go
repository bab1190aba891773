package registry_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// result is that of a change that runs beside the test.
type result struct {
	applied registry.Applied
	err     error
}

func revoke(ctx context.Context, r *registry.Registry, id string) <-chan result {
	results := make(chan result, 1)
	go func() {
		applied, err := r.Revoke(ctx, registry.KindDevice, id, "ann")
		results <- result{applied, err}
	}()
	return results
}

func came(t testing.TB, results <-chan result) registry.Applied {
	t.Helper()
	select {
	case got := <-results:
		must(t, got.err)
		return got.applied
	case <-time.After(20 * time.Second):
		t.Fatal("the change does not return")
		return registry.Applied{}
	}
}

// until polls for what nobody announces.
func until(t testing.TB, what string, reached func() bool) {
	t.Helper()
	ctx := within(t)
	for !reached() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never happens that %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestAChangeIsInForceEverywhere changes on each replica in turn and asks all
// others at the moment at which the change has returned.
func TestAChangeIsInForceEverywhere(t *testing.T) {
	s := newSite(t)
	replicas := []*registry.Registry{s.replica(t), s.replica(t), s.replica(t)}
	for n := range 60 {
		r := replicas[n%3]
		enrol(t, r, device("w-1"))
		for _, other := range replicas {
			if d, known := other.Device("w-1"); !known || d.Revoked {
				t.Fatalf("round %d: added but not served everywhere", n)
			}
		}
		done(t)(r.Revoke(within(t), registry.KindDevice, "w-1", "ann"))
		for _, other := range replicas {
			if d, _ := other.Device("w-1"); !d.Revoked {
				t.Fatalf("round %d: revoked but not everywhere", n)
			}
		}
		done(t)(r.Remove(within(t), registry.KindDevice, "w-1"))
		for _, other := range replicas {
			if _, known := other.Device("w-1"); known {
				t.Fatalf("round %d: removed but not everywhere", n)
			}
		}
	}
}

// TestAReplicaThatIsCutOff is waited for and named, until it can judge nothing
// any more.
func TestAReplicaThatIsCutOff(t *testing.T) {
	s := newSite(t)
	w := s.wire(t)
	// The two clocks are apart, so that only one can be moved.
	near := s.replica(t)
	own := &clock{now: added}
	far := s.replica(t, w.over, called("far away"), func(with *setup) { with.options.Now = own.Now })
	enrol(t, near, device("w-1"))
	enrol(t, near, device("w-2"))
	e, err := near.Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	e.State = registry.Revoked
	w.hold()
	revision, err := s.bucket.Put(within(t), "w-1", encoded(t, e))
	must(t, err)
	must(t, near.Await(within(t), revision))
	over, cancel := context.WithCancel(within(t))
	cancel()
	if got := near.Everywhere(over, revision); len(got) != 1 || !strings.HasPrefix(got[0], "far away (") {
		t.Errorf("behind are %q, want the one that is cut off", got)
	}
	changed := revoke(within(t), near, "w-2")
	until(t, "the change is stored", func() bool { d, _ := near.Device("w-2"); return d.Revoked })
	if d, _ := far.Device("w-1"); d.Revoked {
		t.Error("the wire lets something through, so this shows nothing")
	}
	select {
	case <-changed:
		t.Fatal("the change has returned although another replica does not know of it")
	default:
	}
	s.clock.advance(registry.PeerLimit + time.Nanosecond)
	if got := came(t, changed).Behind; len(got) != 0 {
		t.Errorf("behind are %q after the lease of the one that is cut off", got)
	}
	own.advance(registry.PeerLimit + time.Nanosecond)
	w.release()
	if !answered(t, confirm(far, added.Add(time.Hour))) {
		t.Fatal("not confirmed")
	}
	for _, id := range []string{"w-1", "w-2"} {
		if d, _ := far.Device(id); !d.Revoked {
			t.Errorf("%s is not revoked on the replica that is back", id)
		}
	}
	// It is waited for again as soon as it may judge again.
	done(t)(near.Restore(within(t), registry.KindDevice, "w-1", "ann"))
	if d, _ := far.Device("w-1"); d.Revoked {
		t.Error("the replica that is back is not waited for")
	}
}

func TestAReplicaThatLeavesIsNotWaitedFor(t *testing.T) {
	s := newSite(t)
	stays, leaves := s.replica(t), s.replica(t)
	enrol(t, stays, device("w-1"))
	if len(stays.Behind(1<<62)) != 1 {
		t.Fatal("the other replica is not known")
	}
	must(t, leaves.Close())
	until(t, "the one that left is forgotten", func() bool { return len(stays.Behind(1<<62)) == 0 })
	done(t)(stays.Revoke(within(t), registry.KindDevice, "w-1", "ann")) // its clock stands still
}

// TestANewReplicaWaitsForTheOthers makes a change before it can have heard them
// by their own doing.
func TestANewReplicaWaitsForTheOthers(t *testing.T) {
	s := newSite(t)
	w := s.wire(t)
	old := s.replica(t, w.over, called("old"))
	enrol(t, old, device("w-1"))
	w.hold()
	fresh := s.replica(t, called("fresh"))
	changed := revoke(within(t), fresh, "w-1")
	until(t, "the change is stored", func() bool { d, _ := fresh.Device("w-1"); return d.Revoked })
	w.release()
	if got := came(t, changed).Behind; len(got) != 0 {
		t.Errorf("behind are %q", got)
	}
	if d, _ := old.Device("w-1"); !d.Revoked {
		t.Error("the change returned before the older replica had applied it")
	}
}

// TestAReplicaIsHeardBeforeItMayJudge watches one begin: a change that is made
// after it has asked how far it has to be must find it among the others.
func TestAReplicaIsHeardBeforeItMayJudge(t *testing.T) {
	s := newSite(t)
	all, err := s.nc.SubscribeSync(">")
	must(t, err)
	must(t, s.nc.Flush())
	s.replica(t)
	var order []string
	for len(order) < 3 {
		m, err := all.NextMsg(10 * time.Second)
		must(t, err)
		switch {
		case strings.HasPrefix(m.Subject, "$JS.API.CONSUMER.CREATE."):
			order = []string{} // what was asked before is not the last question
		case m.Subject == "gate.replicas":
			order = append(order, "says it is there")
		case strings.HasPrefix(m.Subject, "$JS.API.STREAM.INFO."):
			order = append(order, "asks")
		}
	}
	if got := strings.Join(order, ", "); got != "says it is there, asks, says it is there" {
		t.Errorf("a new replica %s", got)
	}
}

func TestJunkAmongTheReports(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	for _, text := range []string{"", "{", "null", `{"instance":1}`, `{}`, `{"instance":"x","leaving":true}`} {
		must(t, s.nc.Publish("gate.replicas", []byte(text)))
	}
	must(t, s.nc.Flush())
	other := s.replica(t)
	enrol(t, other, device("w-1"))
	until(t, "the other is heard", func() bool { return len(r.Behind(1<<62)) > 0 })
	if _, known := r.Device("w-1"); !known {
		t.Error("a change does not arrive")
	}
}
