package ingress_test

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

func TestSessionPresent(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		for _, step := range []struct {
			name    string
			options []mqttest.Option
			want    bool
		}{
			{"first, resumed", []mqttest.Option{mqttest.Resume}, true},
			{"again, resumed", []mqttest.Option{mqttest.Resume}, true},
			{"again, clean", nil, false},
			{"after a clean one, resumed", []mqttest.Option{mqttest.Resume}, true},
		} {
			c := b.dial(t, version)
			ack := c.Connect("w-1", step.options...)
			if ack.ReasonCode != 0 || ack.SessionPresent != step.want {
				t.Errorf("%s: CONNACK %x, want session present %v", step.name, ack.Raw, step.want)
			}
			c.Send(publish(1, 1))
			b.next(t).done(accepted)
			c.ExpectBytes(0x40, 2, 0, 1)
			c.Close()
		}
	})
}

// A device whose connection broke in the middle of QoS 2 sends the same again,
// and hears what became of it this time.
func TestQoS2AfterAReconnect(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		session := func(pk *packets.Packet) {
			mqttest.Resume(pk)
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
		}
		for range 2 {
			c := b.connect(t, version, "w-1", session)
			c.Send(publish(5, 2))
			b.next(t).done(accepted)
			c.ExpectBytes(0x50, 2, 0, 5)
		}
	})
}

func TestConnackTellsWhatThereIs(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 17 })
	p := b.dial(t, 5).Connect("w-1").Properties
	if p.ReceiveMaximum != 17 {
		t.Errorf("receive maximum %d, want 17", p.ReceiveMaximum)
	}
	if p.MaximumPacketSize != 16<<10 {
		t.Errorf("maximum packet size %d, want 16 KiB", p.MaximumPacketSize)
	}
	if p.TopicAliasMaximum != 0 {
		t.Errorf("topic alias maximum %d, want none", p.TopicAliasMaximum)
	}
	for name, flag := range map[string]struct {
		given bool
		value byte
	}{
		"retain":               {p.RetainAvailableFlag, p.RetainAvailable},
		"wildcards":            {p.WildcardSubAvailableFlag, p.WildcardSubAvailable},
		"shared subscriptions": {p.SharedSubAvailableFlag, p.SharedSubAvailable},
		"subscription ids":     {p.SubIDAvailableFlag, p.SubIDAvailable},
	} {
		if !flag.given || flag.value != 0 {
			t.Errorf("%s: given %v, value %d; want an explicit 0", name, flag.given, flag.value)
		}
	}
	if p.MaximumQosFlag {
		t.Errorf("maximum QoS %d, want none, which is 2", p.MaximumQos)
	}
}

// Mochi's deadline for a longer keep alive would overflow to seconds. One of 0
// is none at all.
func TestKeepAliveIsClamped(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	for keepalive, want := range map[uint16]uint16{0: 1200, 1: 0, 60: 0, 43690: 0, 43691: 43690, 65535: 43690} {
		p := b.dial(t, 5).Connect("w-1", func(pk *packets.Packet) { pk.Connect.Keepalive = keepalive }).Properties
		if p.ServerKeepAlive != want || p.ServerKeepAliveFlag != (want > 0) {
			t.Errorf("keep alive %d: server keep alive %d (given: %v), want %d", keepalive, p.ServerKeepAlive, p.ServerKeepAliveFlag, want)
		}
	}
	c := b.connect(t, 4, "w-1", func(pk *packets.Packet) { pk.Connect.Keepalive = 65535 })
	c.Ping()
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	for admission, want := range map[ingress.Admission][2]byte{
		ingress.BadCredentials: {4, 0x86},
		ingress.NotAuthorized:  {5, 0x87},
		ingress.Unavailable:    {3, 0x88},
	} {
		b := open(t, nil)
		b.admission = admission
		for i, version := range []byte{4, 5} {
			c := b.dial(t, version)
			if ack := c.Connect("w-1", mqttest.Login("a name", "a password")); ack.ReasonCode != want[i] || ack.SessionPresent {
				t.Errorf("version %d: CONNACK %x, want %#x", version, ack.Raw, want[i])
			}
			c.ExpectEnd()
			met := b.admitted()[i]
			if met.ClientID != "w-1" || met.Username != "a name" || met.Password != "a password" || met.Protocol != version || met.Remote == "" {
				t.Errorf("the door met %+v", met)
			}
		}
	}
}

