package siege

import (
	"context"
	"fmt"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

func sessionAttacks() []Attack {
	return []Attack{
		{
			Name: "session-takeover", Description: "the victim's client id with the attacker's own password, while the victim is connected",
			Expected: "CONNACK refuses, and the victim stays connected", run: takeover,
		},
		subscribing("subscribe-others", "subscriptions to others' readings, as they come in and as they go out",
			func(t *trial) []string {
				return []string{t.Credentials[0].Topic, t.Credentials[1].Topic, "vitals/live/" + t.Credentials[0].PatientID + "/" + t.Credentials[0].DeviceID}
			}),
		subscribing("subscribe-wildcard", "subscriptions to everything, and to every device",
			func(*trial) []string { return []string{"#", "+/#", "+/+/+", "wearables/+/vitals", "wearables/#", "+"} }),
		subscribing("subscribe-sys", "subscriptions to what brokers tell of themselves",
			func(*trial) []string { return []string{"$SYS/#", "$SYS/broker/clients/connected", "$SYS/+/+", "$JS/#"} }),
		subscribing("subscribe-share", "shared subscriptions, which take readings from others",
			func(*trial) []string {
				return []string{"$share/thief/#", "$share/thief/wearables/+/vitals", "$SHARE/thief/#", "$share//#", "$share/thief"}
			}),
		{
			Name: "will-abuse", Description: "wills on the victim's topic, retained, at each QoS, on $SYS, and empty",
			Expected: "CONNACK refuses, or the connection ends", run: willAbuse,
		},
		{
			Name: "retained-abuse", Description: "retained readings, authentic ones and forged, and the deletion of retained ones",
			Expected: "PUBACK refuses, or the connection ends", run: retainedAbuse,
		},
		{
			Name: "inflight-qos2", Description: "more than twice the receive maximum of QoS 2 readings, none of them released",
			Expected: "the connection's end before twice the receive maximum has been taken", run: inflightQoS2,
		},
		{
			Name: "keepalive-extremes", Description: "a keep alive of none and of the greatest that there is",
			Expected: "CONNACK with a Server Keep Alive from 1 to 43690 s", run: keepaliveExtremes,
		},
	}
}

// takeover tries it with both passwords of the attacker's that there are: as
// himself under another's client id, and as the other.
func takeover(ctx context.Context, t *trial) {
	thief := t.Credentials[len(t.Credentials)-1]
	for _, version := range versions {
		t.asVictim(ctx, version, func(victim *wire.Client, who registry.Credentials) {
			for _, user := range []string{thief.Username, who.Username} {
				t.stranger(ctx, version, func(c *wire.Client) {
					l := login(thief, version)
					l.ID, l.User = who.DeviceID, user
					t.judge("the thief's CONNECT", request(c, l.Bytes()), anyOf(refusal(wire.Connack), ended))
				})
			}
			t.judge("the victim's PINGREQ", request(victim, wire.Ping()), ignored)
		})
	}
}

// subscribing is an attack of subscriptions to some filters.
func subscribing(name, description string, filters func(*trial) []string) Attack {
	return Attack{
		Name: name, Description: description, Expected: "SUBACK refuses, or the connection ends; and nothing is sent there",
		run: func(ctx context.Context, t *trial) {
			for _, version := range versions {
				for _, filter := range filters(t) {
					t.subscribe(ctx, version, filter)
				}
			}
		},
	}
}

// subscribe tries one filter. A gate that says no and sends readings all the same
// is found out by waiting for the honest device's next one.
func (t *trial) subscribe(ctx context.Context, version byte, filter string) {
	t.insider(ctx, version, func(c *wire.Client, _ registry.Credentials) {
		r := request(c, wire.Subscription(version, 1, filter))
		what := fmt.Sprintf("SUBSCRIBE %s", filter)
		if !t.judge(what, r, anyOf(refusal(wire.Suback), ended)) || r.closed {
			return
		}
		t.honest.await(ctx)
		t.judge(what+", and then", request(c, wire.Ping()), ignored)
	})
}

func willAbuse(ctx context.Context, t *trial) {
	victim := t.Credentials[1]
	for _, version := range versions {
		for _, w := range []wire.Will{
			{Topic: victim.Topic, Payload: t.forged(victim)},
			{Topic: victim.Topic, Payload: t.forged(victim), QoS: 1},
			{Topic: victim.Topic, Payload: t.forged(victim), QoS: 2, Retain: true},
			{Topic: victim.Topic, Payload: t.forged(victim), QoS: 3},
			{Topic: "$SYS/broker/version", Payload: []byte("none")},
			{Topic: victim.Topic},
			{Topic: "#", Payload: []byte("{}")},
		} {
			t.willOf(ctx, version, w, anyOf(refusal(wire.Connack), ended))
		}
	}
}

// willOf connects with a will.
func (t *trial) willOf(ctx context.Context, version byte, w wire.Will, want expectation) {
	thief := t.Credentials[len(t.Credentials)-1]
	t.stranger(ctx, version, func(c *wire.Client) {
		l := login(thief, version)
		l.Will = &w
		t.judge(fmt.Sprintf("a will on %s at QoS %d", w.Topic, w.QoS), request(c, l.Bytes()), want)
	})
}

func retainedAbuse(ctx context.Context, t *trial) {
	t.insider(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		victim := t.Credentials[1]
		for i, m := range []wire.Message{
			{Topic: victim.Topic, Payload: t.forged(victim)},
			{Topic: victim.Topic},
			{Topic: who.Topic, Payload: t.books.sign(who, "")},
			{Topic: who.Topic},
			{Topic: "$SYS/broker/version", Payload: []byte("none")},
		} {
			m.Version, m.ID, m.QoS, m.Retain = wire.MQTT5, uint16(i+1), 1, true
			t.judge("a retained PUBLISH", request(c, m.Bytes()), anyOf(refusal(wire.Puback), ended))
		}
	})
}

