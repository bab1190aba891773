package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// TestAnotherBrokerPaysForNobody lets all devices come by one connection: none
// may use up what another has, and what is forged costs nobody anything.
func TestAnotherBrokerPaysForNobody(t *testing.T) {
	f := newFairness(config.Limits{
		DeviceRate: 1, DeviceBurst: 2, AddressRate: 1, AddressBurst: 1, ForgedRate: 1, LockoutAfter: 1, Lockout: config.Duration(time.Minute), RejectionRate: 1,
	})
	defer f.stop()
	c := &caller{gate: &gate{fair: f}, name: sourceName, purse: f.sourcePurse(limits.Pair{Name: sourceName})}
	now := time.Now()
	for n := range 100 {
		forged := verify.Verdict{Outcome: verify.BadSignature, Device: &verify.Device{ID: "w-1"}}
		if wait, ok := c.purse.byAddress(now); wait != 0 || !ok {
			t.Fatalf("message %d: the address has to wait %v, %v", n, wait, ok)
		}
		if wait := c.charge(&forged, now); wait != 0 || forged.Outcome != verify.BadSignature {
			t.Fatalf("forgery %d: waits %v, is %v", n, wait, forged.Outcome)
		}
	}
	send := func(device string) (time.Duration, verify.Outcome) {
		v := verify.Verdict{Outcome: verify.Accepted, Authentic: true, Device: &verify.Device{ID: device}}
		return c.charge(&v, now), v.Outcome
	}
	over := 0
	for range 10 {
		if wait, outcome := send("w-1"); wait > 0 || outcome == verify.RateLimited {
			over++
		}
	}
	if over != 8 {
		t.Errorf("of 10 readings %d are over the limit of 2", over)
	}
	for n := range 2 {
		if wait, outcome := send("w-2"); wait != 0 || outcome != verify.Accepted {
			t.Errorf("reading %d of another device: waits %v, is %v", n, wait, outcome)
		}
	}
}

type oneDevice verify.Device

func (d *oneDevice) Device(string) (*verify.Device, bool) { return (*verify.Device)(d), true }

// TestWhatSleptIsNotPublished lets a reading that waits for the store wait for
// longer than it may: JetStream would not know an earlier attempt any more.
func TestWhatSleptIsNotPublished(t *testing.T) {
	key := []byte("a key of thirty-two bytes, or so")
	began := time.Now()
	var passed atomic.Int64 // nanoseconds; the clock compares itself beside the test
	elapsed := func() time.Duration { return time.Duration(passed.Load()) }
	machine := clock.New(clock.Options{
		Wall: func() time.Time { return began.Add(elapsed()) }, Elapsed: elapsed, Tolerance: time.Second,
		Ask: func(ctx context.Context) (time.Time, error) { return time.Time{}, errors.New("nobody answers") }, Every: time.Hour, Log: zerolog.Nop(),
	})
	defer func() { must(t, machine.Close(t.Context())) }()
	device := &oneDevice{ID: "w-1", Patient: "p-1", Keys: []verify.Key{{Generation: 1, Secret: key}}}
	verifier, err := verify.New(verify.Config{Topic: "wearables/{device_id}/vitals", MaxAge: time.Minute}, device, machine.Read)
	must(t, err)
	payload, err := reading.Sign(key, fmt.Appendf(nil, `{"device_id":"w-1","patient_id":"p-1","timestamp":%d,"spo2":97,"heart_rate":72}`, began.Unix()))
	must(t, err)
	g := &gate{clock: machine, patience: 10 * time.Second}
	p := &passage{caller: &caller{gate: g, session: verifier.Session("w-1")}}
	if p.verdict = p.session.Check("wearables/w-1/vitals", payload); p.verdict.Outcome != verify.Accepted {
		t.Fatalf("it is %v (%s)", p.verdict.Outcome, p.verdict.Reason)
	}
	// The clock has not been compared: until it is, the reading has to wait.
	if err := p.stands(); !errors.Is(err, egress.ErrNotYet) {
		t.Errorf("at once: %v", err)
	}
	passed.Store(int64(20 * time.Minute))
	if err := p.stands(); !errors.Is(err, errSlept) || p.fallen != nil {
		t.Errorf("after 20 minutes: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
