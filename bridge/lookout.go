package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

const (
	// lookoutEvery is how old what is known of NATS may be when it is asked for.
	lookoutEvery = 5 * time.Second
	// lookoutWait is how long whoever asks waits for something newer.
	lookoutWait = 250 * time.Millisecond
	// lookoutGood is how old what was seen may be where nothing newer comes.
	lookoutGood = time.Minute
	// lookoutLimit bounds the questions to JetStream.
	lookoutLimit = 2 * time.Second
)

// sight is what NATS looked like.
type sight struct {
	at         time.Time
	connected  bool
	reconnects uint64
	fills      []egress.Fill
}

// lookout shows what NATS looks like, and keeps nobody waiting for a NATS that
// does not answer.
type lookout struct {
	look func() sight

	mu    sync.Mutex
	began time.Time
	// done is closed when the look that began then has ended.
	done chan struct{}
	seen sight
}

func newLookout(look func() sight) *lookout {
	done := make(chan struct{})
	close(done)
	return &lookout{look: look, done: done}
}

// lookAt asks NATS. Each question can block while NATS does not read.
func lookAt(nc *nats.Conn, store *egress.Store) sight {
	s := sight{at: time.Now(), connected: nc.Status() == nats.CONNECTED, reconnects: nc.Stats().Reconnects}
	ctx, cancel := context.WithTimeout(context.Background(), lookoutLimit)
	defer cancel()
	s.fills, _ = store.Fills(ctx) // what is missing says that it failed
	return s
}

// now returns what was seen lately, or nothing but the count of reconnects, which
// must not fall.
func (l *lookout) now() sight {
	began, done := l.begin()
	soon := time.NewTimer(time.Until(began.Add(lookoutWait)))
	defer soon.Stop()
	select {
	case <-done:
	case <-soon.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.seen.at) > lookoutGood {
		return sight{reconnects: l.seen.reconnects}
	}
	return l.seen
}

// begin looks anew, if it is time to and the last look has ended.
func (l *lookout) begin() (began time.Time, done <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
	default:
		return l.began, l.done
	}
	if time.Since(l.began) >= lookoutEvery {
		l.began, l.done = time.Now(), make(chan struct{})
		go l.run(l.done)
	}
	return l.began, l.done
}

func (l *lookout) run(done chan struct{}) {
	seen := l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = seen
	close(done)
}
