package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestAssignKeepsWhoHadTheDevice(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	s.clock.advance(time.Hour)
	e := done(t)(r.Assign(within(t), "w-1", "p-2", "ben"))
	moved := added.Add(time.Hour)
	want := []registry.Assignment{{PatientID: "p-2", From: moved}, {PatientID: "p-1", From: added, Until: moved}}
	if !reflect.DeepEqual(e.Assignments, want) || e.ChangedBy != "ben" || !e.Changed.Equal(moved) || !e.Added.Equal(added) {
		t.Errorf("the entry is %+v, want the assignments %+v", e, want)
	}
	if d, _ := r.Device("w-1"); d.Patient != "p-2" {
		t.Errorf("the patient is %s", d.Patient)
	}
	before := r.Revision()
	again, err := r.Assign(within(t), "w-1", "p-2", "carl")
	if err != nil || !again.Unchanged || r.Revision() != before || again.Entry.ChangedBy != "ben" {
		t.Errorf("assigning again changes something: %+v (%v)", again, err)
	}
	_, err = r.Assign(within(t), "w-9", "p-2", "ben")
	wantError(t, err, registry.ErrUnknown)
}

func TestHistoryIsForgottenInTime(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	done(t)(r.Assign(within(t), "w-1", "p-2", "ann"))
	done(t)(r.Rotate(within(t), "w-1", time.Hour, "ann"))
	for _, step := range []struct {
		after                   time.Duration
		patient                 string
		assignments, keysBefore int
	}{
		{history, "p-3", 3, 2}, // the very instant still counts
		{time.Nanosecond, "p-4", 3, 2},
		{time.Hour, "p-5", 4, 1},
		{history + time.Hour, "p-6", 2, 1},
	} {
		s.clock.advance(step.after)
		e := done(t)(r.Assign(within(t), "w-1", step.patient, "ann"))
		if len(e.Assignments) != step.assignments || len(e.Keys) != step.keysBefore || e.Patient() != step.patient || e.Generation() != 2 {
			t.Errorf("after %v: %d assignments and %d keys, want %d and %d", step.after, len(e.Assignments), len(e.Keys), step.assignments, step.keysBefore)
		}
	}
}

func TestRevokeAndRestore(t *testing.T) {
	r := newSite(t).replica(t)
	c := enrol(t, r, device("w-1"))
	before, _ := r.Device("w-1")
	done(t)(r.Revoke(within(t), registry.KindDevice, "w-1", "ben"))
	if d, _ := r.Device("w-1"); !d.Revoked {
		t.Error("the device is not revoked")
	}
	if again, err := r.Revoke(within(t), registry.KindDevice, "w-1", "ben"); err != nil || !again.Unchanged {
		t.Errorf("revoking again: %+v (%v)", again, err)
	}
	if e, err := r.Show(within(t), registry.KindDevice, "w-1"); err != nil || e.State != registry.Revoked {
		t.Errorf("shown as %+v (%v)", e, err)
	}
	done(t)(r.Restore(within(t), registry.KindDevice, "w-1", "ben"))
	after, _ := r.Device("w-1")
	if after.Revoked || !reflect.DeepEqual(after, before) {
		t.Errorf("restored as %+v, it was %+v", after, before)
	}
	if again, err := r.Restore(within(t), registry.KindDevice, "w-1", "ben"); err != nil || !again.Unchanged {
		t.Errorf("restoring again: %+v (%v)", again, err)
	}
	if got, err := r.Credentials("w-1"); err != nil || got != c {
		t.Errorf("restored with other credentials (%v)", err)
	}
}

func TestRotateWithOverlap(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	old := enrol(t, r, device("w-1"))
	first, _ := r.Device("w-1")
	for _, step := range []struct {
		after, overlap time.Duration
		want           string
	}{
		{0, 2 * time.Hour, "2, 1 until 2h0m0s"},
		{time.Hour, 3 * time.Hour, "3, 2 until 4h0m0s, 1 until 2h0m0s"},
		{0, 30 * time.Minute, "4, 3 until 1h30m0s, 2 until 1h30m0s, 1 until 1h30m0s"},
		{time.Minute, 0, "5, 4 until 1h1m0s, 3 until 1h1m0s, 2 until 1h1m0s, 1 until 1h1m0s"},
	} {
		s.clock.advance(step.after)
		e := done(t)(r.Rotate(within(t), "w-1", step.overlap, "ann"))
		if got := generations(t, r, "w-1"); got != step.want {
			t.Errorf("overlap %v: the keys are %q, want %q", step.overlap, got, step.want)
		}
		if step.overlap > 0 && !e.Pending(s.clock.Now()) {
			t.Error("the rotation is not pending")
		}
	}
	d, _ := r.Device("w-1")
	if string(d.Keys[4].Secret) != string(first.Keys[0].Secret) || string(d.Keys[0].Secret) == string(first.Keys[0].Secret) {
		t.Error("the first key has changed, or the newest is the same")
	}
	fresh, err := r.Credentials("w-1")
	if err != nil || fresh.Key == old.Key || fresh.Password != old.Password {
		t.Errorf("the key is the same, or the password is not (%v)", err)
	}
	_, err = r.Rotate(within(t), "w-1", -1, "ann")
	wantError(t, err, registry.ErrInvalid)
}

