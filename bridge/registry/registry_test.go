package registry_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestAddedDeviceIsServedAtOnce(t *testing.T) {
	r := newSite(t).replica(t)
	if _, known := r.Device("w-1"); known || r.Authenticate("w-1", "") {
		t.Error("a device is known that nobody added")
	}
	c, err := r.Add(within(t), "w-1", "p-1")
	must(t, err)
	d, known := r.Device("w-1")
	if !known || d.ID != "w-1" || d.Patient != "p-1" || d.Revoked || len(d.Keys) != 1 || d.Keys[0].Generation != 1 {
		t.Fatalf("device %+v, want w-1 of p-1 with one key of generation 1", d)
	}
	want := registry.Credentials{
		DeviceID: "w-1", PatientID: "p-1", Topic: "wearables/w-1/vitals", Username: "w-1",
		Password: c.Password, Key: hex.EncodeToString(d.Keys[0].Secret),
	}
	if c != want || len(c.Password) != 64 || c.Password == c.Key {
		t.Errorf("credentials %+v, want %+v", c, want)
	}
	if again, err := r.Credentials("w-1"); err != nil || again != c {
		t.Errorf("asked again the credentials are %+v (%v)", again, err)
	}
	if again, _ := r.Device("w-1"); again != d {
		t.Error("the device is another object each time, so that no session can keep its keys")
	}
}

func TestAuthenticate(t *testing.T) {
	r := newSite(t).replica(t)
	one, err := r.Add(within(t), "w-1", "p-1")
	must(t, err)
	two, err := r.Add(within(t), "w-2", "p-1")
	must(t, err)
	for _, c := range []struct {
		id, password string
		right        bool
	}{
		{"w-1", one.Password, true},
		{"w-2", two.Password, true},
		{"w-1", two.Password, false},
		{"w-1", one.Password[:63], false},
		{"w-1", one.Password + "0", false},
		{"w-1", "", false},
		{"w-1", one.Key, false},
		{"w-3", one.Password, false},
		{"", "", false},
	} {
		if got := r.Authenticate(c.id, c.password); got != c.right {
			t.Errorf("%q is let in: %v, want %v", c.id, got, c.right)
		}
	}
}

func TestAddAgainAfterRemoveMakesNewSecrets(t *testing.T) {
	r := newSite(t).replica(t)
	old, err := r.Add(within(t), "w-1", "p-1")
	must(t, err)
	must(t, r.Remove(within(t), "w-1"))
	if _, known := r.Device("w-1"); known || r.Authenticate("w-1", old.Password) {
		t.Error("the removed device is still served")
	}
	wantError(t, r.Remove(within(t), "w-1"), registry.ErrUnknown)
	fresh, err := r.Add(within(t), "w-1", "p-1")
	must(t, err)
	if fresh.Key == old.Key || fresh.Password == old.Password {
		t.Error("adding the id again has revived a secret")
	}
	if r.Authenticate("w-1", old.Password) || !r.Authenticate("w-1", fresh.Password) {
		t.Error("the old password is good, or the new one is not")
	}
}

func TestAddRefuses(t *testing.T) {
	r := newSite(t).replica(t)
	_, err := r.Add(within(t), "w-1", "p-1")
	must(t, err)
	_, err = r.Add(within(t), "w-1", "p-2")
	wantError(t, err, registry.ErrExists)
	if d, _ := r.Device("w-1"); d.Patient != "p-1" {
		t.Errorf("the patient is %s now", d.Patient)
	}
	for _, id := range []string{"", "_", "a b", "a.b", "a/b", "*", ">", "ä", strings.Repeat("a", 65)} {
		_, err := r.Add(within(t), id, "p-1")
		wantError(t, err, registry.ErrBadID)
		_, err = r.Add(within(t), "w-2", id)
		wantError(t, err, registry.ErrBadID)
		wantError(t, r.Remove(within(t), id), registry.ErrBadID)
	}
	if n, _ := r.Size(); n != 1 {
		t.Errorf("%d devices, want 1", n)
	}
}

