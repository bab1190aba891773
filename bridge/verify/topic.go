package verify

import (
	"fmt"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

const placeholder = "{device_id}"

// pattern is a topic with one level that stands for the device.
type pattern struct{ before, after string }

func parsePattern(topic string) (pattern, error) {
	levels := strings.Split(topic, "/")
	found := 0
	for _, level := range levels {
		if level == placeholder {
			found++
		}
	}
	before, after, _ := strings.Cut(topic, placeholder)
	switch {
	case found != 1 || strings.Contains(after, placeholder):
		return pattern{}, fmt.Errorf("topic %q: exactly one level must be %s", topic, placeholder)
	case strings.ContainsAny(topic, "+#\x00"):
		return pattern{}, fmt.Errorf("topic %q: wildcards cannot be published on", topic)
	case strings.HasPrefix(topic, "$"):
		return pattern{}, fmt.Errorf("topic %q: topics with $ belong to the broker", topic)
	}
	return pattern{before: before, after: after}, nil
}

// device takes the device's id out of a topic, and says whether the topic is
// one of readings at all.
func (p pattern) device(topic string) (string, bool) {
	rest, ok := strings.CutPrefix(topic, p.before)
	if !ok {
		return "", false
	}
	id, ok := strings.CutSuffix(rest, p.after)
	return id, ok && reading.ValidID(id)
}

// DeviceTopic returns the topic that a device publishes on, by a pattern such
// as Config.Topic.
func DeviceTopic(pattern, device string) string {
	return strings.Replace(pattern, placeholder, device, 1)
}
