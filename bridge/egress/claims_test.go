package egress_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// TestOneOfManyTells lets many announce at once what nobody has announced, and
// then what follows it.
func TestOneOfManyTells(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	shown, err := d.nc.SubscribeSync("audit.>")
	need(t, err)
	s := d.store(t, 10*time.Second)
	for after := uint64(0); after < 3; after++ {
		var all sync.WaitGroup
		stored := make(chan uint64, 8)
		for range cap(stored) {
			all.Go(func() {
				sequence, ok, err := s.AuditAfter(soon(t), "presence.silent.w-1", map[string]int{"after": int(after)}, after)
				if err != nil {
					t.Error(err)
				}
				if ok {
					stored <- sequence
				}
			})
		}
		all.Wait()
		if len(stored) != 1 || <-stored != after+1 {
			t.Fatalf("not just one of %d has told", cap(stored))
		}
		sequence, data, err := s.LastAudit(soon(t), "presence.silent.w-1")
		if want := `{"after":` + strconv.Itoa(int(after)) + "}"; err != nil || sequence != after+1 || string(data) != want {
			t.Errorf("the last is %d %s (%v), want %s", sequence, data, err, want)
		}
		if m, err := shown.NextMsg(30 * time.Second); err != nil || m.Subject != "audit.presence.silent.w-1" || string(m.Data) != string(data) {
			t.Errorf("shown: %+v (%v)", m, err)
		}
	}
	if n, _, err := shown.Pending(); n != 0 || err != nil {
		t.Errorf("%d more are shown (%v)", n, err)
	}
	if sequence, _, err := s.LastAudit(soon(t), "presence.silent.w-2"); sequence != 0 || err != nil {
		t.Errorf("of another there is %d (%v)", sequence, err)
	}
}

// TestFollowAudit reads what is there, and then what comes, also after NATS has
// been away.
func TestFollowAudit(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, 10*time.Second)
	tell := func(kind string, after uint64) uint64 {
		sequence, stored, err := s.AuditAfter(soon(t), kind, kind, after)
		if err != nil || !stored {
			t.Fatalf("%s: stored %v, %v", kind, stored, err)
		}
		return sequence
	}
	first := tell("presence.silent.w-1", 0)
	tell("presence.silent.w-1", first)
	tell("login.refused", 0)
	tell("presence.clock.w-2", 0)
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(ended)
		s.FollowAudit(ctx, "presence.>", func(kind string, sequence uint64, _ []byte) {
			heard <- kind + " " + strconv.Itoa(int(sequence))
		}, func() { heard <- "caught up" })
	}()
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-heard:
				if got != w {
					t.Fatalf("heard %q, want %q", got, w)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%q is not heard", w)
			}
		}
	}
	expect("presence.silent.w-1 2", "presence.clock.w-2 4", "caught up")
	tell("presence.silent.w-3", 0)
	expect("presence.silent.w-3 5")
	d.stop()
	d.start(t)
	// It may be stored although the first answers are lost.
	for err := errors.New("not tried"); err != nil; {
		_, _, err = s.AuditAfter(soon(t), "presence.silent.w-4", "w-4", 0)
	}
	expect("presence.silent.w-4 6")
	cancel()
	<-ended
}

// TestAnEmptyAuditIsCaughtUpWith at once.
func TestAnEmptyAuditIsCaughtUpWith(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	ctx, cancel := context.WithCancel(t.Context())
	s := d.store(t, 10*time.Second)
	s.FollowAudit(ctx, "presence.>", func(kind string, _ uint64, _ []byte) { t.Errorf("heard %s", kind) }, cancel)
}

func TestLastLive(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, 10*time.Second)
	r := record(1)
	if at, _, err := s.LastLive(soon(t), r.Patient, r.Device); err != nil || !at.IsZero() {
		t.Errorf("before any: %v (%v)", at, err)
	}
	before := time.Now()
	for n := range 3 {
		r = record(n)
		if a := publish(t, s, r); a.err != nil {
			t.Fatal(a.err)
		}
	}
	at, payload, err := s.LastLive(soon(t), r.Patient, r.Device)
	if err != nil || at.Before(before) || string(payload) != string(r.Payload) {
		t.Errorf("at %v: %s (%v)", at, payload, err)
	}
}

// TestAFormerAuditIsRenewed takes over an audit that was made for subscribers who
// saw what was published, not what was stored.
func TestAFormerAuditIsRenewed(t *testing.T) {
	d := openDepot(t)
	d.ensure(t, depotLayout())
	former := d.config(t, "AUDIT")
	former.Subjects, former.SubjectTransform, former.RePublish = []string{"audit.>"}, nil, nil
	d.replace(t, former)
	_, err := d.js.Publish(soon(t), "audit.registry.add", []byte("{}"))
	need(t, err)
	d.ensure(t, depotLayout())
	if c := d.config(t, "AUDIT"); !slices.Equal(c.Subjects, []string{"gate.in.audit.>"}) || c.SubjectTransform == nil || c.RePublish == nil || c.MaxBytes != former.MaxBytes {
		t.Errorf("the audit is %+v", c)
	}
	audit, err := d.js.Stream(soon(t), "AUDIT")
	need(t, err)
	if m, err := audit.GetLastMsgForSubject(soon(t), "audit.registry.add"); err != nil || m.Sequence != 1 {
		t.Errorf("what was there: %v (%v)", m, err)
	}
	changed := d.config(t, "AUDIT")
	changed.RePublish = &jetstream.RePublish{Source: "audit.>", Destination: "elsewhere.>"}
	d.replace(t, changed)
	if _, err := egress.Ensure(soon(t), d.nc, depotLayout()); err == nil {
		t.Error("an audit that nobody sees is taken")
	}
}
