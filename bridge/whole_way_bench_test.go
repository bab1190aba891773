//go:build unix

package bridge_test

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
	"github.com/pulsegate/pulsegate/device-sim/load"
)

// BenchmarkWholeWay measures TCP publish to PUBACK through the gate, beside the
// same program with a pass-through in place of the verification, in interleaved
// rounds, without fsync. It reports readings per second and their ratio, and that
// of the processor time, load included, which other programs disturb less.
func BenchmarkWholeWay(b *testing.B) {
	for _, shape := range []struct{ connections, inFlight int }{{1, 1}, {32, 1}, {32, 16}, {1, 512}} {
		b.Run(fmt.Sprintf("%dx%d", shape.connections, shape.inFlight), func(b *testing.B) {
			gate, relay := startGate(b, shape.connections), startRelay(b, shape.connections)
			var gates, relays, ratios, costs []float64
			for i := range b.N {
				var g, r round
				// Each goes first in half of the rounds.
				if i%2 == 0 {
					g, r = gate.round(b, shape.inFlight), relay.round(b, shape.inFlight)
				} else {
					r, g = relay.round(b, shape.inFlight), gate.round(b, shape.inFlight)
				}
				gates, relays = append(gates, g.rate), append(relays, r.rate)
				ratios, costs = append(ratios, g.rate/r.rate), append(costs, g.cpu.Seconds()/r.cpu.Seconds())
			}
			b.ReportMetric(median(gates), "gate/s")
			b.ReportMetric(median(relays), "relay/s")
			b.ReportMetric(median(ratios), "gate/relay")
			b.ReportMetric(median(costs), "cpu-gate/relay")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// perRound is how many readings each round sends in all.
const perRound = 20_000

// loaded is a system under load.
type loaded struct {
	broker  string
	devices []registry.Credentials
}

// round is what one round came to.
type round struct {
	// rate is readings per second, cpu the processor time of the whole process.
	rate float64
	cpu  time.Duration
}

func (l loaded) round(b *testing.B, inFlight int) round {
	b.Helper()
	lanes := make([]load.Lane, len(l.devices))
	for i, c := range l.devices {
		lanes[i] = load.Lane{Credentials: c, Payloads: signedReadings(b, c, perRound/len(l.devices))}
	}
	before := processor(b)
	result, err := load.Closed(context.Background(), load.Options{Broker: l.broker, InFlight: inFlight, Lanes: lanes})
	if err != nil {
		b.Fatal(err)
	}
	return round{result.Rate(), processor(b) - before}
}

// processor is the time that this process has spent on processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func signedReadings(b testing.TB, c registry.Credentials, n int) [][]byte {
	b.Helper()
	key := reading.NewMAC(mustHex(c.Key))
	all := make([][]byte, n)
	now := float64(time.Now().UnixMilli()) / 1000
	for i := range all {
		text := fmt.Sprintf(`{"device_id":%q,"patient_id":%q,"timestamp":%.3f,"seq":%d,"spo2":97,"heart_rate":72,"battery":87,"fw":"2.4.1"`,
			c.DeviceID, c.PatientID, now, time.Now().UnixNano()%1e12)
		e, err := reading.Split([]byte(text + `,"signature":"` + reading.Identity{}.String() + `"}`))
		if err != nil {
			b.Fatal(err)
		}
		all[i] = []byte(text + `,"signature":"` + key.Sum(e).String() + `"}`)
	}
	return all
}

func benchConfig(b *testing.B) config.Config {
	c := config.Default()
	c.Data = filepath.Join(b.TempDir(), "data")
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.MQTT.ReceiveMaximum = 1024
	c.NATS.Sync = config.Sync(2 * time.Minute)
	c.Store.Republish = false
	// One device of a benchmark sends what thousands do otherwise: by default it
	// would be slowed down. What the limits cost is measured all the same.
	c.Limits.DeviceRate, c.Limits.DeviceBurst = 1_000_000, 10_000_000
	c.Limits.AddressRate, c.Limits.AddressBurst = 10_000_000, 100_000_000
	return c
}

func startGate(b *testing.B, devices int) loaded { return startGateWith(b, benchConfig(b), devices) }

func startGateWith(b *testing.B, c config.Config, devices int) loaded {
	b.Helper()
	g, err := bridge.Start(b.Context(), c, bridge.Options{Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = g.Close(context.Background()) })
	l := loaded{broker: g.MQTT()}
	for i := range devices {
		c, err := g.Enrol(b.Context(), fmt.Sprintf("w-%04d", i), fmt.Sprintf("p-%04d", i))
		if err != nil {
			b.Fatal(err)
		}
		l.devices = append(l.devices, c)
	}
	return l
}

// relay lets everybody in and stores everything, with the gate's own headers.
type relay struct{ store *egress.Store }

func (r relay) Admit(ingress.Connection) (ingress.Handler, ingress.Admission) {
	return r, ingress.Welcome
}

func (r relay) Handle(m ingress.Message, done func(ingress.Disposition)) {
	// The identity is taken as claimed, so that JetStream's work is the same.
	e, err := reading.Split(m.Payload)
	if err != nil {
		done(ingress.Disposition{Outcome: verify.Malformed})
		return
	}
	now := time.Now()
	record := egress.Record{Identity: e.Signature, Patient: "p-0001", Device: m.Topic[10:16], Payload: m.Payload, Generation: 1, Received: now}
	r.store.Publish(record, func(_ egress.Confirmation, err error) {
		if err != nil {
			done(ingress.Disposition{Stored: ingress.Failed})
			return
		}
		done(ingress.Disposition{Outcome: verify.Accepted})
	})
}

func startRelay(b *testing.B, devices int) loaded {
	b.Helper()
	c := benchConfig(b)
	e, err := engine.Open(b.Context(), engine.Options{Dir: c.Data, Listen: c.NATS.Listen, Sync: "2m", Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	// The very streams and consumer of the gate.
	limits := func(s config.Stream) egress.Limits {
		return egress.Limits{MaxBytes: int64(s.MaxBytes), MaxAge: time.Duration(s.MaxAge)}
	}
	if _, err := egress.Ensure(b.Context(), e.Conn(), egress.Layout{
		Vitals: limits(c.Store.Vitals), Rejections: limits(c.Store.Rejections), Audit: limits(c.Store.Audit),
		Devices:  egress.Limits{MaxBytes: int64(c.Store.Devices.MaxBytes)},
		Replicas: c.Store.Replicas, DuplicateWindow: time.Duration(c.Store.DuplicateWindow), Consumers: c.Consumers,
	}); err != nil {
		b.Fatal(err)
	}
	store, err := egress.NewStore(e.Conn(), egress.Options{Deadline: 10 * time.Second, Replica: "relay", Now: time.Now, Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close(context.Background()) })
	broker, err := ingress.Open(ingress.Options{
		Listeners: []ingress.Listener{{Address: "127.0.0.1:0"}}, MaxConnections: c.MQTT.MaxConnections,
		ReceiveMaximum: uint16(c.MQTT.ReceiveMaximum), InFlight: c.MQTT.InFlight, InFlightBytes: int64(c.MQTT.InFlightBytes), Log: zerolog.Nop(),
	}, relay{store})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = broker.Close(context.Background()) })
	l := loaded{broker: broker.Addr().String()}
	for i := range devices {
		id := fmt.Sprintf("w-%04d", i)
		l.devices = append(l.devices, registry.Credentials{
			DeviceID: id, PatientID: fmt.Sprintf("p-%04d", i), Topic: "wearables/" + id + "/vitals",
			Username: id, Password: "-", Key: reading.Identity{}.String(),
		})
	}
	return l
}
