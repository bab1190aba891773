package presence_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

var w1 = &verify.Device{ID: "w-1", Patient: "p-1"}

// fallSilent brings a world of two replicas to where w-1, heard by the first
// with the number 7, has been announced as silent.
func fallSilent(t *testing.T) (w *world, a, b *replica) {
	t.Helper()
	w = newWorld(t)
	w.enrol(w1)
	a, b = w.start(), w.start()
	w.together(a, b)
	w.pass(time.Minute, a, b)
	a.hears("w-1", 7)
	a.stores("p-1", "w-1", 7)
	w.pass(silentAfter-time.Second, a, b)
	w.nothing()
	w.pass(notice, a, b)
	for _, r := range []*replica{a, b} {
		w.until("both know", r.in("w-1", presence.Silent))
	}
	return w, a, b
}

// TestSilentOnce lets a device fall silent that two replicas know, restarts one
// of them, and lets the device be heard by the other.
func TestSilentOnce(t *testing.T) {
	w, a, b := fallSilent(t)
	e := w.next()
	if e.Subject != "audit.presence.silent.w-1" || e.Condition != "silent" || e.State != presence.Begun || e.Device != "w-1" ||
		e.LastSeq == nil || *e.LastSeq != 7 || !e.Since.Equal(e.LastHeard) || e.Time.Sub(e.Since) < silentAfter || e.Time.Sub(e.Since) > silentAfter+notice {
		t.Errorf("announced: %+v", e)
	}
	w.pass(3*silentAfter, a, b)
	w.nothing()

	a.stop()
	c := w.start()
	if !c.in("w-1", presence.Silent)() || c.Counts()["silent"] != 1 || len(c.Troubled()) != 1 {
		t.Errorf("a new replica knows of %v", c.Counts())
	}
	w.pass(2*silentAfter, b, c)
	w.nothing()

	b.hears("w-1", 8)
	w.together(b, c)
	e = w.next()
	// The last reading came at 1 min, this one 25 min later and a notice.
	if want := silentAfter*6 - time.Second + notice; e.State != presence.Over || e.Lasted != want.Seconds() {
		t.Errorf("announced: %+v, lasted %v, want %v", e, e.Lasted, want.Seconds())
	}
	for _, r := range []*replica{b, c} {
		w.until("both know that it is over", not(r.in("w-1", presence.Silent)))
		if n := r.Counts()["silent"]; n != 0 || len(r.Troubled()) != 0 {
			t.Errorf("%v devices are silent", n)
		}
	}
	b.hears("w-1", 9)
	w.pass(silentAfter-time.Second, b, c)
	w.nothing()
}

// TestHeardElsewhere lets a device move from one replica to another, which tells
// so; and to a gate whose message is lost, so that only the store knows.
func TestHeardElsewhere(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a, b := w.start(), w.start()
	a.hears("w-1", 1)
	w.together(a, b)
	for n := range uint64(20) {
		w.pass(silentAfter/3, a, b)
		b.hears("w-1", 2+n)
	}
	w.nothing()
	s, _ := a.Of("w-1")
	if now, _ := w.read(); now.Sub(s.LastHeard) >= silentAfter {
		t.Errorf("the first replica has heard of it last %v ago", now.Sub(s.LastHeard))
	}

	b.stop()
	w.pass(silentAfter+notice, a)
	if e := w.next(); e.State != presence.Begun {
		t.Errorf("announced: %+v", e)
	}
}

// TestTheStoreKnows lets a device be heard by a gate that this one never hears
// of: before it is called silent, the store is asked.
func TestTheStoreKnows(t *testing.T) {
	w := newWorld(t)
	w.advance(-silentAfter)
	w.enrol(w1)
	a := w.start()
	w.together(a)
	w.pass(silentAfter-time.Minute, a)
	a.stores("p-1", "w-1", 41)
	a.stores("p-1", "w-1", 42)
	a.stores("p-2", "w-1", 43) // of another patient: his former device
	w.pass(silentAfter-notice, a)
	w.nothing()
	w.pass(2*time.Minute+2*notice, a)
	if e := w.next(); e.LastSeq == nil || *e.LastSeq != 42 || e.LastHeard.IsZero() {
		t.Errorf("announced: %+v", e)
	}
}

// TestNeverHeard enrols a device while the gate runs.
func TestNeverHeard(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	w.pass(silentAfter, a)
	w.enrol(w1, a)
	w.pass(silentAfter-time.Second, a)
	w.nothing()
	w.pass(notice, a)
	if e := w.next(); e.State != presence.Begun || !e.LastHeard.IsZero() || e.LastSeq != nil || e.Time.Sub(e.Since) < silentAfter || e.Time.Sub(e.Since) > silentAfter+notice {
		t.Errorf("announced: %+v", e)
	}
}

