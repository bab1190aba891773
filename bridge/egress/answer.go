package egress

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// answer takes what JetStream replied to one publish.
func (s *Store) answer(m *nats.Msg) {
	token, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, s.inbox), 36, 64)
	if err != nil {
		return
	}
	c, err := readAnswer(m)
	if err != nil {
		s.postpone(token, err)
		return
	}
	now := s.options.Now()
	if p, attempts := s.confirmed(token, now); p != nil {
		c.Took = now.Sub(p.started)
		c.Duplicate = c.Duplicate && attempts == 1
		p.done(c, nil)
	}
}

// confirmed returns the publication, or nil if it has ended already, and how often
// it was attempted.
func (s *Store) confirmed(token uint64, now time.Time) (*publication, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.wellAt(now)
	p := s.pending[token]
	if p == nil {
		return nil, 0
	}
	delete(s.pending, token)
	return p, p.attempts
}

// take gives a publication to the one who ends it; nil if somebody did already.
func (s *Store) take(token uint64) *publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[token]
	delete(s.pending, token)
	return p
}

type pubAck struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// storedFirst is how nats-server's answer begins where it has stored something for
// the first time, and has no domain: all that is left is the sequence and "}".
const storedFirst = `{"stream":"` + StreamVitals + `","seq":`

// readFirst reads such an answer, and says false to every other one. It costs a
// tenth of reading any JSON.
func readFirst(answer []byte) (sequence uint64, ok bool) {
	rest, begins := bytes.CutPrefix(answer, []byte(storedFirst))
	digits, ends := bytes.CutSuffix(rest, []byte("}"))
	sequence, err := strconv.ParseUint(string(digits), 10, 64)
	return sequence, begins && ends && err == nil && sequence > 0
}

// readAnswer turns a reply into a confirmation or the reason why there is none.
// An answer in the name of another stream is no confirmation: somebody has
// taken the subject over.
func readAnswer(m *nats.Msg) (Confirmation, error) {
	if sequence, ok := readFirst(m.Data); ok {
		return Confirmation{Sequence: sequence}, nil
	}
	var ack pubAck
	switch {
	case len(m.Data) == 0 && m.Header.Get("Status") == "503":
		return Confirmation{}, errors.New("no stream takes the reading: JetStream is away, or the stream is gone")
	case json.Unmarshal(m.Data, &ack) != nil:
		return Confirmation{}, errors.New("the store's answer cannot be read")
	case ack.Error != nil:
		return Confirmation{}, fmt.Errorf("the store refuses: %w", ack.Error)
	case ack.Stream != StreamVitals || ack.Sequence == 0:
		return Confirmation{}, fmt.Errorf("stream %q answered in place of %s", ack.Stream, StreamVitals)
	}
	return Confirmation{Duplicate: ack.Duplicate, Sequence: ack.Sequence}, nil
}
