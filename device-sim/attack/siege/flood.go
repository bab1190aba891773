package siege

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/attack/wire"
)

func floodAttacks() []Attack {
	return []Attack{
		{
			Name: "half-open", Description: "connections that never send anything",
			Expected: "the connection's end", slow: true, run: halfOpen,
		},
		{
			Name: "slow-writer", Description: "a CONNECT, and a reading after a CONNECT, of one byte a second",
			Expected: "the connection's end", slow: true, run: slowWriter,
		},
		{
			Name: "connect-flood", Description: "connections in bursts: of strangers, without a password, and cut at once",
			Expected: "CONNACK refuses, or the connection's end", run: connectFlood,
		},
		{
			Name: "replay-flood", Description: "one authentic reading again and again, by the device's own key and password",
			Expected: "PUBACK 0x00, or 0x97, or the connection's end; stored once", run: replayFlood,
		},
		{
			Name: "forged-flood", Description: "forged readings of others from several connections, as fast as they are answered",
			Expected: "PUBACK 0x87, or 0x97, or the connection's end", run: forgedFlood,
		},
		{
			Name: "login-guessing", Description: "wrong passwords for the victim's name",
			Expected: "CONNACK refuses, or the connection's end; and the victim is let in", run: loginGuessing,
		},
	}
}

// forged is a reading in a device's name with a signature of nobody's.
func (s *siege) forged(of registry.Credentials) []byte {
	var mac [32]byte
	_, _ = rand.Read(mac[:]) // it never fails
	return fmt.Appendf(nil, `{"device_id":%q,"patient_id":%q,"timestamp":%d,"spo2":55,"heart_rate":180,"signature":"%s"}`,
		of.DeviceID, of.PatientID, s.Clock().Unix(), hex.EncodeToString(mac[:]))
}

// slowly is a dialling whose connection may take CloseWithin to be closed.
func (t *trial) slowly(ctx context.Context, n int, do func(*wire.Client)) {
	var all sync.WaitGroup
	for range n {
		c, err := wire.Dial(ctx, t.Broker, wire.MQTT5, t.CloseWithin)
		if err != nil {
			t.otherwise("it cannot be connected to: %s", dialError(err))
			continue
		}
		all.Go(func() {
			defer c.Close()
			do(c)
		})
	}
	all.Wait()
}

func halfOpen(ctx context.Context, t *trial) {
	t.slowly(ctx, t.times(20), func(c *wire.Client) {
		t.judge("a connection without CONNECT", next(c), anyOf(refusal(wire.Connack), ended))
	})
}

// drip is one byte a second.
const drip = time.Second

func slowWriter(ctx context.Context, t *trial) {
	who := t.Credentials[len(t.Credentials)-1]
	connect := login(who, wire.MQTT5).Bytes()
	var both sync.WaitGroup
	both.Go(func() {
		t.slowly(ctx, t.times(5), func(c *wire.Client) {
			t.judge("a slow CONNECT", t.dripped(ctx, c, connect), anyOf(refusal(wire.Connack), ended))
		})
	})
	both.Go(func() { t.slowReading(ctx) })
	both.Wait()
}

// slowReading is a reading whose client promised to be heard of every two seconds.
func (t *trial) slowReading(ctx context.Context) {
	var who registry.Credentials
	select {
	case who = <-t.stolen:
	case <-ctx.Done():
		return
	}
	defer func() { t.stolen <- who }()
	t.slowly(ctx, 1, func(c *wire.Client) {
		l := login(who, wire.MQTT5)
		l.Keepalive = 2
		if r := request(c, l.Bytes()); r.Type != wire.Connack || r.Code() != 0 {
			return
		}
		m := wire.Message{Version: wire.MQTT5, Topic: who.Topic, ID: 1, QoS: 1, Payload: t.forged(who)}
		t.judge("a slow PUBLISH", t.dripped(ctx, c, m.Bytes()), ended)
	})
}