func TestOneOfManyAddsWins(t *testing.T) {
	s := newSite(t)
	replicas := []*registry.Registry{s.replica(t), s.replica(t)}
	var won, refused atomic.Int32
	var adds sync.WaitGroup
	for i := range 10 {
		adds.Go(func() {
			_, err := replicas[i%2].Add(within(t), "w-1", fmt.Sprintf("p-%d", i))
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, registry.ErrExists):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	adds.Wait()
	if won.Load() != 1 || refused.Load() != 9 {
		t.Errorf("%d adds won and %d were refused, want 1 and 9", won.Load(), refused.Load())
	}
}

// TestReplicasFollowEachOther changes on one replica and asks the other.
func TestReplicasFollowEachOther(t *testing.T) {
	s := newSite(t)
	one, other := s.replica(t), s.replica(t)
	c, err := one.Add(within(t), "w-1", "p-1")
	must(t, err)
	_, revision := one.Size()
	must(t, other.Await(within(t), revision))
	if got, err := other.Credentials("w-1"); err != nil || got != c {
		t.Errorf("the other replica's credentials differ (%v)", err)
	}
	must(t, other.Remove(within(t), "w-1"))
	_, revision = other.Size()
	must(t, one.Await(within(t), revision))
	if _, known := one.Device("w-1"); known {
		t.Error("removed on one replica, served on the other")
	}
	must(t, one.Close())
	late := s.replica(t)
	if _, known := late.Device("w-1"); known {
		t.Error("a replica that starts later serves what was removed")
	}
}

// TestRemoveKnowsWhatThisReplicaHasNotSeen removes at the very moment at which
// another replica has added.
func TestRemoveKnowsWhatThisReplicaHasNotSeen(t *testing.T) {
	s := newSite(t)
	one, other := s.replica(t), s.replica(t)
	for i := range 50 {
		id := fmt.Sprintf("w-%d", i)
		_, err := one.Add(within(t), id, "p-1")
		must(t, err)
		must(t, other.Remove(within(t), id))
		if _, known := other.Device(id); known {
			t.Fatalf("%s is served after its removal", id)
		}
	}
}

func TestReopenServesWhatWasThere(t *testing.T) {
	s := newSite(t)
	first := s.replica(t)
	var all []registry.Credentials
	for i := range 20 {
		c, err := first.Add(within(t), fmt.Sprintf("w-%d", i), "p-1")
		must(t, err)
		all = append(all, c)
	}
	must(t, first.Close())
	again := s.replica(t)
	for _, want := range all {
		if got, err := again.Credentials(want.DeviceID); err != nil || got != want {
			t.Errorf("%s has other credentials after opening again (%v)", want.DeviceID, err)
		}
	}
}

// TestACorruptEntryDisablesOneDevice writes entries that cannot be used beside a
// good one.
func TestACorruptEntryDisablesOneDevice(t *testing.T) {
	const secret = "spilled-content"
	good := registry.Entry{DeviceID: "w-bad", PatientID: "p-1", Enrolment: strings.Repeat("ab", 16), Generation: 1, Added: added}
	changed := func(change func(*registry.Entry)) string {
		e := good
		change(&e)
		text, err := json.Marshal(e)
		must(t, err)
		return string(text)
	}
	usable := changed(func(*registry.Entry) {})
	for name, value := range map[string]string{
		"no JSON":            secret,
		"another type":       `{"device_id":"w-bad","generation":"` + secret + `"}`,
		"no time":            strings.Replace(usable, added.Format("2006"), secret, 1),
		"empty":              "",
		"null":               "null",
		"another device":     changed(func(e *registry.Entry) { e.DeviceID = secret }),
		"no patient":         changed(func(e *registry.Entry) { e.PatientID = "" }),
		"patient of two":     changed(func(e *registry.Entry) { e.PatientID = secret + ".x" }),
		"short enrolment":    changed(func(e *registry.Entry) { e.Enrolment = "abcd" }),
		"enrolment in words": changed(func(e *registry.Entry) { e.Enrolment = secret }),
		"generation 0":       changed(func(e *registry.Entry) { e.Generation = 0 }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			r := s.replica(t)
			before, err := r.Add(within(t), "w-1", "p-1")
			must(t, err)
			_, err = s.bucket.PutString(within(t), "w-bad", usable)
			must(t, err)
			revision, err := s.bucket.PutString(within(t), "w-bad", value)
			must(t, err)
			must(t, r.Await(within(t), revision))
			if _, known := r.Device("w-bad"); known || r.Authenticate("w-bad", "") {
				t.Error("the device is served")
			}
			if after, err := r.Credentials("w-1"); err != nil || after != before {
				t.Errorf("the good device is disturbed (%v)", err)
			}
			if log := s.log.String(); !strings.Contains(log, `"device":"w-bad"`) || strings.Contains(log, secret) {
				t.Errorf("the log does not name the device, or quotes the entry: %s", log)
			}
			if _, known := s.replica(t).Device("w-1"); !known {
				t.Error("a replica that starts later does not serve the good device")
			}
			must(t, r.Remove(within(t), "w-bad"))
			_, err = r.Add(within(t), "w-bad", "p-1")
			must(t, err)
		})
	}
}

func TestListIsInOrderAndInPages(t *testing.T) {
	r := newSite(t).replica(t)
	for _, id := range []string{"w-3", "w-1", "W-1", "w-2", "w-10"} {
		_, err := r.Add(within(t), id, "p-1")
		must(t, err)
	}
	ids := func(entries []registry.Entry) string {
		var all []string
		for _, e := range entries {
			all = append(all, e.DeviceID)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		after string
		limit int
		want  string
	}{
		{"", 100, "W-1 w-1 w-10 w-2 w-3"}, {"", 2, "W-1 w-1"}, {"w-1", 2, "w-10 w-2"}, {"w-2", 5, "w-3"}, {"w-3", 5, ""}, {"x", 5, ""},
	} {
		if got := ids(r.List(c.after, c.limit)); got != c.want {
			t.Errorf("%d after %q are %q, want %q", c.limit, c.after, got, c.want)
		}
	}
	e, err := r.Show("w-10")
	if err != nil || e.PatientID != "p-1" || e.Generation != 1 || !e.Added.Equal(added) || len(e.Enrolment) != 32 {
		t.Errorf("entry %+v (%v)", e, err)
	}
	_, err = r.Show("w-4")
	wantError(t, err, registry.ErrUnknown)
	_, err = r.Credentials("w-4")
	wantError(t, err, registry.ErrUnknown)
}

// TestARegistryThatIsNotWatchedSaysSo takes the bucket's connection away.
func TestARegistryThatIsNotWatchedSaysSo(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	must(t, r.Err())
	s.engine.Conn().Close()
	err := r.Await(within(t), 1<<62)
	wantError(t, err, registry.ErrNotWatched)
	wantError(t, r.Err(), registry.ErrNotWatched)
	must(t, r.Close())
	must(t, r.Close())
	if log := s.log.String(); !strings.Contains(log, "out of date") {
		t.Errorf("the log says nothing of it: %s", log)
	}
}

func TestOpenOfABucketThatIsGone(t *testing.T) {
	s := newSite(t)
	js, err := jetstream.New(s.engine.Conn())
	must(t, err)
	must(t, js.DeleteKeyValue(within(t), "devices"))
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	if _, err := registry.Open(ctx, s.bucket, s.master, registry.Options{Log: zerolog.Nop()}); err == nil {
		t.Error("a bucket that is gone was opened")
	}
}
