// Package egress stores what was verified in JetStream, and tells when it is
// stored: the streams and their subjects, publishing and its confirmation.
package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/reading"
)

const (
	// HeaderFindings holds what the gate found out about a reading, as an RFC
	// 9651 dictionary: generation, age_ms, received (seconds since 1970), replica.
	HeaderFindings = "Pulsegate-Findings"
	// tick is how often unanswered publishes are looked at.
	tick = 50 * time.Millisecond
	// patience is how long an unanswered publish waits before it goes out again
	// with the same Nats-Msg-Id.
	patience = 2 * time.Second
	// pause is how long a publish waits that the store refused for now.
	pause = 250 * time.Millisecond
	// closeLimit bounds how long Close waits for a NATS that does not read.
	closeLimit = 5 * time.Second
)

// ErrNotStored says that the store did not confirm a reading before its
// deadline; it wraps the last cause. The reading may have been stored all the
// same: publishing it again is safe.
var ErrNotStored = errors.New("not stored")

var errClosed = errors.New("the gate is stopping")

// ErrWithdrawn says that a reading was not published again because it no longer
// stands; it wraps what Record.Stands returned.
var ErrWithdrawn = errors.New("withdrawn")

// ErrNotYet is for Record.Stands to say that it cannot tell for now.
var ErrNotYet = errors.New("it cannot be told yet whether the reading still stands")

// Record is one reading on its way to the store.
type Record struct {
	Identity reading.Identity
	Patient  string
	Device   string
	// Payload is what the device signed, byte for byte.
	Payload []byte
	// Timestamp is when the wearable measured, as signed; PublishLate needs it.
	Timestamp time.Time
	// Generation is that of the key that signed.
	Generation uint32
	// Age is how old the reading was at Received.
	Age      time.Duration
	Received time.Time
	// Stands is asked before the record is published again: nil lets it go,
	// ErrNotYet lets it wait, any other error withdraws it. It must not block.
	Stands func() error
}

// Confirmation is the store's answer to a Record.
type Confirmation struct {
	// Duplicate is true if the stream had the reading already, and not from an
	// earlier attempt of the same Publish.
	Duplicate bool
	// Sequence is the reading's place in the stream.
	Sequence uint64
	// Took is how long the store took.
	Took time.Duration
}

// Options say how a Store is to work.
type Options struct {
	// Deadline is how long one reading may try to be stored.
	Deadline time.Duration
	// UnavailableAfter is how long the store must have been away, or readings
	// have failed, for Err to say so.
	UnavailableAfter time.Duration
	// Late is for PublishLate; zero refuses every late reading.
	Late LateOptions
	// Replica names this process in the findings; it is an id, as a device's.
	Replica string
	Now     func() time.Time
	Log     zerolog.Logger
}

// Store publishes to the streams. It is safe for concurrent use.
type Store struct {
	options Options
	nc      *nats.Conn
	js      jetstream.JetStream
	inbox   string
	answers *nats.Subscription
	stop    chan struct{}
	stopped sync.WaitGroup
	events  chan *nats.Msg
	audits  chan *nats.Msg
	// sampled is for what an outage would log for every event.
	sampled *limits.Log
	// droppedRejections and droppedAudits are the events that are missing.
	droppedRejections, droppedAudits atomic.Uint64

	mu      sync.Mutex
	pending map[uint64]*publication
	// outgoing are those to be published for the first time, in their order.
	outgoing []*publication
	closed   bool
	health   health

	// last is the latest publication's token.
	last   atomic.Uint64
	forms  sync.Pool
	groups *groups
	// ready holds a token while anything is outgoing.
	ready chan struct{}
}

type publication struct {
	subject, reply, id, findings string

	payload []byte
	token   uint64
	started time.Time
	// again is when to publish next; zero is not before the look-up is done.
	again    time.Time
	deadline time.Time
	attempts int
	cause    error
	stands   func() error
	done     func(Confirmation, error)
}

