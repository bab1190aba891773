package bridge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// replicas starts two gates on one NATS that share a master key and nothing
// else, and a registry client as an operator has it.
func replicas(t *testing.T) (a, b *system, operator *registry.Client) {
	t.Helper()
	n := newCluster(t)
	a = startAt(t, n, nil)
	b = startAt(t, n, func(c *config.Config) { c.Keys.MasterFile = filepath.Join(a.dir, bridge.MasterKeyFile) })
	nc, err := nats.Connect(n.url("operator"))
	must(t, err)
	t.Cleanup(nc.Close)
	return a, b, registry.NewClient(nc, "test")
}

// stream publishes one reading after another as a device, each when the one
// before was answered, and remembers when each was sent and how it ended.
type stream struct {
	device *device
	sent   []answered
	ended  error
}

type answered struct {
	at   time.Time
	code byte
}

func (s *stream) run(t *testing.T, gate *system, stop <-chan struct{}) {
	c := mqttest.Dial(t, gate.MQTT(), 5)
	if ack := c.Connect(s.device.DeviceID, mqttest.Login(s.device.Username, s.device.Password)); ack.ReasonCode != 0 {
		s.ended = fmt.Errorf("CONNACK %#x", ack.ReasonCode)
		return
	}
	for id := uint16(1); ; id = id%1000 + 1 {
		select {
		case <-stop:
			return
		default:
		}
		now := time.Now()
		if s.ended = c.TrySend(mqttest.Publish(id, 1, s.device.Topic, s.device.sign(t))); s.ended != nil {
			return
		}
		pk, err := c.Next()
		if err != nil || pk.FixedHeader.Type != packets.Puback {
			s.ended = fmt.Errorf("%v, packet type %d", err, pk.FixedHeader.Type)
			return
		}
		s.sent = append(s.sent, answered{now, pk.ReasonCode})
	}
}

// TestChangesTakeEffectEverywhere revokes half of the devices and re-pairs the
// others while all publish through both replicas: after a verb has returned,
// nothing is accepted that it forbids, on either.
func TestChangesTakeEffectEverywhere(t *testing.T) {
	a, b, operator := replicas(t)
	const devices = 20
	stop := make(chan struct{})
	var running sync.WaitGroup
	var all []*stream
	for i := range devices {
		s := &stream{device: a.enrol(t, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i))}
		b.journal.hide(s.device.Password, s.device.Key)
		all = append(all, s)
		gate := []*system{a, b}[i/2%2]
		running.Go(func() { s.run(t, gate, stop) })
	}
	done := make([]time.Time, devices)
	var took []time.Duration
	for i, s := range all {
		began := time.Now()
		var result registry.Result
		var err error
		if i%2 == 0 {
			result, err = operator.Revoke(t.Context(), registry.KindDevice, s.device.DeviceID)
		} else {
			result, err = operator.Assign(t.Context(), s.device.DeviceID, "p-other")
		}
		must(t, err)
		if len(result.Behind) > 0 {
			t.Errorf("%v have not applied the change", result.Behind)
		}
		done[i] = time.Now()
		took = append(took, done[i].Sub(began))
	}
	// Those who were re-paired go on sending the former patient's id.
	time.AfterFunc(300*time.Millisecond, func() { close(stop) })
	running.Wait()
	before, after, accepted := 0, 0, 0
	for i, s := range all {
		for _, one := range s.sent {
			switch {
			case one.at.Before(done[i]):
				before++
			case one.code == 0:
				accepted++
			default:
				after++
			}
		}
		if i%2 == 0 && s.ended == nil {
			t.Errorf("the connection of the revoked %s is still open", s.device.DeviceID)
		}
	}
	slices.Sort(took)
	t.Logf("%d changes, the slowest in effect after %v; %d readings before, %d refused after, %d accepted after", devices, took[len(took)-1].Round(time.Millisecond), before, after, accepted)
	if accepted > 0 || before == 0 || after == 0 {
		t.Errorf("%d readings were accepted after the verb had returned", accepted)
	}
	if took[len(took)-1] > 5*time.Second {
		t.Errorf("a change took %v", took[len(took)-1])
	}
}

