package attack_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/fleet"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// directory is a verify.Directory of credentials.
type directory map[string]*verify.Device

func (d directory) Device(id string) (*verify.Device, bool) {
	device, ok := d[id]
	return device, ok
}

// gate is a real Mochi broker that puts everything through the real checks,
// remembers what it accepted, and acknowledges all.
type gate struct {
	mochi.HookBase
	address    string
	verifier   *verify.Verifier
	refuseWill bool

	mu         sync.Mutex
	accepted   map[reading.Identity]bool
	stored     []ledger.StoredReading
	rejections []ledger.Rejection
	wills      []string
	changed    chan struct{}
}

func startGate(t *testing.T, credentials []registry.Credentials) *gate {
	t.Helper()
	devices := make(directory)
	for _, c := range credentials {
		key, err := fleet.Key(c)
		if err != nil {
			t.Fatal(err)
		}
		devices[c.DeviceID] = &verify.Device{ID: c.DeviceID, Patient: c.PatientID, Keys: []verify.Key{{Generation: 1, Secret: key}}}
	}
	config := verify.Config{Topic: "wearables/{device_id}/vitals", MaxAge: time.Minute, MaxFuture: 5 * time.Second}
	verifier, err := verify.New(config, devices, verify.Trusted(time.Now))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{
		verifier: verifier, refuseWill: true, accepted: make(map[reading.Identity]bool), changed: make(chan struct{}, 1),
	}
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(g, nil); err != nil {
		t.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := server.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	g.address = listener.Address()
	t.Cleanup(func() { _ = server.Close() })
	return g
}

func (g *gate) Provides(event byte) bool {
	switch event {
	case mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish, mochi.OnWill:
		return true
	}
	return false
}

func (g *gate) OnConnect(_ *mochi.Client, pk packets.Packet) error {
	if !pk.Connect.WillFlag || !g.refuseWill {
		return nil
	}
	g.reject(verify.Will, pk.Connect.WillPayload)
	return packets.ErrNotAuthorized
}

func (g *gate) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (g *gate) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (g *gate) OnWill(_ *mochi.Client, w mochi.Will) (mochi.Will, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wills = append(g.wills, string(w.Payload))
	g.notify()
	return w, nil
}

func (g *gate) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Retain {
		g.reject(verify.Retained, pk.Payload)
		return pk, packets.CodeSuccessIgnore
	}
	v := g.verifier.Session(cl.ID).Check(pk.TopicName, pk.Payload)
	g.mu.Lock()
	known := g.accepted[v.Identity]
	if v.Outcome == verify.Accepted && !known {
		g.accepted[v.Identity] = true
		g.stored = append(g.stored, ledger.StoredReading{
			Subject: "vitals.live." + v.Device.Patient + "." + v.Device.ID, Payload: bytes.Clone(pk.Payload),
		})
	}
	g.mu.Unlock()
	switch {
	case v.Outcome == verify.Accepted && known:
		g.reject(verify.Duplicate, pk.Payload)
	case v.Outcome != verify.Accepted:
		g.reject(v.Outcome, pk.Payload)
	}
	return pk, packets.CodeSuccessIgnore
}

func (g *gate) reject(o verify.Outcome, payload []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rejections = append(g.rejections, ledger.Rejection{Outcome: o.String(), SHA256: ledger.Hash(payload)})
	g.notify()
}

func (g *gate) notify() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// until waits until the condition holds, asked with the gate locked.
func (g *gate) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for {
		g.mu.Lock()
		met := condition()
		g.mu.Unlock()
		if met {
			return
		}
		select {
		case <-g.changed:
		case <-t.Context().Done():
			t.Fatalf("the test ended before %s", what)
		}
	}
}

func credentials(n int) []registry.Credentials {
	var all []registry.Credentials
	for i := range n {
		id := fmt.Sprintf("w-%04d", i+1)
		key := make([]byte, 32)
		key[0] = byte(i + 1)
		all = append(all, registry.Credentials{
			DeviceID: id, PatientID: fmt.Sprintf("p-%04d", i+1), Topic: "wearables/" + id + "/vitals",
			Username: id, Password: "secret", Key: hex.EncodeToString(key),
		})
	}
	return all
}

