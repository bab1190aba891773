package source

import (
	"context"
	"errors"
	"sync"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/semaphore"

	"github.com/pulsegate/pulsegate/bridge/ingress"
)

// errNotStored ends a connection, so that the broker sends again what is not
// acknowledged.
var errNotStored = errors.New("a message could not be stored and is not acknowledged")

// room bounds what has been taken and not yet been acknowledged. All
// connections of a source share it, since what an earlier one took may still be
// with the handler.
type room struct {
	count, bytes *semaphore.Weighted
	most         int64
}

func newRoom(count int, bytes int64) *room {
	return &room{semaphore.NewWeighted(int64(count)), semaphore.NewWeighted(bytes), bytes}
}

// enter waits for room for a message of that size.
func (r *room) enter(ctx context.Context, size int64) error {
	if err := r.count.Acquire(ctx, 1); err != nil {
		return err
	}
	// One that is larger than all the room gets all of it.
	if err := r.bytes.Acquire(ctx, min(size, r.most)); err != nil {
		r.count.Release(1)
		return err
	}
	return nil
}

func (r *room) leave(size int64) {
	r.bytes.Release(min(size, r.most))
	r.count.Release(1)
}

// queue holds the messages of one connection that have not been acknowledged, in
// the order in which they came, and acknowledges them in that order
// [MQTT-4.6.0-2].
type queue struct {
	room *room
	// lost is called for a message that could not be stored and will not come
	// again.
	lost func()
	// wake has an element when the head may have changed.
	wake chan struct{}
	// drained is closed when nothing waits and nothing more is taken.
	drained chan struct{}

	mu       sync.Mutex
	waiting  []*delivery
	draining bool
	ended    bool
}

// delivery is one message.
type delivery struct {
	mqtt.Message
	queue           *queue
	size            int64
	settled, failed bool
}

func newQueue(r *room, lost func()) *queue {
	return &queue{room: r, lost: lost, wake: make(chan struct{}, 1), drained: make(chan struct{})}
}

// take waits for room and appends a message. It returns nil if none are taken
// any more.
func (q *queue) take(ctx context.Context, m mqtt.Message) *delivery {
	d := &delivery{Message: m, queue: q, size: int64(len(m.Topic()) + len(m.Payload()))}
	if q.room.enter(ctx, d.size) != nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.draining || q.ended {
		q.room.leave(d.size)
		return nil
	}
	q.waiting = append(q.waiting, d)
	return d
}

// settle takes what became of the message. It does not block.
func (d *delivery) settle(as ingress.Disposition) {
	q := d.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	d.settled, d.failed = true, as.Stored == ingress.Failed
	if q.ended {
		q.room.leave(d.size)
		return
	}
	q.rouse()
}

func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// acknowledge tells the broker of what is settled, from the head on, until ctx
// is done or the head could not be stored.
func (q *queue) acknowledge(ctx context.Context) error {
	for {
		for d := q.head(); d != nil && ctx.Err() == nil; d = q.head() {
			switch {
			case !d.failed:
				d.Ack()
			case d.Qos() > 0:
				return errNotStored
			default:
				q.lost()
			}
			q.pop()
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// head returns the longest waiting message if it is settled.
func (q *queue) head() *delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.draining && len(q.waiting) == 0 && !q.ended {
		q.ended = true
		close(q.drained)
	}
	if len(q.waiting) == 0 || !q.waiting[0].settled {
		return nil
	}
	return q.waiting[0]
}

func (q *queue) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		q.room.leave(q.waiting[0].size)
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
	}
}

// drain stops taking messages; those that come yet stay unacknowledged.
func (q *queue) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.draining = true
	q.rouse()
}

// end lets go of everything, and returns how many messages were not
// acknowledged. What is still being handled gives its room back when it
// settles.
func (q *queue) end() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	n := len(q.waiting)
	for _, d := range q.waiting {
		if d.settled {
			q.room.leave(d.size)
		}
	}
	q.waiting = nil
	return n
}
