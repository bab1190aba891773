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

func wantChange(t *testing.T, audit <-chan registry.Change, want registry.Change) {
	t.Helper()
	want.By, want.Time = "ann", added
	select {
	case got := <-audit:
		if got != want {
			t.Errorf("the audit says %+v, want %+v", got, want)
		}
	default:
		t.Errorf("the audit does not say %+v", want)
	}
}

func wantSilence(t *testing.T, audit <-chan registry.Change) {
	t.Helper()
	select {
	case change := <-audit:
		t.Errorf("the audit has what changed nothing: %+v", change)
	default:
	}
}

func TestOperatorsVerbs(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	c, _ := s.operator(t)
	if entries, err := c.List(within(t), registry.KindDevice); err != nil || len(entries) != 0 {
		t.Errorf("%d devices at first (%v)", len(entries), err)
	}
	n := device("w-1")
	n.Ward, n.Labels, n.Key = "ward 7", map[string]string{"maker": "Ä & Co"}, []byte("a key of a factory")
	was, err := c.Add(within(t), n)
	must(t, err)
	if own, err := r.Credentials("w-1"); err != nil || was.Credentials == nil || own != *was.Credentials || own.Key != fmt.Sprintf("%x", n.Key) {
		t.Errorf("the operator got other credentials than the registry has (%v)", err)
	}
	wantChange(t, audit, registry.Change{Verb: "add", Kind: registry.KindDevice, ID: "w-1", Patient: "p-1"})
	if again, err := c.Credentials(within(t), "w-1"); err != nil || again != *was.Credentials {
		t.Errorf("asked again the credentials differ (%v)", err)
	}
	wantChange(t, audit, registry.Change{Verb: "credentials", ID: "w-1"})

	moved, err := c.Assign(within(t), "w-1", "p-2")
	must(t, err)
	wantChange(t, audit, registry.Change{Verb: "assign", Kind: registry.KindDevice, ID: "w-1", Patient: "p-2"})
	if moved.Credentials != nil || moved.Entry.Patient() != "p-2" || moved.Entry.ChangedBy != "ann" {
		t.Errorf("moved it is %+v", moved)
	}
	again, err := c.Assign(within(t), "w-1", "p-2")
	if err != nil || !again.Unchanged {
		t.Errorf("moved again it is %+v (%v)", again, err)
	}
	wantSilence(t, audit)

	rotated, err := c.Rotate(within(t), "w-1", time.Hour)
	must(t, err)
	wantChange(t, audit, registry.Change{Verb: "rotate", Kind: registry.KindDevice, ID: "w-1", Patient: "p-2"})
	keys, err := c.Keys(within(t), "w-1")
	if err != nil || len(keys) != 2 || keys[0].Key != rotated.Credentials.Key || keys[1].Key != was.Credentials.Key || !keys[1].Until.Equal(added.Add(time.Hour)) {
		t.Errorf("%d keys, not the new and the imported one (%v)", len(keys), err)
	}
	for verb, change := range map[string]func(context.Context, registry.Kind, string) (registry.Result, error){"revoke": c.Revoke, "restore": c.Restore} {
		_, err := c.Restore(within(t), registry.KindDevice, "w-1") // from a known state
		must(t, err)
		for len(audit) > 0 {
			<-audit
		}
		if verb == "restore" {
			_, err := c.Revoke(within(t), registry.KindDevice, "w-1")
			must(t, err)
			<-audit
		}
		result, err := change(within(t), registry.KindDevice, "w-1")
		if err != nil || (result.Entry.State == registry.Revoked) != (verb == "revoke") {
			t.Errorf("%s: %+v (%v)", verb, result, err)
		}
		wantChange(t, audit, registry.Change{Verb: verb, Kind: registry.KindDevice, ID: "w-1", Patient: "p-2"})
	}
	entry, err := c.Show(within(t), registry.KindDevice, "w-1")
	own, _ := r.Show(within(t), registry.KindDevice, "w-1")
	if err != nil || !reflect.DeepEqual(entry, own) || entry.Ward != n.Ward || entry.Labels["maker"] != "Ä & Co" {
		t.Errorf("the entry is shown as %+v (%v)", entry, err)
	}
	if entries, err := c.List(within(t), registry.KindDevice); err != nil || len(entries) != 1 || !reflect.DeepEqual(entries[0], entry) {
		t.Errorf("listed are %+v (%v)", entries, err)
	}
	removed, err := c.Remove(within(t), registry.KindDevice, "w-1")
	must(t, err)
	wantChange(t, audit, registry.Change{Verb: "remove", Kind: registry.KindDevice, ID: "w-1", Patient: "p-2"})
	if _, known := r.Device("w-1"); known || removed.Entry.ID != "w-1" {
		t.Error("the removed device is served")
	}
}

