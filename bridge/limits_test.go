package bridge_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/load"
)

const (
	slowed   = "pulsegate_slowed_total"
	lockouts = "pulsegate_lockouts_total"

	refusedLogins = "pulsegate_authentication_failures_total"
)

// decided is how many messages had an outcome, by the metrics.
func (s *system) decided(t *testing.T, outcome string) int {
	t.Helper()
	return s.counted(t, `pulsegate_messages_total{outcome="`+outcome+`"}`)
}

// limited is a small configuration without fsync, and with these limits.
func limited(t *testing.T, change func(l *config.Limits)) config.Config {
	t.Helper()
	c := small(t)
	c.NATS.Sync = config.Sync(time.Minute)
	change(&c.Limits)
	must(t, c.Validate())
	return c
}

// readings are n of a device, right and present.
func (d *device) readings(t *testing.T, n int) [][]byte {
	t.Helper()
	all := make([][]byte, n)
	for i := range all {
		all[i] = d.sign(t)
	}
	return all
}

// as lets a device log in as itself and publish on another's topic.
func (d *device) as(other *device) registry.Credentials {
	c := d.Credentials
	c.Topic = other.Topic
	return c
}

// refusedInAll reads REJECTIONS: how many events there are, and how many
// messages they stand for.
func (s *system) refusedInAll(t *testing.T, subject string) (events, messages int) {
	t.Helper()
	reader, err := egress.NewReader(s.user(t, "security"), egress.StreamRejections, subject)
	must(t, err)
	_, err = reader.Read(t.Context(), 1, func(m egress.Stored) error {
		var r egress.RejectionSummary
		must(t, json.Unmarshal(m.Data, &r))
		if r.LeftOut > 0 && (r.Remote != "127.0.0.1" || r.From.IsZero() || r.Until.Before(r.From) || m.Subject != "rejected."+r.Spelled+"."+r.Device) {
			t.Errorf("%s: %s", m.Subject, m.Data)
		}
		events++
		messages += max(1, int(r.LeftOut))
		return nil
	})
	must(t, err)
	return events, messages
}

// TestTheDefaultsAdmitABurst publishes what the defaults promise: a burst of
// 4,000 from one device.
func TestTheDefaultsAdmitABurst(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(*config.Limits) {}))
	d := s.enrol(t, "w-0001", "p-0001")
	s.deliver(t, d, d.readings(t, 4000))
	if n := s.decided(t, "accepted"); n != 4000 {
		t.Errorf("%d readings were accepted", n)
	}
	if n := s.counted(t, slowed); n != 0 {
		t.Errorf("the device was slowed down %d times", n)
	}
}

// TestAFloodOfForgeriesBesideHonestDevices floods from one connection, while
// many honest devices publish from the same address, the one that is forged
// among them.
func TestAFloodOfForgeriesBesideHonestDevices(t *testing.T) {
	t.Parallel()
	const honest, each, forged = 20, 25, 3000
	c := limited(t, func(l *config.Limits) { l.LockoutAfter, l.ForgedRate = 1_000_000, 1_000_000 })
	s := start(t, c)
	var lanes []load.Lane
	var victim *device
	for i := range honest {
		d := s.enrol(t, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i))
		lanes = append(lanes, load.Lane{Credentials: d.Credentials, Payloads: d.readings(t, each)})
		victim = d
	}
	attacker := s.enrol(t, "w-0666", "p-0666")
	forgeries := victim.readings(t, forged)
	for i := range forgeries {
		forgeries[i] = tampered(forgeries[i])
	}
	flood := load.Lane{Credentials: attacker.as(victim), Payloads: forgeries}
	var running sync.WaitGroup
	running.Go(func() {
		if _, err := load.Closed(t.Context(), load.Options{Broker: s.MQTT(), InFlight: 64, Lanes: []load.Lane{flood}}); err != nil {
			t.Error(err)
		}
	})
	if _, err := load.Closed(t.Context(), load.Options{Broker: s.MQTT(), InFlight: 1, Lanes: lanes}); err != nil {
		t.Error(err)
	}
	running.Wait()
	accepted, refused := s.decided(t, "accepted"), s.decided(t, "bad_signature")
	if accepted != honest*each || refused != forged {
		t.Errorf("%d readings were accepted, %d refused", accepted, refused)
	}
	if n := s.counted(t, slowed); n != 0 {
		t.Errorf("somebody was slowed down %d times", n)
	}
	// The summary comes by itself.
	until := time.Now().Add(30 * time.Second)
	events, messages := 0, 0
	for messages != forged && time.Now().Before(until) {
		time.Sleep(100 * time.Millisecond)
		events, messages = s.refusedInAll(t, egress.SubjectRejections)
	}
	if messages != forged || events > forged/10 {
		t.Errorf("%d events stand for %d messages, of %d", events, messages, forged)
	}
}

