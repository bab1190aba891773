package egress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	subjectAudit = "audit."
	// The stream's leader alone answers.
	apiAudit = "$JS.API.STREAM.MSG.GET." + StreamAudit
	// claimPatience bounds the storing of one claim.
	claimPatience = 5 * time.Second
)

// formerAudit says whether a stream is an audit that takes its events directly,
// as those made by earlier versions do. To change that takes nothing away.
func formerAudit(have jetstream.StreamConfig) bool {
	return have.Name == StreamAudit && slices.Equal(have.Subjects, []string{"audit.>"}) && have.SubjectTransform == nil && have.RePublish == nil
}

func renewAudit(ctx context.Context, js jetstream.JetStream, have, want jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	have.Subjects, have.SubjectTransform, have.RePublish = want.Subjects, want.SubjectTransform, want.RePublish
	stream, err := js.UpdateStream(ctx, have)
	if err != nil {
		return have, fmt.Errorf("changing the subjects of stream %s: %w", want.Name, err)
	}
	return stream.CachedInfo().Config, nil
}

// AuditAfter stores an event, unless another of the same kind has been stored
// since the one with that sequence; 0 is none at all. So of several replicas
// that find out the same only one tells. kind is as for Audit; an event's
// sequence is its place in the stream. Without an error, stored says which.
func (s *Store) AuditAfter(ctx context.Context, kind string, event any, after uint64) (sequence uint64, stored bool, err error) {
	data, err := json.Marshal(event)
	if err != nil {
		return 0, false, fmt.Errorf("writing an event: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	m := &nats.Msg{Subject: subjectGate + subjectAudit + kind, Data: data}
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(after), jetstream.WithExpectStream(StreamAudit))
	if overtaken(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("storing an event in %s: %w", StreamAudit, err)
	}
	return ack.Sequence, true, nil
}

// overtaken says whether the store refused for the sequence that was expected:
// by a number of its own where another claim is under way in a cluster.
func overtaken(err error) bool {
	const wrongSequence, wrongSequenceUnderWay = 10071, 10164
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == wrongSequence || api.ErrorCode == wrongSequenceUnderWay)
}

// LastAudit returns the last event of a kind, as JSON; its sequence is 0 if
// there is none, or none any more.
func (s *Store) LastAudit(ctx context.Context, kind string) (sequence uint64, event []byte, err error) {
	m, err := s.latest(ctx, apiAudit, subjectAudit+kind)
	return m.Sequence, m.Data, err
}

// LastLive returns when a device's last current reading was stored, by NATS'
// clock, and the reading; the zero time if there is none, or none any more.
func (s *Store) LastLive(ctx context.Context, patient, device string) (at time.Time, payload []byte, err error) {
	m, err := s.latest(ctx, apiMessage, "vitals.live."+patient+"."+device)
	return m.Time, m.Data, err
}

type whole struct {
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Data     []byte    `json:"data"`
}

// latest asks the leader of a stream for the last message of a subject.
func (s *Store) latest(ctx context.Context, api, subject string) (whole, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message whole               `json:"message"`
	}
	l := lookup{Store: s}
	if err := l.request(ctx, api, messageRequest{Last: subject}, &answer); err != nil {
		return whole{}, fmt.Errorf("asking for the last message of %s: %w", subject, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return whole{}, nil
	case answer.Error != nil:
		return whole{}, answer.Error
	}
	return answer.Message, nil
}

// FollowAudit calls each with the last event of every kind that matches, which
// may end in the wildcard ">", then caughtUp, and then each with what is stored
// from then on, until ctx is done. It waits while NATS is away. All calls come
// from one goroutine at a time.
func (s *Store) FollowAudit(ctx context.Context, kinds string, each func(kind string, sequence uint64, event []byte), caughtUp func()) {
	caughtUp = sync.OnceFunc(caughtUp)
	for ctx.Err() == nil {
		if err := s.followAudit(ctx, kinds, each, caughtUp); err != nil && ctx.Err() == nil {
			s.options.Log.Warn().Err(err).Msg("the audit cannot be followed yet; trying again")
			select {
			case <-ctx.Done():
			case <-time.After(seldom):
			}
		}
	}
}

func (s *Store) followAudit(ctx context.Context, kinds string, each func(string, uint64, []byte), caughtUp func()) error {
	begin, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	consumer, err := s.js.OrderedConsumer(begin, StreamAudit, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subjectAudit + kinds}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return fmt.Errorf("reading %s: %w", StreamAudit, err)
	}
	if consumer.CachedInfo().NumPending == 0 {
		caughtUp()
	}
	following, err := consumer.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil { // no message of a stream
			return
		}
		each(strings.TrimPrefix(m.Subject(), subjectAudit), meta.Sequence.Stream, m.Data())
		if meta.NumPending == 0 {
			caughtUp()
		}
	})
	if err != nil {
		return fmt.Errorf("following %s: %w", StreamAudit, err)
	}
	defer following.Stop()
	select {
	case <-ctx.Done():
	case <-following.Closed():
	}
	return nil
}
