package siege

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// beat is how often the honest device publishes.
const beat = 100 * time.Millisecond

// honest is a device that publishes whatever happens, at fixed times, so that an
// acknowledgement that is late delays no further reading. Every one must be
// acknowledged with success, on one connection.
type honest struct {
	credentials registry.Credentials
	books       *books
	client      *wire.Client
	stop        chan struct{}
	stopped     sync.Once
	sent, read  chan struct{}

	mu       sync.Mutex
	row      Row
	waiting  map[uint16]flight
	latest   []byte
	quiet    []time.Duration
	attacked []time.Duration
	attack   bool
	// beaten is closed, and made anew, with each acknowledgement.
	beaten chan struct{}
}

type flight struct {
	payload []byte
	due     time.Time
}

// newHonest connects.
func newHonest(ctx context.Context, o Options, b *books) (*honest, error) {
	h := &honest{
		credentials: o.Credentials[0], books: b, stop: make(chan struct{}), sent: make(chan struct{}), read: make(chan struct{}),
		row: Row{Attack: "the honest device"}, waiting: make(map[uint16]flight), beaten: make(chan struct{}),
	}
	var err error
	if h.client, err = wire.Dial(ctx, o.Broker, wire.MQTT5, o.Patience); err != nil {
		return nil, err
	}
	answer, err := h.client.Request(login(h.credentials, wire.MQTT5).Bytes())
	if err == nil && (answer.Type != wire.Connack || answer.Code() != 0) {
		err = fmt.Errorf("the gate answers its CONNECT with %s", reply{Answer: answer})
	}
	if err != nil {
		h.client.Close()
		return nil, err
	}
	return h, nil
}

// run publishes until finish.
func (h *honest) run() {
	go h.listen()
	defer close(h.sent)
	ticks := time.NewTicker(beat)
	defer ticks.Stop()
	for id := uint16(1); ; id = id%65535 + 1 {
		select {
		case <-h.stop:
			return
		case due := <-ticks.C:
			h.publish(id, due)
		}
	}
}

func (h *honest) publish(id uint16, due time.Time) {
	payload := h.books.sign(h.credentials, "")
	h.mu.Lock()
	h.waiting[id] = flight{payload, due}
	h.latest = payload
	h.mu.Unlock()
	message := wire.Message{Version: wire.MQTT5, Topic: h.credentials.Topic, ID: id, QoS: 1, Payload: payload}
	// What cannot be sent is missed when the device finishes.
	_ = h.client.Send(message.Bytes())
}

func (h *honest) listen() {
	defer close(h.read)
	for {
		answer, err := h.client.Next()
		if err != nil {
			return
		}
		if answer.Type == wire.Disconnect {
			h.otherwise("its connection is ended with %s", reply{Answer: answer})
			return
		}
		h.acknowledged(answer)
		select {
		case <-h.stop:
			if h.pending() == 0 {
				return
			}
		default:
		}
	}
}

func (h *honest) acknowledged(answer wire.Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.waiting[answer.ID()]
	if answer.Type != wire.Puback || !ok {
		h.row.otherwise(fmt.Sprintf("it is sent %s", reply{Answer: answer}))
		return
	}
	delete(h.waiting, answer.ID())
	if answer.Code() != 0 {
		h.row.otherwise(fmt.Sprintf("a reading is answered with %s", reply{Answer: answer}))
		return
	}
	h.row.met()
	h.books.acknowledged(f.payload)
	took := time.Since(f.due)
	if h.attack {
		h.attacked = append(h.attacked, took)
	} else {
		h.quiet = append(h.quiet, took)
	}
	close(h.beaten)
	h.beaten = make(chan struct{})
}

func (h *honest) otherwise(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.row.otherwise(fmt.Sprintf(format, args...))
}

func (h *honest) pending() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting)
}

// disturbed says that the attacks begin.
func (h *honest) disturbed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attack = true
}

// await waits until one more reading has been acknowledged.
func (h *honest) await(ctx context.Context) {
	h.mu.Lock()
	beaten := h.beaten
	h.mu.Unlock()
	select {
	case <-beaten:
	case <-h.read:
	case <-ctx.Done():
	}
}

// Latest implements attack.Capture.
func (h *honest) Latest(device string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest, device == h.credentials.DeviceID && h.latest != nil
}

// finish waits for what is on its way and returns the row.
func (h *honest) finish() Row {
	h.stopped.Do(func() { close(h.stop) })
	<-h.sent
	// One more packet lets the reading end where nothing is on its way.
	if h.pending() > 0 {
		<-h.read
	}
	h.client.Close()
	<-h.read
	h.mu.Lock()
	defer h.mu.Unlock()
	for range h.waiting {
		h.row.otherwise("a reading is not acknowledged")
	}
	clear(h.waiting)
	return h.row
}

func (h *honest) latencies() Latencies {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Latencies{QuietP99: p99(h.quiet), AttackedP99: p99(h.attacked), Quiet: len(h.quiet), Attacked: len(h.attacked)}
}

func (h *honest) close() {
	h.stopped.Do(func() { close(h.stop) })
	h.client.Close()
}
