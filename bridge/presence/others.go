package presence

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

const (
	// subjectHeard is where replicas tell each other whom they have heard.
	subjectHeard = "gate.presence"
	// heardTogether is how many devices one such message names.
	heardTogether = 500
)

// hearsay is such a message: devices, and when the last current reading of each
// came, in microseconds since 1970.
type hearsay struct {
	Instance string   `json:"instance"`
	Devices  []string `json:"devices"`
	Heard    []int64  `json:"heard"`
}

func (w *Watch) listen() error {
	var err error
	w.told, err = w.options.Conn.Subscribe(subjectHeard, w.hear)
	if err != nil {
		return fmt.Errorf("listening to whom other replicas hear: %w", err)
	}
	return nil
}

// tell names records to the others, who ask the store if it is lost.
func (w *Watch) tell(heard []*record) {
	for len(heard) > 0 {
		n := min(len(heard), heardTogether)
		one := hearsay{Instance: w.instance}
		for _, d := range heard[:n] {
			d.mu.Lock()
			one.Devices, one.Heard = append(one.Devices, d.id), append(one.Heard, d.heard)
			d.mu.Unlock()
		}
		heard = heard[n:]
		if data, err := json.Marshal(one); err == nil {
			_ = w.options.Conn.Publish(subjectHeard, data)
		}
	}
}

// hear takes in what another replica tells.
func (w *Watch) hear(m *nats.Msg) {
	var one hearsay
	if json.Unmarshal(m.Data, &one) != nil || one.Instance == w.instance || len(one.Heard) != len(one.Devices) {
		return
	}
	for i, id := range one.Devices {
		if d := w.find(id); d != nil {
			d.mu.Lock()
			if one.Heard[i] > d.heard {
				d.elsewhere(one.Heard[i])
			}
			d.mu.Unlock()
		}
	}
	w.learned()
}

// elsewhere notes that another replica has heard the device since this one. So
// this one does not know what its number was.
func (d *record) elsewhere(heard int64) {
	d.heard = heard
	d.flags &^= mine | counting
}

// follow learns what has been announced, by this replica or another.
func (w *Watch) follow() {
	w.options.Journal.FollowAudit(w.ctx, kinds+">", w.learn, func() { close(w.caughtUp) })
}

func (w *Watch) learned() {
	if w.options.Learned != nil {
		w.options.Learned()
	}
}

// learn takes in an announcement. What is open of a device that is not enrolled
// any more, since nobody ran who could have ended it, is ended now.
func (w *Watch) learn(kind string, sequence uint64, data []byte) {
	defer w.learned()
	c, device, ok := parseKind(kind)
	if !ok {
		return
	}
	d := w.find(device)
	if d == nil {
		select {
		case <-w.caughtUp:
			return
		default:
			d = &record{id: device, flags: gone}
		}
	}
	w.learnOf(d, c, sequence, data)
}

func (w *Watch) learnOf(d *record, c Condition, sequence uint64, data []byte) {
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		w.options.Log.Warn().Str("device", d.id).Msg("an announcement in the audit cannot be read")
		// What is to be announced next comes after it all the same.
		d.mu.Lock()
		t := &d.more().told[c]
		t.sequence = max(t.sequence, sequence)
		d.mu.Unlock()
		return
	}
	w.apply(d, c, &e, sequence)
}

// apply takes in an announcement that has been stored. If this replica knows
// that the trouble is over already, which who announced it did not, it says so.
func (w *Watch) apply(d *record, c Condition, e *Event, sequence uint64) {
	d.mu.Lock()
	told := &d.more().told[c]
	if sequence <= told.sequence {
		d.mu.Unlock()
		return
	}
	told.sequence, told.since = sequence, e.Since.UnixMicro()
	if e.State == Begun {
		d.open.add(c)
		d.begins.drop(c)
		if d.flags&gone != 0 || d.outlived(c, e) {
			d.ends.add(c)
		}
	} else {
		d.open.drop(c)
		d.ends.drop(c)
		if c == Silent && e.LastHeard.UnixMicro() > d.heard {
			d.elsewhere(e.LastHeard.UnixMicro())
		}
	}
	inTrouble, queue := inTrouble(d.open != 0 && d.flags&gone == 0), d.queue()
	d.mu.Unlock()
	w.note(d, inTrouble)
	if queue {
		w.enqueue(d)
	}
}

// outlived says whether a device has been heard since the event that announces
// its trouble was made.
func (d *record) outlived(c Condition, e *Event) bool {
	switch c {
	case Silent:
		return d.heard > max(e.LastHeard.UnixMicro(), e.Since.UnixMicro())
	case Refused:
		return d.flags&mine != 0 && d.heard > e.Time.UnixMicro()
	}
	return false
}
