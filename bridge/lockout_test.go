package bridge_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// TestBadSignaturesEndTheConnection of who sends them, not of who they name.
func TestBadSignaturesEndTheConnection(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.LockoutAfter = 5 }))
	victim, forger := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0666", "p-0666")
	honest, f := s.dial(t, victim, 5), s.dial(t, forger, 4)
	forged := tampered(victim.sign(t))
	if codes := send(f, victim.Topic, slicesOf(forged, 4)); codes[0] != 4 { // 3.1.1 has no other
		t.Fatalf("forged: %v", codes)
	}
	f.Ping()
	f.Send(mqttest.Publish(5, 1, victim.Topic, forged))
	end(t, f)
	if n := s.counted(t, lockouts); n != 1 {
		t.Errorf("%d lockouts", n)
	}
	if codes := send(honest, victim.Topic, victim.readings(t, 3)); codes[0] != 3 {
		t.Errorf("whom they named: %v", codes)
	}
	// He may come back, and goes with the first that is forged.
	f = s.dial(t, forger, 5)
	if codes := send(f, forger.Topic, forger.readings(t, 3)); codes[0] != 3 {
		t.Errorf("the forger's own readings: %v", codes)
	}
	f.Send(mqttest.Publish(9, 0, victim.Topic, forged))
	end(t, f)
	// A gateway does not answer for those whom it carries.
	g := s.gateway(t, "g-1")
	if codes := send(g, victim.Topic, slicesOf(forged, 20)); codes[0x87] != 20 {
		t.Errorf("the gateway's: %v", codes)
	}
	if codes := send(g, victim.Topic, victim.readings(t, 1)); codes[0] != 1 {
		t.Errorf("the gateway's: %v", codes)
	}
}

// end waits until the gate hangs up; it may answer before that.
func end(t *testing.T, c *mqttest.Client) {
	t.Helper()
	for {
		switch _, err := c.Next(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatal("the connection stays open")
		case err != nil:
			return
		}
	}
}

// TestGuessingAPassword holds up nobody but who guesses: not even the name's owner
// at the same address.
func TestGuessingAPassword(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.LockoutAfter = 5 }))
	victim, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	connected := s.dial(t, victim, 5)
	guess := func() byte {
		return mqttest.Dial(t, s.MQTT(), 5).Connect("w-0001", mqttest.Login("w-0001", "a guess")).ReasonCode
	}
	for i := range 5 {
		if code := guess(); code != 0x86 {
			t.Errorf("guess %d: CONNACK %#x", i, code)
		}
	}
	if n := s.counted(t, lockouts); n != 1 || s.counted(t, slowed) != 0 {
		t.Errorf("%d lockouts", n)
	}
	if codes := send(connected, victim.Topic, victim.readings(t, 3)); codes[0] != 3 {
		t.Errorf("who is connected already: %v", codes)
	}
	s.dial(t, other, 5)
	s.dial(t, other, 5)
	if codes := sendFrom(t, s, victim, "127.0.0.2"); codes[0] != 1 {
		t.Errorf("from another address: %v", codes)
	}
	if n := s.counted(t, slowed); n != 0 {
		t.Errorf("others were slowed down %d times", n)
	}
	guess() // the first turn is free
	guess()
	if s.counted(t, slowed) == 0 {
		t.Error("who guesses is not slowed down")
	}
	// However many guess beside him, its owner gets in.
	var guesses []mqtt.Token
	before := s.counted(t, refusedLogins)
	for range 20 {
		guesses = append(guesses, mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://"+s.MQTT()).SetClientID("w-0001").
			SetUsername("w-0001").SetPassword("a guess").SetProtocolVersion(4).SetConnectRetry(false)).Connect())
	}
	s.awaitCount(t, refusedLogins, before+10) // the others wait for their turns
	for range 5 {
		s.dial(t, victim, 5)
	}
	for _, g := range guesses {
		if !g.WaitTimeout(3*mqttest.Patience) || g.Error() == nil {
			t.Errorf("a guess ended with %v", g.Error())
		}
	}
	if codes := send(s.dial(t, victim, 5), victim.Topic, victim.readings(t, 1)); codes[0] != 1 {
		t.Errorf("its owner: %v", codes)
	}
}

// sendFrom publishes one reading from another address of this machine.
func sendFrom(t *testing.T, s *system, d *device, address string) map[byte]int {
	t.Helper()
	c := mqttest.DialWith(t, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}, s.MQTT(), 5)
	if ack := c.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password)); ack.ReasonCode != 0 {
		t.Fatalf("from %s: CONNACK %#x", address, ack.ReasonCode)
	}
	return send(c, d.Topic, d.readings(t, 1))
}

// TestStrangersUseUpNobodysBudget: CONNECTs of strangers, more than an address may
// send, cost those no reading who are let in there.
func TestStrangersUseUpNobodysBudget(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.AddressRate, l.AddressBurst = 1, 10 }))
	d := s.enrol(t, "w-0001", "p-0001")
	honest := s.dial(t, d, 4)
	stranger := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	stranger.Connect.ProtocolName, stranger.Connect.ClientIdentifier, stranger.Connect.Clean = []byte("MQTT"), "nobody", true
	for range 30 {
		mqttest.Dial(t, s.MQTT(), 5).Send(stranger)
	}
	s.awaitCount(t, refusedLogins, 27) // the others are made to wait
	readings := d.readings(t, 10)
	send(honest, d.Topic, readings)
	if n := s.decided(t, "accepted"); n != len(readings) {
		t.Errorf("%d of %d readings are accepted, %d refused as rate_limited", n, len(readings), s.decided(t, "rate_limited"))
	}
}

// awaitCount waits until a metric is at least n.
func (s *system) awaitCount(t *testing.T, name string, n int) {
	t.Helper()
	for end := time.Now().Add(3 * mqttest.Patience); s.counted(t, name) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s stays at %d, want %d", name, s.counted(t, name), n)
		}
	}
}
