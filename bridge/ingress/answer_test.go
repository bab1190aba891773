package ingress_test

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// codes are the design's, for every outcome of the closed set.
func codes() map[verify.Outcome]byte {
	return map[verify.Outcome]byte{
		verify.Accepted: 0x00, verify.Late: 0x00, verify.Duplicate: 0x00,
		verify.Malformed: 0x99, verify.InvalidReading: 0x99,
		verify.UnknownDevice: 0x87, verify.RevokedDevice: 0x87, verify.BadSignature: 0x87,
		verify.WrongDevice: 0x87, verify.WrongPatient: 0x87, verify.Will: 0x87, verify.Retained: 0x87,
		verify.Stale: 0x83, verify.Future: 0x83,
		verify.RateLimited: 0x97,
	}
}

func TestEveryOutcomeHasItsAnswer(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	v3, v5 := b.connect(t, 4, "w-3"), b.connect(t, 5, "w-5")
	for _, outcome := range verify.Outcomes() {
		code, ok := codes()[outcome]
		if !ok {
			t.Fatalf("%v: the test does not know its code", outcome)
		}
		for _, answer := range []struct {
			client *mqttest.Client
			qos    byte
			want   []byte
		}{
			{v3, 1, []byte{0x40, 2, 0x12, 0x34}},
			{v5, 1, acknowledgement(0x40, code)},
			{v5, 2, acknowledgement(0x50, code)},
		} {
			answer.client.Send(publish(0x1234, answer.qos))
			b.next(t).done(ingress.Disposition{Outcome: outcome})
			answer.client.ExpectBytes(answer.want...)
			if answer.qos == 2 && code < 0x80 {
				answer.client.Send(mqttest.Pubrel(0x1234))
				answer.client.ExpectBytes(0x70, 2, 0x12, 0x34)
			}
		}
	}
}

func acknowledgement(first, code byte) []byte {
	if code == 0 {
		return []byte{first, 2, 0x12, 0x34}
	}
	return []byte{first, 3, 0x12, 0x34, code}
}

func TestATopicHasACodeOfItsOwn(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	c := b.connect(t, 5, "w-1")
	c.Send(publish(0x1234, 1))
	b.next(t).done(ingress.Disposition{Outcome: verify.Malformed, AboutTopic: true})
	c.ExpectBytes(0x40, 3, 0x12, 0x34, 0x90)
}

func TestQoS0IsNotAnswered(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		for _, d := range []ingress.Disposition{accepted, rejected} {
			c.Send(publish(0, 0), publish(9, 1))
			calls := b.take(t, 2)
			calls[0].done(d)
			calls[1].done(accepted)
			c.ExpectBytes(0x40, 2, 0, 9)
		}
	})
}

func TestQoS2(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version byte) {
		b := open(t, nil)
		c := b.connect(t, version, "w-1")
		c.Send(publish(7, 2))
		first := b.next(t)
		c.Ping() // no PUBREC before the message is settled
		first.done(accepted)
		c.ExpectBytes(0x50, 2, 0, 7)

		c.Send(publish(7, 2)) // the same once more, before PUBREL
		b.next(t).done(ingress.Disposition{Outcome: verify.Duplicate})
		c.ExpectBytes(0x50, 2, 0, 7)

		c.Send(mqttest.Pubrel(7))
		c.ExpectBytes(0x70, 2, 0, 7)

		c.Send(publish(7, 2)) // refused: no PUBREL follows, the identifier is free
		b.next(t).done(rejected)
		if pk := c.Expect(packets.Pubrec); version == 5 && pk.ReasonCode != 0x87 || version == 4 && len(pk.Raw) != 4 {
			t.Errorf("PUBREC %x", pk.Raw)
		}
		if version == 4 {
			c.Send(mqttest.Pubrel(7)) // which 3.1.1 cannot tell
			c.ExpectBytes(0x70, 2, 0, 7)
		}
		c.Send(publish(7, 1))
		b.next(t).done(accepted)
		c.ExpectBytes(0x40, 2, 0, 7)
	})
}

func TestPubrelOfAnUnknownIdentifier(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	c := b.connect(t, 5, "w-1")
	c.Send(mqttest.Pubrel(7))
	if pk := c.Expect(packets.Pubcomp); pk.ReasonCode != 0x92 {
		t.Errorf("PUBCOMP %x, want 0x92", pk.Raw)
	}
}

