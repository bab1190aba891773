package egress

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

const (
	// Of the stream's replicas the leader alone answers the first of these; where
	// there is none for now, any may answer the second.
	apiMessage = "$JS.API.STREAM.MSG.GET." + StreamVitals
	apiInfo    = "$JS.API.STREAM.INFO." + StreamVitals
	// lookupPatience bounds the wait for one answer.
	lookupPatience = 2 * time.Second
	// identitiesOfGroup bounds what one look-up holds in memory, some 6 MB: more
	// readings than a device may send in the longest span that is searched, which
	// is max_age, a minute, straggle and some margins.
	identitiesOfGroup = 1 << 16
)

var (
	// ErrTooMany says that a late reading can never be looked up: no device sends
	// so many in so short a time.
	ErrTooMany = errors.New("the device has stored more readings around that time than can be looked up")
	errUnclear = errors.New("the stream contradicts itself")
)

// lookup is one in progress. It reads message after message from the stream's
// leader. A batch would come from any replica, which may be behind; and while
// nats-server gathers one, which takes it some 0.1 ms a message in a stream of
// 1,000 devices, it stores nothing.
type lookup struct {
	*Store
	held map[reading.Identity]uint64
}

// lookUp returns the identities, with their sequences, of the readings that may
// be of a group and were in the stream when it was called.
func (s *Store) lookUp(ctx context.Context, key groupKey) (map[reading.Identity]uint64, error) {
	// The result is used at once, and must be good then.
	ctx, cancel := context.WithTimeout(ctx, s.groups.times.keep)
	defer cancel()
	l := &lookup{Store: s, held: make(map[reading.Identity]uint64)}
	if err := l.read(ctx, LateSubject(key.patient, key.device, key.minute), span{}); err != nil {
		return nil, fmt.Errorf("looking for late copies: %w", err)
	}
	from, to := key.minute.Add(-s.groups.times.before), key.minute.Add(time.Minute+s.groups.times.after)
	if err := l.read(ctx, "vitals.live."+key.patient+"."+key.device, span{from, to}); err != nil {
		return nil, fmt.Errorf("looking for live copies: %w", err)
	}
	return l.held, nil
}

// span is when messages were stored; the zero span is always.
type span struct{ from, to time.Time }

func (s span) endsBefore(t time.Time) bool { return !s.to.IsZero() && s.to.Before(t) }

// read notes what of a subject was stored within a span.
func (l *lookup) read(ctx context.Context, subject string, within span) error {
	next := messageRequest{Next: subject, Start: within.from}
	for seen := uint64(0); ; {
		m, err := l.message(ctx, next)
		switch {
		case err != nil:
			return err
		case m.Sequence == 0:
			return l.ended(ctx, subject, within, seen)
		case within.endsBefore(m.Time):
			return nil
		}
		if id, ok := m.identity(); ok {
			l.held[id] = m.Sequence
		}
		if len(l.held) > l.groups.mostOfOne {
			return ErrTooMany
		}
		seen = m.Sequence
		next = messageRequest{Next: subject, Sequence: seen + 1}
	}
}

// ended makes sure that a subject has nothing in a span after a sequence: the
// leader answers "none" also where it could not read its files.
func (l *lookup) ended(ctx context.Context, subject string, within span, seen uint64) error {
	last, err := l.message(ctx, messageRequest{Last: subject})
	switch {
	case err != nil:
		return err
	case last.Sequence == 0:
		return l.empty(ctx, subject)
	case last.Sequence > seen && !last.Time.Before(within.from):
		// It was stored since, if nothing worse.
		return errUnclear
	}
	return nil
}

// empty makes sure that a subject has no message, by the index of subjects.
func (l *lookup) empty(ctx context.Context, subject string) error {
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		State *struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	if err := l.request(ctx, apiInfo, map[string]string{"subjects_filter": subject}, &answer); err != nil {
		return err
	}
	switch {
	case answer.Error != nil:
		return answer.Error
	case answer.State == nil || answer.State.Subjects[subject] > 0:
		return errUnclear
	}
	return nil
}

// messageRequest asks for one message (ADR-31).
type messageRequest struct {
	Last     string    `json:"last_by_subj,omitzero"`
	Next     string    `json:"next_by_subj,omitzero"`
	Sequence uint64    `json:"seq,omitzero"`
	Start    time.Time `json:"start_time,omitzero"`
}

// leaders is a message as the stream's leader has it; its sequence is 0 if there
// is none.
type leaders struct {
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Header   []byte    `json:"hdrs"`
}

// identity reads Nats-Msg-Id. A message in which that is no identity was not
// stored by a gate.
func (m leaders) identity() (id reading.Identity, ok bool) {
	h, err := nats.DecodeHeadersMsg(m.Header)
	if text := h.Get(jetstream.MsgIDHeader); err == nil && len(text) == hex.EncodedLen(len(id)) {
		_, err = hex.Decode(id[:], []byte(text))
		return id, err == nil
	}
	return id, false
}

func (l *lookup) message(ctx context.Context, request messageRequest) (leaders, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message leaders             `json:"message"`
	}
	if err := l.request(ctx, apiMessage, request, &answer); err != nil {
		return leaders{}, err
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return leaders{}, nil
	case answer.Error != nil:
		return leaders{}, answer.Error
	case answer.Message.Sequence == 0:
		return leaders{}, errUnclear
	}
	return answer.Message, nil
}

func (l *lookup) request(ctx context.Context, subject string, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("writing a request: %w", err)
	}
	m, err := l.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("reading its answer: %w", err)
	}
	return nil
}
