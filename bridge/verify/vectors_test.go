package verify_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// oneMessage are the outcomes that the vectors must show: all that one message
// can have alone, under the policies that there are.
var oneMessage = []verify.Outcome{
	verify.Accepted, verify.Malformed, verify.UnknownDevice, verify.RevokedDevice, verify.BadSignature,
	verify.InvalidReading, verify.WrongDevice, verify.WrongPatient, verify.Stale, verify.Future, verify.Duplicate,
}

func TestVectors(t *testing.T) {
	shown := make(map[string]int)
	for _, v := range vectors(t) {
		shown[v.Outcome]++
		t.Run(v.Name, func(t *testing.T) { runVector(t, v) })
	}
	for _, o := range oneMessage {
		if shown[o.String()] == 0 {
			t.Errorf("no vector has the outcome %v", o)
		}
		delete(shown, o.String())
	}
	for name, n := range shown {
		t.Errorf("%d vectors have the outcome %q, which one message cannot have", n, name)
	}
}

// TestVectorsInOneSession gives all vectors of one connection to one session,
// the refused ones among them: what it keeps from one message must not change
// the outcome of the next.
func TestVectorsInOneSession(t *testing.T) {
	all := vectors(t)
	type circumstances struct {
		connected, pattern string
		now                time.Time
		age, future        time.Duration
	}
	sessions := make(map[circumstances]*verify.Session)
	devices := &current{}
	for range 2 {
		for _, v := range all {
			c := circumstances{v.Connected, v.TopicPattern, v.Now, v.MaxAge, v.MaxFuture}
			devices.directory = newDirectory(v)
			if sessions[c] == nil {
				sessions[c] = newVerifier(t, v, devices).Session(v.Connected)
			}
			judge(t, v, sessions[c])
		}
	}
}

func runVector(t *testing.T, v reading.Vector) {
	judge(t, v, newVerifier(t, v, newDirectory(v)).Session(v.Connected))
}

// judge checks one vector, with the readings stored before in a Memory.
func judge(t *testing.T, v reading.Vector, s *verify.Session) {
	t.Helper()
	verdict := s.Check(v.Topic, v.Payload)
	outcome := verdict.Outcome
	if outcome == verify.Accepted {
		expiry := verdict.Reading.Timestamp.Add(v.MaxAge)
		memory := verify.NewMemory(len(v.Stored) + 1)
		for _, id := range v.Stored {
			memory.Reserve(id, v.Now, expiry, nil)
			memory.Keep(id, expiry)
		}
		if memory.Reserve(verdict.Identity, v.Now, expiry, nil) == verify.Stored {
			outcome = verify.Duplicate
		}
	}
	if outcome.String() != v.Outcome {
		t.Errorf("%s: %v (%s), want %s: %s", v.Name, outcome, verdict.Reason, v.Outcome, v.Description)
	}
	if outcome != verify.Accepted {
		if verdict.Reason == "" && outcome != verify.Duplicate {
			t.Errorf("%s: refused without a reason", v.Name)
		}
		return
	}
	if v.Reading == nil || verdict.Reading != *v.Reading {
		t.Errorf("%s: read as %+v, want %+v", v.Name, verdict.Reading, v.Reading)
	}
	if verdict.Generation != v.Generation {
		t.Errorf("%s: generation %d, want %d", v.Name, verdict.Generation, v.Generation)
	}
	if !verdict.Authentic {
		t.Errorf("%s: accepted but not authentic", v.Name)
	}
}

func vectors(t testing.TB) []reading.Vector {
	t.Helper()
	all, err := reading.Vectors()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Fatalf("%d vectors, want at least 60", len(all))
	}
	return all
}

func newVerifier(t testing.TB, v reading.Vector, d verify.Directory) *verify.Verifier {
	t.Helper()
	verifier, err := verify.New(verify.Config{
		Topic: v.TopicPattern, MaxAge: v.MaxAge, MaxFuture: v.MaxFuture, Late: verify.LatePolicy(v.Late),
	}, d, verify.Trusted(func() time.Time { return v.Now }))
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// directory holds a vector's devices.
type directory map[string]*verify.Device

func newDirectory(v reading.Vector) directory {
	d := make(directory)
	for _, device := range v.Devices {
		enrolled := &verify.Device{ID: device.ID, Patient: device.Patient, Revoked: device.Revoked}
		for _, k := range device.Keys {
			enrolled.Keys = append(enrolled.Keys, verify.Key{Generation: k.Generation, Secret: k.Secret})
		}
		d[device.ID] = enrolled
	}
	return d
}

func (d directory) Device(id string) (*verify.Device, bool) {
	device, ok := d[id]
	return device, ok
}

// current is a directory that changes, as a registry does.
type current struct{ directory }

func (c *current) Device(id string) (*verify.Device, bool) { return c.directory.Device(id) }
