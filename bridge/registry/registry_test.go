package registry_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestAddedDeviceIsServedAtOnce(t *testing.T) {
	r := newSite(t).replica(t)
	if _, known := r.Device("w-1"); known {
		t.Error("a device is known that nobody added")
	}
	c := enrol(t, r, device("w-1"))
	d, known := r.Device("w-1")
	if !known || d.ID != "w-1" || d.Patient != "p-1" || d.Revoked || len(d.Keys) != 1 || d.Keys[0].Generation != 1 || !d.Keys[0].Until.IsZero() {
		t.Fatalf("device %+v, want w-1 of p-1 with one key of generation 1", d)
	}
	want := registry.Credentials{
		DeviceID: "w-1", PatientID: "p-1", Topic: "wearables/w-1/vitals", Username: "w-1",
		Password: c.Password, Key: hex.EncodeToString(d.Keys[0].Secret),
	}
	if c != want || len(c.Password) != 64 || c.Password == c.Key {
		t.Errorf("credentials %+v, want %+v", c, want)
	}
	if again, _ := r.Device("w-1"); again != d {
		t.Error("the device is another object each time, so that no session can keep its keys")
	}
	if r.Size() != 1 {
		t.Errorf("%d are enrolled, want 1", r.Size())
	}
	must(t, r.Err())
}

func TestAuthenticate(t *testing.T) {
	r := newSite(t).replica(t)
	one, two := enrol(t, r, device("w-1")), enrol(t, r, device("w-2"))
	edge := enrol(t, r, gateway("g-1", []string{"w-1"}, nil))
	gone := enrol(t, r, device("w-4"))
	done(t)(r.Revoke(within(t), registry.KindDevice, "w-4", "ann"))
	for _, c := range []struct {
		id, password string
		kind         registry.Kind
	}{
		{"w-1", one.Password, registry.KindDevice},
		{"w-2", two.Password, registry.KindDevice},
		{"g-1", edge.Password, registry.KindGateway},
		{"w-1", two.Password, ""},
		{"w-1", edge.Password, ""},
		{"w-1", one.Password[:63], ""},
		{"w-1", one.Password + "0", ""},
		{"w-1", strings.ToUpper(one.Password), ""},
		{"w-1", "", ""},
		{"w-1", one.Key, ""},
		{"w-3", one.Password, ""},
		{"w-4", gone.Password, ""},
		{"", "", ""},
	} {
		got, ok := r.Authenticate(c.id, c.password)
		if ok != (c.kind != "") || got.Kind != c.kind || ok && got.ID != c.id {
			t.Errorf("%q is let in: %v as %+v, want %q", c.id, ok, got, c.kind)
		}
		known, ok := r.Known(c.id)
		if c.kind != "" && (!ok || known != got) {
			t.Errorf("%q is known: %v as %+v, want %+v", c.id, ok, known, got)
		}
	}
	for _, id := range []string{"w-3", "w-4", "", registry.KeyProofs} {
		if _, ok := r.Known(id); ok {
			t.Errorf("%q is known", id)
		}
	}
	if edge.Key != "" || edge.Topic != "" || edge.PatientID != "" {
		t.Error("a gateway has a signing key, topic or patient")
	}
	if _, known := r.Device("g-1"); known {
		t.Error("a gateway is a device")
	}
}

func TestCarries(t *testing.T) {
	r := newSite(t).replica(t)
	enrol(t, r, device("w-1"))
	enrol(t, r, gateway("g-1", []string{"w-1", "x-9"}, []string{"ward7-"}))
	enrol(t, r, gateway("g-2", nil, nil))
	for _, c := range []struct {
		gateway, device string
		want            bool
	}{
		{"g-1", "w-1", true}, {"g-1", "x-9", true}, {"g-1", "ward7-", true}, {"g-1", "ward7-a", true},
		{"g-1", "w-10", false}, {"g-1", "w-", false}, {"g-1", "ward7", false}, {"g-1", "award7-", false}, {"g-1", "", false},
		{"g-2", "w-1", false}, {"g-2", "", false}, {"g-3", "w-1", false}, {"w-1", "w-1", false}, {"w-1", "w-2", false},
	} {
		if got := r.Carries(c.gateway, c.device); got != c.want {
			t.Errorf("%s carries %q: %v, want %v", c.gateway, c.device, got, c.want)
		}
	}
	done(t)(r.Carry(within(t), "g-1", nil, []string{"w-"}, "ben"))
	if r.Carries("g-1", "x-9") || !r.Carries("g-1", "w-10") {
		t.Error("what a gateway carries was not replaced")
	}
	done(t)(r.Revoke(within(t), registry.KindGateway, "g-1", "ben"))
	if r.Carries("g-1", "w-1") {
		t.Error("a revoked gateway carries")
	}
}

