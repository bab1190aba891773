package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

const (
	// outboxLimit bounds a device's unacknowledged readings; a device with so
	// many measures no more until there is room.
	outboxLimit = 10_000
	// patience is how long a PUBACK may take before the device connects anew.
	patience = 30 * time.Second

	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
)

// message is a signed reading that waits for its acknowledgement. Its bytes are
// never made again.
type message struct {
	payload  []byte
	ref      ledger.Ref
	attempts int
	sent     time.Time
}

// wearable is one device: what it is, and what it has still to deliver.
type wearable struct {
	*settings
	credentials registry.Credentials
	key         []byte
	book        *ledger.Book
	seq         uint64
	outbox      []*message
	latest      atomic.Pointer[captured]
}

// captured is an acknowledged payload.
type captured struct {
	payload []byte
	at      time.Time
}

// play measures what the source yields and delivers it, until the source ends or
// the context does; then it waits for what is unacknowledged, at most for the
// drain time. What is left stays in the outbox. The error is the ledger's.
func (w *wearable) play(ctx context.Context, s source) error {
	p := newPerformance(ctx, w, s)
	defer p.end()
	for {
		if err := p.flush(); err != nil {
			return err
		}
		if p.stopped && len(w.outbox) == 0 {
			return nil
		}
		if over, err := p.step(); over || err != nil {
			return err
		}
	}
}

// performance is the state of one playing.
type performance struct {
	*wearable
	source source
	begun  time.Time
	// spo2 and heartRate are what the source yields at the timer's time.
	spo2, heartRate float64
	timer           *time.Timer
	stop            <-chan struct{}
	stopped         bool
	deadline        <-chan time.Time

	// dialing ends every attempt to connect when the performance ends.
	dialing context.Context
	hangUp  context.CancelFunc
	dialed  chan dialed
	redial  <-chan time.Time
	pause   time.Duration
	link    *link
	// flown counts the outbox's first messages, which are with the link.
	flown int
}

type dialed struct {
	link *link
	err  error
}

func newPerformance(ctx context.Context, w *wearable, s source) *performance {
	p := &performance{
		wearable: w, source: s, begun: w.clock(), timer: time.NewTimer(0), stop: ctx.Done(), pause: shortestPause,
	}
	// Not ctx itself: what was measured before it ended is still to be delivered.
	p.dialing, p.hangUp = context.WithCancel(context.WithoutCancel(ctx))
	p.arm()
	p.dial()
	return p
}

// step waits for the next event and handles it; over says that the time for
// draining is.
func (p *performance) step() (over bool, err error) {
	select {
	case <-p.due():
		err = p.measure()
	case a, open := <-p.answers():
		if !open {
			p.disconnected()
			return false, nil
		}
		err = p.acknowledged(a)
	case d := <-p.dialed:
		p.connected(d)
	case <-p.redial:
		p.dial()
	case <-p.stop:
		p.finish()
	case <-p.deadline:
		return true, nil
	}
	return false, err
}

// due fires when a reading is due, and never while the outbox is full.
func (p *performance) due() <-chan time.Time {
	if p.stopped || len(p.outbox) >= outboxLimit {
		return nil
	}
	return p.timer.C
}

func (p *performance) answers() <-chan answer {
	if p.link == nil {
		return nil
	}
	return p.link.answers
}

// arm takes the source's next values and sets the timer to their time.
func (p *performance) arm() {
	due, spo2, heartRate, ok := p.source.next()
	if !ok {
		p.finish()
		return
	}
	p.spo2, p.heartRate = spo2, heartRate
	p.timer.Reset(due - p.clock().Sub(p.begun))
}

// finish stops measuring and begins the drain.
func (p *performance) finish() {
	p.stopped = true
	p.stop = nil
	p.timer.Stop()
	p.deadline = time.After(p.drain)
}

