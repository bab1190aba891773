package verify_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

var thirdKey = bytes.Repeat([]byte{0x33}, 32)

func enrolled(keys ...verify.Key) *verify.Device {
	return &verify.Device{ID: "w-1", Patient: "p-1", Keys: keys}
}

func signedWith(t testing.TB, key []byte) []byte {
	t.Helper()
	m := sound()
	m.key = key
	return m.payload(t)
}

func TestEveryGenerationInForce(t *testing.T) {
	d := directory{"w-1": enrolled(verify.Key{Generation: 7, Secret: otherKey}, verify.Key{Generation: 6, Secret: trueKey})}
	s := verifierAt(t, judgedAt, d).Session("w-1")
	for _, c := range []struct {
		key        []byte
		outcome    verify.Outcome
		generation uint32
	}{
		{otherKey, verify.Accepted, 7}, {trueKey, verify.Accepted, 6}, {thirdKey, verify.BadSignature, 0}, {otherKey, verify.Accepted, 7},
	} {
		v := s.Check("wearables/w-1/vitals", signedWith(t, c.key))
		if v.Outcome != c.outcome || v.Generation != c.generation {
			t.Errorf("key %x…: %v of generation %d, want %v of %d", c.key[0], v.Outcome, v.Generation, c.outcome, c.generation)
		}
	}
}

// TestAChangedDeviceTakesEffectAtOnce changes the registry between two messages
// of one connection.
func TestAChangedDeviceTakesEffectAtOnce(t *testing.T) {
	old, fresh := signedWith(t, trueKey), signedWith(t, otherKey)
	first, second := verify.Key{Generation: 1, Secret: trueKey}, verify.Key{Generation: 2, Secret: otherKey}
	revoked := enrolled(second)
	revoked.Revoked = true
	moved := enrolled(second)
	moved.Patient = "p-2"
	devices := &current{}
	s := verifierAt(t, judgedAt, devices).Session("w-1")
	for _, step := range []struct {
		name              string
		device            *verify.Device
		ofFirst, ofSecond verify.Outcome
	}{
		{"enrolled", enrolled(first), verify.Accepted, verify.BadSignature},
		{"rotating", enrolled(second, first), verify.Accepted, verify.Accepted},
		{"rotated", enrolled(second), verify.BadSignature, verify.Accepted},
		{"moved", moved, verify.BadSignature, verify.WrongPatient},
		{"without keys", enrolled(), verify.BadSignature, verify.BadSignature},
		{"revoked", revoked, verify.RevokedDevice, verify.RevokedDevice},
		{"removed", nil, verify.UnknownDevice, verify.UnknownDevice},
		{"enrolled again", enrolled(second), verify.BadSignature, verify.Accepted},
	} {
		devices.directory = directory{}
		if step.device != nil {
			devices.directory["w-1"] = step.device
		}
		if v := s.Check("wearables/w-1/vitals", old); v.Outcome != step.ofFirst {
			t.Errorf("%s: the first key is %v, want %v", step.name, v.Outcome, step.ofFirst)
		}
		if v := s.Check("wearables/w-1/vitals", fresh); v.Outcome != step.ofSecond {
			t.Errorf("%s: the second key is %v, want %v", step.name, v.Outcome, step.ofSecond)
		}
	}
}

// TestDevicesInTurn lets one session, as of a gateway, check several devices.
func TestDevicesInTurn(t *testing.T) {
	d := directory{
		"w-1": enrolled(verify.Key{Generation: 1, Secret: trueKey}),
		"w-2": {ID: "w-2", Patient: "p-2", Keys: []verify.Key{{Generation: 4, Secret: otherKey}}},
	}
	m := sound()
	m.device, m.patient, m.key = "w-2", "p-2", otherKey
	one, two := sound().payload(t), m.payload(t)
	s := verifierAt(t, judgedAt, d).Session("")
	for range 3 {
		if v := s.Check("wearables/w-1/vitals", one); v.Outcome != verify.Accepted || v.Generation != 1 {
			t.Errorf("w-1: %v of generation %d (%s)", v.Outcome, v.Generation, v.Reason)
		}
		if v := s.Check("wearables/w-2/vitals", two); v.Outcome != verify.Accepted || v.Generation != 4 {
			t.Errorf("w-2: %v of generation %d (%s)", v.Outcome, v.Generation, v.Reason)
		}
		if v := s.Check("wearables/w-2/vitals", one); v.Outcome != verify.BadSignature {
			t.Errorf("w-1's reading on w-2's topic: %v", v.Outcome)
		}
	}
}

func TestSessionsSideBySide(t *testing.T) {
	m := sound()
	v := verifierAt(t, judgedAt, m.directory())
	good, bad := m.payload(t), signedWith(t, otherKey)
	var sessions sync.WaitGroup
	for range 8 {
		sessions.Go(func() {
			s := v.Session("w-1")
			for range 100 {
				if got := s.Check("wearables/w-1/vitals", good); got.Outcome != verify.Accepted {
					t.Errorf("true key: %v (%s)", got.Outcome, got.Reason)
				}
				if got := s.Check("wearables/w-1/vitals", bad); got.Outcome != verify.BadSignature {
					t.Errorf("another key: %v", got.Outcome)
				}
			}
		})
	}
	sessions.Wait()
}
