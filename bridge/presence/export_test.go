package presence

import "unsafe"

// SizeOfRecord is what a device takes, besides its place in a map and the wheel.
const SizeOfRecord = unsafe.Sizeof(record{})

// BeginStill is Begin without the goroutine that works: Turn does its work.
func (w *Watch) BeginStill() { w.stopped.Go(w.follow) }

// CaughtUp closes once it is known what has been announced before.
func (w *Watch) CaughtUp() <-chan struct{} { return w.caughtUp }

// Turn does what is due.
func (w *Watch) Turn() { w.turn() }

// Waiting is how many records wait to be looked at.
func (w *Watch) Waiting() int {
	w.work.Lock()
	defer w.work.Unlock()
	return len(w.work.queue)
}
