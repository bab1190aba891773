package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

func TestOperatorsVerbs(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	audit := s.serve(t, r)
	c := s.operator(t)
	if entries, err := c.List(within(t)); err != nil || len(entries) != 0 {
		t.Errorf("%d devices at first (%v)", len(entries), err)
	}
	credentials, err := c.Add(within(t), "w-1", "p-1")
	must(t, err)
	if own, err := r.Credentials("w-1"); err != nil || own != credentials {
		t.Errorf("the operator got other credentials than the registry has (%v)", err)
	}
	wantChange(t, audit, registry.Change{Verb: "add", DeviceID: "w-1", PatientID: "p-1", Time: added})
	if again, err := c.Credentials(within(t), "w-1"); err != nil || again != credentials {
		t.Errorf("asked again the credentials differ (%v)", err)
	}
	entry, err := c.Show(within(t), "w-1")
	if own, _ := r.Show("w-1"); err != nil || entry != own {
		t.Errorf("the entry is shown as %+v (%v)", entry, err)
	}
	if entries, err := c.List(within(t)); err != nil || len(entries) != 1 || entries[0] != entry {
		t.Errorf("listed are %+v (%v)", entries, err)
	}
	must(t, c.Remove(within(t), "w-1"))
	wantChange(t, audit, registry.Change{Verb: "remove", DeviceID: "w-1", Time: added})
	if _, known := r.Device("w-1"); known {
		t.Error("the removed device is served")
	}
}

func wantChange(t *testing.T, audit <-chan registry.Change, want registry.Change) {
	t.Helper()
	select {
	case got := <-audit:
		if got != want {
			t.Errorf("the audit says %+v, want %+v", got, want)
		}
	default:
		t.Error("the audit says nothing")
	}
}

func TestErrorsReachTheOperator(t *testing.T) {
	s := newSite(t)
	audit := s.serve(t, s.replica(t))
	c := s.operator(t)
	_, err := c.Add(within(t), "w-1", "p-1")
	must(t, err)
	<-audit
	_, err = c.Add(within(t), "w-1", "p-1")
	wantError(t, err, registry.ErrExists)
	_, err = c.Add(within(t), "a b", "p-1")
	wantError(t, err, registry.ErrBadID)
	_, err = c.Add(within(t), "w-2", "")
	wantError(t, err, registry.ErrBadID)
	if err == nil || !strings.Contains(err.Error(), "patient id") {
		t.Errorf("%v does not say which id", err)
	}
	_, err = c.Show(within(t), "w-2")
	wantError(t, err, registry.ErrUnknown)
	_, err = c.Credentials(within(t), "w-2")
	wantError(t, err, registry.ErrUnknown)
	err = c.Remove(within(t), "w-2")
	wantError(t, err, registry.ErrUnknown)
	if errors.Is(err, registry.ErrExists) || errors.Is(err, registry.ErrBadID) {
		t.Error("one error is several")
	}
	select {
	case change := <-audit:
		t.Errorf("the audit has what was refused: %+v", change)
	default:
	}
}

func TestListBeyondAPage(t *testing.T) {
	s := newSite(t)
	r := s.replica(t)
	s.serve(t, r)
	const devices = 2*registry.Page + 100
	var adds sync.WaitGroup
	for worker := range 10 {
		adds.Go(func() {
			for n := worker; n < devices; n += 10 {
				if _, err := r.Add(context.Background(), fmt.Sprintf("w-%04d", n), "p-1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	adds.Wait()
	entries, err := s.operator(t).List(within(t))
	must(t, err)
	if len(entries) != devices {
		t.Fatalf("%d are listed, want %d", len(entries), devices)
	}
	for n, e := range entries {
		if want := fmt.Sprintf("w-%04d", n); e.DeviceID != want {
			t.Fatalf("entry %d is %s, want %s", n, e.DeviceID, want)
		}
	}
}

func TestNobodyServes(t *testing.T) {
	s := newSite(t)
	c := s.operator(t)
	_, err := c.Add(within(t), "w-1", "p-1")
	wantError(t, err, registry.ErrNoService)
	_, err = c.List(within(t))
	wantError(t, err, registry.ErrNoService)
	wantError(t, c.Remove(within(t), "w-1"), registry.ErrNoService)
}

// TestRequestsThatAreNone sends what no Client would.
func TestRequestsThatAreNone(t *testing.T) {
	s := newSite(t)
	s.serve(t, s.replica(t))
	url, err := os.ReadFile(engine.URLFile(s.dir, "operator"))
	must(t, err)
	nc, err := nats.Connect(strings.TrimSpace(string(url)))
	must(t, err)
	defer nc.Close()
	for _, text := range []string{"", "{", `{"device_id":1}`, "[]", "\xff"} {
		m, err := nc.Request("gate.registry.show", []byte(text), 10*time.Second)
		must(t, err)
		if code := m.Header.Get("Nats-Service-Error-Code"); code != "400" {
			t.Errorf("%q: error code %q (%s), want 400", text, code, m.Data)
		}
	}
}
