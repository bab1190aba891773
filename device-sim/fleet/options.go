package fleet

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// DefaultDrain is how long a fleet waits at its end for acknowledgements.
const DefaultDrain = 10 * time.Second

// Options are what a fleet is made of. Broker, Credentials and Ledger must be
// there.
type Options struct {
	// Broker is host:port, or a URL that paho knows.
	Broker string
	// Credentials are the devices', one each.
	Credentials []registry.Credentials
	// Rate is each device's readings a second, 1 where it is 0. Recordings have
	// their own.
	Rate float64
	// Seed determines the values that the model yields (not the times).
	Seed uint64
	// Deteriorating is the share of the patients that deteriorate, 0 to 1,
	// within the first half minute.
	Deteriorating float64
	// Recordings, if any, are played instead of the model, each by one device;
	// devices beyond their number are left out, and Run ends with the last row.
	Recordings []Recording
	// Speed is how many seconds of a recording pass in one, 1 where it is 0.
	Speed float64
	// Victim, if any, is one more device, which the honest fleet gives up to an
	// attacker from time to time; see Fleet.Victim.
	Victim *registry.Credentials
	// Drain is how long Run waits at its end for acknowledgements; DefaultDrain
	// where it is 0.
	Drain time.Duration
	// Ledger takes down what is sent.
	Ledger   *ledger.Ledger
	Observer Observer
	// Logger is never given a payload, a password or a key.
	Logger zerolog.Logger
	// Clock stamps the readings, time.Now where it is nil.
	Clock func() time.Time
}

// Observer is told what happens. Its functions may be nil; they are called from
// many goroutines and must return at once.
type Observer struct {
	// Sent is called just before each attempt.
	Sent func(Sending)
	// Acknowledged is called once for each acknowledged reading.
	Acknowledged func(Acknowledgement)
}

// Sending is one attempt to deliver a reading.
type Sending struct {
	Device  string
	Payload []byte
	At      time.Time
	// Attempt counts from 1.
	Attempt int
}

// Acknowledgement is a reading's PUBACK.
type Acknowledgement struct {
	Device  string
	Payload []byte
	// Sent is the time of the first attempt, At that of the PUBACK.
	Sent, At time.Time
	Attempts int
}

func (o Observer) sent(s Sending) {
	if o.Sent != nil {
		o.Sent(s)
	}
}

func (o Observer) acknowledged(a Acknowledgement) {
	if o.Acknowledged != nil {
		o.Acknowledged(a)
	}
}

// Summary is what a fleet has done so far.
type Summary struct {
	Devices int `json:"devices"`
	// Measured counts readings that were signed, Sent those that were sent at
	// least once.
	Measured     int64 `json:"measured"`
	Sent         int64 `json:"sent"`
	Acknowledged int64 `json:"acknowledged"`
	// Resent counts attempts beyond each reading's first.
	Resent      int64 `json:"resent"`
	Connections int64 `json:"connections"`
	// SkippedRows counts rows of recordings that lack a value.
	SkippedRows int `json:"skipped_rows"`
	// LastFailure is why a device could not connect the last time one could not.
	LastFailure error `json:"-"`
}

// Unacknowledged returns how many readings were measured but not acknowledged.
func (s Summary) Unacknowledged() int64 { return s.Measured - s.Acknowledged }

// complete puts the defaults in and refuses what cannot be.
func complete(o Options) (Options, error) {
	if o.Rate == 0 {
		o.Rate = 1
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.Drain == 0 {
		o.Drain = DefaultDrain
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	switch {
	case o.Broker == "":
		return o, errors.New("fleet: no broker's address")
	case len(o.Credentials) == 0:
		return o, errors.New("fleet: no devices")
	case o.Ledger == nil:
		return o, errors.New("fleet: no ledger")
	case !(o.Rate >= 0.001 && o.Rate <= 1000):
		return o, fmt.Errorf("fleet: the rate is %g Hz; it must be from 0.001 to 1000", o.Rate)
	case !(o.Speed >= 0.001 && o.Speed <= 1000):
		return o, fmt.Errorf("fleet: the speed is %g; it must be from 0.001 to 1000", o.Speed)
	case !(o.Deteriorating >= 0 && o.Deteriorating <= 1):
		return o, fmt.Errorf("fleet: the share that deteriorates is %g; it must be from 0 to 1", o.Deteriorating)
	case len(o.Recordings) > len(o.Credentials):
		return o, fmt.Errorf("fleet: %d recordings for %d devices; each needs a device of its own",
			len(o.Recordings), len(o.Credentials))
	}
	if len(o.Recordings) > 0 {
		o.Credentials = o.Credentials[:len(o.Recordings)]
	}
	return o, distinct(o)
}

// distinct refuses two devices of one id: they would take each other's session.
func distinct(o Options) error {
	seen := make(map[string]bool)
	all := o.Credentials
	if o.Victim != nil {
		all = append(all[:len(all):len(all)], *o.Victim)
	}
	for _, c := range all {
		if seen[c.DeviceID] {
			return fmt.Errorf("fleet: device %q is there twice", c.DeviceID)
		}
		seen[c.DeviceID] = true
	}
	return nil
}
