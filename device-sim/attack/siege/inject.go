package siege

import (
	"bytes"
	"context"
	"slices"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// mark is what is injected: it must be in no header and no subject on NATS.
const mark = "Siege-Injected"

// crlf would end a header and begin another.
const crlf = "\r\n" + mark + ": 1\r\n\r\n"

func injectionAttacks() []Attack {
	return []Attack{
		{
			Name: "header-injection", Description: "CR LF and a header in topic, client id, user name, members of the payload and properties",
			Expected: "refused, or stored without a trace of it in the headers on NATS", run: headerInjection,
		},
		{
			Name: "nats-injection", Description: "on NATS, as a reader: publish readings, have answers delivered as readings, make consumers, purge, change the registry",
			Expected: "a permissions violation for each, and nothing is seen or stored", NeedsNATS: true, run: natsInjection,
		},
	}
}

func headerInjection(ctx context.Context, t *trial) {
	for _, version := range versions {
		t.injectNames(ctx, version)
	}
	t.injectMembers(ctx)
	t.injectProperties(ctx)
}

func (t *trial) injectNames(ctx context.Context, version byte) {
	thief := t.Credentials[len(t.Credentials)-1]
	for _, change := range []func(*wire.Login){
		func(l *wire.Login) { l.ID += crlf },
		func(l *wire.Login) { l.User += crlf },
		func(l *wire.Login) { l.ID, l.User = crlf, crlf },
	} {
		t.stranger(ctx, version, func(c *wire.Client) {
			l := login(thief, version)
			change(&l)
			t.judge("CR LF in a name", request(c, l.Bytes()), anyOf(refusal(wire.Connack), ended))
		})
	}
}

// injectMembers signs what it injects, as one who has a stolen device may. A note
// is stored as it is: it is in the payload, and nowhere else.
func (t *trial) injectMembers(ctx context.Context) {
	escaped := `\r\n` + mark + `: 1\r\n\r\n`
	refused := anyOf(refusal(wire.Puback), ended)
	t.insider(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		for i, one := range []struct {
			what, topic string
			payload     []byte
			want        expectation
		}{
			{"CR LF in the topic", who.Topic + crlf, t.books.sign(who, ""), refused},
			{"CR LF in the topic's device", "wearables/" + who.DeviceID + crlf + "/vitals", t.books.sign(who, ""), refused},
			{"CR LF as the device", who.Topic, t.books.wrong(who, "device_id", escaped), refused},
			{"CR LF as the patient", who.Topic, t.books.wrong(who, "patient_id", escaped), refused},
			{"CR LF as it is", who.Topic, t.books.wrong(who, "patient_id", crlf), refused},
			{"CR LF in a note", who.Topic, t.books.sign(who, `"`+escaped+`"`), code(wire.Puback, 0)},
		} {
			m := wire.Message{Version: wire.MQTT5, Topic: one.topic, ID: uint16(i + 1), QoS: 1, Payload: one.payload}
			r := request(c, m.Bytes())
			t.judge(one.what, r, one.want)
			if r.closed {
				return
			}
		}
	})
}

// injectProperties decorates authentic readings with what an MQTT 5 broker would
// hand on.
func (t *trial) injectProperties(ctx context.Context) {
	for _, properties := range [][]byte{
		wire.UserProperty(mark, "1"),
		wire.UserProperty("x", crlf),
		append([]byte{0x08}, wire.Text(mark+"/answer")...), // response topic
		append([]byte{0x09}, wire.Text(mark)...),           // correlation data
		append([]byte{0x03}, wire.Text(mark)...),           // content type
	} {
		t.decorated(ctx, properties)
	}
}

// decorated publishes an authentic reading with properties, of which nothing may
// come back.
func (t *trial) decorated(ctx context.Context, properties []byte) {
	t.insider(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		m := wire.Message{Version: wire.MQTT5, Topic: who.Topic, ID: 1, QoS: 1, Payload: t.books.sign(who, ""), Properties: properties}
		t.unrepeated("a decorated reading", request(c, m.Bytes()), anyOf(code(wire.Puback, 0), refusal(wire.Puback), ended))
	})
}

// unrepeated wants an answer that holds nothing of what was sent.
func (t *trial) unrepeated(what string, r reply, want expectation) {
	if t.judge(what, r, want) {
		t.check(!bytes.Contains(r.Body, []byte(mark)), "%s: the answer repeats a property", what)
	}
}

// propertyBomb sends bombs of just below the largest packet, and one beyond it.
func propertyBomb(ctx context.Context, t *trial) {
	const largest = 16 << 10
	small := wire.UserProperty(mark, "")
	fitting := bytes.Repeat(small, (largest-1024)/len(small))
	beyond := bytes.Repeat(small, largest/len(small)+1)
	t.decorated(ctx, fitting)
	t.decorated(ctx, wire.UserProperty(mark, string(bytes.Repeat([]byte("x"), largest-1024))))
	thief := t.Credentials[len(t.Credentials)-1]
	t.stranger(ctx, wire.MQTT5, func(c *wire.Client) {
		l := login(thief, wire.MQTT5)
		l.Properties = fitting
		t.unrepeated("CONNECT", request(c, l.Bytes()), anyOf(code(wire.Connack, 0), refusal(wire.Connack), ended))
	})
	t.insider(ctx, wire.MQTT5, func(c *wire.Client, _ registry.Credentials) {
		body := slices.Concat([]byte{0, 1}, lengthOf(fitting), fitting, wire.Text("a/b"), []byte{1})
		t.unrepeated("SUBSCRIBE", request(c, wire.Packet(wire.FirstSubscribe, body)), anyOf(refusal(wire.Suback), ended))
	})
	t.insider(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		m := wire.Message{Version: wire.MQTT5, Topic: who.Topic, ID: 1, QoS: 1, Payload: t.forged(who), Properties: beyond}
		t.judge("more than fit", request(c, m.Bytes(), wire.Ping()), ended)
	})
}

// lengthOf is the length of properties, as MQTT writes it.
func lengthOf(b []byte) []byte { return wire.Packet(0, b)[1 : len(wire.Packet(0, b))-len(b)] }
