package presence

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestTheWheel places records at random times and turns at random steps: each
// comes up once, not before its time, and at most a slot and a step after it.
func TestTheWheel(t *testing.T) {
	const after = 5 * time.Minute
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		now := random.Int64N(1 << 50)
		w := newWheel(after, now)
		due := map[*record]int64{}
		for range 50 {
			d := &record{}
			due[d] = now + random.Int64N(after.Microseconds())
			w.place(d, due[d])
		}
		for len(due) > 0 {
			step := 1 + random.Int64N(after.Microseconds()/10)
			now += step
			w.turn(now, func(d *record) {
				at, waiting := due[d]
				if !waiting || now < at || now > at+w.width+step {
					t.Errorf("a record that is due at %d comes up at %d (%v)", at, now, waiting)
				}
				delete(due, d)
			})
			for _, at := range due {
				if now > at+w.width {
					t.Fatalf("a record that is due at %d has not come up at %d", at, now)
				}
			}
		}
	}
}

// TestTheWheelAfterALongTime brings each up once, however long nobody turned.
func TestTheWheelAfterALongTime(t *testing.T) {
	w := newWheel(time.Minute, 0)
	for due := range 60 {
		w.place(&record{}, int64(due)*time.Second.Microseconds())
	}
	up := 0
	w.turn(time.Hour.Microseconds(), func(d *record) {
		up++
		w.place(d, time.Hour.Microseconds()+1)
	})
	if up != 60 {
		t.Errorf("%d of 60 come up", up)
	}
	// The clock goes back: nobody comes up before it has caught up.
	w.turn(0, func(*record) { t.Error("one comes up in the past") })
	up = 0
	w.turn(time.Hour.Microseconds()+2*w.width, func(*record) { up++ })
	if up != 60 {
		t.Errorf("then %d of 60", up)
	}
}

// TestAWheelThatIsOff holds nothing.
func TestAWheelThatIsOff(t *testing.T) {
	w := newWheel(0, 0)
	w.place(&record{}, 0)
	w.turn(time.Hour.Microseconds(), func(*record) { t.Error("one comes up") })
}