func TestTooManyUnreleased(t *testing.T) {
	t.Parallel()
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 3 })
	b.settle = func(c call) { c.done(accepted) }
	c := b.connect(t, 5, "w-1")
	for id := uint16(1); id <= 3; id++ {
		c.Send(publish(id, 2))
		c.Expect(packets.Pubrec)
	}
	c.Send(mqttest.Pubrel(2)) // makes room for one
	c.Expect(packets.Pubcomp)
	c.Send(publish(4, 2))
	c.Expect(packets.Pubrec)
	c.Send(publish(5, 2))
	if bye := c.Expect(packets.Disconnect); bye.ReasonCode != 0x93 {
		t.Errorf("DISCONNECT %#x, want 0x93", bye.ReasonCode)
	}
	c.ExpectEnd()
}

// MQTT 3.1.1 knows no receive maximum: its clients send as many as they like
// before they look at the first PUBREC.
func TestQoS2WithoutReceiveMaximum(t *testing.T) {
	t.Parallel()
	const messages = 200
	b := open(t, func(o *ingress.Options) { o.ReceiveMaximum = 4 })
	b.settle = func(c call) { c.done(accepted) }
	c := b.connect(t, 4, "w-1")
	for id := uint16(1); id <= messages; id++ {
		c.Send(publish(id, 2))
	}
	for id := uint16(1); id <= messages; id++ {
		c.ExpectBytes(0x50, 2, byte(id>>8), byte(id))
	}
	var releases []packets.Packet
	for id := uint16(1); id <= messages; id++ {
		releases = append(releases, mqttest.Pubrel(id))
	}
	c.Send(releases...)
	for id := uint16(1); id <= messages; id++ {
		c.ExpectBytes(0x70, 2, byte(id>>8), byte(id))
	}
}

// A client that gives a receive maximum makes Mochi look for messages to send
// with every packet, while acknowledgements are written.
func TestQoS2OfAClientWithReceiveMaximum(t *testing.T) {
	t.Parallel()
	const messages = 3000
	b := open(t, nil)
	b.settle = func(c call) { go c.done(accepted) }
	c := b.connect(t, 5, "w-1", func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 20 })
	go func() {
		for id := uint16(1); id <= 20; id++ {
			if c.TrySend(publish(id, 2)) != nil {
				return
			}
		}
	}()
	for done, next := 0, uint16(21); done < messages; {
		pk, err := c.Next()
		if err != nil {
			t.Fatalf("after %d messages: %v", done, err)
		}
		switch pk.FixedHeader.Type {
		case packets.Pubrec:
			c.Send(mqttest.Pubrel(pk.PacketID))
		case packets.Pubcomp:
			if pk.ReasonCode != 0 {
				t.Fatalf("PUBCOMP %x", pk.Raw)
			}
			done++
			c.Send(publish(next, 2))
			next++
		}
	}
}

func TestReasonString(t *testing.T) {
	t.Parallel()
	const reason = "measured 61 s ago"
	bounded := func(size uint32) mqttest.Option {
		return func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = size }
	}
	// 4 of the smallest PUBACK, code, length of properties, identifier and
	// length of the string, and itself.
	const whole = 4 + 1 + 1 + 3 + len(reason)
	for name, run := range map[string]struct {
		option mqttest.Option
		want   string
	}{
		"as it is":      {func(*packets.Packet) {}, reason},
		"it fits":       {bounded(uint32(whole)), reason},
		"one too large": {bounded(uint32(whole - 1)), ""},
		"far too large": {bounded(24), ""},
		"not wanted": {func(pk *packets.Packet) {
			pk.Properties.RequestProblemInfo, pk.Properties.RequestProblemInfoFlag = 0, true
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, nil)
			c := b.connect(t, 5, "w-1", run.option)
			for _, qos := range []byte{1, 2} {
				c.Send(publish(3, qos))
				b.next(t).done(ingress.Disposition{Outcome: verify.Stale, Reason: reason})
				pk, err := c.Next()
				if err != nil || pk.ReasonCode != 0x83 || pk.Properties.ReasonString != run.want {
					t.Errorf("QoS %d: %x, %v; want reason %q", qos, pk.Raw, err, run.want)
				}
			}
			c.Send(publish(3, 1))
			b.next(t).done(rejected)
			c.ExpectBytes(0x40, 3, 0, 3, 0x87)
		})
	}
}

func TestNothingOfThePublishComesBack(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	c := b.connect(t, 5, "w-1")
	pk := publish(3, 1)
	pk.Properties.User = []packets.UserProperty{{Key: "patient", Val: strings.Repeat("p", 100)}}
	for _, d := range []ingress.Disposition{accepted, rejected} {
		c.Send(pk)
		b.next(t).done(d)
		if ack := c.Expect(packets.Puback); len(ack.Raw) > 5 {
			t.Errorf("PUBACK %x", ack.Raw)
		}
	}
}
