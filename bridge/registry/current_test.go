package registry_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// heard is a Changed that can be waited for.
type heard chan string

func (h heard) by(s *setup) { s.options.Changed = func(id string) { h <- id } }

// await returns once a replica has applied a change of an entry.
func (h heard) await(t testing.TB, want string) {
	t.Helper()
	for {
		select {
		case id := <-h:
			if id == want {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no change of %s arrives", want)
		}
	}
}

func answered(t testing.TB, answer <-chan bool) bool {
	t.Helper()
	select {
	case current := <-answer:
		return current
	case <-time.After(20 * time.Second):
		t.Fatal("nobody answers")
		return false
	}
}

func confirm(r *registry.Registry, deadline time.Time) <-chan bool {
	answer := make(chan bool, 2)
	r.Confirm(deadline, func(current bool) { answer <- current })
	return answer
}

func TestLeaseOfAReplicaThatIsConnected(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	for after, want := range map[time.Duration]bool{0: true, registry.Lease - 1: true, registry.Lease: false} {
		if got := r.Leased(added.Add(after)); got != want {
			t.Errorf("leased %v after a round: %v, want %v", after, got, want)
		}
	}
	s.clock.advance(time.Hour)
	if r.Leased(s.clock.Now()) {
		t.Error("leased an hour after the last round")
	}
	wantError(t, r.Err(), registry.ErrBehind)
	if !answered(t, confirm(r, s.clock.Now().Add(time.Second))) || !r.Leased(s.clock.Now()) || r.Err() != nil {
		t.Error("a round does not renew the lease")
	}
}

// TestConfirmedIsWhatWasStored changes the bucket behind the registry's back: a
// confirmation comes only when the change has been applied.
func TestConfirmedIsWhatWasStored(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	e, err := r.Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	for n := range 200 {
		e.Assignments[0].PatientID = fmt.Sprint("p-", n)
		_, err := s.bucket.Put(within(t), "w-1", encoded(t, e))
		must(t, err)
		if !answered(t, confirm(r, added.Add(time.Minute))) {
			t.Fatal("not confirmed")
		}
		if d, _ := r.Device("w-1"); d.Patient != e.Patient() {
			t.Fatalf("confirmed with the patient %s, stored is %s", d.Patient, e.Patient())
		}
	}
}

func TestConfirmWithTheConnectionCut(t *testing.T) {
	s := newSite(t)
	w, changes := s.wire(t), make(heard, 1000)
	far, near := s.replica(t, w.over, changes.by), s.replica(t)
	enrol(t, near, device("w-1"))
	must(t, far.Err())
	w.cut()
	over := confirm(far, s.clock.Now().Add(time.Second))
	waits := confirm(far, s.clock.Now().Add(24*time.Hour))
	s.clock.advance(time.Second)
	if answered(t, over) {
		t.Error("confirmed although nothing can be known")
	}
	s.clock.advance(registry.PeerLimit)
	wantError(t, far.Err(), registry.ErrBehind)
	// What changes meanwhile: an entry, a removal, and an entry made and removed.
	enrol(t, near, device("w-2"))
	done(t)(near.Remove(within(t), registry.KindDevice, "w-1"))
	enrol(t, near, device("w-3"))
	done(t)(near.Remove(within(t), registry.KindDevice, "w-3"))
	select {
	case <-waits:
		t.Error("answered before the deadline, and without a connection")
	default:
	}
	w.mend()
	if !answered(t, waits) {
		t.Error("not confirmed although the connection is back")
	}
	must(t, far.Err())
	for id, want := range map[string]bool{"w-1": false, "w-2": true, "w-3": false} {
		if _, known := far.Device(id); known != want {
			t.Errorf("%s is served: %v, want %v", id, known, want)
		}
	}
	changes.await(t, "w-2")
	if far.Revision() != near.Revision() {
		t.Errorf("one replica is at %d, the other at %d", far.Revision(), near.Revision())
	}
	enrol(t, near, device("w-4"))
	changes.await(t, "w-4")
	select {
	case again := <-waits:
		t.Errorf("answered twice, %v the second time", again)
	default:
	}
}

func TestConfirmAfterClosing(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	must(t, r.Close())
	if answered(t, confirm(r, added.Add(time.Hour))) || r.Leased(added) {
		t.Error("a closed replica is sure of something")
	}
	must(t, r.Close())
}

// TestAllThatWaitShareARound counts the questions that the store hears.
func TestAllThatWaitShareARound(t *testing.T) {
	const waiting = 10_000
	s := newSite(t)
	w := s.wire(t)
	r := s.replica(t, w.over)
	var asked atomic.Int32
	_, err := s.nc.Subscribe("$JS.API.STREAM.INFO.KV_devices", func(*nats.Msg) { asked.Add(1) })
	must(t, err)
	must(t, s.nc.Flush())
	w.hold()
	answers := make(chan bool, waiting)
	for range waiting {
		r.Confirm(added.Add(time.Hour), func(current bool) { answers <- current })
	}
	w.release()
	for range waiting {
		if !answered(t, answers) {
			t.Fatal("not confirmed")
		}
	}
	must(t, s.nc.Flush())
	if n := asked.Load(); n == 0 || n > 10 {
		t.Errorf("%d waited, and the store was asked %d times", waiting, n)
	}
}

// TestABucketThatIsMadeAnew is deleted and made again, with more changes than it
// had, so that their number does not tell.
func TestABucketThatIsMadeAnew(t *testing.T) {
	s := newSite(t)
	changes := make(heard, 1000)
	r := s.replica(t, changes.by)
	enrol(t, r, device("w-1"))
	e, err := r.Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	before := r.Revision()
	must(t, s.js.DeleteKeyValue(within(t), "devices"))
	anew := s.makeAnew(t)
	for n := range int(before) + 10 {
		e.ID = fmt.Sprint("w-1", n)
		_, err := anew.Put(within(t), e.ID, encoded(t, e))
		must(t, err)
	}
	changes.await(t, e.ID)
	if !answered(t, confirm(r, s.clock.Now().Add(time.Hour))) {
		t.Fatal("not confirmed")
	}
	if _, known := r.Device("w-1"); known || r.Size() != int(before)+10 {
		t.Errorf("what the new bucket does not have is served: %v, among %d", known, r.Size())
	}
	if !strings.Contains(s.log.String(), "has been replaced") {
		t.Error("the log says nothing of it")
	}
	enrol(t, r, device("w-2"))
}

// makeAnew makes the bucket that has just been deleted. NATS may still be deleting
// its files, and refuses it for so long.
func (s *site) makeAnew(t *testing.T) jetstream.KeyValue {
	t.Helper()
	const cannotCreate = 10049 // JSStreamStoreFailedF
	for ctx := within(t); ; {
		bucket, err := s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "devices"})
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.ErrorCode == cannotCreate {
			continue
		}
		must(t, err)
		return bucket
	}
}