// TestTheLastSummaryComesWithTheEnd closes the gate right after a flood.
func TestTheLastSummaryComesWithTheEnd(t *testing.T) {
	t.Parallel()
	c := limited(t, func(l *config.Limits) { l.LockoutAfter = 1_000_000 })
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	one := tampered(d.sign(t))
	s.deliver(t, d, slicesOf(one, 500))
	must(t, s.Close(t.Context()))
	events, messages := start(t, c).refusedInAll(t, "rejected.bad_signature.w-0001")
	if messages != 500 || events > 200 {
		t.Errorf("%d events stand for %d messages, of 500", events, messages)
	}
}

func slicesOf(one []byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = one
	}
	return all
}

// TestADeviceOverItsRateIsSlowed loses nothing.
func TestADeviceOverItsRateIsSlowed(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.DeviceRate, l.DeviceBurst = 20, 10 }))
	d := s.enrol(t, "w-0001", "p-0001")
	sent := d.readings(t, 30)
	s.deliver(t, d, sent)
	onceEach(t, s.stored(t), "live", d, sent)
	if n := s.decided(t, "accepted"); n != 30 {
		t.Errorf("%d readings were accepted", n)
	}
	if n := s.counted(t, slowed); n == 0 || n > 20 {
		t.Errorf("it was slowed down %d times, of 20 readings over its burst", n)
	}
}

// gateway connects one that carries everything.
func (s *system) gateway(t *testing.T, id string) *mqttest.Client {
	t.Helper()
	g, err := registry.NewClient(s.user(t, "operator"), "test").Add(t.Context(), registry.New{Kind: registry.KindGateway, ID: id, Prefixes: []string{"w-"}})
	must(t, err)
	s.journal.hide(g.Credentials.Password)
	c := mqttest.Dial(t, s.MQTT(), 5)
	if ack := c.Connect(id, mqttest.Login(id, g.Credentials.Password)); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return c
}

// send publishes at once, at most the receive maximum, and counts the PUBACKs'
// reason codes.
func send(c *mqttest.Client, topic string, payloads [][]byte) map[byte]int {
	var all []packets.Packet
	for i, p := range payloads {
		all = append(all, mqttest.Publish(uint16(i+1), 1, topic, p))
	}
	c.Send(all...)
	codes := make(map[byte]int)
	for range payloads {
		codes[c.Expect(packets.Puback).ReasonCode]++
	}
	return codes
}

// TestAGatewaysDevicesHaveTheirOwnBudgets lets one device of a gateway go far
// over its rate: it is slowed, then refused, and the others are neither.
func TestAGatewaysDevicesHaveTheirOwnBudgets(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.DeviceRate, l.DeviceBurst = 1, 10 }))
	loud, calm := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	c := s.gateway(t, "g-1")
	codes := send(c, loud.Topic, loud.readings(t, 60))
	if codes[0] < 10 || codes[0x97] == 0 || codes[0]+codes[0x97] != 60 {
		t.Errorf("the loud device: %v", codes)
	}
	if n := s.decided(t, "rate_limited"); n != codes[0x97] {
		t.Errorf("%d are rate_limited by the metrics, %d by PUBACK", n, codes[0x97])
	}
	if s.counted(t, slowed) == 0 {
		t.Error("it was refused without having been slowed down")
	}
	if codes := send(c, calm.Topic, calm.readings(t, 10)); codes[0] != 10 {
		t.Errorf("the calm device: %v", codes)
	}
	// What the gateway brought has cost the device nothing of its own.
	before := s.counted(t, slowed)
	if codes := send(s.dial(t, loud, 5), loud.Topic, loud.readings(t, 10)); codes[0] != 10 {
		t.Errorf("on its own: %v", codes)
	}
	if n := s.counted(t, slowed) - before; n != 0 {
		t.Errorf("on its own it was slowed down %d times", n)
	}
}

