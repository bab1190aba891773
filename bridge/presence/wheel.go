package presence

import "time"

// slots is how many slots of the wheel pass until a device is silent: as much
// later than due it is noticed.
const slots = 128

// wheel holds records by when they are to be looked at, in slots that come up
// one after another. Times are in microseconds since 1970. It is not safe for
// concurrent use.
type wheel struct {
	width int64
	next  int64
	all   [][]*record
}

// newWheel returns a wheel that holds records for as long as after. If that is 0
// it holds none.
func newWheel(after time.Duration, now int64) *wheel {
	if after <= 0 {
		return &wheel{}
	}
	width := max(after.Microseconds()/slots, 1)
	return &wheel{width: width, next: now / width, all: make([][]*record, slots+2)}
}

// place puts a record into the slot that ends after a time, or the last there is.
func (w *wheel) place(d *record, due int64) {
	if w.width == 0 {
		return
	}
	slot := min(max(due/w.width, w.next), w.next+int64(len(w.all))-1)
	i := slot % int64(len(w.all))
	w.all[i] = append(w.all[i], d)
}

// turn calls each with the records whose slots have ended. each may place them
// again.
func (w *wheel) turn(now int64, each func(*record)) {
	if w.width == 0 || now/w.width <= w.next {
		return
	}
	var up []*record
	for n := range min(now/w.width-w.next, int64(len(w.all))) {
		i := (w.next + n) % int64(len(w.all))
		up = append(up, w.all[i]...)
		w.all[i] = w.all[i][:0]
	}
	w.next = now / w.width
	for _, d := range up {
		each(d)
	}
}
