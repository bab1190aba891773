package fleet_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

func newFleet(t *testing.T, o fleet.Options) *fleet.Fleet {
	t.Helper()
	f, err := fleet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// result is what Run returned.
type result struct {
	summary fleet.Summary
	err     error
}

func run(ctx context.Context, f *fleet.Fleet) <-chan result {
	out := make(chan result, 1)
	go func() {
		summary, err := f.Run(ctx)
		out <- result{summary, err}
	}()
	return out
}

func TestUnacknowledgedBytesAreSentAgain(t *testing.T) {
	const held = 5
	b := startBroker(t)
	b.take = func(_ string, count int) bool { return count > held }
	b.cut = func(_ string, count int) bool { return count == held }
	l := openLedger(t)
	f := newFleet(t, fleet.Options{Broker: b.address, Credentials: credentials(2), Rate: 100, Ledger: l})
	ctx, stop := context.WithCancel(t.Context())
	ended := run(ctx, f)
	b.until(t, "both devices had readings taken", func() bool {
		return len(b.taken["w-0001"]) > 20 && len(b.taken["w-0002"]) > 20
	})
	stop()
	r := <-ended
	if r.err != nil || r.summary.Unacknowledged() != 0 || r.summary.Sent != r.summary.Measured {
		t.Fatalf("%+v, %v", r.summary, r.err)
	}
	if r.summary.Resent < 2*held || r.summary.Connections < 4 {
		t.Errorf("sent again %d over %d connections", r.summary.Resent, r.summary.Connections)
	}
	for _, device := range []string{"w-0001", "w-0002"} {
		first := b.received[device][:held]
		again := b.taken[device][:held]
		if !slices.Equal(first, again) {
			t.Errorf("%s sent other bytes, or in another order, after the loss", device)
		}
	}
	all := entries(t, l)
	account := ledger.Settle(all, b.stored())
	sent := int(r.summary.Sent)
	want := ledger.Authentic{Sent: sent, Acknowledged: sent, Delivered: sent, Live: sent}
	if account.Authentic != want || account.Forged != 0 || account.Misfiled != 0 {
		t.Errorf("the account is %+v", account)
	}
	for _, e := range all[:1] {
		if e.Attempts != 2 || e.LastSent.Before(e.Sent) || e.Acknowledged.Before(e.LastSent) {
			t.Errorf("the first entry is %+v", e)
		}
	}
}

func TestDrainDeliversWhatWasLeft(t *testing.T) {
	b := startBroker(t)
	b.take = func(string, int) bool { return false }
	f := newFleet(t, fleet.Options{Broker: b.address, Credentials: credentials(3), Rate: 50, Ledger: openLedger(t)})
	ctx, stop := context.WithCancel(t.Context())
	ended := run(ctx, f)
	b.until(t, "readings came", func() bool { return len(b.received["w-0001"]) > 10 })
	stop()
	b.reconfigure(func() { b.take = func(string, int) bool { return true } })
	b.dropAll()
	r := <-ended
	if r.err != nil || r.summary.Unacknowledged() != 0 || r.summary.Sent == 0 {
		t.Fatalf("%+v, %v", r.summary, r.err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	b := startBroker(t)
	b.take = func(string, int) bool { return false }
	l := openLedger(t)
	f := newFleet(t, fleet.Options{
		Broker: b.address, Credentials: credentials(1), Rate: 50, Ledger: l, Drain: 50 * time.Millisecond,
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := run(ctx, f)
	b.until(t, "readings came", func() bool { return len(b.received["w-0001"]) > 3 })
	stop()
	r := <-ended
	if r.err != nil || r.summary.Unacknowledged() == 0 || r.summary.Acknowledged != 0 {
		t.Fatalf("%+v, %v", r.summary, r.err)
	}
	if account := ledger.Settle(entries(t, l), nil); account.Authentic.Acknowledged != 0 || account.Authentic.Lost != 0 {
		t.Errorf("the account is %+v", account.Authentic)
	}
}

func TestRefusedDevicesSayWhy(t *testing.T) {
	b := startBroker(t)
	b.password = "another"
	var log bytes.Buffer
	f := newFleet(t, fleet.Options{
		Broker: b.address, Credentials: credentials(1), Ledger: openLedger(t), Drain: 200 * time.Millisecond,
		Logger: zerolog.New(&log),
	})
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	r := <-run(ctx, f)
	if r.err != nil || r.summary.Sent != 0 || r.summary.Unacknowledged() == 0 {
		t.Fatalf("%+v, %v", r.summary, r.err)
	}
	if r.summary.LastFailure == nil || !strings.Contains(r.summary.LastFailure.Error(), "w-0001") {
		t.Errorf("the failure is %v", r.summary.LastFailure)
	}
	if log.Len() == 0 || strings.Contains(log.String(), "secret") {
		t.Errorf("the log is %q", log.String())
	}
}

// values are what a device said, without when.
type values struct{ spo2, heartRate float64 }

func simulate(t *testing.T, seed uint64, share float64) map[string][]values {
	t.Helper()
	const enough = 30
	b := startBroker(t)
	f := newFleet(t, fleet.Options{
		Broker: b.address, Credentials: credentials(3), Rate: 100, Seed: seed, Deteriorating: share, Ledger: openLedger(t),
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := run(ctx, f)
	b.until(t, "enough readings came", func() bool {
		return min(len(b.taken["w-0001"]), len(b.taken["w-0002"]), len(b.taken["w-0003"])) >= enough
	})
	stop()
	if r := <-ended; r.err != nil {
		t.Fatal(r.err)
	}
	said := make(map[string][]values)
	for device, payloads := range b.taken {
		for i, p := range payloads[:enough] {
			r, err := reading.Parse([]byte(p))
			if err != nil || r.DeviceID != device || r.Seq != uint64(i+1) {
				t.Fatalf("%s sent %q as its reading %d: %v", device, p, i+1, err)
			}
			said[device] = append(said[device], values{r.SpO2, r.HeartRate})
		}
	}
	return said
}

func TestSeedDeterminesValues(t *testing.T) {
	first, second, other := simulate(t, 7, 0), simulate(t, 7, 0), simulate(t, 8, 0)
	for device := range first {
		if !slices.Equal(first[device], second[device]) {
			t.Errorf("%s: one seed, two runs: %v and %v", device, first[device], second[device])
		}
		if slices.Equal(first[device], other[device]) {
			t.Errorf("%s says the same under another seed", device)
		}
	}
}

func TestObserverSeesEveryReadingOnce(t *testing.T) {
	b := startBroker(t)
	var mu sync.Mutex
	sent, acknowledged := make(map[string]int), make(map[string]int)
	f := newFleet(t, fleet.Options{
		Broker: b.address, Credentials: credentials(2), Rate: 100, Ledger: openLedger(t),
		Observer: fleet.Observer{
			Sent: func(s fleet.Sending) {
				mu.Lock()
				defer mu.Unlock()
				sent[string(s.Payload)]++
			},
			Acknowledged: func(a fleet.Acknowledgement) {
				mu.Lock()
				defer mu.Unlock()
				acknowledged[string(a.Payload)]++
				if a.At.Before(a.Sent) {
					t.Errorf("acknowledged %v before it was sent", a.Sent.Sub(a.At))
				}
			},
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := run(ctx, f)
	b.until(t, "readings came", func() bool { return len(b.taken["w-0002"]) > 10 })
	stop()
	r := <-ended
	if int64(len(sent)) != r.summary.Sent || int64(len(acknowledged)) != r.summary.Sent {
		t.Errorf("observed %d sent, %d acknowledged of %d", len(sent), len(acknowledged), r.summary.Sent)
	}
	if latest, ok := f.Latest("w-0002"); !ok || acknowledged[string(latest)] != 1 {
		t.Errorf("the latest reading is %q", latest)
	}
	if _, ok := f.Latest("w-9999"); ok {
		t.Error("there is a latest reading of nobody")
	}
}

func TestVictimLendsItsSession(t *testing.T) {
	b := startBroker(t)
	all := credentials(2)
	l := openLedger(t)
	f := newFleet(t, fleet.Options{Broker: b.address, Credentials: all[:1], Victim: &all[1], Ledger: l})
	if _, _, err := f.Victim().Borrow(t.Context()); !errors.Is(err, fleet.ErrNothingFresh) {
		t.Errorf("a victim that never was on lends: %v", err)
	}
	if f.Victim().Stolen().Key != "" || f.Victim().Stolen().Password == "" {
		t.Error("the victim's key is to be had, or its password is not")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := run(ctx, f)
	b.until(t, "the victim was on", func() bool { return len(b.taken["w-0002"]) > 0 })
	payload, giveBack, err := f.Victim().Borrow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sent := b.taken["w-0002"]; len(sent) != 3 || sent[2] != string(payload) {
		t.Errorf("the victim sent %d readings and lent %q", len(sent), payload)
	}
	impatient, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := f.Victim().Borrow(impatient); !errors.Is(err, context.Canceled) {
		t.Errorf("a session was lent twice: %v", err)
	}
	giveBack()
	stop()
	r := <-ended
	if r.err != nil || r.summary.Unacknowledged() != 0 || b.takeovers != 0 || r.summary.Devices != 2 {
		t.Errorf("%+v, %v, %d takeovers", r.summary, r.err, b.takeovers)
	}
}

func TestNewRefuses(t *testing.T) {
	l := openLedger(t)
	good := func() fleet.Options {
		return fleet.Options{Broker: "127.0.0.1:1", Credentials: credentials(2), Ledger: l}
	}
	changed := func(change func(*registry.Credentials)) fleet.Options {
		o := good()
		change(&o.Credentials[1])
		return o
	}
	secret := hex.EncodeToString(make([]byte, 15))
	cases := map[string]fleet.Options{
		"w-0002":     changed(func(c *registry.Credentials) { c.Key = secret }),
		"bad/id":     changed(func(c *registry.Credentials) { c.DeviceID = "bad/id" }),
		"twice":      changed(func(c *registry.Credentials) { c.DeviceID = "w-0001" }),
		"no devices": {Broker: "127.0.0.1:1", Ledger: l},
		"rate":       {Broker: "127.0.0.1:1", Credentials: credentials(1), Ledger: l, Rate: -1},
		"speed":      {Broker: "127.0.0.1:1", Credentials: credentials(1), Ledger: l, Speed: 1e9},
		"recordings": {Broker: "127.0.0.1:1", Credentials: credentials(1), Ledger: l, Recordings: make([]fleet.Recording, 2)},
	}
	for part, o := range cases {
		_, err := fleet.New(o)
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the error is %v", part, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error quotes a key: %v", err)
		}
	}
	if _, err := fleet.New(good()); err != nil {
		t.Error(err)
	}
}
