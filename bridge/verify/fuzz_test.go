package verify_test

import (
	"testing"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// asked is a directory that notes which device it was asked for.
type asked struct {
	verify.Directory
	id string
}

func (a *asked) Device(id string) (*verify.Device, bool) {
	a.id = id
	return a.Directory.Device(id)
}

// FuzzTopic shows that a topic selects a device only if it is exactly that
// device's topic, and the id one that may enter a NATS subject.
func FuzzTopic(f *testing.F) {
	seeds := vectors(f)
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	good := seeds[0]
	for _, v := range seeds {
		f.Add(v.Topic)
		if v.Name == "plain" {
			good = v
		}
	}
	directory := &asked{Directory: newDirectory(good)}
	session := newVerifier(f, good, directory).Session("")
	f.Fuzz(func(t *testing.T, topic string) {
		directory.id = ""
		verdict := session.Check(topic, good.Payload)
		if directory.id == "" {
			if verdict.Outcome != verify.Malformed {
				t.Fatalf("%v, though no device was looked up", verdict.Outcome)
			}
			return
		}
		if !reading.ValidID(directory.id) || verify.DeviceTopic(good.TopicPattern, directory.id) != topic {
			t.Fatalf("looked up %q", directory.id)
		}
		if (verdict.Outcome == verify.Accepted) != (topic == good.Topic) {
			t.Fatalf("%v", verdict.Outcome)
		}
	})
}
