package siege

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

// stream is what a client may send after CONNECT. Its payloads are no readings,
// so that no change of them is a forgery that somebody is locked out for.
func stream(version byte, who registry.Credentials) [][]byte {
	publish := wire.Message{Version: version, Topic: who.Topic, ID: 1, QoS: 1, Payload: []byte("no reading")}
	exact := publish
	exact.ID, exact.QoS = 2, 2
	decorated := publish
	decorated.ID, decorated.Properties = 3, slices.Concat(wire.UserProperty("name", "value"), []byte{0x01, 1, 0x02, 0, 0, 0, 9})
	return [][]byte{
		publish.Bytes(), exact.Bytes(), wire.Acknowledgement(wire.FirstPubrel, 2), decorated.Bytes(),
		wire.Subscription(version, 4, "a/b", "c/#"), wire.Ping(), wire.Acknowledgement(wire.FirstPuback, 5),
		unsubscribe(version), wire.Packet(wire.FirstDisconnect, nil),
	}
}

func unsubscribe(version byte) []byte {
	body := []byte{0, 6}
	if version >= wire.MQTT5 {
		body = append(body, 0)
	}
	return wire.Packet(wire.FirstUnsubscribe, append(body, wire.Text("a/b")...))
}

// truncated cuts each packet of a stream, and the CONNECT before it, at every
// place in turn.
func truncated(ctx context.Context, t *trial) {
	for _, version := range versions {
		connect := login(t.Credentials[len(t.Credentials)-1], version).Bytes()
		for _, cut := range t.cuts(len(connect)) {
			t.stranger(ctx, version, func(c *wire.Client) { t.cutOff(c, connect[:cut]) })
		}
		for i, whole := range stream(version, t.Credentials[2]) {
			if i == 3 && version < wire.MQTT5 {
				continue // the same as the first
			}
			for _, cut := range t.cuts(len(whole)) {
				t.insider(ctx, version, func(c *wire.Client, _ registry.Credentials) { t.cutOff(c, whole[:cut]) })
			}
		}
	}
}

// cuts are some of the places before the end of a packet of n bytes.
func (t *trial) cuts(n int) []int {
	places := t.random.Perm(n - 1)
	places = places[:min(len(places), t.times(5))]
	for i := range places {
		places[i]++
	}
	return places
}

func (t *trial) cutOff(c *wire.Client, part []byte) {
	_ = c.Send(part)
	t.finished(c, "a packet that is cut off")
}

// finished says that nothing more comes, upon which the gate must hang up,
// whatever it says first.
func (t *trial) finished(c *wire.Client, what string) {
	_ = c.Finish()
	r := next(c)
	for i := 0; i < len(stream(wire.MQTT5, registry.Credentials{}))*4 && !r.closed && r.Type != 0; i++ {
		r = next(c)
	}
	t.check(r.closed, "%s: the connection stays open", what)
}

// streamsEach is how many streams are mutated at strength 1.
const streamsEach = 150

// mutation changes all of a stream in one of four, and in the others all but
// CONNECT, since most changes of that are refused before anything else is read.
func mutation(ctx context.Context, t *trial) {
	for i := 0; i < t.times(streamsEach) && ctx.Err() == nil; i++ {
		version := versions[i/4%2]
		if i%4 == 0 {
			who := t.Credentials[len(t.Credentials)-1]
			packets := append([][]byte{login(who, version).Bytes()}, stream(version, who)...)
			t.stranger(ctx, version, func(c *wire.Client) { t.mutated(c, packets) })
			continue
		}
		t.insider(ctx, version, func(c *wire.Client, who registry.Credentials) { t.mutated(c, stream(version, who)) })
	}
}

func (t *trial) mutated(c *wire.Client, packets [][]byte) {
	_ = c.Send(mutate(t.random, packets))
	t.finished(c, "a mutated stream")
}

// mutate makes one to four changes. It changes none of the packets given.
func mutate(random *rand.Rand, packets [][]byte) []byte {
	packets = slices.Clone(packets)
	if random.IntN(3) == 0 {
		i, j := random.IntN(len(packets)), random.IntN(len(packets))
		packets[i], packets[j] = packets[j], packets[i]
	}
	b := bytes.Join(packets, nil)
	for range 1 + random.IntN(4) {
		b = changes[random.IntN(len(changes))](random, b)
	}
	return b
}

// changes are applied to streams of any length but 0, and leave at least a byte.
var changes = []func(*rand.Rand, []byte) []byte{
	func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b },
	func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] = byte(r.Uint32()); return b },
	func(r *rand.Rand, b []byte) []byte {
		b[r.IntN(len(b))] = []byte{0, 0x7F, 0x80, 0xFF}[r.IntN(4)]
		return b
	},
	func(r *rand.Rand, b []byte) []byte { return slices.Insert(b, r.IntN(len(b)), byte(r.Uint32())) },
	func(r *rand.Rand, b []byte) []byte { return b[:1+r.IntN(len(b))] },
	func(r *rand.Rand, b []byte) []byte {
		from := r.IntN(len(b))
		to := min(len(b), from+1+r.IntN(8))
		if to-from == len(b) {
			return b
		}
		return slices.Delete(b, from, to)
	},
	func(r *rand.Rand, b []byte) []byte {
		from := r.IntN(len(b))
		to := min(len(b), from+1+r.IntN(32))
		return slices.Insert(b, r.IntN(len(b)), slices.Clone(b[from:to])...)
	},
}