func (p *performance) measure() error {
	text := Sample{
		Device: p.credentials.DeviceID, Patient: p.credentials.PatientID,
		Timestamp: p.clock(), Seq: p.seq + 1, SpO2: p.spo2, HeartRate: p.heartRate,
	}.Text()
	payload, err := reading.Sign(p.key, text)
	if err != nil {
		return fmt.Errorf("device %s: %w", p.credentials.DeviceID, err)
	}
	p.seq++
	p.outbox = append(p.outbox, &message{payload: payload})
	p.counters.measured.Add(1)
	p.arm()
	return nil
}

// flush hands the link what it has not had yet, in order and within the window.
func (p *performance) flush() error {
	for p.link != nil && p.flown < min(len(p.outbox), window) {
		m := p.outbox[p.flown]
		if err := p.enter(m); err != nil {
			return err
		}
		p.link.publish(p.credentials.Topic, m)
		p.flown++
	}
	return nil
}

// enter writes an attempt into the ledger, before it is made: of what is stored,
// nothing may be missing in the ledger.
func (p *performance) enter(m *message) (err error) {
	at := p.clock()
	m.attempts++
	if m.attempts == 1 {
		m.sent = at
		m.ref, err = p.book.Sent(p.entry(m), at)
		p.counters.sent.Add(1)
	} else {
		err = p.book.Again(m.ref, at)
		p.counters.resent.Add(1)
	}
	p.observer.sent(Sending{Device: p.credentials.DeviceID, Payload: m.payload, At: at, Attempt: m.attempts})
	return err
}

func (p *performance) entry(m *message) ledger.Message {
	return ledger.Message{
		Device: p.credentials.DeviceID, Patient: p.credentials.PatientID, Topic: p.credentials.Topic,
		Payload: m.payload, QoS: qos, Expected: expected(),
	}
}

// acknowledged takes a message out of the outbox. Answers come in order, so it
// is the first one.
func (p *performance) acknowledged(a answer) error {
	p.outbox = p.outbox[1:]
	p.flown--
	p.pause = shortestPause
	p.latest.Store(&captured{payload: a.message.payload, at: a.at})
	p.counters.acknowledged.Add(1)
	p.observer.acknowledged(Acknowledgement{
		Device: p.credentials.DeviceID, Payload: a.message.payload, Sent: a.message.sent, At: a.at,
		Attempts: a.message.attempts,
	})
	return p.book.Acknowledged(a.message.ref, a.at)
}

func (p *performance) dial() {
	p.redial = nil
	p.dialed = make(chan dialed, 1)
	go func(out chan<- dialed) {
		l, err := dial(p.dialing, p.broker, p.credentials)
		out <- dialed{link: l, err: err}
	}(p.dialed)
}

func (p *performance) connected(d dialed) {
	p.dialed = nil
	if d.err != nil {
		p.counters.failure.Store(&d.err)
		level := zerolog.DebugLevel
		if p.pause == shortestPause {
			level = zerolog.WarnLevel // once an outage
		}
		p.log.WithLevel(level).Err(d.err).Str("device", p.credentials.DeviceID).Msg("cannot connect; trying again")
		p.wait()
		return
	}
	p.counters.connected.Add(1)
	p.link = d.link
	p.flown = 0
	go d.link.watch(patience, p.clock)
}

func (p *performance) disconnected() {
	p.link.close()
	p.link = nil
	p.flown = 0
	p.log.Debug().Str("device", p.credentials.DeviceID).Int("unacknowledged", len(p.outbox)).Msg("connection lost")
	p.wait()
}

// wait sets the time of the next attempt to connect: the pause doubles until a
// reading is acknowledged, and varies so that a fleet does not come all at once.
func (p *performance) wait() {
	p.redial = time.After(p.pause/2 + rand.N(p.pause))
	p.pause = min(2*p.pause, longestPause)
}

// end closes what is open. It is for the caller of play, when it returns.
func (p *performance) end() {
	p.timer.Stop()
	p.hangUp()
	if p.dialed != nil {
		if d := <-p.dialed; d.err == nil {
			p.link = d.link
			go d.link.watch(patience, p.clock)
		}
	}
	if p.link != nil {
		p.link.close()
		for range p.link.answers {
			// Too late to count: the drain is over.
		}
	}
}
