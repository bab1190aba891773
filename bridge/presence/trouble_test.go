package presence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// refuses lets a replica refuse so many messages of w-1, evenly over a time.
func (r *replica) refuses(o verify.Outcome, n int, over time.Duration) {
	for range n {
		now, _ := r.world.read()
		r.Refused(&r.held, "w-1", o, now, time.Time{})
		r.world.advance(over / time.Duration(n))
	}
	r.world.together(r)
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	w.change = func(o *presence.Options) { o.SilentAfter = 0 }
	a, b := w.start(), w.start()
	a.refuses(verify.BadSignature, 4, 10*refusedAfter)
	w.nothing() // too few
	a.hears("w-1", 1)
	a.refuses(verify.BadSignature, 50, refusedAfter)
	w.nothing() // too short: the last came a moment before the minute was over
	a.refuses(verify.Malformed, 1, 0)
	e := w.next()
	if e.Subject != "audit.presence.refused.w-1" || e.State != presence.Begun || e.Outcome != "bad_signature" || e.Count != 50 || e.Of != 51 ||
		e.Time.Sub(e.Since) != refusedAfter || !strings.Contains(e.Text, "pair it again") {
		t.Errorf("announced: %+v", e)
	}
	w.until("the other replica knows", b.in("w-1", presence.Refused))
	b.refuses(verify.BadSignature, 50, 2*refusedAfter)
	a.refuses(verify.BadSignature, 50, 2*refusedAfter)
	w.nothing()
	if n := b.Counts()["refused"]; n != 1 {
		t.Errorf("%v devices are refused", n)
	}

	now, _ := w.read()
	b.Late(&b.held, "w-1", presence.Sighting{Received: now, Measured: now.Add(-time.Hour)})
	w.together(a, b)
	if e := w.next(); e.State != presence.Over || e.Lasted < (5*refusedAfter).Seconds() || e.Replica != "gate-2" {
		t.Errorf("announced: %+v", e)
	}
	w.until("the first knows that it is over", not(a.in("w-1", presence.Refused)))
	w.together(a, b)
	w.nothing()
}

// TestRefusedThenAccepted has nothing to tell: one was accepted before anybody
// could be told.
func TestRefusedThenAccepted(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	w.change = func(o *presence.Options) { o.SilentAfter = 0 }
	a := w.start()
	for range 10 {
		now, _ := w.read()
		a.Refused(&a.held, "w-1", verify.Future, now, time.Time{})
		w.advance(refusedAfter)
	}
	a.hears("w-1", 1)
	w.together(a)
	w.nothing()
}

// sends lets a replica take in readings, one a second, of these ages; those
// older than a minute are late.
func (r *replica) sends(ages ...time.Duration) {
	for _, age := range ages {
		now, _ := r.world.read()
		s := presence.Sighting{Received: now, Measured: now.Add(-age)}
		switch {
		case age < -5*time.Second:
			r.Refused(&r.held, "w-1", verify.Future, now, s.Measured)
		case age > time.Minute:
			r.Late(&r.held, "w-1", s)
		default:
			r.Live(&r.held, "w-1", s)
		}
		r.world.advance(time.Second)
	}
	r.world.together(r)
}

// repeat is so many readings that are equally old.
func repeat(n int, age time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = age
	}
	return all
}

const full = 31 // seconds, and so readings, that a window takes

