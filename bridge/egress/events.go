package egress

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// eventsWaiting is how many events may wait to be published.
const eventsWaiting = 4096

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
	device := r.Device
	if device == "" {
		device = "_"
	}
	r.Spelled = r.Outcome.String()
	return s.event("rejected."+r.Spelled+"."+device, r)
}

// Audit records who did what, best effort as Reject. kind is one or more
// subject tokens, such as "registry.add".
func (s *Store) Audit(kind string, event any) bool { return s.event("audit."+kind, event) }

func (s *Store) event(subject string, event any) bool {
	data, err := json.Marshal(event)
	if err != nil {
		s.options.Log.Error().Err(err).Str("subject", subject).Msg("an event could not be written")
		return false
	}
	select {
	case s.events <- &nats.Msg{Subject: subject, Data: data}:
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
		case m := <-s.events:
			_ = s.nc.PublishMsg(m)
		case <-s.stop:
			for {
				select {
				case m := <-s.events:
					_ = s.nc.PublishMsg(m)
				default:
					return
				}
			}
		}
	}
}
