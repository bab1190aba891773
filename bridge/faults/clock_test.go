//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
)

// TestClockSteps sets the gate's clock wrong under load, and right again some
// time later. Meanwhile nothing is judged: no reading is acknowledged, none is
// refused, and none is taken for late; and the gate says that it is not ready.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	random := chance(t)
	var step atomic.Int64
	g := startWithin(t, func() time.Time { return time.Now().Add(time.Duration(step.Load())) })
	refused := g.refusals()
	var wrong clockError
	w := newWard(t, g.mqtt, g.enrol(20), load{rate: pace, observer: fleet.Observer{Acknowledged: wrong.check}})
	w.start()
	steps := []time.Duration{time.Hour, -time.Hour, 10 * time.Second, -10 * time.Second}
	for _, by := range steps {
		w.await(1 + random.IntN(500))
		step.Store(int64(by))
		g.awaitReady(http.StatusServiceUnavailable)
		wrong.since.Store(time.Now().UnixNano())
		time.Sleep(500 * time.Millisecond) // is the fault itself
		wrong.since.Store(0)
		step.Store(0)
		g.awaitReady(http.StatusOK)
	}
	w.await(100)
	if s := w.settle("clock-steps", len(steps), g.credentials); s.StoredLate > 0 {
		t.Errorf("%d readings were taken for late", s.StoredLate)
	}
	if n := wrong.acknowledged.Load(); n > 0 {
		t.Errorf("%d readings were acknowledged while the clock was known to be wrong", n)
	}
	outcomes := make(map[string]int)
	for m, err := refused.NextMsg(200 * time.Millisecond); err == nil; m, err = refused.NextMsg(200 * time.Millisecond) {
		var r struct{ Outcome string }
		must(t, json.Unmarshal(m.Data, &r))
		outcomes[r.Outcome]++
	}
	// A copy is no refusal of the reading.
	if delete(outcomes, verify.Duplicate.String()); len(outcomes) > 0 {
		t.Errorf("readings were refused: %v", outcomes)
	}
}

// clockError is that of the gate's clock while the gate knows of it.
type clockError struct {
	since        atomic.Int64 // in nanoseconds since 1970; 0 is never
	acknowledged atomic.Int64
}

// check counts readings that are sent and acknowledged during it.
func (c *clockError) check(a fleet.Acknowledgement) {
	if since := c.since.Load(); since > 0 && a.Sent.UnixNano() > since {
		c.acknowledged.Add(1)
	}
}

// startWithin starts a gate within this process, by a clock of the test's.
func startWithin(t *testing.T, now func() time.Time) *gate {
	t.Helper()
	c := config.Default()
	c.Data = t.TempDir()
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = address(t), address(t), address(t)
	c.Store.Deadline = config.Duration(2 * time.Second)
	c.Store.Rejections.MaxBytes, c.Store.Audit.MaxBytes, c.Store.Devices.MaxBytes = 8*config.MiB, 8*config.MiB, 8*config.MiB
	c.Store.Vitals.MaxBytes = 64 * config.MiB
	log := &journal{}
	b, err := bridge.Start(t.Context(), c, bridge.Options{Now: now, Log: zerolog.New(log)})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("the gate's log:\n%s", log.tail())
		}
	})
	return &gate{process: &process{t: t, name: "the gate", journal: log}, dir: c.Data, credentials: c.Data, mqtt: b.MQTT(), http: b.HTTP()}
}

// refusals are the gate's from now on.
func (g *gate) refusals() *nats.Subscription {
	g.t.Helper()
	nc := g.user("security")
	sub, err := nc.SubscribeSync("rejected.>")
	must(g.t, err)
	must(g.t, nc.Flush())
	return sub
}

// awaitReady waits until /readyz answers with a status.
func (g *gate) awaitReady(status int) {
	g.t.Helper()
	eventually(g.t, "readiness", func(ctx context.Context) error {
		ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.http+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(ask)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != status {
			return fmt.Errorf("/readyz says %s", answer.Status)
		}
		return nil
	})
}
