package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

func TestPatterns(t *testing.T) {
	for pattern, allowed := range map[string]bool{
		"wearables/{device_id}/vitals":      true,
		"{device_id}":                       true,
		"{device_id}/vitals":                true,
		"ward/3/{device_id}":                true,
		"/{device_id}/":                     true,
		"":                                  false,
		"wearables/vitals":                  false,
		"wearables/x{device_id}":            false,
		"wearables/{device_id}x":            false,
		"x{device_id}/{device_id}":          false,
		"{device_id}/x{device_id}":          false,
		"{device_id}/{device_id}":           false,
		"wearables/+/{device_id}":           false,
		"wearables/{device_id}/#":           false,
		"wearables/{device_id}/a\x00b":      false,
		"$SYS/{device_id}":                  false,
		"$share/group/{device_id}":          false,
		"wearables/{DEVICE_ID}/vitals":      false,
		"wearables/{patient_id}/{device_id": false,
	} {
		_, err := verify.New(verify.Config{Topic: pattern, MaxAge: maxAge}, directory{}, verify.Trusted(func() time.Time { return judgedAt }))
		if (err == nil) != allowed {
			t.Errorf("pattern %q: %v, want allowed %v", pattern, err, allowed)
		}
		if err != nil && !strings.Contains(err.Error(), "topic") {
			t.Errorf("pattern %q: the error does not say what is wrong: %v", pattern, err)
		}
	}
}

// TestTopics finds out, by the outcome unknown_device, which topics name one.
func TestTopics(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		pattern, topic string
		names          bool
	}{
		{"wearables/{device_id}/vitals", "wearables/w-1/vitals", true},
		{"wearables/{device_id}/vitals", "wearables/" + long + "/vitals", true},
		{"wearables/{device_id}/vitals", "wearables/" + long + "a/vitals", false},
		{"wearables/{device_id}/vitals", "wearables//vitals", false},
		{"wearables/{device_id}/vitals", "wearables/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/_/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/w-1/vitals/", false},
		{"wearables/{device_id}/vitals", "/wearables/w-1/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/w-1/x/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/w.1/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/w 1/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/>/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/+/vitals", false},
		{"wearables/{device_id}/vitals", "wearables/{device_id}/vitals", false},
		{"wearables/{device_id}/vitals", "Wearables/w-1/vitals", false},
		{"wearables/{device_id}/vitals", "", false},
		{"{device_id}", "w-1", true},
		{"{device_id}", "w/1", false},
		{"{device_id}/{x}", "w-1/{x}", true},
		{"a/{device_id}/a", "a/a/a", true},
		{"a/{device_id}/a", "a/a", false},
	} {
		v, err := verify.New(verify.Config{Topic: c.pattern, MaxAge: maxAge}, directory{}, verify.Trusted(func() time.Time { return judgedAt }))
		if err != nil {
			t.Fatal(err)
		}
		got := v.Session("").Check(c.topic, sound().payload(t))
		if c.names != (got.Outcome == verify.UnknownDevice) || got.AboutTopic == c.names {
			t.Errorf("%q under %q: %v (%s), want a device named: %v", c.topic, c.pattern, got.Outcome, got.Reason, c.names)
		}
	}
}

func TestDeviceTopicIsTheOneThatIsChecked(t *testing.T) {
	for _, pattern := range []string{"wearables/{device_id}/vitals", "{device_id}", "a/{device_id}"} {
		m := sound()
		m.topic = verify.DeviceTopic(pattern, "w-1")
		v, err := verify.New(verify.Config{Topic: pattern, MaxAge: maxAge}, m.directory(), verify.Trusted(func() time.Time { return judgedAt }))
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Session("w-1").Check(m.topic, m.payload(t)); got.Outcome != verify.Accepted {
			t.Errorf("%q: %v (%s)", m.topic, got.Outcome, got.Reason)
		}
	}
}
