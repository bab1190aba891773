// Package verify decides whether a message is an authentic, fresh, first-seen
// reading of the device that it names. Devices, keys and time are passed in; it
// knows neither MQTT nor NATS.
//
// Checks 1 to 7 are a Session's Check; check 8, first sight, is the Memory's,
// because its answer is known only once a store has confirmed or failed.
package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// Key is one signing key of a device.
type Key struct {
	// Generation counts a device's keys from 1.
	Generation uint32
	// Secret is the HMAC-SHA256 key.
	Secret []byte
	// Until is when the key ceases to be good; the zero time is never.
	Until time.Time
}

// inForce says whether a key may sign what is judged at now.
func (k Key) inForce(now time.Time) bool { return k.Until.IsZero() || now.Before(k.Until) }

// Device is what the checks need to know of an enrolled device. A Device is
// never changed once a Directory has given it out; a change is a new Device.
type Device struct {
	// ID and Patient match [A-Za-z0-9_-]{1,64} but for the single "_".
	ID      string
	Patient string
	// Revoked devices are refused before their keys are looked at.
	Revoked bool
	// Keys are those that may be in force, the newest first.
	Keys []Key
}

// Directory knows the enrolled devices.
type Directory interface {
	// Device returns the device of that id, and whether there is one. It is
	// called for every message, from many goroutines.
	Device(id string) (*Device, bool)
}

// LatePolicy says what becomes of an authentic reading older than MaxAge.
type LatePolicy string

// LateRefuse makes what is too old Stale.
const LateRefuse LatePolicy = "refuse"

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
}

// Verifier holds what all sessions share. It is safe for concurrent use.
type Verifier struct {
	config    Config
	topic     pattern
	directory Directory
	now       func() time.Time
}

// New returns a Verifier, or an error that says which value cannot be.
func New(c Config, d Directory, now func() time.Time) (*Verifier, error) {
	topic, err := parsePattern(c.Topic)
	switch {
	case err != nil:
		return nil, err
	case c.MaxAge <= 0:
		return nil, fmt.Errorf("max_age is %v; it must be more than 0", c.MaxAge)
	case c.MaxFuture < 0:
		return nil, fmt.Errorf("max_future is %v; it must not be negative", c.MaxFuture)
	case c.Late != "" && c.Late != LateRefuse:
		return nil, fmt.Errorf("late is %q; allowed: refuse", c.Late)
	case d == nil || now == nil:
		return nil, errors.New("verify needs a directory and a clock")
	}
	return &Verifier{config: c, topic: topic, directory: d, now: now}, nil
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
	// Now is the time that the reading was judged at.
	Now time.Time
}

// Age is how old the reading was when it was judged; negative if its device's
// clock is ahead.
func (v *Verdict) Age() time.Duration { return v.Now.Sub(v.Reading.Timestamp) }

// Check runs checks 1 to 7 in order and stops at the first that fails.
func (s *Session) Check(topic string, payload []byte) Verdict {
	v := Verdict{Now: s.now()}
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
	if v.Generation, v.Authentic = s.authenticate(v.Device, envelope, v.Now); !v.Authentic {
		return v.refuse(BadSignature, "the signature is not the HMAC-SHA256 of the text under the device's key")
	}
	if v.Reading, err = s.parser.Parse(payload); err != nil {
		return v.refuse(InvalidReading, detail(err))
	}
	return s.compare(v)
}

// compare runs checks 5 to 7 on an authentic, well-formed reading.
func (s *Session) compare(v Verdict) Verdict {
	r, d := &v.Reading, v.Device
	switch {
	case r.DeviceID != d.ID:
		return v.refuse(WrongDevice, "device_id is not the device of the topic")
	case !s.brings(d.ID):
		return v.refuse(WrongDevice, "the connection belongs to another device")
	case r.PatientID != d.Patient:
		return v.refuse(WrongPatient, "patient_id is not the patient that the device is assigned to")
	case r.Timestamp.Before(v.Now.Add(-s.config.MaxAge)):
		return v.refuse(Stale, fmt.Sprintf("measured %v ago, at most %v is allowed", v.Age().Round(time.Millisecond), s.config.MaxAge))
	case r.Timestamp.After(v.Now.Add(s.config.MaxFuture)):
		return v.refuse(Future, fmt.Sprintf("measured %v from now, at most %v is allowed", r.Timestamp.Sub(v.Now).Round(time.Millisecond), s.config.MaxFuture))
	}
	return v
}

func (s *Session) brings(device string) bool {
	return s.connection == "" || s.connection == device || s.carries(device)
}

// Recheck says whether an accepted reading would still be by the directory as
// it is now: whoever waits before it publishes must ask again. Its age is left
// alone; it was fresh when it came. It is safe for concurrent use.
func (s *Session) Recheck(v Verdict) Verdict {
	then := v.Device
	now, known := s.directory.Device(then.ID)
	switch {
	case !known:
		return v.refuse(UnknownDevice, "the device has been removed meanwhile")
	case now.Revoked:
		return v.refuse(RevokedDevice, "the device has been revoked meanwhile")
	case !now.has(then.key(v.Generation), s.now()):
		return v.refuse(BadSignature, "the key is no longer in force")
	case !s.brings(then.ID):
		return v.refuse(WrongDevice, "the connection no longer carries the device")
	case v.Reading.PatientID != now.Patient:
		return v.refuse(WrongPatient, "the device has been assigned to another patient meanwhile")
	}
	return v
}

func (d *Device) key(generation uint32) Key {
	for _, k := range d.Keys {
		if k.Generation == generation {
			return k
		}
	}
	return Key{}
}

// has says whether a key is the device's and in force. Generations alone do not
// tell: a device that was removed and added again counts from 1 anew.
func (d *Device) has(key Key, now time.Time) bool {
	own := d.key(key.Generation)
	return len(own.Secret) > 0 && bytes.Equal(own.Secret, key.Secret) && own.inForce(now)
}

// authenticate tries the device's keys, the newest first, and returns the
// generation of the one that made the MAC.
func (s *Session) authenticate(d *Device, e reading.Envelope, now time.Time) (uint32, bool) {
	if s.device != d {
		s.turnTo(d)
	}
	for i, mac := range s.macs {
		if d.Keys[i].inForce(now) && mac.Verify(e) {
			return d.Keys[i].Generation, true
		}
	}
	return 0, false
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
