package presence

import (
	"math"
	"time"
)

const (
	// windowReadings and windowSpan are how many readings, and how long, it takes
	// to judge a device's clock. A burst of buffered readings ends with one that
	// is as old as it was on its way, so it must fit in.
	windowReadings = 10
	windowSpan     = 30 * time.Second
)

// milliseconds hold 24 days.
type milliseconds int32

func (m milliseconds) duration() time.Duration { return time.Duration(m) * time.Millisecond }

func millisecondsOf(d time.Duration) milliseconds {
	return milliseconds(min(max(d.Milliseconds(), -math.MaxInt32), math.MaxInt32))
}

// window is what some readings in a row show of the device's clock. How old a
// reading is when it comes is how far the clock is behind and how long it was on
// its way, of which the latter is never less than 0.
type window struct {
	// least and most are the ages, in milliseconds.
	least, most milliseconds
	// began is in seconds since 1970.
	began    uint32
	readings uint8
}

// weigh takes in how old a reading was, and judges the clock when the window is
// full.
func (d *record) weigh(drift time.Duration, received, measured time.Time) {
	if drift <= 0 {
		return
	}
	w, age, now := &d.window, millisecondsOf(received.Sub(measured)), uint32(received.Unix())
	if w.readings == 0 {
		*w = window{least: age, most: age, began: now}
	}
	w.least, w.most = min(w.least, age), max(w.most, age)
	w.readings = min(w.readings, math.MaxUint8-1) + 1
	if w.readings < windowReadings || time.Duration(now-w.began)*time.Second < windowSpan {
		return
	}
	d.judge(millisecondsOf(drift), age)
	w.readings = 0
}

// judge tells a clock that is off from readings that were long on their way. One
// that is behind makes all of them old. So does a device that sends what it has
// kept for hours; but then they differ, and the last is among the least old.
func (d *record) judge(drift, last milliseconds) {
	w := &d.window
	spread := int64(w.most) - int64(w.least)
	catchingUp := spread > int64(drift) && int64(last)-int64(w.least) < spread/2
	switch {
	case w.least > drift && !catchingUp, w.most < -drift:
		d.behind = w.least
		d.start(Clock)
	case w.least >= -drift && w.least <= drift:
		d.behind = w.least
		d.finish(Clock)
	}
}