func TestAnImportedKeySurvivesRotation(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	n := device("w-1")
	n.Key = []byte("a key of a factory")
	enrol(t, r, n)
	done(t)(r.Assign(within(t), "w-1", "p-2", "ann"))
	done(t)(r.Rotate(within(t), "w-1", time.Hour, "ann"))
	d, _ := r.Device("w-1")
	if len(d.Keys) != 2 || string(d.Keys[1].Secret) != string(n.Key) || len(d.Keys[0].Secret) != 32 {
		t.Errorf("%d keys, the imported one among them is gone", len(d.Keys))
	}
	stored, err := s.bucket.Get(within(t), "w-1")
	must(t, err)
	if text := string(stored.Value()); len(text) == 0 || contains(text, n.Key) {
		t.Error("the bucket holds the key in the clear")
	}
}

// TestMasterRotation brings a second master: who is enrolled keeps the first
// until rotated, and its password for as long as the old key.
func TestMasterRotation(t *testing.T) {
	s := newSite(t)
	before := s.replica(t)
	old := enrol(t, before, device("w-1"))
	imported := device("w-2")
	imported.Key = []byte("a key of a factory")
	enrol(t, before, imported)
	must(t, before.Close())

	r := s.replica(t, withMasters(twoMasters))
	if c, err := r.Credentials("w-1"); err != nil || c != old {
		t.Errorf("a new master has changed a device's secrets (%v)", err)
	}
	done(t)(r.Assign(within(t), "w-1", "p-2", "ann"))
	for id, want := range map[string]string{"w-1": "1", "w-2": "1"} {
		if e, err := r.Show(within(t), registry.KindDevice, id); err != nil || e.Master != want || e.Keys[0].Master != want {
			t.Errorf("%s is under the master %s and %s (%v), want %s", id, e.Master, e.Keys[0].Master, err, want)
		}
	}
	enrol(t, r, device("w-3"))
	e := done(t)(r.Rotate(within(t), "w-1", time.Hour, "ann"))
	if e.Master != "next" || e.Keys[0].Master != "next" || e.Keys[1].Master != "1" {
		t.Errorf("rotated it is under %s, its keys under %s and %s", e.Master, e.Keys[0].Master, e.Keys[1].Master)
	}
	done(t)(r.Rotate(within(t), "w-2", time.Hour, "ann"))
	if d, _ := r.Device("w-2"); len(d.Keys) != 2 || string(d.Keys[1].Secret) != string(imported.Key) {
		t.Error("the imported key cannot be opened after a rotation to another master")
	}
	fresh, err := r.Credentials("w-1")
	must(t, err)
	letsIn := func(password string) bool { _, ok := r.Authenticate("w-1", password); return ok }
	if fresh.Password == old.Password || !letsIn(old.Password) || !letsIn(fresh.Password) {
		t.Error("during the overlap both passwords should be good, and differ")
	}
	s.clock.advance(time.Hour)
	if letsIn(old.Password) || !letsIn(fresh.Password) {
		t.Error("after the overlap only the new password should be good")
	}
	alone := s.replica(t, withMasters(twoMasters[len(oneMaster):]))
	for id, want := range map[string]bool{"w-1": true, "w-2": true, "w-3": true} {
		if _, known := alone.Device(id); known != want {
			t.Errorf("without the old master %s is served: %v, want %v", id, known, want)
		}
	}
}

