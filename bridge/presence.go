package bridge

import (
	"errors"
	"time"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// openPresence begins to watch over the devices.
func (b *Bridge) openPresence(c config.Config, o Options, store *egress.Store) (*presence.Watch, error) {
	watch, err := presence.New(presence.Options{
		SilentAfter: time.Duration(c.Presence.SilentAfter), RefusedAfter: time.Duration(c.Presence.RefusedAfter), ClockDrift: time.Duration(c.Presence.ClockDrift),
		Replica: replica(), Directory: b.registry, Journal: store, Conn: b.engine.Conn(),
		Active: func(id string) bool {
			who, ok := b.registry.Known(id)
			return ok && who.Kind == registry.KindDevice
		},
		Now: b.clock.Read, Ready: b.judging, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	b.later(watch.Close)
	// Whatever changes from now on is told; what was there before is taken in after
	// that, lest one is missed in between.
	b.presence.Store(watch)
	for _, id := range b.registry.Devices() {
		watch.Changed(id)
	}
	watch.Begin()
	return watch, nil
}

var errStarting = errors.New("the gate is starting")

// judging says why this replica cannot tell whether a device is silent, or nil.
func (b *Bridge) judging() error {
	if !b.started.Load() {
		return errStarting
	}
	return b.trouble()
}

// changed is told of every change of the registry after its first load.
func (b *Bridge) changed(id string) {
	b.presence.Load().Changed(id)
	b.disconnect(id)
}

// Presence tells what is known of the devices.
func (b *Bridge) Presence() *presence.Watch { return b.presence.Load() }

func presenceGauges(m *monitor.Metrics, watch *presence.Watch) {
	m.Gauges("pulsegate_devices", "Devices in trouble, as announced by whichever replica: silent, refused, or with a clock that is off.", "state", watch.Counts)
	m.Counter("pulsegate_sequence_gaps_total", "Numbers that were missing among the readings of devices when a later one was stored.", func() float64 { return float64(watch.Missing()) })
}

// sighting is what a reading that has been stored shows of its device.
func (p *passage) sighting() presence.Sighting {
	r := &p.verdict.Reading
	return presence.Sighting{Received: p.verdict.Now, Measured: r.Timestamp, Seq: r.Seq, HasSeq: r.HasSeq, Way: p.way}
}

// missed tells the watch what has been refused. A duplicate is no failure of its
// device; from another broker it may be what another replica has stored, and then
// its number is not missing here.
func (p *passage) missed() {
	v := &p.verdict
	switch {
	case v.Outcome == verify.Duplicate && p.way == presence.ByBroker:
		p.presence.Copy(&p.held, v.Device.ID, p.sighting())
	case v.Outcome != verify.Duplicate:
		if device, measured := p.sender(); device != "" {
			p.presence.Refused(&p.held, device, v.Outcome, v.Now, measured)
		}
	}
}

// sender is the device that certainly sent a message itself, or had its gateway
// send it; empty if nobody knows. What others send in its name must not bring it
// into trouble. measured is zero where the message does not show the device's
// clock.
func (p *passage) sender() (device string, measured time.Time) {
	v := &p.verdict
	signed := v.Authentic && !p.purse.shared
	switch {
	case signed && p.identity.Kind == registry.KindGateway && p.registry.Carries(p.identity.ID, v.Device.ID):
		device = v.Device.ID
	case signed && v.Device.ID == p.identity.ID, p.proven && p.identity.Kind == registry.KindDevice:
		device = p.identity.ID
	}
	// Only what has passed the checks before has these outcomes.
	if device != "" && (v.Outcome == verify.Future || v.Outcome == verify.Stale) {
		measured = v.Reading.Timestamp
	}
	return device, measured
}
