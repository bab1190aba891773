package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// TestHistory changes patients and keys, and looks at what late readings are
// judged by; a replica that starts later must know the same.
func TestHistory(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	first, _ := r.Device("w-1")
	if first.Former != nil || !first.Since.IsZero() {
		t.Errorf("a device that has had one patient has the history %v since %v", first.Former, first.Since)
	}
	s.clock.advance(time.Hour)
	done(t)(r.Assign(within(t), "w-1", "p-8", "ann"))
	done(t)(r.Rotate(within(t), "w-1", 0, "ann"))
	s.clock.advance(time.Hour)
	done(t)(r.Assign(within(t), "w-1", "p-9", "ann"))

	hours := func(n time.Duration) time.Time { return added.Add(n * time.Hour) }
	for name, one := range map[string]interface {
		Device(string) (*verify.Device, bool)
	}{"the one that changed it": r, "a new one": s.replica(t)} {
		d, _ := one.Device("w-1")
		if d.Patient != "p-9" || !d.Since.Equal(hours(2)) || len(d.Former) != 2 {
			t.Fatalf("%s: %s since %v, before that %v", name, d.Patient, d.Since, d.Former)
		}
		if f := d.Former[0]; f.Patient != "p-8" || !f.From.Equal(hours(1)) || !f.Until.Equal(hours(2)) {
			t.Errorf("%s: the second patient is %+v", name, f)
		}
		if f := d.Former[1]; f.Patient != first.Patient || !f.From.IsZero() || !f.Until.Equal(hours(1)) {
			t.Errorf("%s: the first patient is %+v", name, f)
		}
		if len(d.Keys) != 2 || !d.Keys[1].Until.Equal(hours(1)) || string(d.Keys[1].Secret) != string(first.Keys[0].Secret) {
			t.Errorf("%s: the first key is not kept", name)
		}
	}
	// What ended longer ago than late readings come is forgotten.
	s.clock.advance(71*time.Hour + time.Minute)
	d, _ := s.replica(t).Device("w-1")
	if len(d.Former) != 1 || d.Former[0].Patient != "p-8" || !d.Former[0].From.IsZero() || len(d.Keys) != 1 {
		t.Errorf("73 hours later there are %v and %d keys", d.Former, len(d.Keys))
	}
}

// TestNoChangeWithAWrongClock refuses what would carry a wrong time.
func TestNoChangeWithAWrongClock(t *testing.T) {
	s := newSite(t)
	var doubt error
	r := s.replica(t, func(with *setup) { with.options.Doubt = func() error { return doubt } })
	enrol(t, r, device("w-1"))
	doubt = errors.New("the clock is an hour ahead")
	_, err := r.Assign(within(t), "w-1", "p-2", "ann")
	wantError(t, err, doubt)
	_, err = r.Add(within(t), device("w-2"))
	wantError(t, err, doubt)
	doubt = nil
	done(t)(r.Assign(within(t), "w-1", "p-2", "ann"))
}
