//go:build linux

package faults

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestOutage takes NATS away under load, for less than max_age and for longer.
// The gate's memory stays within bounds, everything arrives, fresh or late, and
// soon after NATS is back a new reading takes no longer than it did before.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		away, maxAge time.Duration
	}{
		{"shorter-than-max-age", either(3*time.Second, 30*time.Second), time.Minute},
		{"longer-than-max-age", either(5*time.Second, 75*time.Second), either(time.Second, time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNATS(t, 1)
			g := newGateAt(t, n, fmt.Sprintf("FRESHNESS_MAX_AGE=%v", c.maxAge), fmt.Sprintf("MQTT_IN_FLIGHT_BYTES=%d", inFlight),
				either(impatient, "MQTT_RECEIVE_MAXIMUM=64"))
			g.start()
			devices := g.enrol(either(21, 101))
			w := newWard(t, g.mqtt, devices[1:], load{rate: either(20.0, 10.0)})
			w.start()
			w.await(500)
			before := g.memory()
			n.servers[0].kill()
			peak := g.peak(c.away) // the waiting is the fault itself
			n.servers[0].start()
			back := time.Now()
			normal := w.newProbe(g.mqtt, devices[0]).untilNormal().Sub(back)
			w.awaitNoBacklog(len(devices))
			t.Logf("outage=%v max_age=%v memory_before_MiB=%d memory_peak_MiB=%d normal_after=%v backlog_gone_after=%v", c.away, c.maxAge,
				before>>20, peak>>20, normal.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
			if growth := peak - before; len(raceFlags()) == 0 && growth > 2*inFlight {
				t.Errorf("the memory grew by %d bytes, with %d for readings in flight", growth, inFlight)
			}
			if long() && normal > 5*time.Second {
				t.Errorf("normal only %v after NATS was back", normal)
			}
			s := w.settle("outage-"+c.name, 1, g.credentials)
			if c.away > c.maxAge && s.StoredLate == 0 {
				t.Error("nothing was late, so that the outage was not as long as meant")
			}
			g.stop()
		})
	}
}

// inFlight bounds the readings that the gate may hold, in bytes.
const inFlight = 32 << 20

// peak watches the process for a while and returns the most memory that it had.
func (p *process) peak(during time.Duration) int64 {
	p.t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var most int64
	for end := time.After(during); ; {
		most = max(most, p.memory())
		select {
		case <-ticker.C:
		case <-end:
			return most
		}
	}
}

// memory is what the process has resident, in bytes.
func (p *process) memory() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.running.Process.Pid))
	must(p.t, err)
	var kib int64
	_, after, found := bytes.Cut(status, []byte("\nVmRSS:"))
	if _, err := fmt.Sscan(string(after), &kib); !found || err != nil {
		p.t.Fatalf("no VmRSS in /proc: %v", err)
	}
	return kib << 10
}

// awaitNoBacklog waits until the devices have no more readings unacknowledged
// than they measure at one moment.
func (w *ward) awaitNoBacklog(devices int) {
	w.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for end := time.After(patience); w.fleet.Summary().Unacknowledged() > int64(devices); {
		select {
		case <-ticker.C:
		case <-end:
			w.t.Fatalf("the backlog stays: %+v", w.fleet.Summary())
		}
	}
}
