package bridge_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// door starts a gate whose MQTT listener is configured so.
func door(t *testing.T, change func(*config.MQTT)) *system {
	t.Helper()
	c := small(t)
	change(&c.MQTT)
	must(t, c.Validate())
	return start(t, c)
}

// TestConnectionsAreCapped by the configuration: in all, and for each address.
func TestConnectionsAreCapped(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]struct {
		change func(*config.MQTT)
		// elsewhere says whether another address is still served.
		elsewhere bool
	}{
		"all":     {func(m *config.MQTT) { m.MaxConnections = 2 }, false},
		"address": {func(m *config.MQTT) { m.MaxConnectionsPerAddress = 2 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := door(t, run.change)
			var all []*device
			for i := range 3 {
				all = append(all, s.enrol(t, fmt.Sprintf("w-%d", i), fmt.Sprintf("p-%d", i)))
			}
			first, second := s.dial(t, all[0], 5), s.dial(t, all[1], 4)
			mqttest.Dial(t, s.MQTT(), 5).ExpectEnd()
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			if other := mqttest.DialWith(t, from, s.MQTT(), 5); !run.elsewhere {
				other.ExpectEnd()
			} else if ack := other.Connect(all[2].DeviceID, mqttest.Login(all[2].Username, all[2].Password)); ack.ReasonCode != 0 {
				t.Errorf("from another address: CONNACK %#x", ack.ReasonCode)
			}
			first.Ping()
			second.Ping()
			want := 2
			if run.elsewhere {
				want = 1
			}
			if n := s.counted(t, "pulsegate_connections_refused_total"); n != want {
				t.Errorf("%d connections are counted as over the limit, want %d", n, want)
			}
		})
	}
}

// TestWhatADeviceMaySend is told in CONNACK, and the size of a packet is held to.
func TestWhatADeviceMaySend(t *testing.T) {
	t.Parallel()
	const largest = 16 << 10
	s := door(t, func(m *config.MQTT) { m.ReceiveMaximum = 7 })
	d := s.enrol(t, "w-0001", "p-0001")
	c := mqttest.Dial(t, s.MQTT(), 5)
	ack := c.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password))
	if p := ack.Properties; ack.ReasonCode != 0 || p.ReceiveMaximum != 7 || p.MaximumPacketSize != largest {
		t.Errorf("CONNACK %#x: receive maximum %d, maximum packet size %d", ack.ReasonCode, p.ReceiveMaximum, p.MaximumPacketSize)
	}
	packet := mqttest.Publish(1, 1, d.Topic, nil)
	room := largest - len(mqttest.Bytes(t, 5, packet)) - 1 // the length takes two bytes in place of one
	packet.Payload = bytes.Repeat([]byte("x"), room)
	if n := len(mqttest.Bytes(t, 5, packet)); n != largest {
		t.Fatalf("the packet has %d bytes", n)
	}
	c.Send(packet)
	if got := c.Expect(packets.Puback); got.ReasonCode != 0x99 {
		t.Errorf("the largest packet: PUBACK %#x", got.ReasonCode)
	}
	packet.Payload = append(packet.Payload, 'x')
	c.Send(packet)
	if got := c.Expect(packets.Disconnect); got.ReasonCode != 0x95 {
		t.Errorf("a larger packet: DISCONNECT %#x", got.ReasonCode)
	}
}

// TestWhomTheAuditNames behind a load balancer: the client that it tells of, if it
// is listed; one that is not can tell of nobody.
func TestWhomTheAuditNames(t *testing.T) {
	t.Parallel()
	const header, client = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 1883\r\n", "192.0.2.7:4711"
	for blocks, listed := range map[string]bool{"127.0.0.0/8": true, "127.0.0.9/31": true, "10.0.0.0/8": false, "::/0": false} {
		t.Run(blocks, func(t *testing.T) {
			t.Parallel()
			s := door(t, func(m *config.MQTT) { m.ProxyProtocol = []string{"2001:db8::/32", blocks} })
			d := s.enrol(t, "w-0001", "p-0001")
			audit, rejections := s.subscribe(t, "security", "audit.login.refused"), s.subscribe(t, "security", "rejected.>")
			dial := func(introduction string) *mqttest.Client {
				from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 8)}}
				c := mqttest.DialWith(t, from, s.MQTT(), 5)
				c.SendRaw([]byte(introduction))
				return c
			}
			introduced := header
			if !listed {
				dial(header).ExpectEnd()
				introduced = ""
			} else {
				dial("\x10").ExpectEnd() // MQTT at once
			}
			if ack := dial(introduced).Connect(d.DeviceID, mqttest.Login(d.DeviceID, "a guess")); ack.ReasonCode != 0x86 {
				t.Errorf("CONNACK %#x", ack.ReasonCode)
			}
			var refused struct{ Remote string }
			must(t, json.Unmarshal(receive(t, audit).Data, &refused))
			c := dial(introduced)
			if ack := c.Connect(d.DeviceID, mqttest.Login(d.Username, d.Password)); ack.ReasonCode != 0 {
				t.Fatalf("CONNACK %#x", ack.ReasonCode)
			}
			c.Send(mqttest.Publish(1, 1, d.Topic, tampered(d.sign(t))))
			c.Expect(packets.Puback)
			for _, remote := range []string{refused.Remote, receiveRejection(t, rejections).Remote} {
				if listed != (remote == client) || !listed && !strings.HasPrefix(remote, "127.0.0.8:") {
					t.Errorf("the client is said to be %s", remote)
				}
			}
		})
	}
}