func TestOperatorsVerbsForGateways(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	c, _ := s.operator(t)
	made, err := c.Add(within(t), gateway("g-1", []string{"w-1"}, nil))
	must(t, err)
	wantChange(t, audit, registry.Change{Verb: "add", Kind: registry.KindGateway, ID: "g-1"})
	if id, ok := r.Authenticate("g-1", made.Credentials.Password); !ok || id.Kind != registry.KindGateway || made.Credentials.Key != "" {
		t.Errorf("the gateway is let in: %v as %+v", ok, id)
	}
	_, err = c.Carry(within(t), "g-1", nil, []string{"x-"})
	must(t, err)
	wantChange(t, audit, registry.Change{Verb: "carry", Kind: registry.KindGateway, ID: "g-1"})
	if r.Carries("g-1", "w-1") || !r.Carries("g-1", "x-1") {
		t.Error("what the gateway carries was not replaced")
	}
	if got, err := c.Credentials(within(t), "g-1"); err != nil || got != *made.Credentials {
		t.Errorf("asked again the credentials differ (%v)", err)
	}
	wantChange(t, audit, registry.Change{Verb: "credentials", ID: "g-1"})
	_, err = c.Keys(within(t), "g-1")
	wantError(t, err, registry.ErrUnknown)
	_, err = c.Rotate(within(t), "g-1", 0)
	wantError(t, err, registry.ErrUnknown)
	if entries, err := c.List(within(t), registry.KindGateway); err != nil || len(entries) != 1 || entries[0].Prefixes[0] != "x-" {
		t.Errorf("listed are %+v (%v)", entries, err)
	}
	_, err = c.Remove(within(t), registry.KindDevice, "g-1")
	wantError(t, err, registry.ErrUnknown)
	wantSilence(t, audit)
}

func TestErrorsReachTheOperator(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	c, _ := s.operator(t)
	_, err := c.Add(within(t), device("w-1"))
	must(t, err)
	<-audit
	named := func(id, patient string, key []byte) registry.New {
		return registry.New{Kind: registry.KindDevice, ID: id, Patient: patient, Key: key}
	}
	add := func(n registry.New) error { _, err := c.Add(within(t), n); return err }
	all := []error{registry.ErrExists, registry.ErrBadID, registry.ErrKey, registry.ErrInvalid, registry.ErrUnknown, registry.ErrConflict, registry.ErrNoService}
	for name, got := range map[string]struct{ err, want error }{
		"again":          {add(device("w-1")), registry.ErrExists},
		"a bad id":       {add(device("a b")), registry.ErrBadID},
		"no patient":     {add(named("w-2", "", nil)), registry.ErrBadID},
		"a short key":    {add(named("w-2", "p-1", []byte("short"))), registry.ErrKey},
		"no kind":        {add(registry.New{ID: "w-2", Patient: "p-1"}), registry.ErrInvalid},
		"a bad overlap":  {last(c.Rotate(within(t), "w-1", -time.Second)), registry.ErrInvalid},
		"an unknown one": {last(c.Assign(within(t), "w-2", "p-1")), registry.ErrUnknown},
		"shown":          {last(c.Show(within(t), registry.KindDevice, "w-2")), registry.ErrUnknown},
		"credentials":    {last(c.Credentials(within(t), "w-2")), registry.ErrUnknown},
		"keys":           {last(c.Keys(within(t), "w-2")), registry.ErrUnknown},
		"removed":        {last(c.Remove(within(t), registry.KindDevice, "w-2")), registry.ErrUnknown},
		"another kind":   {last(c.Revoke(within(t), registry.KindGateway, "w-1")), registry.ErrUnknown},
		"no such kind":   {last(c.Revoke(within(t), "robot\r\nx: y", "w-1")), registry.ErrUnknown},
	} {
		for _, one := range all {
			if is := errors.Is(got.err, one); is != (one == got.want) {
				t.Errorf("%s: %v is %q: %v", name, got.err, one, is)
			}
		}
	}
	wantSilence(t, audit)
	if r.Size() != 1 {
		t.Errorf("%d are enrolled", r.Size())
	}
}

