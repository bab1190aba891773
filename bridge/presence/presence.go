// Package presence tells which devices are in trouble: not heard from, refused
// whatever they send, or with a clock that is off. Each trouble is announced in
// the audit once, whichever of several replicas finds it, and once more when it
// is over. The package also counts the numbers missing among the readings.
//
// # How
//
// What is known of a device is a small record in the memory of each replica. An
// accepted reading only writes into it. When a device must have been heard by is
// kept in a wheel of slots, in which a record moves on when its slot comes up
// and the device has been heard since; so a device costs a look each half of
// Options.SilentAfter, and there is no scan.
//
// A device may move between replicas, so they tell each other whom they have
// heard; and since such a message may be lost, the store is asked for a device's
// last reading before it is called silent. What has been announced is known by
// the audit's last event of a device and trouble, from which every replica
// starts, and which nobody overtakes: Journal.AuditAfter.
package presence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

const (
	// beat is how often slots are looked at, or more often if they are narrower.
	beat = time.Second
	// perSecond bounds what is asked of the store and announced, so that the loss
	// of a whole site holds up no reading.
	perSecond = 200
	// askLimit bounds one question to the store.
	askLimit = 5 * time.Second
)

// Journal is where readings and announcements are stored.
type Journal interface {
	// LastLive returns when a device's last current reading was stored, and the
	// reading; the zero time if there is none.
	LastLive(ctx context.Context, patient, device string) (at time.Time, payload []byte, err error)
	// AuditAfter stores an event unless there is one of the same kind after that
	// sequence, of which 0 is none at all; without an error, stored says which.
	AuditAfter(ctx context.Context, kind string, event any, after uint64) (sequence uint64, stored bool, err error)
	// LastAudit returns the last event of a kind; its sequence is 0 without one.
	LastAudit(ctx context.Context, kind string) (sequence uint64, event []byte, err error)
	// FollowAudit calls each with the last event of every kind that matches, then
	// caughtUp, then each with new ones, until ctx is done.
	FollowAudit(ctx context.Context, kinds string, each func(kind string, sequence uint64, event []byte), caughtUp func())
}

// Options say what is looked for. A duration of 0 is not to look for that.
type Options struct {
	// SilentAfter is how long a device may go without a current reading.
	SilentAfter time.Duration
	// RefusedAfter is how long everything that a device sends may be refused.
	RefusedAfter time.Duration
	// ClockDrift is how far a device's clock may be off.
	ClockDrift time.Duration
	// Replica names this replica in events.
	Replica string
	// Directory knows the devices. It must know of a change before Changed is told.
	Directory verify.Directory
	// Active says whether an id is that of a device that is enrolled and not
	// revoked. It must be cheap.
	Active  func(id string) bool
	Journal Journal
	// Conn connects to the other replicas.
	Conn *nats.Conn
	// Now is the time, and why it cannot be trusted, or nil.
	Now verify.Clock
	// Ready says why this replica cannot judge now, or nil. Meanwhile nobody falls
	// silent, and afterwards everybody has SilentAfter anew.
	Ready func() error
	// Learned is called after something was heard of other replicas, or read in the
	// audit; nil is nobody.
	Learned func()
	Log     zerolog.Logger
}

// Watch watches over the devices. It is safe for concurrent use. A nil Watch
// takes in what it is told, and knows nobody.
type Watch struct {
	options  Options
	instance string
	limiter  *rate.Limiter
	ctx      context.Context
	stop     context.CancelFunc
	stopped  sync.WaitGroup
	told     *nats.Subscription
	wake     chan struct{}
	// caughtUp closes once it is known what has been announced before.
	caughtUp chan struct{}
	missing  atomic.Uint64

	mu      sync.RWMutex
	records map[string]*record

	// work is for the goroutine that works, from all others.
	work struct {
		sync.Mutex
		fresh, queue, arrived []*record
	}
	troubled struct {
		sync.Mutex
		records map[*record]struct{}
	}

	// These are of the goroutine that works. epoch is when this replica was last
	// not able to judge, in microseconds since 1970.
	wheel *wheel
	epoch int64
}

// New returns a Watch that can be told of devices and readings. It announces
// nothing before Begin.
func New(o Options) (*Watch, error) {
	w := &Watch{
		options: o, instance: nuid.Next(), limiter: rate.NewLimiter(perSecond, perSecond),
		wake: make(chan struct{}, 1), caughtUp: make(chan struct{}),
		records: make(map[string]*record),
	}
	w.troubled.records = make(map[*record]struct{})
	w.ctx, w.stop = context.WithCancel(context.Background())
	now, _ := o.Now()
	w.epoch = now.UnixMicro()
	w.wheel = newWheel(o.SilentAfter, w.epoch)
	if err := w.listen(); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// Begin starts to watch. All devices that there are must have been told by
// Changed before: what is open of others is announced as over.
func (w *Watch) Begin() {
	w.stopped.Go(w.follow)
	w.stopped.Go(w.run)
}

func (w *Watch) run() {
	every := beat
	if slot := time.Duration(w.wheel.width) * time.Microsecond; slot > 0 {
		every = min(every, slot)
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	select {
	case <-w.caughtUp:
	case <-w.ctx.Done():
	}
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-ticks.C:
		case <-w.wake:
		}
		w.turn()
	}
}

// Close ends the watch, and waits until ctx is done for what is being announced.
func (w *Watch) Close(ctx context.Context) error {
	w.stop()
	_ = w.told.Unsubscribe()
	ended := make(chan struct{})
	go func() {
		w.stopped.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return errors.New("NATS holds up the watch over the devices")
	}
}

// Changed is told of every change of the registry. It does not block. Whoever
// has changed is given the time to be heard anew.
func (w *Watch) Changed(id string) {
	if w == nil {
		return
	}
	now, _ := w.options.Now()
	w.mu.Lock()
	d := w.records[id]
	active := w.options.Active(id)
	switch {
	case active && d == nil:
		d = &record{id: id, since: now.UnixMicro()}
		w.records[id] = d
		w.mu.Unlock()
		w.hand(func() { w.work.fresh = append(w.work.fresh, d) })
		return
	case !active && d != nil:
		delete(w.records, id)
	}
	w.mu.Unlock()
	if d == nil {
		return
	}
	if active {
		d.restart(now)
		return
	}
	w.note(d, false)
	if d.leave() {
		w.enqueue(d)
	}
}

func (w *Watch) find(id string) *record {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.records[id]
}

// hand gives something to the goroutine that works.
func (w *Watch) hand(over func()) {
	w.work.Lock()
	over()
	w.work.Unlock()
}

// enqueue has a record looked at soon. Its flag queued has just been set.
func (w *Watch) enqueue(d *record) {
	w.hand(func() { w.work.queue = append(w.work.queue, d) })
	select {
	case w.wake <- struct{}{}:
	default: // it will be looked at anyway
	}
}

// note keeps the set of those in trouble.
func (w *Watch) note(d *record, inTrouble inTrouble) {
	w.troubled.Lock()
	defer w.troubled.Unlock()
	if inTrouble {
		w.troubled.records[d] = struct{}{}
	} else {
		delete(w.troubled.records, d)
	}
}
