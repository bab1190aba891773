package bridge

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/monitor"
)

func (b *Bridge) gauges(m *monitor.Metrics, g *gate) {
	g.fair.gauges(m)
	m.Counter("pulsegate_late_lookups_total", "How often the stream was asked for copies of late readings.", func() float64 { return float64(g.store.Lookups()) })
	m.Gauge("pulsegate_clock_offset_seconds", "How far NATS' clock is ahead of this machine's.", func() float64 { offset, _ := g.clock.Offset(); return offset.Seconds() })
	m.Gauge("pulsegate_store_pending", "Readings that wait for the store's confirmation.", func() float64 { return float64(g.store.Pending()) })
	m.Gauge("pulsegate_replay_memory_readings", "Readings that the replay memory holds.", func() float64 { return float64(g.memory.Size()) })
	m.Gauge("pulsegate_registry_devices", "Devices that are enrolled.", func() float64 { return float64(b.registry.Size()) })
	m.Gauge("pulsegate_registry_disabled_entries", "Entries of the registry that this replica cannot use: damaged, or its master key is missing here.", func() float64 { return float64(b.registry.Disabled()) })
	m.Gauge("pulsegate_registry_revision", "Last change of the registry that this replica has applied.", func() float64 { return float64(b.registry.Revision()) })
}

// ready says why new connections should go elsewhere, or nil.
func (b *Bridge) ready() error {
	if b.stopping.Load() {
		return errStopping
	}
	// They come first, since asking after the status blocks while NATS does not read.
	if err := errors.Join(b.registry.Err(), b.store.Err(), b.clock.Err(), b.sourceErr()); err != nil {
		return err
	}
	if status := b.engine.Conn().Status(); status != nats.CONNECTED {
		return fmt.Errorf("NATS is not connected: %s", status)
	}
	return nil
}
