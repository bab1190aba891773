package ingress

import (
	"bytes"
	"context"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// largestReading is the size of the largest reading in bytes. A connection may
// have as much in flight as its receive maximum of them; larger packets, which
// are refused in the end, take the places of several.
const largestReading = 4 << 10

// queue holds the messages of one connection that have not been answered yet,
// in the order in which they came, and answers them in that order
// [MQTT-4.6.0-2], however their handling ends.
type queue struct {
	client   *mqtt.Client
	handler  Handler
	limit    int
	inFlight *flight
	ctx      context.Context
	cancel   context.CancelFunc

	mu      sync.Mutex
	room    sync.Cond
	waiting []*entry
	// undecided is the size in bytes of what the handler has.
	undecided int64
	flushing  bool
	closed    bool
	// rest is nil but in a drain, and rested ends it.
	rest   context.Context
	rested context.CancelFunc
	// unreleased are the packet identifiers of MQTT 5's QoS 2 messages whose
	// PUBREL has not come: they count for the receive maximum, and give PUBCOMP
	// its codes. That a message is handled once is up to its identity, not to its
	// packet's.
	unreleased map[uint16]struct{}
	// unreceived are those of them that wait for PUBREC.
	unreceived int
}

type entry struct {
	queue       *queue
	id          uint16
	qos         byte
	size        int64
	settled     bool
	disposition Disposition
}

func newQueue(cl *mqtt.Client, h Handler, limit int, inFlight *flight) *queue {
	q := &queue{client: cl, handler: h, limit: limit, inFlight: inFlight}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.room.L = &q.mu
	return q
}

// publish hands a message over. It is called by the goroutine that reads the
// socket, and blocks at every bound, so that the socket is not read. size is
// that of the packet in bytes, all of which is kept as long as its payload.
func (q *queue) publish(m Message, id uint16, qos byte, size int) {
	e := &entry{queue: q, id: id, qos: qos, size: int64(size)}
	// Room comes first: waiting for a client that takes no acknowledgements
	// must not hold a place that others could use.
	if !q.awaitRoom(e) || q.inFlight.enter(q.ctx, e.size) != nil {
		return
	}
	if !q.append(e) {
		q.inFlight.leave(e.size)
		return
	}
	handled := false
	defer func() {
		if !handled { // it panics; nobody else may be left to give the place back
			e.settle(Disposition{Stored: Failed})
		}
	}()
	q.handler.Handle(m, e.settle)
	handled = true
}

func (q *queue) awaitRoom(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.taking() && !q.fits(e) {
		q.room.Wait()
	}
	return q.taking()
}

func (q *queue) taking() bool { return !q.closed && q.rest == nil }

// fits lets a message in alone, however large it is.
func (q *queue) fits(e *entry) bool {
	taken := len(q.waiting)
	if e.qos > 0 {
		taken += len(q.unreleased)
	}
	return taken < q.limit && (q.undecided == 0 || q.undecided+e.size <= int64(q.limit)*largestReading)
}

// overdrawn says whether a message of that QoS is over the receive maximum, and
// will be until a PUBREL comes, which comes after it [MQTT-3.3.4-7]
// [MQTT-4.9.0-2]. Over it by QoS 1 alone is no more than a wait, since that needs
// nothing further of the client.
func (q *queue) overdrawn(qos byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return qos > 0 && q.unreceived+len(q.unreleased) >= q.limit
}

// released says whether an entry is one that PUBREL ends: MQTT 3.1.1 has no
// receive maximum.
func (q *queue) released(e *entry) bool {
	return e.qos == 2 && q.client.Properties.ProtocolVersion >= 5
}

func (q *queue) append(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.taking() {
		return false
	}
	q.waiting = append(q.waiting, e)
	q.undecided += e.size
	if q.released(e) {
		q.unreceived++
	}
	return true
}

// settle takes a disposition. It never writes: its caller may be the one
// goroutine that reads all answers of the store.
func (e *entry) settle(d Disposition) {
	q := e.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.settled { // by a panic before
		return
	}
	q.inFlight.leave(e.size)
	e.disposition, e.settled = d, true
	q.undecided -= e.size
	q.room.Broadcast()
	if !q.flushing && !q.closed && q.waiting[0].settled {
		q.flushing = true
		go q.flush()
	}
}

// flush writes what can be answered until nothing can. All that is ready at
// once goes out in one write.
func (q *queue) flush() {
	var ready []*entry
	var out bytes.Buffer
	for {
		if ready = q.next(ready[:0]); len(ready) == 0 {
			return
		}
		out.Reset()
		for _, e := range ready {
			if !q.answer(&out, e) {
				_ = q.write(out.Bytes())
				q.hangUp()
				return
			}
		}
		if err := q.write(out.Bytes()); err != nil {
			q.client.Stop(err)
			q.close()
			return
		}
	}
}

// next takes the settled entries off the head of the queue.
func (q *queue) next(ready []*entry) []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.waiting) && q.waiting[n].settled {
		n++
	}
	if n == 0 || q.closed {
		q.flushing = false
		q.noteRest()
		return nil
	}
	ready = append(ready, q.waiting[:n]...)
	q.receive(ready)
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.room.Broadcast()
	return ready
}

// answer adds a message's acknowledgement, and says whether there is one.
func (q *queue) answer(out *bytes.Buffer, e *entry) bool {
	if e.qos == 0 {
		return true
	}
	if e.disposition.Stored == Failed {
		return false
	}
	acknowledge(out, q.client, e, reasonCode(e.disposition))
	return true
}

// receive notes whose PUBREL is owed now: one that is refused has none. The lock
// is held since the entries waited, so that they count all the time.
func (q *queue) receive(ready []*entry) {
	for _, e := range ready {
		if !q.released(e) {
			continue
		}
		q.unreceived--
		if reasonCode(e.disposition) >= packets.ErrUnspecifiedError.Code {
			continue
		}
		if q.unreleased == nil {
			q.unreleased = make(map[uint16]struct{})
		}
		q.unreleased[e.id] = struct{}{}
	}
}

// release forgets a packet identifier and says whether it was unreleased.
func (q *queue) release(id uint16) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.unreleased[id]
	delete(q.unreleased, id)
	return ok
}

func (q *queue) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// write sends acknowledgements past Mochi's WritePacket, which makes one system
// call a packet, but under the same lock. It leaves them out once the queue is
// closed, since a DISCONNECT may have gone out, after which nothing may
// [MQTT-3.14.4-1].
func (q *queue) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	q.client.Lock()
	defer q.client.Unlock()
	if q.over() {
		return nil
	}
	_, err := q.client.Net.Conn.Write(b)
	return err
}

// hangUp ends a connection whose message could not be stored, so that the
// client sends it again.
func (q *queue) hangUp() {
	connectionOf(q.client).hurry()
	if q.client.Properties.ProtocolVersion == 5 {
		_ = q.client.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  packets.ErrServerBusy.Code,
		})
	}
	q.client.Stop(packets.ErrServerBusy)
	q.close()
}

// close lets go of everybody who waits; what is still being handled settles
// into nothing.
func (q *queue) close() {
	q.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.waiting = nil
	q.room.Broadcast()
	q.noteRest()
}