func TestAddAgainAfterRemoveMakesNewSecrets(t *testing.T) {
	r := newSite(t).replica(t)
	for _, n := range []registry.New{device("w-1"), gateway("g-1", nil, []string{"w-"})} {
		old := enrol(t, r, n)
		done(t)(r.Remove(within(t), n.Kind, n.ID))
		if _, ok := r.Authenticate(n.ID, old.Password); ok {
			t.Error("the removed one is let in")
		}
		if _, known := r.Device(n.ID); known || r.Carries(n.ID, "w-1") {
			t.Error("the removed one is served")
		}
		_, err := r.Remove(within(t), n.Kind, n.ID)
		wantError(t, err, registry.ErrUnknown)
		fresh := enrol(t, r, n)
		if fresh.Password == old.Password || fresh.Key == old.Key && old.Key != "" {
			t.Error("adding the id again has revived a secret")
		}
		if _, ok := r.Authenticate(n.ID, old.Password); ok {
			t.Error("the old password is good again")
		}
	}
}

func TestAddRefuses(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	before := r.Revision()
	for _, id := range []string{"", "_", "a b", "a.b", "a/b", "*", ">", "ä", strings.Repeat("a", 65)} {
		_, err := r.Add(within(t), device(id))
		wantError(t, err, registry.ErrBadID)
		moved := device("w-2")
		moved.Patient = id
		_, err = r.Add(within(t), moved)
		wantError(t, err, registry.ErrBadID)
		_, err = r.Assign(within(t), "w-1", id, "ann")
		wantError(t, err, registry.ErrBadID)
		_, err = r.Remove(within(t), registry.KindDevice, id)
		wantError(t, err, registry.ErrBadID)
		_, err = r.Add(within(t), gateway("g-1", []string{"w-1", id}, nil))
		wantError(t, err, registry.ErrBadID)
		_, err = r.Add(within(t), gateway("g-1", nil, []string{id}))
		wantError(t, err, registry.ErrBadID)
	}
	for want, change := range map[error][]func(*registry.New){
		registry.ErrExists: {func(n *registry.New) { n.ID = "w-1" }, func(n *registry.New) { n.ID, n.Kind = "w-1", registry.KindGateway }},
		registry.ErrKey: {
			func(n *registry.New) { n.Key = []byte{} }, func(n *registry.New) { n.Key = make([]byte, 15) }, func(n *registry.New) { n.Key = make([]byte, 129) },
		},
		registry.ErrInvalid: {
			func(n *registry.New) { n.Kind = "" }, func(n *registry.New) { n.Kind = "robot" },
			func(n *registry.New) { n.Ward = strings.Repeat("w", registry.MaxText+1) }, func(n *registry.New) { n.Ward = "\x1b[2J" },
			func(n *registry.New) { n.Labels = map[string]string{"": "x"} }, func(n *registry.New) { n.Labels = map[string]string{"a": "x\ny"} },
			func(n *registry.New) { n.Labels = many(33) },
			func(n *registry.New) { n.Kind, n.Carries = registry.KindGateway, make([]string, 10_001) },
		},
	} {
		for i, c := range change {
			n := device("w-2")
			c(&n)
			_, err := r.Add(within(t), n)
			if !errors.Is(err, want) {
				t.Errorf("%v, case %d: the error is %v", want, i, err)
			}
		}
	}
	if d, _ := r.Device("w-1"); d.Patient != "p-1" || r.Size() != 1 || r.Revision() != before {
		t.Errorf("the refused has changed something: %d devices, patient %s, revision %d", r.Size(), d.Patient, r.Revision())
	}
}

func many(n int) map[string]string {
	labels := make(map[string]string)
	for i := range n {
		labels[fmt.Sprint(i)] = "x"
	}
	return labels
}