// TestRotationOfAFleetUnderLoad rotates every device of a gateway's fleet while
// all of them publish, and lets each go over to its new key some time later:
// no authentic reading is refused, on the other replica as little as here.
func TestRotationOfAFleetUnderLoad(t *testing.T) {
	a, b, operator := replicas(t)
	fleet := 1000
	if testing.Short() {
		fleet = 100
	}
	gateway, err := operator.Add(t.Context(), registry.New{Kind: registry.KindGateway, ID: "g-1", Prefixes: []string{"w-"}})
	must(t, err)
	hidden := func(secrets ...string) { a.journal.hide(secrets...); b.journal.hide(secrets...) }
	hidden(gateway.Credentials.Password)
	devices := make([]atomic.Pointer[device], fleet)
	inParallel(fleet, func(i int) {
		result, err := operator.Add(t.Context(), registry.New{Kind: registry.KindDevice, ID: fmt.Sprintf("w-%04d", i), Patient: fmt.Sprintf("p-%04d", i)})
		if err != nil {
			t.Error(err)
			return
		}
		devices[i].Store(&device{Credentials: *result.Credentials})
	})
	if t.Failed() {
		t.FailNow()
	}
	c := mqttest.Dial(t, b.MQTT(), 5)
	if ack := c.Connect("g-1", mqttest.Login("g-1", gateway.Credentials.Password)); ack.ReasonCode != 0 {
		t.Fatalf("the gateway's CONNACK is %#x", ack.ReasonCode)
	}
	ctx, stop := context.WithCancel(t.Context())
	var refused, accepted atomic.Int64
	var publishing sync.WaitGroup
	publishing.Go(func() {
		// Every device once more after the rotation is over.
		for last := fleet; last > 0; {
			for i := range devices {
				if ctx.Err() != nil {
					last--
				}
				d := devices[i].Load()
				if err := c.TrySend(mqttest.Publish(1, 1, d.Topic, d.sign(t))); err != nil {
					t.Error(err)
					return
				}
				pk, err := c.Next()
				if err != nil {
					t.Error(err)
					return
				}
				if pk.ReasonCode == 0 {
					accepted.Add(1)
				} else {
					refused.Add(1)
				}
			}
		}
	})
	began := time.Now()
	inParallel(fleet, func(i int) {
		old := devices[i].Load()
		result, err := operator.Rotate(t.Context(), old.DeviceID, time.Hour)
		if err != nil || len(result.Behind) > 0 {
			t.Errorf("rotating %s: %v, behind %v", old.DeviceID, err, result.Behind)
			return
		}
		next := &device{Credentials: *result.Credentials, seq: 1_000_000}
		if next.Key == old.Key || next.Password != old.Password {
			t.Errorf("%s: a rotation changes the key and leaves the password", old.DeviceID)
		}
		devices[i].Store(next)
	})
	took := time.Since(began)
	stop()
	publishing.Wait()
	t.Logf("%d devices rotated in %v; %d readings accepted, %d refused", fleet, took.Round(time.Millisecond), accepted.Load(), refused.Load())
	if refused.Load() > 0 || accepted.Load() < int64(fleet) {
		t.Errorf("%d authentic readings were refused, %d accepted", refused.Load(), accepted.Load())
	}
	for i := range devices {
		hidden(devices[i].Load().Password, devices[i].Load().Key)
	}
}

// inParallel calls f with 0 to n-1, sixteen at a time.
func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	workers.Wait()
}

// TestEnrolmentIsServedByALaggingReplica enrols devices on one replica and lets
// each publish at once on the other.
func TestEnrolmentIsServedByALaggingReplica(t *testing.T) {
	a, b, _ := replicas(t)
	for i := range 50 {
		d := a.enrol(t, fmt.Sprintf("w-%04d", i), "p-1")
		b.journal.hide(d.Password, d.Key)
		c := b.dial(t, d, 5)
		c.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)))
		if ack := c.Expect(packets.Puback); ack.ReasonCode != 0 {
			t.Errorf("%s: PUBACK %#x", d.DeviceID, ack.ReasonCode)
		}
		c.Close()
	}
}

// TestGatewayBringsOnlyWhatItCarries shows check 5 with a gateway, and that what
// it carries can change while it is connected.
func TestGatewayBringsOnlyWhatItCarries(t *testing.T) {
	s := start(t, small(t))
	nc := s.user(t, "operator")
	operator := registry.NewClient(nc, "test")
	carried, other := s.enrol(t, "icu-1", "p-1"), s.enrol(t, "w-1", "p-2")
	g, err := operator.Add(t.Context(), registry.New{Kind: registry.KindGateway, ID: "g-1", Prefixes: []string{"icu-"}})
	must(t, err)
	s.journal.hide(g.Credentials.Password)
	c := mqttest.Dial(t, s.MQTT(), 5)
	if ack := c.Connect("g-1", mqttest.Login("g-1", g.Credentials.Password)); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	expect := func(d *device, code byte) {
		t.Helper()
		c.Send(mqttest.Publish(1, 1, d.Topic, d.sign(t)))
		if ack := c.Expect(packets.Puback); ack.ReasonCode != code {
			t.Errorf("%s: PUBACK %#x, want %#x", d.DeviceID, ack.ReasonCode, code)
		}
	}
	expect(carried, 0)
	expect(other, 0x87)
	_, err = operator.Carry(t.Context(), "g-1", []string{"w-1"}, nil)
	must(t, err)
	expect(carried, 0x87)
	expect(other, 0)
}

// TestALostMasterKeyIsNotReplaced starts a gate on a data directory whose master
// key is gone, and one on another's registry without its key.
func TestALostMasterKeyIsNotReplaced(t *testing.T) {
	c := small(t)
	first := start(t, c)
	first.enrol(t, "w-0001", "p-0001")
	must(t, first.Close(t.Context()))
	file := filepath.Join(c.Data, bridge.MasterKeyFile)
	key, err := os.ReadFile(file)
	must(t, err)
	must(t, os.Remove(file))
	_, err = bridge.Start(t.Context(), c, bridge.Options{})
	if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Fatalf("without its master key the gate says %v", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a new key has been made (%v)", err)
	}
	must(t, os.WriteFile(file, []byte(strings.Repeat("ab", 32)), 0o600))
	_, err = bridge.Start(t.Context(), c, bridge.Options{})
	if err == nil || !strings.Contains(err.Error(), "not the one that this registry was made with") {
		t.Fatalf("with another master key the gate says %v", err)
	}
	must(t, os.Remove(file))
	c.Keys.Master = config.Secret(strings.TrimSpace(string(key)))
	again, err := bridge.Start(t.Context(), c, bridge.Options{})
	must(t, err)
	defer func() { must(t, again.Close(context.Background())) }()
	if _, known := again.Registry().Known("w-0001"); !known {
		t.Error("with the key from the configuration the device is unknown")
	}
}
