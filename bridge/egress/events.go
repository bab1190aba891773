package egress

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// eventsWaiting is how many events may wait to be published.
const eventsWaiting = 4096

// auditsWaiting is the same for what the audit holds, which a flood of
// rejections must not crowd out.
const auditsWaiting = 1024

// Rejection is what is kept of a refused message: enough to investigate it,
// nothing of what it says about a patient.
type Rejection struct {
	Outcome verify.Outcome `json:"-"`
	// Spelled is Outcome in its one spelling.
	Spelled string `json:"outcome"`
	// Device is empty where no such device is enrolled.
	Device string `json:"device_id,omitempty"`
	// Connection is the MQTT client identifier, Remote its address.
	Connection string    `json:"connection,omitempty"`
	Remote     string    `json:"remote,omitempty"`
	Time       time.Time `json:"time"`
	// PayloadSHA256 is hexadecimal.
	PayloadSHA256 string `json:"payload_sha256,omitempty"`
	Reason        string `json:"reason,omitempty"`
}

// Reject records a rejection, best effort: where too many wait it is dropped,
// since no acknowledgement may be delayed for it. It reports whether it will
// be published.
func (s *Store) Reject(r Rejection) bool {
	r.Spelled = r.Outcome.String()
	published := s.event(s.events, rejectionSubject(r.Spelled, r.Device), r)
	if !published {
		s.droppedRejections.Add(1)
	}
	return published
}

// Dropped is how many events could not be published, because too many waited or
// NATS was away, of those for REJECTIONS and for AUDIT.
func (s *Store) Dropped() (rejections, audits uint64) {
	return s.droppedRejections.Load(), s.droppedAudits.Load()
}

func rejectionSubject(outcome, device string) string {
	if device == "" {
		device = "_"
	}
	return "rejected." + outcome + "." + device
}

// RejectionSummary stands for refused messages that there is no Rejection of,
// because there were too many of one outcome, device and address. LeftOut tells
// the two apart: a Rejection has none.
type RejectionSummary struct {
	Outcome verify.Outcome `json:"-"`
	// Spelled is Outcome in its one spelling.
	Spelled string `json:"outcome"`
	// Device is empty where no such device is enrolled, and, together with
	// Remote, where too many flooded at once to be told apart.
	Device string `json:"device_id,omitempty"`
	// Remote is an IPv4 address or an IPv6 /64, without a port.
	Remote string `json:"remote,omitempty"`
	// From and Until are when the first and the last of them came.
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	// LeftOut is how many there were.
	LeftOut uint64 `json:"left_out"`
}

// RejectSummary is Reject for a summary.
func (s *Store) RejectSummary(r RejectionSummary) bool {
	r.Spelled = r.Outcome.String()
	return s.event(s.events, rejectionSubject(r.Spelled, r.Device), r)
}

// Audit records who did what. kind is one or more subject tokens, such as
// "registry.add". An event that has to be left out is logged.
func (s *Store) Audit(kind string, event any) {
	if !s.event(s.audits, subjectGate+subjectAudit+kind, event) {
		s.droppedAudits.Add(1)
		s.sampled.Error("an event is missing in the audit, because too many wait", func(e *zerolog.Event) { e.Str("kind", kind) })
	}
}

func (s *Store) event(to chan<- *nats.Msg, subject string, event any) bool {
	data, err := json.Marshal(event)
	if err != nil {
		s.options.Log.Error().Err(err).Str("subject", subject).Msg("an event could not be written")
		return false
	}
	select {
	case to <- &nats.Msg{Subject: subject, Data: data}:
		return true
	default:
		return false
	}
}

// publishEvents keeps events off the way of the readings: publishing may block
// while NATS does not read.
func (s *Store) publishEvents() {
	for {
		select {
		case m := <-s.audits:
			s.publishAudit(m)
		case m := <-s.events:
			s.publishRejection(m)
		case <-s.stop:
			s.publishLast()
			return
		}
	}
}

// publishLast publishes what waits and no more.
func (s *Store) publishLast() {
	for {
		select {
		case m := <-s.audits:
			s.publishAudit(m)
		case m := <-s.events:
			s.publishRejection(m)
		default:
			return
		}
	}
}

func (s *Store) publishRejection(m *nats.Msg) {
	if s.nc.PublishMsg(m) != nil {
		s.droppedRejections.Add(1)
	}
}

func (s *Store) publishAudit(m *nats.Msg) {
	if err := s.nc.PublishMsg(m); err != nil {
		s.droppedAudits.Add(1)
		s.sampled.Error("an event is missing in the audit", func(e *zerolog.Event) { e.Err(err).Str("subject", m.Subject) })
	}
}
