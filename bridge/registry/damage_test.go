package registry_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/registry"
)

// TestACorruptEntryDisablesOneDevice writes entries that cannot be used beside a
// good one.
func TestACorruptEntryDisablesOneDevice(t *testing.T) {
	const secret = "spilled-content"
	s := newSite(t)
	r := s.replica(t)
	before := enrol(t, r, device("w-1"))
	enrol(t, r, device("w-model"))
	e, err := r.Show(within(t), registry.KindDevice, "w-model")
	must(t, err)
	for i, c := range []struct {
		change func(*registry.Entry)
		text   string
	}{
		{nil, secret}, {nil, ""}, {nil, "null"}, {nil, `{"assignments":[{"patient_id":"` + secret + `"}]}`},
		{func(e *registry.Entry) { e.ID = secret }, ""},
		{func(e *registry.Entry) { e.Keys[0].Master, e.Keys[0].Sealed = "missing", []byte(secret) }, ""},
		{func(e *registry.Entry) { e.Master = "missing" }, ""},
	} {
		id := fmt.Sprint("w-bad-", i)
		good := e
		good.ID = id
		_, err := s.bucket.Put(within(t), id, encoded(t, good))
		must(t, err)
		value := []byte(c.text)
		if c.change != nil {
			good.Keys = append([]registry.KeyEntry(nil), good.Keys...)
			c.change(&good)
			value = encoded(t, good)
		}
		revision, err := s.bucket.Put(within(t), id, value)
		must(t, err)
		must(t, r.Await(within(t), revision))
		if _, known := r.Device(id); known {
			t.Errorf("%s is served", id)
		}
		if _, known := r.Known(id); known {
			t.Errorf("%s is let in", id)
		}
		if log := s.log.String(); !strings.Contains(log, `"device":"`+id+`"`) || strings.Contains(log, secret) {
			t.Errorf("the log does not name the device, or quotes the entry: %s", log)
		}
		if _, err := r.Assign(within(t), id, "p-9", "ann"); c.change == nil && (err == nil || strings.Contains(err.Error(), secret)) {
			t.Errorf("changing %s: %v", id, err)
		}
		if _, known := s.replica(t).Device("w-1"); !known {
			t.Error("a replica that starts later does not serve the good device")
		}
		applied, err := r.Remove(within(t), registry.KindDevice, id)
		must(t, err)
		if text := fmt.Sprintf("%+v", applied); strings.Contains(text, secret) && c.change == nil {
			t.Errorf("removing it shows it: %s", text)
		}
		enrol(t, r, device(id))
	}
	if after, err := r.Credentials("w-1"); err != nil || after != before {
		t.Errorf("the good device is disturbed (%v)", err)
	}
}

func encoded(t testing.TB, e registry.Entry) []byte {
	t.Helper()
	value, err := json.Marshal(e)
	must(t, err)
	return value
}

// TestAKeyThatCannotBeOpened moves a sealed key to another device.
func TestAKeyThatCannotBeOpened(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	n := device("w-1")
	n.Key = []byte("a key of a factory")
	enrol(t, r, n)
	e, err := r.Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	e.ID = "w-2"
	revision, err := s.bucket.Put(within(t), "w-2", encoded(t, e))
	must(t, err)
	must(t, r.Await(within(t), revision))
	if d, known := r.Device("w-2"); !known || len(d.Keys) != 0 {
		t.Errorf("a key that was sealed for another device is used: %v", known)
	}
	if log := s.log.String(); !strings.Contains(log, `"device":"w-2"`) || !strings.Contains(log, "sealed for another") {
		t.Errorf("the log does not say so: %s", log)
	}
	if _, err := r.Credentials("w-2"); err == nil {
		t.Error("credentials without the key are given out")
	}
}

func TestProofsOfTheMasters(t *testing.T) {
	s := newSite(t)
	s.replica(t)
	other := strings.Replace(oneMaster, "00", "ff", 1)
	_, err := s.tryReplica(t, withMasters(other))
	if err == nil || !strings.Contains(err.Error(), `master key "1"`) || !strings.Contains(err.Error(), "bring the right master.key") || strings.Contains(err.Error(), "ff0102") {
		t.Errorf("another master with the same id: %v", err)
	}
	_, err = s.tryReplica(t, withMasters("stranger "+other[2:]))
	if err == nil || !strings.Contains(err.Error(), "none of this replica's master keys") {
		t.Errorf("a stranger's master under an id of its own: %v", err)
	}
	_, err = s.tryReplica(t, withMasters("next "+other[2:]+oneMaster))
	must(t, err) // a new one, with which the registry holds now
	_, err = s.tryReplica(t, withMasters(twoMasters))
	if err == nil || !strings.Contains(err.Error(), `master key "next"`) {
		t.Errorf("another master with the id of the second: %v", err)
	}
	s.replica(t)
	proofs, err := s.bucket.Get(within(t), registry.KeyProofs)
	must(t, err)
	text := string(proofs.Value())
	if !strings.Contains(text, `"1":`) || !strings.Contains(text, `"next":`) || strings.Contains(text, "0001020304") {
		t.Errorf("the proofs are %s", text)
	}
	for _, damaged := range []string{"", "null", "[]", `{"1":1}`} {
		_, err := s.bucket.PutString(within(t), registry.KeyProofs, damaged)
		must(t, err)
		if _, err := s.tryReplica(t); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("proofs %q: %v", damaged, err)
		}
	}
}

// TestFirstOpensAtOnce lets replicas with different masters begin together:
// those with one of them win, all others are refused.
func TestFirstOpensAtOnce(t *testing.T) {
	s := newSite(t)
	results := make(chan error, 8)
	for i := range cap(results) {
		text := oneMaster
		if i%2 == 1 {
			text = strings.Replace(oneMaster, "00", "ff", 1)
		}
		go func() {
			r, err := s.tryReplica(t, withMasters(text))
			if err == nil {
				err = r.Close()
			}
			results <- err
		}()
	}
	refused := 0
	for range cap(results) {
		if err := <-results; err != nil {
			refused++
			if !strings.Contains(err.Error(), "bring the right master.key") {
				t.Error(err)
			}
		}
	}
	if refused != cap(results)/2 {
		t.Errorf("%d were refused, want half of %d", refused, cap(results))
	}
}

// TestADamagedEntryIsListed shows what would otherwise be found out by adding it.
func TestADamagedEntryIsListed(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	_, err := r.Add(within(t), device("w-1"))
	must(t, err)
	revision, err := s.bucket.PutString(within(t), "w-2", "{")
	must(t, err)
	must(t, r.Await(within(t), revision))
	entries, err := r.List(within(t), registry.KindDevice, "", 10)
	must(t, err)
	if len(entries) != 2 || entries[1].ID != "w-2" || entries[1].State != registry.Damaged || r.Disabled() != 1 {
		t.Errorf("listed are %+v, disabled %d", entries, r.Disabled())
	}
	_, err = r.Remove(within(t), registry.KindDevice, "w-2")
	must(t, err)
	if r.Disabled() != 0 {
		t.Errorf("%d entries are disabled after the removal", r.Disabled())
	}
}

// TestEnrolledAsRevoked restores a stolen device: it is cut off from the start.
func TestEnrolledAsRevoked(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	n := device("w-1")
	n.State = registry.Revoked
	_, err := r.Add(within(t), n)
	must(t, err)
	if d, known := r.Device("w-1"); !known || !d.Revoked {
		t.Errorf("the device is %+v, %v", d, known)
	}
}