// mostInflight bounds how many readings are sent to a gate that names no, or a
// great, receive maximum.
const mostInflight = 1024

// receiveMaximum and serverKeepAlive are properties of CONNACK (MQTT 5, 3.2.2.3).
const (
	receiveMaximum  = 0x21
	serverKeepAlive = 0x13
)

func inflightQoS2(ctx context.Context, t *trial) {
	t.insiderWith(ctx, wire.MQTT5, login, func(c *wire.Client, who registry.Credentials, connack wire.Answer) {
		maximum, ok := connack.Number(receiveMaximum)
		if !ok || maximum > mostInflight {
			t.otherwise("CONNACK names no receive maximum up to %d", mostInflight)
			return
		}
		// Those that are being decided may not count yet.
		most := 2 * int(maximum)
		go t.publishQoS2(c, who, most+8)
		received := 0
		for ctx.Err() == nil {
			r := next(c)
			if r.Type == wire.Pubrec {
				received++
				continue
			}
			t.judge("beyond the receive maximum", r, ended)
			break
		}
		t.check(received <= most, "%d PUBREC, but the receive maximum is %d", received, maximum)
	})
}

func (t *trial) publishQoS2(c *wire.Client, who registry.Credentials, n int) {
	for id := range n {
		m := wire.Message{Version: wire.MQTT5, Topic: who.Topic, ID: uint16(id + 1), QoS: 2, Payload: t.books.sign(who, "")}
		if c.Send(m.Bytes()) != nil {
			return
		}
	}
}

// keepaliveExtremes is of MQTT 5 alone: MQTT 3.1.1 cannot tell a client another
// keep alive [MQTT-3.2.2-21].
func keepaliveExtremes(ctx context.Context, t *trial) {
	for _, seconds := range []uint16{0, 65535} {
		connect := func(c registry.Credentials, version byte) wire.Login {
			l := login(c, version)
			l.Keepalive = seconds
			return l
		}
		t.insiderWith(ctx, wire.MQTT5, connect, func(_ *wire.Client, _ registry.Credentials, connack wire.Answer) {
			given, ok := connack.Number(serverKeepAlive)
			t.check(ok && given >= 1 && given <= 43690, "a keep alive of %d s is answered with %d s (there: %t)", seconds, given, ok)
		})
	}
}
