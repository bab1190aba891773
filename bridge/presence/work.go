package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var errNotReady = errors.New("this replica cannot judge now")

// turn does what is due. Only one goroutine calls it.
func (w *Watch) turn() {
	now, ok := w.judging()
	if !ok {
		return
	}
	w.takeFresh(now)
	w.tell(w.sweep(now))
	w.settleSome()
}

// judging returns the time, and whether this replica may judge. While it may
// not, nobody's readings arrive.
func (w *Watch) judging() (now int64, ok bool) {
	t, doubt := w.options.Now()
	now = t.UnixMicro()
	if doubt != nil || w.options.Ready() != nil {
		w.epoch = now
		return now, false
	}
	return now, true
}

func (w *Watch) takeFresh(now int64) {
	var fresh []*record
	w.hand(func() { fresh, w.work.fresh = w.work.fresh, nil })
	for _, d := range fresh {
		w.wheel.place(d, now+w.half())
	}
}

// half is half of SilentAfter in microseconds, after which every record is
// looked at: soon enough for the others to hear in time who has been heard here.
func (w *Watch) half() int64 { return w.options.SilentAfter.Microseconds() / 2 }

// sweep looks at the records whose slots have ended, and returns those that the
// other replicas should hear of.
func (w *Watch) sweep(now int64) (heard []*record) {
	w.hand(func() { heard, w.work.arrived = w.work.arrived, nil })
	w.wheel.turn(now, func(d *record) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.flags&gone != 0 {
			return
		}
		next := now + w.half()
		if d.flags&mine != 0 && d.heard >= now-w.half()-2*w.wheel.width {
			heard = append(heard, d)
		}
		if due := w.due(d); due > now {
			next = min(next, due)
		} else if d.start(Silent); d.queue() {
			w.enqueue(d)
		}
		w.wheel.place(d, next)
	})
	return heard
}

// due is when a device is silent.
func (w *Watch) due(d *record) int64 {
	return max(d.heard, d.since, w.epoch) + w.options.SilentAfter.Microseconds()
}

// settleSome announces what is queued, but not so much that sweeping waits.
func (w *Watch) settleSome() {
	var batch []*record
	w.hand(func() {
		n := min(len(w.work.queue), perSecond)
		batch = w.work.queue[:n:n]
		w.work.queue = w.work.queue[n:]
		if len(w.work.queue) == 0 {
			w.work.queue = nil // an array of a bad day is not kept
		}
	})
	for i, d := range batch {
		if err := w.settle(d); err != nil {
			// The next turn tries again.
			w.hand(func() { w.work.queue = append(w.work.queue, batch[i+1:]...) })
			if w.ctx.Err() == nil && !errors.Is(err, errNotReady) {
				w.options.Log.Warn().Err(err).Str("device", d.id).Msg("a device's trouble, or its end, cannot be announced yet")
			}
			return
		}
	}
	if len(batch) == perSecond {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// settle announces what a record has to announce. What fails stays queued.
func (w *Watch) settle(d *record) error {
	if err := w.limiter.Wait(w.ctx); err != nil {
		return err
	}
	d.mu.Lock()
	begins, ends := d.begins, d.ends
	d.begins, d.ends = 0, 0
	d.flags &^= queued
	d.mu.Unlock()
	for c := range conditions {
		var err error
		switch {
		case begins.has(c):
			err = w.begin(d, c)
		case ends.has(c):
			err = w.announce(d, c, w.over)
		}
		if err != nil {
			w.restore(d, begins, ends)
			return err
		}
		begins.drop(c)
		ends.drop(c)
	}
	return nil
}

// restore queues again what could not be announced, unless it is otherwise now.
func (w *Watch) restore(d *record, begins, ends troubles) {
	d.mu.Lock()
	d.begins |= begins &^ (d.ends | d.open)
	d.ends |= ends & d.open &^ d.begins
	queue := d.queue()
	d.mu.Unlock()
	if queue {
		w.hand(func() { w.work.queue = append(w.work.queue, d) })
	}
}

// begin announces that a trouble has begun. That a device is silent is asked of
// the store first: it may have been heard elsewhere.
func (w *Watch) begin(d *record, c Condition) error {
	if c != Silent {
		return w.announce(d, c, w.begun)
	}
	known, ok := w.options.Directory.Device(d.id)
	if !ok || known.Revoked {
		return nil // Changed is about to be told
	}
	ctx, cancel := context.WithTimeout(w.ctx, askLimit)
	defer cancel()
	stored, payload, err := w.options.Journal.LastLive(ctx, known.Patient, d.id)
	if err != nil {
		return fmt.Errorf("asking when it was last heard: %w", err)
	}
	if !stored.IsZero() {
		d.heardAt(stored.UnixMicro())
	}
	return w.announce(d, c, func(d *record, c Condition, now int64) (Event, bool) {
		e, still := w.begun(d, c, now)
		if e.LastSeq == nil {
			e.LastSeq = seqOf(payload)
		}
		return e, still
	})
}

// storedLater is how long after a reading was judged it may be stored.
const storedLater = 30 * time.Second

// heardAt takes in when the store got the last reading.
func (d *record) heardAt(stored int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if stored-d.heard > storedLater.Microseconds() {
		d.elsewhere(stored)
	}
	d.heard = max(d.heard, stored)
}

// seqOf takes the number, and nothing else, out of a stored reading.
func seqOf(payload []byte) *uint64 {
	var r struct {
		Seq *uint64 `json:"seq"`
	}
	if json.Unmarshal(payload, &r) != nil {
		return nil
	}
	return r.Seq
}

// attempts is how often an announcement is tried where others announce too.
const attempts = 3

// announce stores the event that make makes, if that still stands. If another
// replica has stored one that this one does not know yet, it learns that first.
func (w *Watch) announce(d *record, c Condition, make func(*record, Condition, int64) (Event, bool)) error {
	for range attempts {
		now, ok := w.judging()
		if !ok {
			return errNotReady
		}
		d.mu.Lock()
		e, stands := make(d, c, now)
		after := d.more().told[c].sequence
		d.mu.Unlock()
		if !stands {
			return nil
		}
		sequence, stored, err := w.options.Journal.AuditAfter(w.ctx, kind(c, d.id), e, after)
		if err != nil {
			return err
		}
		if stored {
			w.apply(d, c, &e, sequence)
			return nil
		}
		if err := w.learnLast(d, c); err != nil {
			return err
		}
	}
	return errors.New("other replicas announce at the same time")
}

// learnLast learns what was announced last of a device. The audit may also have
// forgotten what this replica knows.
func (w *Watch) learnLast(d *record, c Condition) error {
	sequence, data, err := w.options.Journal.LastAudit(w.ctx, kind(c, d.id))
	if err != nil {
		return fmt.Errorf("asking what has been announced: %w", err)
	}
	if sequence > 0 {
		w.learnOf(d, c, sequence, data)
		return nil
	}
	d.mu.Lock()
	d.more().told[c].sequence = 0
	d.mu.Unlock()
	return nil
}