// TestAChangeGivesTimeAnew lets an operator do something about a device that is
// about to fall silent.
func TestAChangeGivesTimeAnew(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a := w.start()
	a.hears("w-1", 1)
	w.pass(silentAfter-time.Minute, a)
	w.enrol(&verify.Device{ID: "w-1", Patient: "p-2"}, a)
	w.pass(silentAfter-time.Second, a)
	w.nothing()
	w.pass(notice, a)
	if e := w.next(); e.State != presence.Begun {
		t.Errorf("announced: %+v", e)
	}
}

// TestWhatCannotBeAnnouncedIsAnnouncedLater takes NATS away for a while.
func TestWhatCannotBeAnnouncedIsAnnouncedLater(t *testing.T) {
	w, a, b := fallSilent(t)
	w.next()
	w.shut()
	a.hears("w-1", 8)
	a.Turn()
	if a.Waiting() != 1 {
		t.Error("nothing waits for NATS")
	}
	w.open()
	a.work()
	// A plain subscriber may be back only after it was shown; the stream is read by
	// whoever follows it.
	w.until("the other replica knows", not(b.in("w-1", presence.Silent)))
}

// TestNobodyIsSilentToAGateThatIsNotReady gives everybody the time anew.
func TestNobodyIsSilentToAGateThatIsNotReady(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a := w.start()
	a.hears("w-1", 1)
	w.pass(silentAfter-time.Minute, a)
	w.unready(errAway)
	w.pass(10*silentAfter, a)
	w.unready(nil)
	w.pass(silentAfter-time.Second, a)
	w.nothing()
	w.pass(notice, a)
	if e := w.next(); e.State != presence.Begun || e.Time.Sub(e.Since) < 10*silentAfter {
		t.Errorf("announced: %+v", e)
	}
}

// TestRevoked ends what is open of a device, and calls nobody silent who may not
// be heard.
func TestRevoked(t *testing.T) {
	w, a, b := fallSilent(t)
	w.next()
	w.enrol(&verify.Device{ID: "w-1", Patient: "p-1", Revoked: true}, a, b)
	w.together(a, b)
	if e := w.next(); e.State != presence.Over || e.Text != "the device is revoked, or not enrolled any more" {
		t.Errorf("announced: %+v", e)
	}
	if _, known := a.Of("w-1"); known || a.Counts()["silent"] != 0 {
		t.Error("a revoked device is known")
	}
	w.pass(3*silentAfter, a, b)
	w.nothing()
	// It is given back, and never heard.
	w.enrol(w1, a, b)
	w.pass(silentAfter-time.Second, a, b)
	w.nothing()
	w.pass(silentAfter/2+notice, a, b)
	if e := w.next(); e.State != presence.Begun {
		t.Errorf("announced: %+v", e)
	}
	w.nothing()
}

// TestRemovedWhileNobodyRan ends what is open of a device that is not there.
func TestRemovedWhileNobodyRan(t *testing.T) {
	w, a, b := fallSilent(t)
	w.next()
	a.stop()
	b.stop()
	w.remove("w-1")
	c, d := w.start(), w.start()
	w.together(c, d)
	if e := w.next(); e.State != presence.Over || e.Device != "w-1" {
		t.Errorf("announced: %+v", e)
	}
	w.together(c, d)
	w.nothing()
}

// TestTheAuditForgets takes away what has been announced.
func TestTheAuditForgets(t *testing.T) {
	w, a, b := fallSilent(t)
	w.next()
	w.forgetAudit()
	a.hears("w-1", 8)
	w.together(a, b)
	if e := w.next(); e.State != presence.Over {
		t.Errorf("announced: %+v", e)
	}
}

// TestHeardWhileItIsAnnounced lets a replica hear a device of which another
// announces, not knowing that, that it is silent.
func TestHeardWhileItIsAnnounced(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a, b := w.start(), w.start()
	w.together(a, b)
	w.pass(silentAfter-time.Second, a, b)
	b.hears("w-1", 1) // which it has not told yet
	w.pass(notice, a)
	if e := w.next(); e.State != presence.Begun || e.Replica != "gate-1" {
		t.Errorf("announced: %+v", e)
	}
	w.until("the other replica knows", b.in("w-1", presence.Silent))
	w.together(b)
	if e := w.next(); e.State != presence.Over || e.Replica != "gate-2" {
		t.Errorf("announced: %+v", e)
	}
}
