package registry_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// TestTheFirstUseOfANewKeyIsNotedOnce signs on two replicas.
func TestTheFirstUseOfANewKeyIsNotedOnce(t *testing.T) {
	s := newSite(t)
	changes := make(heard, 1000)
	r, other := s.replica(t, changes.by), s.replica(t)
	show := func() *registry.Entry {
		t.Helper()
		e, err := r.Show(within(t), registry.KindDevice, "w-1")
		must(t, err)
		return &e
	}
	enrol(t, r, device("w-1"))
	settled := r.Revision()
	for range 100 {
		r.Signed("w-1", 1)
		r.Signed("w-1", 2)
		r.Signed("w-9", 1)
	}
	done(t)(r.Rotate(within(t), "w-1", time.Hour, "ann"))
	if r.Revision() != settled+1 {
		t.Errorf("%d changes, want the rotation alone", r.Revision()-settled)
	}
	for range 100 {
		r.Signed("w-1", 1) // with the old key still
	}
	if !answered(t, confirm(r, added.Add(time.Hour))) || !show().Pending(s.clock.Now()) {
		t.Error("the old key's use ends the rotation")
	}
	s.clock.advance(time.Minute)
	for len(changes) > 0 {
		<-changes
	}
	for range 100 {
		r.Signed("w-1", 2)
	}
	changes.await(t, "w-1")
	e := show()
	if e.Pending(s.clock.Now()) || !e.Keys[0].Used.Equal(added.Add(time.Minute)) || !e.Keys[1].Used.IsZero() || !e.Changed.Equal(added) {
		t.Errorf("after the first use the entry is %+v", e)
	}
	must(t, other.Await(within(t), r.Revision()))
	settled = r.Revision()
	for range 100 {
		r.Signed("w-1", 2)
		other.Signed("w-1", 2)
	}
	must(t, r.Used(within(t), "w-1", 2))
	must(t, r.Used(within(t), "w-1", 1))
	enrol(t, r, device("w-2"))
	if r.Revision() != settled+1 {
		t.Errorf("%d changes after it was noted, want that of w-2 alone", r.Revision()-settled)
	}
	done(t)(r.Rotate(within(t), "w-1", time.Hour, "ann"))
	if !show().Pending(s.clock.Now()) {
		t.Error("the next rotation is not pending")
	}
}

// TestNotingAUseIsNoConflict changes entries while their first use is noted.
func TestNotingAUseIsNoConflict(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	for range 30 {
		enrol(t, r, device("w-1"))
		done(t)(r.Rotate(within(t), "w-1", time.Hour, "ann"))
		r.Signed("w-1", 2)
		done(t)(r.Assign(within(t), "w-1", "p-2", "ann"))
		done(t)(r.Remove(within(t), registry.KindDevice, "w-1"))
	}
}
