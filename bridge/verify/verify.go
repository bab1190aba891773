// Package verify decides whether a message is an authentic, fresh, first-seen
// reading of the device that it names. Devices, keys and time are passed in; it
// knows neither MQTT nor NATS.
//
// Checks 1 to 7 are a Session's Check; check 8, first sight, is the Memory's,
// because its answer is known only once a store has confirmed or failed.
package verify

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// LatePolicy says what becomes of an authentic reading older than MaxAge.
type LatePolicy string

const (
	// LateRefuse makes what is too old Stale.
	LateRefuse LatePolicy = "refuse"
	// LateKeep makes it Late, up to MaxLate: authentic, kept, not current.
	LateKeep LatePolicy = "keep"
)

// Config is what the checks compare with.
type Config struct {
	// Topic is the MQTT topic of a device's readings, in which the one level
	// {device_id} stands for the device.
	Topic string
	// MaxAge is how old a reading may be to be taken as current.
	MaxAge time.Duration
	// MaxFuture is how far a device's clock may be ahead.
	MaxFuture time.Duration
	// Late is the policy for what is older; empty means LateRefuse.
	Late LatePolicy
	// MaxLate is how old a Late reading may be, with LateKeep more than MaxAge.
	MaxLate time.Duration
}

// Clock tells the time, and why nothing may be judged by it, or nil. Both are of
// one moment.
type Clock func() (now time.Time, doubt error)

// Trusted is a Clock that is never in doubt.
func Trusted(now func() time.Time) Clock {
	if now == nil {
		return nil
	}
	return func() (time.Time, error) { return now(), nil }
}

// Verifier holds what all sessions share. It is safe for concurrent use.
type Verifier struct {
	config    Config
	topic     pattern
	directory Directory
	clock     Clock
}

// New returns a Verifier, or an error that says which value cannot be.
func New(c Config, d Directory, clock Clock) (*Verifier, error) {
	topic, err := parsePattern(c.Topic)
	switch {
	case err != nil:
		return nil, err
	case c.MaxAge <= 0:
		return nil, fmt.Errorf("max_age is %v; it must be more than 0", c.MaxAge)
	case c.MaxFuture < 0:
		return nil, fmt.Errorf("max_future is %v; it must not be negative", c.MaxFuture)
	case c.Late != "" && c.Late != LateRefuse && c.Late != LateKeep:
		return nil, fmt.Errorf("late is %q; allowed: keep, refuse", c.Late)
	case c.Late == LateKeep && c.MaxLate <= c.MaxAge:
		return nil, fmt.Errorf("max_late is %v; it must be more than max_age, %v", c.MaxLate, c.MaxAge)
	case d == nil || clock == nil:
		return nil, errors.New("verify needs a directory and a clock")
	}
	return &Verifier{config: c, topic: topic, directory: d, clock: clock}, nil
}

// maxDevices is for how many devices a session keeps keyed MAC states, about
// 600 bytes each. A wearable's connection has one, a gateway's may have many.
const maxDevices = 64

// Session checks the messages of one connection. It keeps the keyed MAC states
// of the devices that it checks, so it is not safe for concurrent use.
type Session struct {
	*Verifier
	connection string
	carries    func(device string) bool
	parser     reading.Parser
	device     *Device
	macs       []*reading.MAC
	others     map[*Device][]*reading.MAC
}

// Session returns a session for a connection that authenticated as a device;
// an empty name is for messages that come without a connection of their own.
func (v *Verifier) Session(connection string) *Session {
	return v.GatewaySession(connection, func(string) bool { return false })
}

// GatewaySession returns a session for a connection that may bring readings of
// other devices too: those for which carries is true at the time.
func (v *Verifier) GatewaySession(connection string, carries func(device string) bool) *Session {
	return &Session{Verifier: v, connection: connection, carries: carries}
}