// TestEveryAttackMeetsItsOutcome runs all attacks against the real checks,
// beside an honest fleet, and settles the ledger.
func TestEveryAttackMeetsItsOutcome(t *testing.T) {
	const devices, turns = 5, 3
	all := credentials(devices)
	honest, victim, stolen := all[:devices-2], all[devices-2], all[devices-1]
	g := startGate(t, all)
	books, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(fleet.Options{Broker: g.address, Credentials: honest, Rate: 20, Victim: &victim, Ledger: books})
	if err != nil {
		t.Fatal(err)
	}
	attacks, err := attack.Select("all")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	a, err := attack.New(attack.Options{
		Broker: g.address, Stolen: stolen, Targets: attack.Targets(honest), Capture: f, Victim: f.Victim(),
		Attacks: attacks, Rate: 20, Ledger: books, Logger: zerolog.New(&log),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	fleetEnded, attackerEnded := make(chan error, 1), make(chan error, 1)
	var counts map[string]attack.Count
	go func() {
		_, err := f.Run(ctx)
		fleetEnded <- err
	}()
	go func() {
		var err error
		counts, err = a.Run(ctx)
		attackerEnded <- err
	}()
	g.until(t, "every attack was refused a few times", func() bool {
		seen := make(map[string]int)
		for _, r := range g.rejections {
			seen[r.Outcome]++
		}
		// What the attacks cause: bad_signature comes from four of them.
		return seen["duplicate"] >= turns && seen["bad_signature"] >= 4*turns && seen["will"] >= turns
	})
	stop()
	if err := <-attackerEnded; err != nil {
		t.Fatal(err)
	}
	if err := <-fleetEnded; err != nil {
		t.Fatal(err)
	}
	entries, err := books.Entries()
	if err != nil {
		t.Fatal(err)
	}
	account := ledger.Settle(entries, g.stored)
	account.Attribute(entries, g.rejections)
	if x := account.Authentic; x.Sent == 0 || x.Delivered != x.Sent || x.Acknowledged != x.Sent || x.Duplicated != 0 {
		t.Errorf("authentic: %+v", x)
	}
	if account.Forged != 0 || account.Misfiled != 0 || len(account.Undeclared) != 0 {
		t.Errorf("forged %d, misfiled %d, undeclared %v", account.Forged, account.Misfiled, account.Undeclared)
	}
	for _, one := range attacks {
		got := account.Attacks[one.Name]
		if got == nil || got.Sent == 0 || got.Sent != counts[one.Name].Sent || got.Delivered != 0 {
			t.Errorf("%s: %+v, by the attacker's count %+v", one.Name, got, counts[one.Name])
			continue
		}
		if got.Rejected[one.Expected[0]] != got.Sent {
			t.Errorf("%s: sent %d, rejected %v, expected %v", one.Name, got.Sent, got.Rejected, one.Expected)
		}
	}
	for _, secret := range []string{"secret", stolen.Key, "heart_rate"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestAcceptedWillIsBroughtToFire(t *testing.T) {
	all := credentials(2)
	g := startGate(t, all)
	g.refuseWill = false
	books, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	attacks, err := attack.Select(attack.Will)
	if err != nil {
		t.Fatal(err)
	}
	a, err := attack.New(attack.Options{
		Broker: g.address, Stolen: all[1], Targets: attack.Targets(all[:1]), Capture: nothing{}, Attacks: attacks,
		Rate: 20, Ledger: books, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := a.Run(ctx)
		ended <- err
	}()
	g.until(t, "the broker published a will", func() bool { return len(g.wills) > 0 })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	entries, err := books.Entries()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(entries, func(e ledger.Entry) bool { return string(e.Payload) == g.wills[0] }) {
		t.Error("the will is not in the ledger")
	}
}

// nothing is a capture that overhears nothing.
type nothing struct{}

func (nothing) Latest(string) ([]byte, bool) { return nil, false }

func TestAttacksWithoutCaptureOrBrokerAreSkipped(t *testing.T) {
	all := credentials(2)
	g := startGate(t, all)
	books, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	attacks, err := attack.Select("tampered-value,stale")
	if err != nil {
		t.Fatal(err)
	}
	a, err := attack.New(attack.Options{
		Broker: g.address, Stolen: all[1], Targets: attack.Targets(all[:1]), Capture: nothing{}, Attacks: attacks,
		Rate: 20, Ledger: books, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan map[string]attack.Count, 1)
	go func() {
		counts, _ := a.Run(ctx)
		ended <- counts
	}()
	g.until(t, "the other attack came", func() bool { return len(g.rejections) > 1 })
	stop()
	counts := <-ended
	if c := counts[attack.TamperedValue]; c.Sent != 0 || c.Skipped == 0 {
		t.Errorf("tampered nothing into %+v", c)
	}
	if c := counts[attack.Stale]; c.Sent == 0 || c.Acknowledged != c.Sent {
		t.Errorf("stale: %+v", c)
	}
}

func TestSelect(t *testing.T) {
	all := attack.All()
	for list, want := range map[string]int{
		"all": len(all), "none": 0, "": 0, "replay": 1, " stale , future,stale": 2,
	} {
		if got, err := attack.Select(list); err != nil || len(got) != want {
			t.Errorf("%q selects %d: %v", list, len(got), err)
		}
	}
	for _, list := range []string{"replya", "stale,", "all,none", "stale;future"} {
		if _, err := attack.Select(list); err == nil || !strings.Contains(err.Error(), "forged-signature") {
			t.Errorf("%q: the error is %v", list, err)
		}
	}
	seen := make(map[string]bool)
	for _, a := range all {
		if a.Name == "" || a.Description == "" || len(a.Expected) == 0 || seen[a.Name] {
			t.Errorf("attack %+v is incomplete or there twice", a)
		}
		seen[a.Name] = true
	}
}

func TestNewRefuses(t *testing.T) {
	all := credentials(2)
	books, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	good := attack.Options{
		Broker: "127.0.0.1:1", Stolen: all[1], Targets: attack.Targets(all[:1]), Capture: nothing{},
		Attacks: attack.All()[:1], Ledger: books,
	}
	if _, err := attack.New(good); err != nil {
		t.Error(err)
	}
	for part, change := range map[string]func(*attack.Options){
		"broker":  func(o *attack.Options) { o.Broker = "" },
		"targets": func(o *attack.Options) { o.Targets = nil },
		"attacks": func(o *attack.Options) { o.Attacks = nil },
		"victim":  func(o *attack.Options) { o.Attacks = attack.All() },
		"rate":    func(o *attack.Options) { o.Rate = 1e6 },
		"w-0001":  func(o *attack.Options) { o.Stolen = all[0] },
		"key":     func(o *attack.Options) { o.Stolen.Key = "zz" },
	} {
		o := good
		change(&o)
		if _, err := attack.New(o); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the error is %v", part, err)
		}
	}
}
