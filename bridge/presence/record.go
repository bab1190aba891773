package presence

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Sighting is what an authentic reading shows of its device.
type Sighting struct {
	// Received is when the gate judged the reading, Measured its signed timestamp.
	Received, Measured time.Time
	// Seq counts the device's readings, if HasSeq.
	Seq    uint64
	HasSeq bool
	Way    Way
}

// Way is how readings come, which says what a replica can tell from those that it
// gets.
type Way uint8

const (
	// ByConnection is a connection of the device or a gateway: this replica gets
	// all of its readings until it goes elsewhere.
	ByConnection Way = iota
	// ByBroker is another broker, which sends each reading to every replica.
	ByBroker
	// InTurns is another broker from which each replica gets a part, so that none
	// can tell what is missing.
	InTurns
)

// What a record notes of itself.
const (
	// mine is set while no other replica has heard the device since this one.
	mine uint8 = 1 << iota
	// counting is set while seq is that of the reading before the next.
	counting
	// queued is set while the record waits to be looked at.
	queued
	// gone is set once the device is not enrolled any more, or revoked.
	gone
)

// record is what this replica keeps of a device: little, since there may be a
// hundred thousand of them. Times are in microseconds since 1970.
type record struct {
	id string
	mu sync.Mutex
	// heard is when the last current reading came, as far as is known, and since
	// when the device was last given the time to be heard.
	heard, since int64
	// stamp and seq are of the reading that the next is counted from.
	stamp int64
	seq   uint64
	// gaps is how many numbers were missing.
	gaps uint64
	rest *rest
	// behind is how far the device's clock is behind, by the last full window.
	behind milliseconds
	window window
	flags  uint8
	// open are the troubles that have been announced; begins and ends are those to
	// be announced as begun and as over.
	open, begins, ends troubles
}

// rest is what only those have that are, or were, in trouble.
type rest struct {
	tally tally
	told  [conditions]told
}

// told is what is known of the last event of a condition.
type told struct {
	sequence uint64
	// since is when the trouble began.
	since int64
}

// troubles is a set of conditions.
type troubles uint8

// inTrouble says whether there is any.
type inTrouble bool

func (t troubles) has(c Condition) bool { return t&(1<<c) != 0 }
func (t *troubles) add(c Condition)     { *t |= 1 << c }
func (t *troubles) drop(c Condition)    { *t &^= 1 << c }

func (d *record) more() *rest {
	if d.rest == nil {
		d.rest = &rest{}
	}
	return d.rest
}

// Held is the device's record in the hands of its connection, which saves looking
// it up for every reading. Its zero value holds none.
type Held struct{ record atomic.Pointer[record] }

// take returns the record of a device, locked; nil if the device is not known.
func (w *Watch) take(h *Held, device string) *record {
	if w == nil {
		return nil
	}
	if d := h.record.Load(); d != nil && d.id == device {
		d.mu.Lock()
		if d.flags&gone == 0 {
			return d
		}
		d.mu.Unlock()
	}
	d := w.find(device)
	if d != nil {
		h.record.Store(d)
		d.mu.Lock()
	}
	return d
}

// Live takes in a current reading that has been stored.
func (w *Watch) Live(h *Held, device string, s Sighting) {
	d := w.take(h, device)
	if d == nil {
		return
	}
	arrived := s.Way == ByConnection && d.flags&mine == 0
	w.count(d, &s)
	d.heard = max(d.heard, s.Received.UnixMicro())
	d.flags |= mine
	d.finish(Silent)
	queue := d.accepted(w, &s)
	d.mu.Unlock()
	if arrived {
		w.hand(func() { w.work.arrived = append(w.work.arrived, d) })
	}
	if queue {
		w.enqueue(d)
	}
}

// Copy takes in a current reading that another replica may have stored.
func (w *Watch) Copy(h *Held, device string, s Sighting) {
	if d := w.take(h, device); d != nil {
		w.count(d, &s)
		d.mu.Unlock()
	}
}

func (w *Watch) count(d *record, s *Sighting) {
	if missing := d.count(s); missing > 0 {
		w.missing.Add(missing)
	}
}

// Late takes in a late reading that has been stored. It is no sign of life,
// since nobody looks after a patient by it, but shows that not all is refused.
func (w *Watch) Late(h *Held, device string, s Sighting) {
	d := w.take(h, device)
	if d == nil {
		return
	}
	queue := d.accepted(w, &s)
	d.mu.Unlock()
	if queue {
		w.enqueue(d)
	}
}

func (d *record) accepted(w *Watch, s *Sighting) (queue bool) {
	if d.rest != nil {
		d.rest.tally = tally{}
	}
	d.finish(Refused)
	d.weigh(w.options.ClockDrift, s.Received, s.Measured)
	return d.queue()
}

// Refused takes in that something was refused which the device certainly sent
// itself. measured is the signed timestamp, zero unless it is authentic.
func (w *Watch) Refused(h *Held, device string, o verify.Outcome, received, measured time.Time) {
	d := w.take(h, device)
	if d == nil {
		return
	}
	if after := w.options.RefusedAfter; after > 0 && d.more().tally.add(o, received, after) {
		d.start(Refused)
	}
	if !measured.IsZero() {
		d.weigh(w.options.ClockDrift, received, measured)
	}
	queue := d.queue()
	d.mu.Unlock()
	if queue {
		w.enqueue(d)
	}
}

// start and finish note what is to be announced, unless it has been.
func (d *record) start(c Condition) {
	d.ends.drop(c)
	if !d.open.has(c) {
		d.begins.add(c)
	}
}

func (d *record) finish(c Condition) {
	d.begins.drop(c)
	if d.open.has(c) {
		d.ends.add(c)
	}
}

// queue says whether the record is to be queued, and notes that it is.
func (d *record) queue() bool {
	if d.flags&queued != 0 || d.begins|d.ends == 0 {
		return false
	}
	d.flags |= queued
	return true
}

// mostMissing is by how much a number may be ahead for those between to count as
// missing, 12 days of one a second. A counter further ahead has been set.
const mostMissing = 1 << 20

// count returns how many numbers are missing before a reading's. One that is
// less was sent earlier and came later, or the device has begun to count anew.
func (d *record) count(s *Sighting) (missing uint64) {
	if s.Way == InTurns || !s.HasSeq {
		return 0
	}
	stamp := s.Measured.UnixMicro()
	if d.flags&counting != 0 {
		switch ahead := s.Seq - d.seq; {
		case s.Seq > d.seq && ahead <= mostMissing:
			missing = ahead - 1
		case s.Seq <= d.seq && stamp <= d.stamp:
			return 0
		}
	}
	d.seq, d.stamp = s.Seq, stamp
	d.flags |= counting
	d.gaps += missing
	return missing
}

// restart gives a device the time to be heard anew.
func (d *record) restart(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since = now.UnixMicro()
}

// leave ends everything about a device that is not to be heard any more, and
// says whether somebody is to be told.
func (d *record) leave() (queue bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flags |= gone
	d.begins, d.ends = 0, d.open
	return d.queue()
}