func TestWillsAreRefused(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		for name, change := range map[string]mqttest.Option{
			"plain":    func(*packets.Packet) {},
			"QoS 2":    func(pk *packets.Packet) { pk.Connect.WillQos = 2 },
			"retained": func(pk *packets.Packet) { pk.Connect.WillRetain, pk.Connect.WillQos = true, 1 },
			"delayed":  func(pk *packets.Packet) { pk.Connect.WillProperties.WillDelayInterval = 1 },
			"empty":    func(pk *packets.Packet) { pk.Connect.WillPayload = nil },
		} {
			t.Run(name, func(t *testing.T) {
				c := b.dial(t, version)
				ack := c.Connect("w-1", mqttest.Will("wearables/w-1/vitals", []byte("will")), change)
				if want := map[byte]byte{4: 5, 5: 0x87}[version]; ack.ReasonCode != want {
					t.Errorf("CONNACK %x, want %#x", ack.Raw, want)
				}
				if version == 5 && !strings.Contains(ack.Properties.ReasonString, "will") {
					t.Errorf("reason %q", ack.Properties.ReasonString)
				}
				c.ExpectEnd()
				call := b.next(t)
				if call.Form != ingress.Will || call.Topic != "wearables/w-1/vitals" || name != "empty" && string(call.Payload) != "will" {
					t.Errorf("the handler saw %+v", call.Message)
				}
				call.done(rejected)
				b.quiet(t)
			})
		}
	})
}

func TestTheWillOfAStrangerIsNobodys(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	b.admission = ingress.BadCredentials
	c := b.dial(t, 5)
	if ack := c.Connect("w-1", mqttest.Will("t", []byte("will"))); ack.ReasonCode != 0x86 {
		t.Errorf("CONNACK %x", ack.Raw)
	}
	c.ExpectEnd()
	b.quiet(t)
}

func TestRetainedIsMarked(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		pk := publish(1, 1)
		pk.FixedHeader.Retain = true
		c.Send(pk)
		call := b.next(t)
		if call.Form != ingress.Retained || string(call.Payload) != "payload" {
			t.Errorf("the handler saw %+v", call.Message)
		}
		call.done(rejected)
		if ack := c.Expect(packets.Puback); version == 5 && ack.ReasonCode != 0x87 {
			t.Errorf("PUBACK %x", ack.Raw)
		}
	})
}

func TestNobodySubscribes(t *testing.T) {
	t.Parallel()
	filters := []string{"wearables/w-1/vitals", "wearables/w-2/vitals", "#", "+/+/+", "$SYS/#", "$share/group/wearables/+/vitals"}
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		b.settle = func(c call) { c.done(accepted) }
		listener, sender := b.connect(t, version, "w-1"), b.connect(t, version, "w-2")
		listener.Send(mqttest.Subscribe(1, filters...))
		ack := listener.Expect(packets.Suback)
		want := map[byte]byte{4: 0x80, 5: 0x87}[version]
		if len(ack.ReasonCodes) != len(filters) {
			t.Fatalf("SUBACK %x", ack.Raw)
		}
		for i, code := range ack.ReasonCodes {
			if code != want {
				t.Errorf("%s: %#x, want %#x", filters[i], code, want)
			}
		}
		for id, pk := range []packets.Packet{publish(1, 1), publish(2, 1)} {
			pk.FixedHeader.Retain = id == 1
			sender.Send(pk)
			sender.Expect(packets.Puback)
			listener.Send(publish(1, 1))
			listener.ExpectBytes(0x40, 2, 0, 1) // and no PUBLISH, its own neither
		}
		listener.Ping()
		late := b.connect(t, version, "w-3")
		late.Send(mqttest.Subscribe(1, "#"))
		late.Expect(packets.Suback)
		late.Ping()
	})
}
