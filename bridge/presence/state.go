package presence

import (
	"cmp"
	"slices"
	"time"
)

// State is what this replica knows of a device.
type State struct {
	Device string
	// LastHeard is when the last current reading came, to whichever replica; zero
	// is never, as far as this one knows.
	LastHeard time.Time
	// Troubles are those that have been announced and are not over, with the time
	// since when.
	Troubles map[Condition]time.Time
	// Behind is how far the device's clock is behind by the last readings that this
	// replica had of it; negative is ahead.
	Behind time.Duration
	// LastSeq is the number of the last reading, if HasSeq: this replica had it.
	LastSeq uint64
	HasSeq  bool
	// Missing is how many numbers this replica has missed since it runs. What was
	// missing may have come late.
	Missing uint64
}

// Of returns the state of a device that is enrolled and not revoked.
func (w *Watch) Of(device string) (State, bool) {
	if w == nil {
		return State{}, false
	}
	d := w.find(device)
	if d == nil {
		return State{}, false
	}
	return d.state(), true
}

func (d *record) state() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{
		Device: d.id, LastHeard: at(d.heard), Behind: d.behind.duration(),
		LastSeq: d.seq, HasSeq: d.flags&counting != 0, Missing: d.gaps,
	}
	for c := range conditions {
		if d.open.has(c) {
			if s.Troubles == nil {
				s.Troubles = make(map[Condition]time.Time)
			}
			s.Troubles[c] = at(d.rest.told[c].since)
		}
	}
	return s
}

// Troubled returns the states of the devices in trouble, sorted by id.
func (w *Watch) Troubled() []State {
	if w == nil {
		return nil
	}
	var all []State
	for _, d := range w.inTrouble() {
		all = append(all, d.state())
	}
	slices.SortFunc(all, func(a, b State) int { return cmp.Compare(a.Device, b.Device) })
	return all
}

func (w *Watch) inTrouble() []*record {
	w.troubled.Lock()
	defer w.troubled.Unlock()
	all := make([]*record, 0, len(w.troubled.records))
	for d := range w.troubled.records {
		all = append(all, d)
	}
	return all
}

// Counts is how many devices are in each trouble.
func (w *Watch) Counts() map[string]float64 {
	counts := make(map[string]float64, conditions)
	for _, name := range conditionNames {
		counts[name] = 0
	}
	for _, d := range w.inTrouble() {
		d.mu.Lock()
		open := d.open
		d.mu.Unlock()
		for c := range conditions {
			if open.has(c) {
				counts[c.String()]++
			}
		}
	}
	return counts
}

// Missing is how many numbers of readings this replica has missed, of all
// devices. It never falls.
func (w *Watch) Missing() uint64 { return w.missing.Load() }
