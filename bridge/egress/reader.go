package egress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// SubjectRejections is what a security officer watches:
// rejected.<outcome>.<device>.
const SubjectRejections = "rejected.>"

const (
	// readBatch is how many messages one request asks for.
	readBatch = 512
	// readPatience bounds one request.
	readPatience = 10 * time.Second
	// soon is how long Follow waits before it looks again after a wake-up that
	// came before its message could be read; it doubles up to seldom.
	soon = 10 * time.Millisecond
	// seldom is how often Follow looks without being woken: without republish
	// nothing wakes it.
	seldom = 2 * time.Second
)

var (
	// ErrNoAnswer says that NATS did not answer a read in time: it is away, or
	// these credentials may not read the stream.
	ErrNoAnswer = errors.New("NATS does not answer")
	// ErrReplaced says that a stream that is being followed ends before what has
	// been read of it: it was deleted and made anew.
	ErrReplaced = errors.New("the stream has been replaced")

	errBrokenBatch = errors.New("an answer was lost on its way")
)

// Stored is one message of a stream.
type Stored struct {
	// Sequence is the message's place in the stream, from 1.
	Sequence uint64
	// Time is when it was stored.
	Time    time.Time
	Subject string
	// Header is as it was stored, without what the read itself added.
	Header nats.Header
	Data   []byte
}

// Reader reads a stream in its order, every message once, with nothing but
// JetStream's direct get: consumers of readings cannot create a JetStream
// consumer. It is not safe for concurrent use.
type Reader struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	stream  string
	subject string
}

// NewReader returns a Reader of those messages of a stream whose subject is the
// given one, which may end in the wildcard ".>".
func NewReader(nc *nats.Conn, stream, subject string) (*Reader, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return &Reader{nc: nc, js: js, stream: stream, subject: subject}, nil
}

// Last returns the sequence of the last message stored so far, 0 if there was
// none.
func (r *Reader) Last(ctx context.Context) (uint64, error) {
	state, err := r.state(ctx)
	return state.LastSeq, err
}

func (r *Reader) state(ctx context.Context) (jetstream.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.stream)
	if err != nil {
		return jetstream.StreamState{}, r.failed(err)
	}
	return stream.CachedInfo().State, nil
}

// Read calls each with every message from a sequence on (0 and 1: the oldest)
// up to the last that was stored when Read was called, or a little beyond. It
// returns the sequence to go on from. An error of each ends it and is returned
// as it is; the message that each refused is then the one to go on from.
func (r *Reader) Read(ctx context.Context, from uint64, each func(Stored) error) (next uint64, err error) {
	next = max(from, 1)
	state, err := r.state(ctx)
	if err != nil || state.Msgs == 0 {
		return next, err
	}
	// A replica may answer that is behind the one that gave the last sequence.
	for pause := soon; next <= state.LastSeq && pause < seldom; {
		before := next
		if next, err = r.advance(ctx, next, each); err != nil {
			return next, err
		}
		if next > before {
			pause = soon
			continue
		}
		if _, err := await(ctx, nil, pause); err != nil {
			return next, err
		}
		pause *= 2
	}
	return next, nil
}

// Follow calls each as Read does, then with every message that is stored from
// then on, until ctx is done or each returns an error, which it returns. While
// NATS is away it waits; what was stored meanwhile is not missed.
func (r *Reader) Follow(ctx context.Context, from uint64, each func(Stored) error) error {
	wake := make(chan struct{}, 1)
	sub, err := r.nc.Subscribe(r.subject, func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return r.failed(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	next, err := r.Read(ctx, from, each)
	if err != nil {
		return err
	}
	for pause := soon; ; {
		before := next
		if next, err = r.again(ctx, next, pause, each); err != nil {
			return err
		}
		if next > before {
			pause = soon
			continue
		}
		woken, err := await(ctx, wake, pause)
		if err != nil {
			return err
		}
		if pause = min(2*pause, seldom); woken {
			pause = soon
		}
	}
}

// again reads on, taking for an outage what is no error of each.
func (r *Reader) again(ctx context.Context, next uint64, pause time.Duration, each func(Stored) error) (uint64, error) {
	var refused error
	at := next
	// A request that was lost with a connection is not waited for long.
	bounded, cancel := context.WithTimeout(ctx, seldom)
	defer cancel()
	next, err := r.advance(bounded, next, func(m Stored) error {
		refused = each(m)
		return refused
	})
	switch {
	case refused != nil:
		return next, refused
	case ctx.Err() != nil:
		return next, ctx.Err()
	case errors.Is(err, nats.ErrConnectionClosed):
		return next, err
	case err != nil || next > at || pause < seldom:
		return next, nil
	}
	if state, err := r.state(ctx); err == nil && state.LastSeq+1 < next {
		return next, fmt.Errorf("%w: %s ends at %d, and %d has been read", ErrReplaced, r.stream, state.LastSeq, next-1)
	}
	return next, nil
}

// advance reads one batch; next stays where it is if there is nothing more.
func (r *Reader) advance(ctx context.Context, next uint64, each func(Stored) error) (uint64, error) {
	batch, err := r.batch(ctx, next)
	if err != nil {
		return next, err
	}
	for _, m := range batch {
		if r.wanted(m.Subject) {
			if err := each(m); err != nil {
				return m.Sequence, err
			}
		}
		next = m.Sequence + 1
	}
	return next, nil
}

// batch reads messages that follow each other in the stream. What was lost on
// the way, as over a reconnect, ends the batch before the gap.
func (r *Reader) batch(ctx context.Context, from uint64) ([]Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	answers, err := jetstreamext.GetBatch(ctx, r.js, r.stream, readBatch, jetstreamext.GetBatchSeq(from))
	if err != nil {
		return nil, r.failed(err)
	}
	var batch []Stored
	last := uint64(0)
	for m, err := range answers {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return batch, nil
		}
		if err == nil && m.Header.Get(jetstream.LastSequenceHeader) != strconv.FormatUint(last, 10) {
			err = errBrokenBatch
		}
		if err != nil && len(batch) > 0 {
			return batch, nil
		}
		if err != nil {
			return nil, r.failed(err)
		}
		last = m.Sequence
		batch = append(batch, Stored{m.Sequence, m.Time, m.Subject, stored(m.Header), m.Data})
	}
	if len(batch) == 0 {
		return nil, r.failed(ErrNoAnswer)
	}
	return batch, nil
}

// wanted says whether a subject is among the reader's. Filtering happens here
// because an answer to a filtered read does not tell "none" from "not yet".
func (r *Reader) wanted(subject string) bool {
	if prefix, wild := strings.CutSuffix(r.subject, ">"); wild {
		return strings.HasPrefix(subject, prefix)
	}
	return subject == r.subject
}

// stored leaves out the headers that direct get adds (ADR-31).
func stored(h nats.Header) nats.Header {
	h = maps.Clone(h)
	for _, name := range []string{
		jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer,
		jetstream.LastSequenceHeader, "Nats-Num-Pending",
	} {
		delete(h, name)
	}
	return h
}

func (r *Reader) failed(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		err = ErrNoAnswer
	}
	return fmt.Errorf("reading stream %s: %w", r.stream, err)
}

// await waits for a wake-up, but no longer than pause.
func await(ctx context.Context, wake <-chan struct{}, pause time.Duration) (woken bool, err error) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-wake:
		return true, nil
	case <-timer.C:
		return false, nil
	}
}