// TestAnAddressFarOverItsRate refuses what waiting does not help.
func TestAnAddressFarOverItsRate(t *testing.T) {
	t.Parallel()
	const connections, burst = 10, 10 // which is also enough for the CONNECTs
	s := start(t, limited(t, func(l *config.Limits) { l.AddressRate, l.AddressBurst = 1, burst }))
	var all []*mqttest.Client
	var devices []*device
	for i := range connections {
		devices = append(devices, s.enrol(t, fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i)))
		all = append(all, s.dial(t, devices[i], 5))
	}
	codes := make(map[byte]int)
	for i, c := range all {
		c.Send(mqttest.Publish(1, 1, devices[i].Topic, devices[i].sign(t)), mqttest.Publish(2, 1, devices[i].Topic, devices[i].sign(t)))
	}
	for _, c := range all {
		for range 2 {
			codes[c.Expect(packets.Puback).ReasonCode]++
		}
	}
	if codes[0] < burst || codes[0x97] == 0 || codes[0]+codes[0x97] != 2*connections {
		t.Errorf("codes %v", codes)
	}
	if n := s.counted(t, slowed); n == 0 {
		t.Error("nobody was slowed down")
	}
	if codes := sendFrom(t, s, devices[0], "127.0.0.2"); codes[0] != 1 {
		t.Errorf("from another address: %v", codes)
	}
}

// TestAForgerUsesUpNobodysBudget forges in a device's name, and replays it, as
// often as its whole budget allows.
func TestAForgerUsesUpNobodysBudget(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.DeviceRate, l.DeviceBurst, l.LockoutAfter = 1, 10, 1000 }))
	victim, forger := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0666", "p-0666")
	c := s.dial(t, victim, 5)
	heard := victim.readings(t, 1)
	if codes := send(c, victim.Topic, heard); codes[0] != 1 {
		t.Fatalf("the victim's first: %v", codes)
	}
	f := s.dial(t, forger, 5)
	if codes := send(f, victim.Topic, slicesOf(tampered(heard[0]), 5)); codes[0x87] != 5 {
		t.Errorf("forged: %v", codes)
	}
	// Authentic, but not the forger's.
	if codes := send(f, victim.Topic, slicesOf(heard[0], 5)); codes[0x87] != 5 {
		t.Errorf("replayed: %v", codes)
	}
	if codes := send(c, victim.Topic, victim.readings(t, 9)); codes[0] != 9 {
		t.Errorf("the victim: %v", codes)
	}
	if n := s.counted(t, slowed); n != 0 {
		t.Errorf("somebody was slowed down %d times", n)
	}
	// The forger has paid with what is for such messages, not with his own.
	if codes := send(f, forger.Topic, forger.readings(t, 10)); codes[0] != 10 {
		t.Errorf("the forger's own readings: %v", codes)
	}
	if n := s.counted(t, slowed); n != 0 {
		t.Errorf("somebody was slowed down %d times", n)
	}
	f.Send(mqttest.Publish(1, 1, victim.Topic, tampered(heard[0])), mqttest.Publish(2, 1, victim.Topic, tampered(heard[0])))
	for range 2 {
		f.Expect(packets.Puback)
	}
	if n := s.counted(t, slowed); n == 0 {
		t.Error("the forger is not slowed down")
	}
}