func TestClocksThatAreOff(t *testing.T) {
	for name, c := range map[string]struct {
		ages   []time.Duration
		behind float64 // as announced, 0 is not announced
	}{
		"right":                       {repeat(4*full, 200*time.Millisecond), 0},
		"behind, a little":            {repeat(4*full, 9*time.Second), 0},
		"behind":                      {repeat(full, 12*time.Second), 12},
		"behind, not for a window":    {repeat(full-1, 12*time.Second), 0},
		"ahead, a little":             {repeat(4*full, -4*time.Second), 0},
		"ahead, and refused":          {repeat(full, -20*time.Second), -20},
		"behind, and late":            {repeat(full, time.Hour), 3600},
		"years behind, and late":      {repeat(full, 300*24*time.Hour), 2147483.647},
		"slow network":                {append(repeat(full-1, 40*time.Second), 300*time.Millisecond), 0},
		"one that is wrong":           {append(repeat(full-1, 300*time.Millisecond), -time.Hour), 0},
		"one right, many in the past": {append(repeat(2*full-1, 12*time.Second)[:full-1], time.Second), 0},
		"what was kept for hours":     {falling(4*full, 2*time.Hour, 49*time.Second, time.Second), 0},
		"a minute's burst at its end": {falling(4*full, 59*time.Second, time.Second, time.Second), 0},
		"behind, with bursts":         {append(falling(full-1, 49*time.Second, 2*time.Second, 31*time.Second), 49*time.Second), 31},
		"a second behind, then a lot": {append(repeat(full, time.Second), repeat(full, 15*time.Second)...), 15},
		"catching up, not there yet":  {falling(full, 100*time.Second, 2*time.Second, time.Second), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.enrol(w1)
			a := w.start()
			a.sends(c.ages...)
			if c.behind == 0 {
				w.skipRefused()
				return
			}
			e := w.next()
			for e.Condition == "refused" {
				e = w.next()
			}
			if e.Condition != "clock" || e.State != presence.Begun || e.Behind != c.behind {
				t.Errorf("announced: %+v", e)
			}
			if s, _ := a.Of("w-1"); s.Behind.Seconds() != c.behind {
				t.Errorf("its clock is %v behind", s.Behind)
			}
		})
	}
}

// falling is a burst of what was kept: each reading is less old than the one
// before, and then it begins anew.
func falling(n int, from, step, to time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i, age := 0, from; i < n; i++ {
		all[i] = age
		if age -= step; age < to {
			age = from
		}
	}
	return all
}

// skipRefused makes sure that nothing has been announced but refusals.
func (w *world) skipRefused() {
	w.t.Helper()
	need(w.t, w.conn.Publish("audit.presence.end", nil))
	for _, e := range w.all("audit.presence.end") {
		if !strings.HasPrefix(e, "audit.presence.refused.") {
			w.t.Errorf("announced: %s", e)
		}
	}
}

// TestAClockThatIsSet tells so once, whichever replica finds it.
func TestAClockThatIsSet(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	a, b := w.start(), w.start()
	a.sends(repeat(3*full, 20*time.Second)...)
	if e := w.next(); e.State != presence.Begun || e.Text != "its clock is 20s behind: set it, or see what delays its readings" {
		t.Errorf("announced: %+v", e)
	}
	w.until("the other replica knows", b.in("w-1", presence.Clock))
	b.sends(repeat(full, 20*time.Second)...)
	w.nothing()
	b.sends(repeat(full, 9*time.Second)...)
	if e := w.next(); e.State != presence.Over || e.Lasted < 2*full-1 || e.Replica != "gate-2" {
		t.Errorf("announced: %+v", e)
	}
	b.sends(repeat(2*full, 0)...)
	w.nothing()
}

// TestOff looks for nothing.
func TestOff(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	w.change = func(o *presence.Options) { o.SilentAfter, o.RefusedAfter, o.ClockDrift = 0, 0, 0 }
	a := w.start()
	a.sends(repeat(2*full, 20*time.Second)...)
	a.refuses(verify.BadSignature, 50, 2*refusedAfter)
	w.pass(3*silentAfter, a)
	w.nothing()
	if s, known := a.Of("w-1"); !known || s.LastHeard.IsZero() {
		t.Errorf("of the device it knows %+v", s)
	}
}

// TestUnreadableAnnouncement lets the audit hold what no replica can read: it
// neither keeps that device's trouble from being announced, nor another's.
func TestUnreadableAnnouncement(t *testing.T) {
	w := newWorld(t)
	w.enrol(w1)
	w.enrol(&verify.Device{ID: "w-2", Patient: "p-2"})
	w.change = func(o *presence.Options) { o.SilentAfter = 0 }
	need(t, w.conn.Publish("gate.in.audit.presence.refused.w-1", []byte(`{"time":1}`)))
	need(t, w.conn.Flush())
	_, err := w.events.NextMsg(patience) // what cannot be read
	need(t, err)
	a := w.start()
	for _, device := range []string{"w-1", "w-2"} {
		var held presence.Held
		for range 10 {
			now, _ := w.read()
			a.Refused(&held, device, verify.BadSignature, now, time.Time{})
			w.advance(refusedAfter)
		}
	}
	for range 5 {
		a.Turn()
	}
	for _, device := range []string{"w-1", "w-2"} {
		if e := w.next(); e.Device != device || e.State != presence.Begun {
			t.Errorf("announced: %+v", e)
		}
	}
	w.nothing()
}
