package bridge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/siege"
)

// TestAttacks runs the whole attack kit against a gate, on NATS as each who may
// read something there.
func TestAttacks(t *testing.T) {
	s := start(t, small(t))
	var credentials []registry.Credentials
	for i := range 10 {
		credentials = append(credentials, s.enrol(t, fmt.Sprintf("w-%02d", i), fmt.Sprintf("p-%02d", i)).Credentials)
	}
	report, err := siege.Run(t.Context(), siege.Options{
		Broker: s.MQTT(), Credentials: credentials, NATS: []string{s.urls["consumer"], s.urls["security"]},
		Attacks: siege.All(), Quiet: time.Second,
		// Generous, for a busy machine; what is right takes no longer for it.
		Patience: 20 * time.Second, CloseWithin: 40 * time.Second,
	})
	must(t, err)
	t.Logf("\n%s", report.Text())
	must(t, report.Err())
}