// dripped sends a byte a second until the gate answers or CloseWithin is over.
func (t *trial) dripped(ctx context.Context, c *wire.Client, packet []byte) reply {
	ctx, cancel := context.WithTimeout(ctx, t.CloseWithin)
	defer cancel()
	answered := make(chan reply, 1)
	go func() { answered <- next(c) }()
	ticks := time.NewTicker(drip)
	defer ticks.Stop()
	for _, b := range packet {
		_ = c.Send([]byte{b})
		select {
		case r := <-answered:
			return r
		case <-ctx.Done():
			return reply{}
		case <-ticks.C:
		}
	}
	return <-answered
}

// atOnce is how many connections are opened together.
const atOnce = 10

func connectFlood(ctx context.Context, t *trial) {
	for range t.times(10) {
		if ctx.Err() != nil {
			return
		}
		var burst sync.WaitGroup
		for i := range atOnce {
			burst.Go(func() { t.stranger(ctx, wire.MQTT5, func(c *wire.Client) { t.rush(c, i) }) })
		}
		burst.Wait()
	}
}

func (t *trial) rush(c *wire.Client, i int) {
	var name [8]byte
	_, _ = rand.Read(name[:]) // it never fails
	ghost := "ghost-" + hex.EncodeToString(name[:])
	l := wire.Login{Version: wire.MQTT5, ID: ghost, User: ghost, Password: "guess", Keepalive: keepalive}
	switch i % 3 {
	case 0: // connected, and gone
		t.met()
		return
	case 1:
		l.Password = ""
	}
	t.judge("a stranger's CONNECT", request(c, l.Bytes()), anyOf(refusal(wire.Connack), ended))
}

func loginGuessing(ctx context.Context, t *trial) {
	victim := t.Credentials[1]
	for i := range t.times(30) {
		if ctx.Err() != nil {
			return
		}
		version := versions[i%len(versions)]
		t.stranger(ctx, version, func(c *wire.Client) {
			l := login(victim, version)
			// Close to the right one, to find out one that is compared in part.
			l.Password = victim.Password[:len(victim.Password)*(i%3)/2] + "guess"
			t.judge("a guess", request(c, l.Bytes()), anyOf(refusal(wire.Connack), ended))
		})
	}
}

func replayFlood(ctx context.Context, t *trial) {
	t.insider(ctx, wire.MQTT5, func(c *wire.Client, who registry.Credentials) {
		payload := t.honestly(c, who, "the reading")
		all := make([][]byte, t.times(200))
		for i := range all {
			all[i] = payload
		}
		t.flood(ctx, c, who.Topic, all, code(wire.Puback, 0, rateLimited))
	})
}

func forgedFlood(ctx context.Context, t *trial) {
	var all sync.WaitGroup
	for i := range max(1, len(t.Credentials)/2-1) {
		target := t.Credentials[i%2]
		all.Go(func() {
			t.insider(ctx, wire.MQTT5, func(c *wire.Client, _ registry.Credentials) {
				var payloads [][]byte
				for range t.times(100) {
					payloads = append(payloads, t.forged(target))
				}
				t.flood(ctx, c, target.Topic, payloads, code(wire.Puback, 0x87, rateLimited))
			})
		})
	}
	all.Wait()
}

// window is how many messages of a flood are on their way.
const window = 16

// flood publishes as fast as it is answered. A connection that is closed ends it,
// as expected; but not before anything was answered as it must be.
func (t *trial) flood(ctx context.Context, c *wire.Client, topic string, payloads [][]byte, want expectation) {
	for first := 0; first < len(payloads) && ctx.Err() == nil; first += window {
		batch := payloads[first:min(first+window, len(payloads))]
		var out bytes.Buffer
		for i, payload := range batch {
			out.Write(wire.Message{Version: c.Version(), Topic: topic, ID: uint16(i + 1), QoS: 1, Payload: payload}.Bytes())
		}
		_ = c.Send(out.Bytes())
		for i := range batch {
			r := next(c)
			if r.closed {
				t.judge("a flood's message", r, ended)
				return
			}
			if !t.judge("a flood's message", r, want) && r.Type == 0 {
				return
			}
			if r.ID() != uint16(i+1) {
				t.otherwise("the acknowledgement of message %d is that of %d [MQTT-4.6.0-2]", i+1, r.ID())
			}
		}
	}
}