// Verdict is the outcome of checks 1 to 7.
type Verdict struct {
	Outcome Outcome
	// Reason says more about a refusal. It quotes nothing of the message.
	Reason string
	// AboutTopic is true where the topic, not the payload, is Malformed.
	AboutTopic bool
	// Authentic is true once the MAC was right: only then may the sender hear
	// the reason, since others would use it as an oracle.
	Authentic bool
	// Device is the enrolled device that the topic names, or nil.
	Device *Device
	// Identity is the MAC that the message claims; proven if Authentic.
	Identity reading.Identity
	// Reading is set from check 4 on.
	Reading reading.Reading
	// Generation is that of the key that signed, if Authentic.
	Generation uint32
	// Now is the time that the reading was judged at. With a Doubt it may be
	// wrong: then nothing may come of the verdict.
	Now   time.Time
	Doubt error
}

// Age is how old the reading was when it was judged; negative if its device's
// clock is ahead.
func (v *Verdict) Age() time.Duration { return v.Now.Sub(v.Reading.Timestamp) }

// Check runs checks 1 to 7 in order and stops at the first that fails.
func (s *Session) Check(topic string, payload []byte) Verdict {
	v := Verdict{}
	v.Now, v.Doubt = s.clock()
	id, ok := s.topic.device(topic)
	if !ok {
		v.AboutTopic = true
		return v.refuse(Malformed, "the topic is not "+s.config.Topic)
	}
	// Known before the form is checked, so that a refusal names it.
	v.Device, ok = s.directory.Device(id)
	envelope, err := reading.Split(payload)
	if err != nil {
		return v.refuse(Malformed, detail(err))
	}
	v.Identity = envelope.Signature
	switch {
	case !ok:
		return v.refuse(UnknownDevice, "no such device is enrolled")
	case v.Device.Revoked:
		return v.refuse(RevokedDevice, "the device has been revoked")
	}
	key, ok := s.authenticate(v.Device, envelope, v.Now)
	if !ok {
		return v.refuse(BadSignature, "the signature is not the HMAC-SHA256 of the text under the device's key")
	}
	v.Generation, v.Authentic = key.Generation, true
	if v.Reading, err = s.parser.ParseSigned(payload, envelope); err != nil && key.inForce(v.Now) {
		return v.refuse(InvalidReading, detail(err))
	}
	// What cannot be read does not say when it was measured.
	if err != nil || !s.good(key, v.Now, v.Reading.Timestamp) {
		v.Authentic = false
		return v.refuse(BadSignature, "the key was not in force any more")
	}
	return s.compare(v, key)
}

// authenticate tries the device's keys, the newest first, and returns the one
// that made the MAC. One that has ended counts only where late readings do; then
// place decides.
func (s *Session) authenticate(d *Device, e reading.Envelope, now time.Time) (Key, bool) {
	if s.device != d {
		s.turnTo(d)
	}
	for i, mac := range s.macs {
		if (d.Keys[i].inForce(now) || s.config.Late == LateKeep) && mac.Verify(e) {
			return d.Keys[i], true
		}
	}
	return Key{}, false
}

// turnTo makes d the session's device. A Device that has changed is another
// one, so what is kept never outlives a key.
func (s *Session) turnTo(d *Device) {
	if s.device != nil {
		if len(s.others) >= maxDevices {
			clear(s.others)
		}
		if s.others == nil {
			s.others = make(map[*Device][]*reading.MAC)
		}
		s.others[s.device] = s.macs
	}
	macs, kept := s.others[d]
	if !kept {
		macs = make([]*reading.MAC, len(d.Keys))
		for i, k := range d.Keys {
			macs[i] = reading.NewMAC(k.Secret)
		}
	}
	s.device, s.macs = d, macs
}

// detail is what an error of the reading says beyond its kind, which the
// outcome says already.
func detail(err error) string {
	_, text, _ := strings.Cut(err.Error(), ": ")
	return text
}

func (v Verdict) refuse(o Outcome, reason string) Verdict {
	v.Outcome, v.Reason = o, reason
	return v
}
