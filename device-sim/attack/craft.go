package attack

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
)

// What every forged reading claims: a patient in mortal danger, so that a
// consumer that believes it cannot but show it.
const (
	criticalSpO2      = 55
	criticalHeartRate = 180
)

// How much stale and future readings miss the present by: enough for any sensible
// window, that of late readings included.
const (
	longAgo = 100 * 24 * time.Hour
	farOff  = time.Hour
)

// errNotReady says that an attack lacks something that may still come.
var errNotReady = errors.New("nothing has been captured yet")

// shot is one message of an attack.
type shot struct {
	device, patient, topic string
	payload                []byte
	retained               bool
}

func (t *turn) shotAt(target Target, payload []byte) shot {
	return shot{device: target.Device, patient: target.Patient, topic: target.Topic, payload: payload}
}

// sample is a critical reading in the name of a target.
func (t *turn) sample(of Target) fleet.Sample {
	t.seq++
	return fleet.Sample{
		Device: of.Device, Patient: of.Patient, Timestamp: t.clock(), Seq: t.seq,
		SpO2: criticalSpO2, HeartRate: criticalHeartRate,
	}
}

// seal signs any text, also one that reading.Sign would refuse.
func seal(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return attach(text, mac.Sum(nil))
}

func attach(text, signature []byte) []byte {
	return fmt.Appendf(nil, `%s,"signature":"%x"}`, text[:len(text)-1], signature)
}

func (t *turn) randomBytes() []byte {
	b := make([]byte, sha256.Size)
	for i := range b {
		b[i] = byte(t.random.Uint32())
	}
	return b
}

func forgedSignature(t *turn) (shot, error) {
	target := t.target()
	return t.shotAt(target, attach(t.sample(target).Text(), t.randomBytes())), nil
}

func retained(t *turn) (shot, error) {
	s, err := forgedSignature(t)
	s.retained = true
	return s, err
}

var (
	spo2Member    = regexp.MustCompile(`"spo2":[0-9.]+`)
	patientMember = regexp.MustCompile(`"patient_id":"[^"]*"`)
)

func tamperedValue(t *turn) (shot, error) {
	value := fmt.Appendf(nil, `"spo2":%d`, criticalSpO2)
	return t.tamper(spo2Member, value)
}

func tamperedPatient(t *turn) (shot, error) {
	return t.tamper(patientMember, []byte(`"patient_id":"`+t.own.Patient+`"`))
}

// tamper replaces a member of a captured reading and keeps its signature.
func (t *turn) tamper(member *regexp.Regexp, replacement []byte) (shot, error) {
	target := t.target()
	payload, ok := t.capture.Latest(target.Device)
	if !ok {
		return shot{}, errNotReady
	}
	tampered := member.ReplaceAllLiteral(payload, replacement)
	if bytes.Equal(tampered, payload) {
		return shot{}, errNotReady
	}
	return t.shotAt(target, tampered), nil
}

func otherPatient(t *turn) (shot, error) {
	sample := t.sample(t.own)
	sample.Patient = t.target().Patient
	return t.shotAt(t.own, seal(t.key, sample.Text())), nil
}

func otherTopic(t *turn) (shot, error) {
	target := t.target()
	return t.shotAt(target, seal(t.key, t.sample(target).Text())), nil
}

func otherDevice(t *turn) (shot, error) {
	return t.shotAt(t.own, seal(t.key, t.sample(t.target()).Text())), nil
}

func stale(t *turn) (shot, error) { return t.shifted(-longAgo), nil }

func future(t *turn) (shot, error) { return t.shifted(farOff), nil }

func (t *turn) shifted(by time.Duration) shot {
	sample := t.sample(t.own)
	sample.Timestamp = sample.Timestamp.Add(by)
	return t.shotAt(t.own, seal(t.key, sample.Text()))
}

// unknownDevice needs no true key: none would be right.
func unknownDevice(t *turn) (shot, error) {
	name := "ghost-" + hex.EncodeToString(t.randomBytes()[:4])
	ghost := Target{
		Device: name, Patient: t.target().Patient,
		Topic: strings.Replace(t.own.Topic, t.own.Device, name, 1),
	}
	return t.shotAt(ghost, seal(t.randomBytes(), t.sample(ghost).Text())), nil
}

func malformedJSON(t *turn) (shot, error) {
	text := bytes.Replace(t.sample(t.own).Text(), []byte(`,"spo2":`), []byte(`,,"spo2"=`), 1)
	return t.shotAt(t.own, seal(t.key, text)), nil
}

func oversize(t *turn) (shot, error) {
	text := t.sample(t.own).Text()
	padding := strings.Repeat("x", reading.MaxPayload)
	text = fmt.Appendf(nil, `%s,"note":"%s"}`, text[:len(text)-1], padding)
	return t.shotAt(t.own, seal(t.key, text)), nil
}