func last[T any](_ T, err error) error { return err }

// TestAConflictReachesTheOperator lets two operators move a device over and over.
func TestAConflictReachesTheOperator(t *testing.T) {
	s := newSite(t)
	s.serve(t, s.replica(t))
	c, _ := s.operator(t)
	_, err := c.Add(within(t), device("w-1"))
	must(t, err)
	for range 100 {
		results := make(chan error, 4)
		for i := range cap(results) {
			go func() {
				_, err := c.Assign(context.Background(), "w-1", fmt.Sprint("p-", i))
				results <- err
			}()
		}
		var conflict error
		for range cap(results) {
			if err := <-results; err != nil {
				conflict = err
			}
		}
		if conflict != nil {
			wantError(t, conflict, registry.ErrConflict)
			return
		}
	}
	t.Error("no conflict in 100 rounds")
}

// TestTheAnswerDoesNotDependOnTheWatch enrols and rotates through a replica that
// has not seen its own change when it answers.
func TestTheAnswerDoesNotDependOnTheWatch(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	enrol(t, r, device("w-1"))
	e, err := r.Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	must(t, r.Close()) // its watch has ended; its connection has not
	e.Keys = append([]registry.KeyEntry{{Generation: 2, Master: "1", From: added}}, e.Keys...)
	e.Keys[1].Until = added
	_, err = s.bucket.Put(within(t), "w-1", encoded(t, e))
	must(t, err)
	s.serve(t, r)
	c, _ := s.operator(t)
	stale, err := r.Credentials("w-1")
	must(t, err)
	if fresh, err := c.Credentials(within(t), "w-1"); err != nil || fresh.Key == stale.Key {
		t.Errorf("the operator gets a key that has been replaced (%v)", err)
	}
}

