package bridge

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/certs"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
)

// gauges shows what is asked for at each scrape, and so costs nothing else. None
// of it may block while NATS is away.
func (b *Bridge) gauges(c config.Config, o Options, g *gate) {
	m := g.metrics
	seen := newLookout(func() sight { return lookAt(b.engine.Conn(), g.store) })
	buildGauge(m, o.Version)
	m.Gauge("pulsegate_ready", "Whether new connections are welcome, as /readyz tells: 1 or 0.", nil, func() float64 {
		return truth(b.trouble() == nil && seen.now().connected)
	})
	g.fair.gauges(m)
	g.gauges(c)
	b.registryGauges(m)
	presenceGauges(m, g.presence)
	natsGauges(m, seen)
}

// truth is 1 or 0.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func limit(m *monitor.Metrics, name, help string, value float64) {
	m.Gauge(name, help, nil, func() float64 { return value })
}

func buildGauge(m *monitor.Metrics, version string) {
	labels := monitor.Labels{"version": version, "goversion": runtime.Version(), "revision": ""}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				labels["revision"] = s.Value
			}
		}
	}
	m.Gauge("pulsegate_build_info", "The program's version, its commit where the build knows it, and Go's: always 1.", labels, func() float64 { return 1 })
}

// gauges are those of the way of a reading through the gate.
func (g *gate) gauges(c config.Config) {
	m := g.metrics
	m.Gauge("pulsegate_store_pending", "Readings that wait for the store's confirmation.", nil, func() float64 { return float64(g.store.Pending()) })
	m.Counter("pulsegate_late_lookups_total", "How often the stream was asked for copies of late readings.", func() float64 { return float64(g.store.Lookups()) })
	m.Counters("pulsegate_events_dropped_total", "Events that could not be published, because too many waited or NATS was away, by the stream that they were for.", "stream", func() map[string]float64 {
		rejections, audits := g.store.Dropped()
		return map[string]float64{egress.StreamRejections: float64(rejections), egress.StreamAudit: float64(audits)}
	})
	m.Gauge("pulsegate_replay_memory_readings", "Readings that the replay memory holds.", nil, func() float64 { return float64(g.memory.Size()) })
	limit(m, "pulsegate_replay_memory_limit_readings", "Readings that the replay memory holds at most.", float64(c.ReplayMemory.MaxReadings))
	m.Gauge("pulsegate_clock_offset_seconds", "How far NATS' clock is ahead of this machine's.", nil, func() float64 { offset, _ := g.clock.Offset(); return offset.Seconds() })
	limit(m, "pulsegate_clock_tolerance_seconds", "How far this machine's clock may be from NATS': further off, nothing is judged.", time.Duration(c.Freshness.ClockTolerance).Seconds())
}

func (b *Bridge) registryGauges(m *monitor.Metrics) {
	m.Gauge("pulsegate_registry_devices", "Devices that are enrolled.", nil, func() float64 { return float64(b.registry.Size()) })
	m.Gauge("pulsegate_registry_disabled_entries", "Entries of the registry that this replica cannot use: damaged, or its master key is missing here.", nil, func() float64 { return float64(b.registry.Disabled()) })
	m.Gauge("pulsegate_registry_revision", "Last change of the registry that this replica has applied.", nil, func() float64 { return float64(b.registry.Revision()) })
}

func natsGauges(m *monitor.Metrics, seen *lookout) {
	m.Gauge("pulsegate_nats_connected", "Whether NATS is connected and answers: 1 or 0.", nil, func() float64 { return truth(seen.now().connected) })
	m.Counter("pulsegate_nats_reconnects_total", "Connections to NATS after the first.", func() float64 { return float64(seen.now().reconnects) })
	for name, of := range map[string]struct {
		help  string
		value func(egress.Fill) float64
	}{
		"pulsegate_stream_bytes":            {"Bytes that a stream holds.", func(f egress.Fill) float64 { return float64(f.Bytes) }},
		"pulsegate_stream_limit_bytes":      {"Bytes that a stream holds at most.", func(f egress.Fill) float64 { return float64(f.Limit) }},
		"pulsegate_stream_messages":         {"Messages that a stream holds.", func(f egress.Fill) float64 { return float64(f.Messages) }},
		"pulsegate_stream_replicas":         {"NATS servers that are to hold a stream.", func(f egress.Fill) float64 { return float64(f.Replicas) }},
		"pulsegate_stream_current_replicas": {"NATS servers that hold a stream and are up to date.", func(f egress.Fill) float64 { return float64(f.Current) }},
	} {
		m.Gauges(name, of.help, "stream", func() map[string]float64 {
			values := make(map[string]float64)
			for _, f := range seen.now().fills {
				values[f.Stream] = of.value(f)
			}
			return values
		})
	}
}

func brokerGauges(m *monitor.Metrics, c config.MQTT, broker *ingress.Broker) {
	m.Gauge("pulsegate_connections", "MQTT connections that are open.", nil, func() float64 { return float64(broker.Connections()) })
	limit(m, "pulsegate_connections_limit", "MQTT connections that may be open at once.", float64(c.MaxConnections))
	m.Counters("pulsegate_connections_refused_total", "MQTT connections refused whoever wanted them, by reason.", "reason", func() map[string]float64 {
		all, address := broker.Crowded()
		return map[string]float64{"unavailable": float64(broker.TurnedAway()), "limit": float64(all), "address_limit": float64(address)}
	})
	m.Counter("pulsegate_connections_panicked_total", "MQTT connections that were closed because handling a packet of theirs failed inside the gate: a defect, which the log tells of.", func() float64 { return float64(broker.Panics()) })
	m.Gauge("pulsegate_in_flight_readings", "Messages that devices have sent and that are being decided.", nil, func() float64 { n, _ := broker.InFlight(); return float64(n) })
	limit(m, "pulsegate_in_flight_limit_readings", "Messages that may be decided at once; at so many no socket is read.", float64(c.InFlight))
	m.Gauge("pulsegate_in_flight_bytes", "Size of the packets of the messages that are being decided.", nil, func() float64 { _, n := broker.InFlight(); return float64(n) })
	limit(m, "pulsegate_in_flight_limit_bytes", "Size that the packets of the messages being decided may have; at that no socket is read.", float64(c.InFlightBytes))
}

func certificateGauge(m *monitor.Metrics, listener string, source *certs.Source) {
	m.Gauge("pulsegate_certificate_expiry_timestamp_seconds", "Until when the certificate that a listener shows is valid, in seconds since 1970.",
		monitor.Labels{"listener": listener}, func() float64 { return float64(source.Expires().Unix()) })
}

// ready says why new connections should go elsewhere, or nil.
func (b *Bridge) ready() error {
	// It comes first, since asking after the status blocks while NATS does not read.
	if err := b.trouble(); err != nil {
		return err
	}
	if status := b.engine.Conn().Status(); status != nats.CONNECTED {
		return fmt.Errorf("NATS is not connected: %s", status)
	}
	return nil
}

// trouble is ready as far as it can be told without asking the connection to
// NATS.
func (b *Bridge) trouble() error {
	if b.stopping.Load() {
		return errStopping
	}
	return errors.Join(b.registry.Err(), b.store.Err(), b.clock.Err(), b.sourceErr())
}
