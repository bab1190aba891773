package presence

import (
	"fmt"
	"strings"
	"time"
)

// Condition is a kind of trouble. The set is closed, and spelled the same in
// subjects, events and metrics.
type Condition uint8

const (
	// Silent is a device of which no current reading has come.
	Silent Condition = iota
	// Refused is one of which everything is refused.
	Refused
	// Clock is one whose clock is off.
	Clock

	conditions
)

var conditionNames = [conditions]string{"silent", "refused", "clock"}

// String returns the condition's one spelling.
func (c Condition) String() string {
	if c < conditions {
		return conditionNames[c]
	}
	return fmt.Sprintf("condition(%d)", uint8(c))
}

// The values of Event.State.
const (
	Begun = "begun"
	Over  = "over"
)

// Event is what the audit holds of a trouble, on audit.presence.<condition>.<device>.
type Event struct {
	Condition string `json:"condition"`
	State     string `json:"state"`
	Device    string `json:"device_id"`
	// Time is when it was found, and Since when the trouble began: for Silent when
	// the last reading came, or since when the first is missed; for Refused when
	// the first was refused.
	Time  time.Time `json:"time"`
	Since time.Time `json:"since"`
	// Lasted is, in seconds, how long it took, once it is over.
	Lasted float64 `json:"lasted_s,omitempty"`
	// LastHeard is when the last current reading came, LastSeq its number, and
	// Missing how many numbers this replica has missed since it runs.
	LastHeard time.Time `json:"last_heard,omitzero"`
	LastSeq   *uint64   `json:"last_seq,omitempty"`
	Missing   uint64    `json:"missing,omitempty"`
	// Outcome is what Count of Of were refused for.
	Outcome string `json:"outcome,omitempty"`
	Count   uint32 `json:"count,omitempty"`
	Of      uint32 `json:"of,omitempty"`
	// Behind is by how many seconds the device's clock is behind; negative is ahead.
	Behind float64 `json:"clock_behind_s,omitempty"`
	// Text says it in words, with what to do.
	Text    string `json:"text"`
	Replica string `json:"replica"`
}

// kind is what stands behind "audit." in the subject.
func kind(c Condition, device string) string { return kinds + c.String() + "." + device }

// kinds begins all of them.
const kinds = "presence."

// parseKind is kind reversed.
func parseKind(kind string) (c Condition, device string, ok bool) {
	name, device, ok := strings.Cut(strings.TrimPrefix(kind, kinds), ".")
	for c := range conditions {
		if ok && c.String() == name {
			return c, device, true
		}
	}
	return 0, "", false
}

func at(microseconds int64) time.Time {
	if microseconds == 0 {
		return time.Time{}
	}
	return time.UnixMicro(microseconds).UTC()
}

// begun is the event of a trouble that begins now, if it does, and nobody has
// announced it. The caller holds the record's lock.
func (w *Watch) begun(d *record, c Condition, now int64) (Event, bool) {
	e := w.event(d, c, now)
	e.State, e.Since = Begun, e.Time
	stands := !d.open.has(c) && d.flags&gone == 0
	switch c {
	case Silent:
		stands = stands && w.due(d) <= now
		if e.Since = e.LastHeard; d.heard == 0 {
			e.Since = at(max(d.since, w.epoch))
		}
		e.Text = "no current reading for " + between(e.Since, e.Time) + ": look whether the device is worn, charged and in coverage"
	case Refused:
		t := &d.more().tally
		o, of, all := t.prevailing()
		stands = stands && all > 0
		e.Since, e.Outcome, e.Count, e.Of = at(t.since), o.String(), of, all
		e.Text = "nothing that it has sent for " + between(e.Since, e.Time) + " is accepted: " + advice(o)
	case Clock:
		way, off := "behind", d.behind.duration()
		if off < 0 {
			way, off = "ahead", -off
		}
		e.Text = fmt.Sprintf("its clock is %v %s: set it, or see what delays its readings", off, way)
	}
	return e, stands
}

// over is the event of a trouble that has ended, unless somebody has announced
// that. The caller holds the record's lock.
func (w *Watch) over(d *record, c Condition, now int64) (Event, bool) {
	e := w.event(d, c, now)
	e.State, e.Since = Over, at(d.more().told[c].since)
	ended := e.Time
	if c == Silent && d.flags&gone == 0 {
		ended = e.LastHeard
	}
	lasted := between(e.Since, ended)
	e.Lasted = max(ended.Sub(e.Since), 0).Seconds()
	switch {
	case d.flags&gone != 0:
		e.Text = "the device is revoked, or not enrolled any more"
	case c == Silent:
		e.Text = "heard again after " + lasted
	case c == Refused:
		e.Text = "accepted again after " + lasted
	default:
		e.Text = "its clock is right again after " + lasted
	}
	return e, d.open.has(c)
}

func (w *Watch) event(d *record, c Condition, now int64) Event {
	e := Event{
		Condition: c.String(), Device: d.id, Time: at(now), LastHeard: at(d.heard), Missing: d.gaps,
		Behind: d.behind.duration().Seconds(), Replica: w.options.Replica,
	}
	if d.flags&counting != 0 {
		seq := d.seq
		e.LastSeq = &seq
	}
	return e
}

func between(from, to time.Time) string { return max(to.Sub(from), 0).Round(time.Second).String() }