func TestListBeyondAPage(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	s.serve(t, r)
	const devices = 2*registry.Page + 100
	enrol(t, r, device("model"))
	e, err := r.Show(within(t), registry.KindDevice, "model")
	must(t, err)
	e.Labels = map[string]string{}
	for i := range 16 {
		e.Labels[fmt.Sprint(i)] = strings.Repeat("x", registry.MaxText) // so that a page fits no message
	}
	var puts sync.WaitGroup
	for worker := range 10 {
		puts.Go(func() {
			for n := worker; n < devices; n += 10 {
				one := e
				one.ID = fmt.Sprintf("w-%04d", n)
				if _, err := s.bucket.Put(context.Background(), one.ID, encoded(t, one)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	puts.Wait()
	if !answered(t, confirm(r, added.Add(time.Hour))) {
		t.Fatal("not confirmed")
	}
	c, _ := s.operator(t)
	entries, err := c.List(within(t), registry.KindDevice)
	must(t, err)
	if len(entries) != devices+1 {
		t.Fatalf("%d are listed, want %d", len(entries), devices+1)
	}
	for n, e := range entries[1:] {
		if want := fmt.Sprintf("w-%04d", n); e.ID != want || len(e.Labels) != 16 {
			t.Fatalf("entry %d is %s, want %s", n, e.ID, want)
		}
	}
}

func TestNobodyServes(t *testing.T) {
	c, _ := newSite(t).operator(t)
	for _, err := range []error{
		last(c.Add(within(t), device("w-1"))), last(c.List(within(t), registry.KindDevice)), last(c.Remove(within(t), registry.KindDevice, "w-1")),
	} {
		wantError(t, err, registry.ErrNoService)
	}
}

// TestRequestsThatAreNone sends what no Client would.
func TestRequestsThatAreNone(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	_, nc := s.operator(t)
	for _, verb := range []string{"add", "show", "list", "rotate", "credentials", "keys"} {
		for _, text := range []string{"", "{", `{"id":1}`, "[]", "\xff", `{"key":"hidden!"}`, `{"kind":"device","id":"w-1","patient_id":"p-1","by":"a\nb"}`} {
			m, err := nc.Request("gate.registry."+verb, []byte(text), 10*time.Second)
			must(t, err)
			if code := m.Header.Get("Nats-Service-Error-Code"); code != "400" || strings.Contains(m.Header.Get("Nats-Service-Error"), "hidden") {
				t.Errorf("%s %q: error code %q (%s), want 400", verb, text, code, m.Data)
			}
		}
	}
	wantSilence(t, audit)
	if r.Size() != 0 {
		t.Errorf("%d are enrolled", r.Size())
	}
}

// TestNoSecretIsTold looks for secrets in all that is written for others.
func TestNoSecretIsTold(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	c, _ := s.operator(t)
	n := device("w-1")
	n.Key = []byte("a key of a factory")
	made, err := c.Add(within(t), n)
	must(t, err)
	rotated, err := c.Rotate(within(t), "w-1", time.Hour)
	must(t, err)
	_, again := c.Add(within(t), n)
	_, short := c.Add(within(t), registry.New{Kind: registry.KindDevice, ID: "w-2", Patient: "p-1", Key: n.Key[:12]})
	r.Authenticate("w-1", rotated.Credentials.Password+"x")
	r.Device("w-1")
	must(t, r.Close())
	told := s.log.String() + fmt.Sprint(again, short)
	for len(audit) > 0 {
		text, err := json.Marshal(<-audit)
		must(t, err)
		told += string(text)
	}
	keys, err := s.bucket.Keys(within(t))
	must(t, err)
	for _, key := range keys {
		stored, err := s.bucket.Get(within(t), key)
		must(t, err)
		told += string(stored.Value())
	}
	if !strings.Contains(told, "w-1") {
		t.Error("nothing is told, so this shows nothing")
	}
	for name, secret := range map[string]string{
		"imported key": string(n.Key), "its text": made.Credentials.Key, "its text in upper case": strings.ToUpper(made.Credentials.Key),
		"derived key": rotated.Credentials.Key, "password": made.Credentials.Password, "master": oneMaster[2:66], "part of the key": string(n.Key[:12]),
	} {
		if secret == "" || strings.Contains(told, secret) {
			t.Errorf("the %s is told", name)
		}
	}
}

// TestARequestThatCameTooLateIsNotCarriedOut sends what a client gave up waiting
// for: carried out now, it would undo what was done since.
func TestARequestThatCameTooLateIsNotCarriedOut(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	s.serve(t, r)
	c, nc := s.operator(t)
	_, err := c.Add(within(t), device("w-1"))
	must(t, err)
	past, err := json.Marshal(time.Now().Add(-time.Second))
	must(t, err)
	m, err := nc.Request("gate.registry.assign", []byte(`{"kind":"device","id":"w-1","patient_id":"p-late","expires":`+string(past)+`}`), 10*time.Second)
	must(t, err)
	if code := m.Header.Get("Nats-Service-Error-Code"); code != "408" {
		t.Errorf("error code %q, want 408", code)
	}
	e, err := c.Show(within(t), registry.KindDevice, "w-1")
	must(t, err)
	if e.Patient() == "p-late" {
		t.Error("the request was carried out")
	}
}

// TestReadingSecretsIsAudited asks for credentials and keys.
func TestReadingSecretsIsAudited(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	c, _ := s.operator(t)
	_, err := c.Add(within(t), device("w-1"))
	must(t, err)
	_, err = c.Credentials(within(t), "w-1")
	must(t, err)
	_, err = c.Keys(within(t), "w-1")
	must(t, err)
	for _, verb := range []string{"add", "credentials", "keys"} {
		if change := <-audit; change.Verb != verb || change.ID != "w-1" {
			t.Errorf("audited: %+v, want %s of w-1", change, verb)
		}
	}
}
