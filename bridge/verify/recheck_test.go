package verify_test

import (
	"sync"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// TestRecheck changes the registry while an accepted reading waits.
func TestRecheck(t *testing.T) {
	first, second := verify.Key{Generation: 1, Secret: trueKey}, verify.Key{Generation: 2, Secret: otherKey}
	for name, c := range map[string]struct {
		device *verify.Device
		want   verify.Outcome
	}{
		"nothing":                   {enrolled(first), verify.Accepted},
		"rotated with overlap":      {enrolled(second, verify.Key{Generation: 1, Secret: trueKey, Until: judgedAt.Add(1)}), verify.Accepted},
		"rotated, overlap over":     {enrolled(second, verify.Key{Generation: 1, Secret: trueKey, Until: judgedAt}), verify.BadSignature},
		"rotated, old key gone":     {enrolled(second), verify.BadSignature},
		"removed":                   {nil, verify.UnknownDevice},
		"removed and added again":   {enrolled(verify.Key{Generation: 1, Secret: otherKey}), verify.BadSignature},
		"no key left":               {enrolled(), verify.BadSignature},
		"a key without a secret":    {enrolled(verify.Key{Generation: 1}), verify.BadSignature},
		"revoked":                   {changed(enrolled(first), func(d *verify.Device) { d.Revoked = true }), verify.RevokedDevice},
		"revoked, assigned as well": {changed(enrolled(first), func(d *verify.Device) { d.Revoked, d.Patient = true, "p-2" }), verify.RevokedDevice},
		"assigned":                  {changed(enrolled(first), func(d *verify.Device) { d.Patient = "p-2" }), verify.WrongPatient},
		"same key, new generation":  {enrolled(verify.Key{Generation: 2, Secret: trueKey}), verify.BadSignature},
	} {
		devices := &current{directory: directory{"w-1": enrolled(first)}}
		s := verifierAt(t, judgedAt, devices).Session("w-1")
		was := s.Check("wearables/w-1/vitals", sound().payload(t))
		if was.Outcome != verify.Accepted {
			t.Fatalf("it is %v at first (%s)", was.Outcome, was.Reason)
		}
		devices.directory = directory{}
		if c.device != nil {
			devices.directory["w-1"] = c.device
		}
		now := s.Recheck(was)
		if now.Outcome != c.want || (now.Reason == "") != (c.want == verify.Accepted) {
			t.Errorf("%s: %v (%s), want %v", name, now.Outcome, now.Reason, c.want)
		}
		if now.Identity != was.Identity || now.Reading != was.Reading || now.Device == nil || now.Device.ID != "w-1" {
			t.Errorf("%s: the verdict is of another reading", name)
		}
	}
}

func changed(d *verify.Device, change func(*verify.Device)) *verify.Device {
	change(d)
	return d
}

// TestRecheckAsksWhatAGatewayCarries takes the device from the gateway, and lets
// several ask at once.
func TestRecheckAsksWhatAGatewayCarries(t *testing.T) {
	carries := map[string]bool{"w-1": true}
	d := sound().directory()
	s := verifierAt(t, judgedAt, d).GatewaySession("g-1", func(device string) bool { return carries[device] })
	was := s.Check("wearables/w-1/vitals", sound().payload(t))
	recheck := func(want verify.Outcome) {
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				if now := s.Recheck(was); now.Outcome != want {
					t.Errorf("it is %v (%s), want %v", now.Outcome, now.Reason, want)
				}
			})
		}
		asking.Wait()
	}
	recheck(verify.Accepted)
	carries["w-1"] = false
	recheck(verify.WrongDevice)
}

// TestRecheckLeavesTheAgeAlone asks again long after the reading was fresh.
func TestRecheckLeavesTheAgeAlone(t *testing.T) {
	d := sound().directory()
	was := verifierAt(t, judgedAt, d).Session("w-1").Check("wearables/w-1/vitals", sound().payload(t))
	later := verifierAt(t, judgedAt.Add(10*maxAge), d).Session("w-1").Recheck(was)
	if later.Outcome != verify.Accepted || later.Age() != was.Age() {
		t.Errorf("it is %v (%s) and %v old, want accepted and %v", later.Outcome, later.Reason, later.Age(), was.Age())
	}
}
