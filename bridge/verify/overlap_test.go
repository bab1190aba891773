package verify_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// checkedAt judges a reading of w-1 that was signed with a key at the very time.
func checkedAt(t testing.TB, now time.Time, d verify.Directory, key []byte) verify.Verdict {
	t.Helper()
	m := sound()
	m.key, m.measured = key, now
	return verifierAt(t, now, d).Session("w-1").Check(m.topic, m.payload(t))
}

// TestOverlapOfTwoGenerations goes through a rotation: both keys are good until
// the old one ends, and the verdict says which it was.
func TestOverlapOfTwoGenerations(t *testing.T) {
	end := judgedAt.Add(time.Hour)
	d := directory{"w-1": enrolled(
		verify.Key{Generation: 3, Secret: otherKey},
		verify.Key{Generation: 2, Secret: trueKey, Until: end},
		verify.Key{Generation: 1, Secret: thirdKey, Until: judgedAt},
	)}
	for _, c := range []struct {
		now        time.Time
		key        []byte
		want       verify.Outcome
		generation uint32
	}{
		{judgedAt, otherKey, verify.Accepted, 3},
		{judgedAt, trueKey, verify.Accepted, 2},
		{judgedAt, thirdKey, verify.BadSignature, 0},
		{judgedAt.Add(-time.Nanosecond), thirdKey, verify.Accepted, 1},
		{end.Add(-time.Nanosecond), trueKey, verify.Accepted, 2},
		{end, trueKey, verify.BadSignature, 0},
		{end, otherKey, verify.Accepted, 3},
		{end.AddDate(100, 0, 0), otherKey, verify.Accepted, 3},
	} {
		v := checkedAt(t, c.now, d, c.key)
		if v.Outcome != c.want || v.Generation != c.generation || v.Authentic != (c.want == verify.Accepted) {
			t.Errorf("key %x… at %v: %v of generation %d, want %v of %d", c.key[0], c.now, v.Outcome, v.Generation, c.want, c.generation)
		}
	}
}

// TestAKeyEndsWithinASession lets one session see the end of a key.
func TestAKeyEndsWithinASession(t *testing.T) {
	now := judgedAt
	d := directory{"w-1": enrolled(verify.Key{Generation: 2, Secret: otherKey}, verify.Key{Generation: 1, Secret: trueKey, Until: judgedAt.Add(time.Second)})}
	v, err := verify.New(verify.Config{Topic: "wearables/{device_id}/vitals", MaxAge: maxAge, MaxFuture: maxFuture}, d, verify.Trusted(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	s := v.Session("w-1")
	first := s.Check("wearables/w-1/vitals", signedWith(t, trueKey))
	if first.Outcome != verify.Accepted || first.Generation != 1 {
		t.Fatalf("in force it is %v of %d", first.Outcome, first.Generation)
	}
	now = now.Add(time.Second)
	if again := s.Check("wearables/w-1/vitals", signedWith(t, trueKey)); again.Outcome != verify.BadSignature {
		t.Errorf("ended it is %v", again.Outcome)
	}
	if then := s.Recheck(first); then.Outcome != verify.BadSignature {
		t.Errorf("what waited since before is %v", then.Outcome)
	}
}

func TestGatewaySessions(t *testing.T) {
	m := sound()
	m.device, m.patient, m.key = "w-2", "p-2", otherKey
	d := directory{
		"w-1": enrolled(verify.Key{Generation: 1, Secret: trueKey}),
		"w-2": {ID: "w-2", Patient: "p-2", Keys: []verify.Key{{Generation: 1, Secret: otherKey}}},
		"g-1": {ID: "g-1", Patient: "p-3", Keys: []verify.Key{{Generation: 1, Secret: thirdKey}}},
	}
	of := map[string][]byte{"w-1": sound().payload(t), "w-2": m.payload(t)}
	m.device, m.patient, m.key = "g-1", "p-3", thirdKey
	of["g-1"] = m.payload(t)
	var carried atomic.Value
	carried.Store("w-1")
	s := verifierAt(t, judgedAt, d).GatewaySession("g-1", func(device string) bool { return device == carried.Load() })
	for _, step := range []struct {
		carries string
		want    map[string]verify.Outcome
	}{
		{"w-1", map[string]verify.Outcome{"w-1": verify.Accepted, "w-2": verify.WrongDevice, "g-1": verify.Accepted}},
		{"w-2", map[string]verify.Outcome{"w-1": verify.WrongDevice, "w-2": verify.Accepted, "g-1": verify.Accepted}},
		{"", map[string]verify.Outcome{"w-1": verify.WrongDevice, "w-2": verify.WrongDevice, "g-1": verify.Accepted}},
	} {
		carried.Store(step.carries)
		for device, want := range step.want {
			v := s.Check("wearables/"+device+"/vitals", of[device])
			if v.Outcome != want || !v.Authentic {
				t.Errorf("carrying %q, %s is %v (%s), want %v", step.carries, device, v.Outcome, v.Reason, want)
			}
		}
	}
	// What the gateway does not carry, it cannot bring under another's topic.
	carried.Store("w-1")
	if v := s.Check("wearables/w-1/vitals", of["w-2"]); v.Outcome != verify.BadSignature {
		t.Errorf("w-2's reading on the topic of w-1 is %v", v.Outcome)
	}
}

// TestAGatewayOfManyDevices carries more devices than a session keeps keys of,
// in turn and at random, while some of them change.
func TestAGatewayOfManyDevices(t *testing.T) {
	const devices = 3*verify.MaxDevices + 7
	d := directory{}
	payloads := make([][]byte, devices)
	for n := range devices {
		id := fmt.Sprintf("w-%d", n)
		key := make([]byte, 32)
		key[0], key[1] = byte(n), byte(n>>8)
		d[id] = &verify.Device{ID: id, Patient: "p-1", Keys: []verify.Key{{Generation: 1, Secret: key}}}
		text := fmt.Appendf(nil, `{"device_id":%q,"patient_id":"p-1","timestamp":%q,"spo2":97,"heart_rate":72}`, id, judgedAt.Format(time.RFC3339))
		var err error
		if payloads[n], err = reading.Sign(key, text); err != nil {
			t.Fatal(err)
		}
	}
	s := verifierAt(t, judgedAt, d).GatewaySession("g-1", func(string) bool { return true })
	for round := range 4 {
		for i := range devices {
			n := i
			if round%2 == 1 {
				n = i * 61 % devices
			}
			id := fmt.Sprintf("w-%d", n)
			topic := "wearables/" + id + "/vitals"
			if v := s.Check(topic, payloads[n]); v.Outcome != verify.Accepted {
				t.Fatalf("round %d: %s is %v (%s)", round, id, v.Outcome, v.Reason)
			}
			if v := s.Check(topic, payloads[(n+1)%devices]); v.Outcome != verify.BadSignature {
				t.Fatalf("round %d: another's reading on the topic of %s is %v", round, id, v.Outcome)
			}
			if kept := s.Kept(); kept > verify.MaxDevices+1 {
				t.Fatalf("the session keeps the keys of %d devices, at most %d are allowed", kept, verify.MaxDevices+1)
			}
		}
		revoked := *d["w-5"]
		revoked.Revoked = !revoked.Revoked
		if d["w-5"] = &revoked; revoked.Revoked {
			if v := s.Check("wearables/w-5/vitals", payloads[5]); v.Outcome != verify.RevokedDevice {
				t.Errorf("revoked it is %v", v.Outcome)
			}
			restored := revoked
			restored.Revoked = false
			d["w-5"] = &restored
		}
	}
}