// NewStore starts a Store on streams that Ensure has prepared.
func NewStore(nc *nats.Conn, o Options) (*Store, error) {
	if !reading.ValidID(o.Replica) {
		return nil, errors.New("the replica's name is not an id: it must match [A-Za-z0-9_-]{1,64}")
	}
	s := &Store{
		options: o, nc: nc,
		inbox:   nats.NewInbox() + ".",
		stop:    make(chan struct{}),
		events:  make(chan *nats.Msg, eventsWaiting),
		audits:  make(chan *nats.Msg, auditsWaiting),
		sampled: limits.NewLog(o.Log),
		pending: make(map[uint64]*publication),
		forms:   sync.Pool{New: newForm},
		ready:   make(chan struct{}, 1),
	}
	s.health.wellAt(o.Now())
	var err error
	if s.groups, err = newGroups(o, s.waits); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(nc); err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	if s.answers, err = nc.Subscribe(s.inbox+"*", s.answer); err != nil {
		return nil, fmt.Errorf("subscribing to the store's answers: %w", err)
	}
	// Every publish that is in flight may be answered at once.
	if err := s.answers.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("subscribing to the store's answers: %w", err)
	}
	// Sending blocks while NATS does not read; giving up must not.
	s.stopped.Go(s.sendFirst)
	s.stopped.Go(func() { s.every(tick, s.sendAgain) })
	s.stopped.Go(func() { s.every(tick, s.giveUp) })
	s.stopped.Go(func() { s.every(probeEvery, s.probe) })
	s.stopped.Go(s.publishEvents)
	s.startLookups()
	return s, nil
}

// Publish stores a reading and calls done once: with the confirmation, or with
// an error that wraps ErrNotStored. The error case comes at the deadline at the
// latest. done must not block.
func (s *Store) Publish(r Record, done func(Confirmation, error)) {
	s.publish(s.publication(r, subjectIn+r.Patient+"."+r.Device, done))
}

func (s *Store) publication(r Record, subject string, done func(Confirmation, error)) *publication {
	now := s.options.Now()
	p := &publication{
		subject: subject, payload: r.Payload, token: s.last.Add(1),
		started: now, again: now.Add(patience), deadline: now.Add(s.options.Deadline),
		attempts: 1, stands: r.Stands, done: done,
	}
	s.label(p, r)
	return p
}

// postpone notes why a publish did not succeed and lets it go out again soon.
func (s *Store) postpone(token uint64, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pending[token]; p != nil {
		p.cause, p.again = cause, s.options.Now().Add(pause)
	}
}

// Pending is how many readings wait for the store's answer.
func (s *Store) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// Close stops publishing. What is still unanswered fails at once, and so does
// what is published from then on. It waits for the last events until ctx is
// done, at most closeLimit. Further calls do nothing.
func (s *Store) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	left, first := s.shut()
	if !first {
		return nil
	}
	defer s.sampled.Tell()
	close(s.stop)
	for _, p := range left {
		p.cause = cmp.Or(p.cause, errClosed)
		p.fail()
	}
	finished := make(chan error, 1)
	go func() { finished <- s.finish(ctx) }()
	select {
	case err := <-finished:
		return err
	case <-ctx.Done():
		return fmt.Errorf("NATS does not take the last events: %w", ctx.Err())
	}
}

func (s *Store) shut() (left map[uint64]*publication, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, first = s.pending, !s.closed
	s.pending, s.closed = nil, true
	return left, first
}

// finish sees the last events off. Whatever it asks of the connection blocks
// while NATS does not read.
func (s *Store) finish(ctx context.Context) error {
	s.stopped.Wait()
	if !s.nc.IsConnected() {
		return nil // there is nobody to flush to; what it costs has been logged
	}
	return errors.Join(s.answers.Unsubscribe(), s.nc.FlushWithContext(ctx))
}
