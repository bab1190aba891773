package siege

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// All returns every attack, those first that a gate locks nobody out for: single
// messages, single packets, sessions, and then what comes in floods.
func All() []Attack {
	all := messageAttacks()
	all = append(all, packetAttacks()...)
	all = append(all, sessionAttacks()...)
	all = append(all, injectionAttacks()...)
	return append(all, floodAttacks()...)
}

// Select returns the attacks of a comma-separated list of names, each once, in
// the order of All; "all" stands for every one.
func Select(list string) ([]Attack, error) {
	all := All()
	if strings.TrimSpace(list) == "all" {
		return all, nil
	}
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(all, func(a Attack) bool { return a.Name == name }) {
			var names []string
			for _, a := range all {
				names = append(names, a.Name)
			}
			return nil, fmt.Errorf("attacks: there is none named %q; known are all, or some of %s", name, strings.Join(names, ", "))
		}
		wanted[name] = true
	}
	return slices.DeleteFunc(all, func(a Attack) bool { return !wanted[a.Name] }), nil
}

// OverMQTT leaves out the attacks on NATS.
func OverMQTT(attacks []Attack) []Attack {
	return slices.DeleteFunc(slices.Clone(attacks), func(a Attack) bool { return a.NeedsNATS })
}

// eachMessage is how often an attack of one message is tried. It does not grow
// with the strength: these ask how a gate decides, not what it endures.
const eachMessage = 3

// codes are the outcomes' reason codes in PUBACK.
var codes = map[string]byte{
	verify.Malformed.String():      0x99,
	verify.InvalidReading.String(): 0x99,
	verify.UnknownDevice.String():  0x87,
	verify.BadSignature.String():   0x87,
	verify.WrongDevice.String():    0x87,
	verify.WrongPatient.String():   0x87,
	verify.Retained.String():       0x87,
	verify.Stale.String():          0x83,
	verify.Future.String():         0x83,
}

// rateLimited is the reason code of PUBACK for what is over a limit; a gate may
// always answer with it, whatever it would have found.
const rateLimited = 0x97

// messageAttacks are those of package attack over MQTT 5, which tells the outcome
// by a reason code.
func messageAttacks() []Attack {
	var all []Attack
	for _, a := range attack.All() {
		one := Attack{Name: a.Name, Description: a.Description}
		switch a.Name {
		case attack.Replay:
			one.Expected, one.run = "PUBACK 0x00 for both; stored once", replay
		case attack.Will:
			one.Expected, one.run = "CONNACK 0x87", will
		default:
			want := codes[a.Expected[0]]
			one.Expected = fmt.Sprintf("PUBACK %#02x, or 0x97 where that is over a limit", want)
			one.run = func(ctx context.Context, t *trial) { t.crafted(ctx, a, code(wire.Puback, want, rateLimited)) }
		}
		all = append(all, one)
	}
	return all
}

// crafted publishes what the attack makes, from the device that it is made by.
func (t *trial) crafted(ctx context.Context, a attack.Attack, want expectation) {
	t.stranger(ctx, wire.MQTT5, func(c *wire.Client) {
		own := t.Credentials[len(t.Credentials)-1]
		if r := request(c, login(own, wire.MQTT5).Bytes()); r.Type != wire.Connack || r.Code() != 0 {
			t.untried()
			return
		}
		for id := range uint16(eachMessage) {
			m, err := t.crafter.Craft(a)
			for err != nil && ctx.Err() == nil {
				// What is to be tampered with is the honest device's.
				t.honest.await(ctx)
				m, err = t.crafter.Craft(a)
			}
			if err != nil {
				return
			}
			t.judge(a.Name, request(c, wire.Message{
				Version: wire.MQTT5, Topic: m.Topic, ID: id + 1, QoS: 1, Retain: m.Retained, Payload: m.Payload,
			}.Bytes()), want)
		}
	})
}

// replay publishes a reading of the victim's own twice, each in a connection. That
// it is stored once is seen when everything is settled.
func replay(ctx context.Context, t *trial) {
	var payload []byte
	t.asVictim(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		payload = t.honestly(c, who, "the reading")
	})
	if payload == nil {
		return
	}
	t.asVictim(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		for id := range uint16(eachMessage) {
			m := wire.Message{Version: wire.MQTT5, Topic: who.Topic, ID: id + 1, QoS: 1, Payload: payload}
			t.judge("the same reading again", request(c, m.Bytes()), code(wire.Puback, 0))
		}
	})
}

// will leaves a reading that anybody would believe.
func will(ctx context.Context, t *trial) {
	t.willOf(ctx, wire.MQTT5, wire.Will{Topic: t.Credentials[1].Topic, Payload: t.forged(t.Credentials[1])}, code(wire.Connack, 0x87))
}
