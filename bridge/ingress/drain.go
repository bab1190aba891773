package ingress

import "context"

// Drain is the gentle way to the end, before Close. New connections are refused,
// and of the open ones nothing more is taken; it returns once all that was taken
// before is answered, or ctx is done.
//
// Clients stay connected meanwhile: their pings are answered, and PUBREL gets
// its PUBCOMP. What they publish is read and left unanswered, and nothing after
// it is taken either, so that they send it again in the same order, elsewhere.
func (b *Broker) Drain(ctx context.Context) {
	b.shared.draining.Store(true)
	var rests []context.Context
	for _, l := range b.listeners {
		for _, c := range l.connections() {
			if q := c.queue.Load(); q != nil {
				c.socket.brisk()
				rests = append(rests, q.drain())
			}
		}
		l.stop()
	}
	for _, rest := range rests {
		select {
		case <-rest.Done():
		case <-ctx.Done():
		}
		if rest.Err() == nil {
			messages, _ := b.InFlight()
			b.log.Warn().Int("undecided", messages).Msg("the time to finish is over; what is undecided is not acknowledged, so that devices send it again")
			return
		}
	}
}

// drain takes no more messages. What it returns is done once those that were
// taken before are answered, or the connection has ended.
func (q *queue) drain() context.Context {
	q.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rest == nil {
		q.rest, q.rested = context.WithCancel(context.Background())
		q.room.Broadcast()
		q.noteRest()
	}
	return q.rest
}

// noteRest ends a drain if nothing is left to be answered.
func (q *queue) noteRest() {
	if q.rest != nil && (q.closed || len(q.waiting) == 0 && !q.flushing) {
		q.rested()
	}
}
