package bridge_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

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

// TestGuessingAPassword holds up nobody but who tries the same name at the same
// address, and him not for long.
func TestGuessingAPassword(t *testing.T) {
	t.Parallel()
	s := start(t, limited(t, func(l *config.Limits) { l.LockoutAfter = 5 }))
	victim, other := s.enrol(t, "w-0001", "p-0001"), s.enrol(t, "w-0002", "p-0002")
	connected := s.dial(t, victim, 5)
	audit := s.subscribe(t, "security", "audit.login.refused")
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
	s.dial(t, victim, 5)
	if s.counted(t, slowed) == 0 {
		t.Error("who is locked out is not slowed down")
	}
	// More than may wait for their turn are not looked at.
	var guesses []mqtt.Token
	for range 20 {
		guesses = append(guesses, mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://"+s.MQTT()).SetClientID("w-0001").
			SetUsername("w-0001").SetPassword("a guess").SetProtocolVersion(4).SetConnectRetry(false)).Connect())
	}
	for _, g := range guesses {
		if !g.WaitTimeout(3*mqttest.Patience) || g.Error() == nil {
			t.Errorf("a guess ended with %v", g.Error())
		}
	}
	unseen := 0
	for range 26 {
		var e struct {
			Reason  string
			LeftOut int `json:"left_out"`
		}
		must(t, json.Unmarshal(receive(t, audit).Data, &e))
		if e.LeftOut > 0 {
			break
		}
		if e.Reason != "not enrolled, revoked, or the password does not match" {
			unseen++
		}
	}
	if unseen == 0 {
		t.Error("every guess was looked at")
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
