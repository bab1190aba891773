package bridge

import (
	"testing"
	"time"
)

// Nobody waits for a NATS that does not answer, and it is not asked twice.
func TestALookoutDoesNotWait(t *testing.T) {
	looks, answer := make(chan struct{}, 9), make(chan sight)
	l := newLookout(func() sight {
		looks <- struct{}{}
		return <-answer
	})
	for range 3 {
		if s := l.now(); s.connected {
			t.Fatal("something was seen before NATS has answered")
		}
	}
	l.begin()
	if len(looks) != 1 {
		t.Errorf("NATS was asked %d times while it did not answer", len(looks))
	}
	answer <- sight{at: time.Now(), connected: true, reconnects: 7}
	<-l.done
	for range 3 {
		l.began = time.Now() // however long this test takes
		if s := l.now(); !s.connected || s.reconnects != 7 {
			t.Errorf("seen is %+v", s)
		}
	}
	if len(looks) != 1 {
		t.Errorf("NATS was asked %d times within a moment", len(looks))
	}
}

// What was seen counts until it is too old; the count of reconnects never falls.
func TestALookoutForgets(t *testing.T) {
	answers := make(chan sight, 1)
	l := newLookout(func() sight { return <-answers })
	answers <- sight{at: time.Now().Add(-lookoutGood / 2), connected: true, reconnects: 7}
	l.begin()
	<-l.done
	l.began = l.began.Add(-lookoutEvery)
	if s := l.now(); !s.connected || s.reconnects != 7 {
		t.Errorf("while NATS is asked again, seen is %+v", s)
	}
	answers <- sight{at: time.Now().Add(-2 * lookoutGood), connected: true, reconnects: 8}
	<-l.done
	if s := l.now(); s.connected || s.reconnects != 8 {
		t.Errorf("long after, seen is %+v", s)
	}
}
