package verify_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

const (
	maxAge    = time.Minute
	maxFuture = 5 * time.Second
)

var (
	judgedAt = time.Date(2025, 11, 21, 23, 0, 0, 0, time.UTC)
	trueKey  = bytes.Repeat([]byte{0x11}, 32)
	otherKey = bytes.Repeat([]byte{0x22}, 32)
)

// message is one that passes all checks until something of it is spoiled.
type message struct {
	topic, device, patient, spo2 string
	measured                     time.Time
	key                          []byte
	trailer                      string
	enrolled                     verify.Device
	unknown                      bool
}

func sound() *message {
	return &message{
		topic: "wearables/w-1/vitals", device: "w-1", patient: "p-1", spo2: "97", measured: judgedAt, key: trueKey,
		enrolled: verify.Device{ID: "w-1", Patient: "p-1", Keys: []verify.Key{{Generation: 1, Secret: trueKey}}},
	}
}

func (m *message) payload(t testing.TB) []byte {
	t.Helper()
	text := fmt.Sprintf(`{"device_id":%q,"patient_id":%q,"timestamp":%q,"seq":42,"spo2":%s,"heart_rate":72}`,
		m.device, m.patient, m.measured.Format(time.RFC3339Nano), m.spo2)
	payload, err := reading.Sign(m.key, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return append(payload, m.trailer...)
}

func (m *message) directory() directory {
	if m.unknown {
		return directory{}
	}
	return directory{"w-1": &m.enrolled}
}

func (m *message) check(t testing.TB, connection string) verify.Verdict {
	t.Helper()
	return verifierAt(t, judgedAt, m.directory()).Session(connection).Check(m.topic, m.payload(t))
}

func verifierAt(t testing.TB, now time.Time, d verify.Directory) *verify.Verifier {
	t.Helper()
	v, err := verify.New(verify.Config{Topic: "wearables/{device_id}/vitals", MaxAge: maxAge, MaxFuture: maxFuture},
		d, verify.Trusted(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// faults are what can be wrong with a message, in the order of the checks.
var faults = []struct {
	name    string
	outcome verify.Outcome
	spoil   func(*message)
}{
	{"topic", verify.Malformed, func(m *message) { m.topic = "elsewhere/w-1/vitals" }},
	{"no signature at the end", verify.Malformed, func(m *message) { m.trailer = "\n" }},
	{"not enrolled", verify.UnknownDevice, func(m *message) { m.unknown = true }},
	{"revoked", verify.RevokedDevice, func(m *message) { m.enrolled.Revoked = true }},
	{"another key", verify.BadSignature, func(m *message) { m.key = otherKey }},
	{"text for a number", verify.InvalidReading, func(m *message) { m.spo2 = `"high"` }},
	{"another device", verify.WrongDevice, func(m *message) { m.device = "w-2" }},
	{"another patient", verify.WrongPatient, func(m *message) { m.patient = "p-2" }},
	{"too old", verify.Stale, func(m *message) { m.measured = judgedAt.Add(-time.Hour) }},
	{"too new", verify.Future, func(m *message) { m.measured = judgedAt.Add(time.Hour) }},
}

// TestTheFirstFailingCheckDecides spoils messages once and twice: the outcome is
// that of the check that comes first, whatever else is wrong.
func TestTheFirstFailingCheckDecides(t *testing.T) {
	if v := sound().check(t, "w-1"); v.Outcome != verify.Accepted {
		t.Fatalf("the sound message is %v: %s", v.Outcome, v.Reason)
	}
	for i, first := range faults {
		for _, second := range faults[i:] {
			m := sound()
			first.spoil(m)
			second.spoil(m)
			want := first.outcome
			if first.outcome == verify.Stale {
				want = second.outcome // one time of measurement replaces the other
			}
			v := m.check(t, "w-1")
			if v.Outcome != want || v.Reason == "" {
				t.Errorf("%s and %s: %v (%s), want %v", first.name, second.name, v.Outcome, v.Reason, want)
			}
			if authentic := want > verify.BadSignature; v.Authentic != authentic {
				t.Errorf("%s and %s: authentic is %v, want %v", first.name, second.name, v.Authentic, authentic)
			}
			if topic := first.name == "topic"; v.AboutTopic != topic {
				t.Errorf("%s and %s: about the topic is %v, want %v", first.name, second.name, v.AboutTopic, topic)
			}
		}
	}
}

func TestVerdictOfAnAcceptedReading(t *testing.T) {
	m := sound()
	m.measured = judgedAt.Add(-1500 * time.Millisecond)
	v := m.check(t, "w-1")
	want := reading.Reading{
		DeviceID: "w-1", PatientID: "p-1", Timestamp: m.measured, Seq: 42, HasSeq: true, SpO2: 97, HeartRate: 72,
	}
	if v.Outcome != verify.Accepted || v.Reading != want || v.Device != &m.enrolled || v.Generation != 1 {
		t.Errorf("verdict %+v, want %+v of generation 1", v, want)
	}
	if v.Age() != 1500*time.Millisecond || !v.Now.Equal(judgedAt) {
		t.Errorf("age %v at %v, want 1.5s at %v", v.Age(), v.Now, judgedAt)
	}
	envelope, err := reading.Split(m.payload(t))
	if err != nil || v.Identity != envelope.Signature {
		t.Errorf("identity %v, want the signature %v (%v)", v.Identity, envelope.Signature, err)
	}
}

func TestFreshnessBoundaries(t *testing.T) {
	for _, c := range []struct {
		offset time.Duration
		want   verify.Outcome
	}{
		{-maxAge, verify.Accepted},
		{-maxAge - time.Microsecond, verify.Stale},
		{maxFuture, verify.Accepted},
		{maxFuture + time.Microsecond, verify.Future},
		{0, verify.Accepted},
	} {
		m := sound()
		m.measured = judgedAt.Add(c.offset)
		if v := m.check(t, ""); v.Outcome != c.want {
			t.Errorf("measured %v from now: %v (%s), want %v", c.offset, v.Outcome, v.Reason, c.want)
		}
	}
}

// TestReasonsOfExtremeTimes takes times that are further away than a Duration
// can say.
func TestReasonsOfExtremeTimes(t *testing.T) {
	for year, want := range map[int]verify.Outcome{1970: verify.Stale, 9999: verify.Future} {
		m := sound()
		m.measured = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		v := m.check(t, "")
		if v.Outcome != want || strings.Contains(v.Reason, "-") {
			t.Errorf("year %d: %v (%s), want %v with a positive duration", year, v.Outcome, v.Reason, want)
		}
	}
}

func TestPayloadSizeBoundary(t *testing.T) {
	padded := func(size int) []byte {
		text := `{"device_id":"w-1","patient_id":"p-1","timestamp":"2025-11-21T23:00:00Z","spo2":97,"heart_rate":72,"note":"%s"}`
		bare, err := reading.Sign(trueKey, fmt.Appendf(nil, text, ""))
		if err != nil {
			t.Fatal(err)
		}
		full := fmt.Appendf(nil, text, strings.Repeat("x", size-len(bare)))
		envelope := reading.NewMAC(trueKey).Sum(splitText(t, full))
		return fmt.Appendf(full[:len(full)-1], `,"signature":"%v"}`, envelope)
	}
	s := verifierAt(t, judgedAt, sound().directory()).Session("w-1")
	for size, want := range map[int]verify.Outcome{reading.MaxPayload: verify.Accepted, reading.MaxPayload + 1: verify.Malformed} {
		payload := padded(size)
		if len(payload) != size {
			t.Fatalf("built %d bytes, want %d", len(payload), size)
		}
		if v := s.Check("wearables/w-1/vitals", payload); v.Outcome != want {
			t.Errorf("%d bytes: %v (%s), want %v", size, v.Outcome, v.Reason, want)
		}
	}
}

// splitText gives the envelope of a text that may be too long to be signed by
// reading.Sign: its MAC is wanted, not its payload.
func splitText(t testing.TB, text []byte) reading.Envelope {
	t.Helper()
	const tail = `,"signature":"0000000000000000000000000000000000000000000000000000000000000000"}`
	if room := reading.MaxPayload - len(tail) + 1; len(text) > room {
		return reading.Envelope{} // refused for its size, so that its MAC does not matter
	}
	e, err := reading.Split(append(bytes.Clone(text[:len(text)-1]), tail...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConnections(t *testing.T) {
	for connection, want := range map[string]verify.Outcome{
		"w-1": verify.Accepted, "": verify.Accepted, "w-2": verify.WrongDevice, "W-1": verify.WrongDevice,
	} {
		if v := sound().check(t, connection); v.Outcome != want {
			t.Errorf("connection %q: %v (%s), want %v", connection, v.Outcome, v.Reason, want)
		}
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	good := verify.Config{Topic: "wearables/{device_id}/vitals", MaxAge: maxAge, MaxFuture: maxFuture}
	clock := verify.Trusted(func() time.Time { return judgedAt })
	for name, c := range map[string]struct {
		change func(*verify.Config)
		says   string
	}{
		"no topic":        {func(c *verify.Config) { c.Topic = "" }, "exactly one level must be {device_id}"},
		"no age":          {func(c *verify.Config) { c.MaxAge = 0 }, "max_age is 0s"},
		"negative future": {func(c *verify.Config) { c.MaxFuture = -1 }, "max_future is -1ns"},
		"unknown policy":  {func(c *verify.Config) { c.Late = "drop" }, `late is "drop"; allowed: keep, refuse`},
		"nothing late":    {func(c *verify.Config) { c.Late, c.MaxLate = verify.LateKeep, c.MaxAge }, "max_late is 1m0s; it must be more than max_age, 1m0s"},
	} {
		config := good
		c.change(&config)
		if _, err := verify.New(config, directory{}, clock); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
	if _, err := verify.New(good, nil, clock); err == nil {
		t.Error("no directory is no error")
	}
	if _, err := verify.New(good, directory{}, nil); err == nil {
		t.Error("no clock is no error")
	}
}