// TestABucketThatIsSetBack restores the server's files from an older copy: the
// same stream with fewer changes.
func TestABucketThatIsSetBack(t *testing.T) {
	s := newSite(t)
	changes := make(heard, 1000)
	r := s.replica(t, changes.by)
	enrol(t, r, device("w-1"))
	backup := filepath.Join(t.TempDir(), "backup")
	s.restart(t, func() { must(t, os.CopyFS(backup, os.DirFS(s.dir))) })
	if !answered(t, confirm(r, added.Add(time.Hour))) {
		t.Fatal("not confirmed after a restart of the server")
	}
	if log := s.log.String(); strings.Contains(log, "has been replaced") {
		t.Errorf("a restart of the server is taken for another bucket: %s", log)
	}
	enrol(t, r, device("w-2"))
	enrol(t, r, device("w-3"))
	for len(changes) > 0 {
		<-changes
	}
	s.restart(t, func() {
		must(t, os.RemoveAll(s.dir))
		must(t, os.CopyFS(s.dir, os.DirFS(backup)))
	})
	s.clock.advance(registry.Lease)
	changes.await(t, "w-1")
	if !answered(t, confirm(r, s.clock.Now().Add(time.Hour))) {
		t.Fatal("not confirmed")
	}
	for id, want := range map[string]bool{"w-1": true, "w-2": false, "w-3": false} {
		if _, known := r.Device(id); known != want {
			t.Errorf("%s is served: %v, want %v", id, known, want)
		}
	}
	if !strings.Contains(s.log.String(), "has been replaced") {
		t.Error("the log says nothing of it")
	}
}
