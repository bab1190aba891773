package engine

import (
	"strings"
	"testing"
)

func TestVersionOfARemoteServer(t *testing.T) {
	for _, version := range []string{"2.11.0", "2.15.2", "2.12.0-RC.1", "2.100.0", "3.0.0"} {
		if err := CheckVersion(version, "nats://host:4222"); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
	for _, version := range []string{"2.9.25", "2.10.29", "1.99.0", "", "dev"} {
		err := CheckVersion(version, "nats://host:4222")
		if err == nil || !strings.Contains(err.Error(), "needs 2.11 or newer") || !strings.Contains(err.Error(), "nats://host:4222") {
			t.Errorf("%q: %v", version, err)
		}
	}
}