func TestOneOfManyAddsWins(t *testing.T) {
	s := newSite(t)
	replicas := []*registry.Registry{s.replica(t), s.replica(t)}
	for _, again := range []string{"at first", "after a removal"} {
		var won, refused atomic.Int32
		var adds sync.WaitGroup
		for i := range 10 {
			adds.Go(func() {
				n := device("w-1")
				n.Patient = fmt.Sprintf("p-%d", i)
				_, err := replicas[i%2].Add(context.Background(), n)
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, registry.ErrExists), errors.Is(err, registry.ErrConflict):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		adds.Wait()
		if won.Load() != 1 || refused.Load() != 9 {
			t.Errorf("%s: %d adds won and %d were refused, want 1 and 9", again, won.Load(), refused.Load())
		}
		done(t)(replicas[0].Remove(within(t), registry.KindDevice, "w-1"))
	}
}

func TestReopenServesWhatWasThere(t *testing.T) {
	s := newSite(t)
	first := s.replica(t)
	imported := device("w-imported")
	imported.Key = []byte("a key of a factory, imported")
	all := []registry.Credentials{enrol(t, first, device("w-1")), enrol(t, first, gateway("g-1", []string{"w-1"}, nil)), enrol(t, first, imported)}
	enrol(t, first, device("w-2"))
	done(t)(first.Rotate(within(t), "w-2", history, "ann"))
	rotated, err := first.Credentials("w-2")
	must(t, err)
	all = append(all, rotated)
	must(t, first.Close())
	again := s.replica(t)
	for _, want := range all {
		if got, err := again.Credentials(want.DeviceID); err != nil || got != want {
			t.Errorf("%s has other credentials after opening again (%v)", want.DeviceID, err)
		}
	}
	if got, want := generations(t, again, "w-2"), "2, 1 until 72h0m0s"; got != want {
		t.Errorf("w-2 has the keys %q, want %q", got, want)
	}
	if d, _ := again.Device("w-imported"); string(d.Keys[0].Secret) != string(imported.Key) {
		t.Error("the imported key is another one")
	}
}

func TestListIsInOrderAndInPages(t *testing.T) {
	r := newSite(t).replica(t)
	for _, id := range []string{"w-3", "w-1", "W-1", "w-2", "w-10"} {
		enrol(t, r, device(id))
	}
	enrol(t, r, gateway("w-11", nil, nil))
	for _, c := range []struct {
		after string
		limit int
		want  string
	}{
		{"", 100, "W-1 w-1 w-10 w-2 w-3"}, {"", 2, "W-1 w-1"}, {"w-1", 2, "w-10 w-2"}, {"w-2", 5, "w-3"}, {"w-3", 5, ""}, {"x", 5, ""},
	} {
		entries, err := r.List(within(t), registry.KindDevice, c.after, c.limit)
		must(t, err)
		var ids []string
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%d after %q are %q, want %q", c.limit, c.after, got, c.want)
		}
	}
	e, err := r.Show(within(t), registry.KindDevice, "w-10")
	if err != nil || e.Patient() != "p-1" || e.Generation() != 1 || !e.Added.Equal(added) || len(e.Enrolment) != 32 || e.ChangedBy != "ann" {
		t.Errorf("entry %+v (%v)", e, err)
	}
	for kind, id := range map[registry.Kind]string{registry.KindDevice: "w-11", registry.KindGateway: "w-10"} {
		_, err = r.Show(within(t), kind, id)
		wantError(t, err, registry.ErrUnknown)
		_, err = r.Remove(within(t), kind, id)
		wantError(t, err, registry.ErrUnknown)
		_, err = r.Revoke(within(t), kind, id, "ann")
		wantError(t, err, registry.ErrUnknown)
	}
	_, err = r.Show(within(t), registry.KindDevice, "w-4")
	wantError(t, err, registry.ErrUnknown)
	_, err = r.Credentials("w-4")
	wantError(t, err, registry.ErrUnknown)
}

func TestOpenOfABucketThatIsGone(t *testing.T) {
	s := newSite(t)
	with := s.setup()
	masters, err := registry.ParseMasters([]byte(oneMaster))
	must(t, err)
	must(t, s.js.DeleteKeyValue(within(t), "devices"))
	if _, err := registry.Open(within(t), s.nc, s.bucket, masters, with.options); err == nil {
		t.Error("a bucket that is gone was opened")
	}
}