func TestCarryIsIdempotent(t *testing.T) {
	r := newSite(t).replica(t)
	enrol(t, r, gateway("g-1", []string{"w-1", "w-2"}, nil))
	again, err := r.Carry(within(t), "g-1", []string{"w-1", "w-2"}, nil, "ben")
	if err != nil || !again.Unchanged {
		t.Errorf("carrying the same again: %+v (%v)", again, err)
	}
	// The same words in the other list are no repetition.
	done(t)(r.Carry(within(t), "g-1", nil, []string{"w-1", "w-2"}, "ben"))
	_, err = r.Carry(within(t), "g-1", []string{"a,b"}, nil, "ben")
	wantError(t, err, registry.ErrBadID)
	if e, err := r.Show(within(t), registry.KindGateway, "g-1"); err != nil || len(e.Carries) != 0 || len(e.Prefixes) != 2 || e.ChangedBy != "ben" {
		t.Errorf("the gateway is %+v (%v)", e, err)
	}
	enrol(t, r, device("w-1"))
	_, err = r.Carry(within(t), "w-1", nil, nil, "ben")
	wantError(t, err, registry.ErrUnknown)
}

// TestConcurrentChangesNeverOverwrite lets replicas assign at once, until two
// were in each other's way: the history of the entry has every assignment that
// succeeded, and no other.
func TestConcurrentChangesNeverOverwrite(t *testing.T) {
	s := newSite(t)
	replicas := []*registry.Registry{s.replica(t), s.replica(t), s.replica(t)}
	enrol(t, replicas[0], device("w-1"))
	won := map[string]bool{"p-1": true}
	const rounds, most = 20, 500
	for round, conflicts := 0, 0; round < rounds || conflicts == 0; round++ {
		if round == most {
			t.Fatalf("there was no conflict in %d rounds, so this shows nothing", most)
		}
		conflicts += assignAtOnce(t, replicas, round, won)
	}
	e, err := replicas[0].Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	if len(e.Assignments) != len(won) {
		t.Errorf("%d assignments are kept of the %d that succeeded", len(e.Assignments), len(won))
	}
	for _, a := range e.Assignments {
		if !won[a.PatientID] {
			t.Errorf("%s was assigned although that was refused", a.PatientID)
		}
	}
	if strings.Contains(s.log.String(), "replaced") {
		t.Error("a change that came while a round asked was taken for another bucket")
	}
}

// assignAtOnce lets every replica assign another patient at the same moment. It
// notes in won who succeeded and returns how many met a conflict.
func assignAtOnce(t *testing.T, replicas []*registry.Registry, round int, won map[string]bool) (conflicts int) {
	t.Helper()
	start := make(chan struct{})
	errs := make([]error, len(replicas))
	var changes sync.WaitGroup
	name := func(i int) string { return fmt.Sprintf("p-%d-%d", i, round) }
	for i, r := range replicas {
		changes.Go(func() {
			<-start
			applied, err := r.Assign(context.Background(), "w-1", name(i), "ann")
			if err == nil && len(applied.Behind) > 0 {
				err = fmt.Errorf("behind: %v", applied.Behind)
			}
			errs[i] = err
		})
	}
	close(start)
	changes.Wait()
	for i, err := range errs {
		switch {
		case errors.Is(err, registry.ErrConflict):
			conflicts++
		case err != nil:
			t.Error(err)
		default:
			won[name(i)] = true
		}
	}
	return conflicts
}

// TestOfTwoChangesToOneVersionOneWins makes both read the same version.
func TestOfTwoChangesToOneVersionOneWins(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	for _, c := range []struct {
		name     string
		between  func(e *registry.Entry)
		conflict bool
	}{
		{"somebody revokes", func(e *registry.Entry) { e.State = registry.Revoked }, true},
		{"a use is noted", func(e *registry.Entry) { e.Keys[0].Used = added }, false},
	} {
		var once sync.Once
		interfere := func() {
			once.Do(func() {
				e, err := r.Show(within(t), registry.KindDevice, "w-1")
				must(t, err)
				c.between(&e)
				value, err := json.Marshal(e)
				must(t, err)
				_, err = s.bucket.Put(within(t), "w-1", value)
				must(t, err)
			})
		}
		_, err := registry.ChangeWith(r, within(t), "w-1", interfere)
		if c.conflict != errors.Is(err, registry.ErrConflict) || !c.conflict && err != nil {
			t.Errorf("%s between: %v, want a conflict: %v", c.name, err, c.conflict)
		}
		e, err := r.Show(within(t), registry.KindDevice, "w-1")
		must(t, err)
		if c.conflict && (e.State != registry.Revoked || e.Ward != "") || !c.conflict && (e.Keys[0].Used.IsZero() || e.Ward != "changed") {
			t.Errorf("%s between: the entry is %+v", c.name, e)
		}
	}
}

func contains(text string, secret []byte) bool {
	return len(secret) > 0 && (strings.Contains(text, string(secret)) || strings.Contains(text, fmt.Sprintf("%x", secret)))
}
