package bridge

import (
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
)

// openDoors lets readings in: from devices, from another broker, or both.
func (b *Bridge) openDoors(c config.Config, o Options, g *gate) error {
	if c.MQTT.Listen != "" || c.MQTT.TLS.Listen != "" || c.MQTT.WebSocket.Listen != "" {
		broker, err := openBroker(c, o, g)
		if err != nil {
			return err
		}
		b.broker.Store(broker)
		b.later(broker.Close)
		brokerGauges(g.metrics, broker)
	}
	return b.openSource(c, o, g)
}

func brokerGauges(m *monitor.Metrics, broker *ingress.Broker) {
	m.Gauge("pulsegate_connections", "MQTT connections that are open.", func() float64 { return float64(broker.Connections()) })
	m.Gauge("pulsegate_in_flight_readings", "Messages that devices have sent and that are being decided.", func() float64 { n, _ := broker.InFlight(); return float64(n) })
	m.Gauge("pulsegate_in_flight_bytes", "Size of the packets of those messages.", func() float64 { _, n := broker.InFlight(); return float64(n) })
	m.Counter("pulsegate_connections_unavailable_total", "MQTT connections refused because the gate is not ready, or stopping.", func() float64 { return float64(broker.TurnedAway()) })
	m.Counter("pulsegate_connections_over_limit_total", "MQTT connections refused because there were too many, in all or from one address.", func() float64 {
		all, address := broker.Crowded()
		return float64(all + address)
	})
	m.Counter("pulsegate_connections_panicked_total", "MQTT connections that were closed because handling a packet of theirs failed inside the gate: a defect, which the log tells of.", func() float64 { return float64(broker.Panics()) })
	m.Counter("pulsegate_tls_handshakes_failed_total", "MQTT connections that ended in the TLS handshake.", func() float64 { return float64(broker.HandshakesFailed()) })
}

// disconnect closes the connection of one who may no longer have it.
func (b *Bridge) disconnect(id string) {
	if _, known := b.registry.Known(id); known {
		return
	}
	b.hangUp(id)
}

// hangUp closes the connection of a client.
func (b *Bridge) hangUp(id string) {
	if broker := b.broker.Load(); broker != nil {
		broker.Disconnect(id)
	}
}

// MQTT is the address of the first of Listeners, host:port; empty without one.
func (b *Bridge) MQTT() string {
	if broker := b.broker.Load(); broker != nil {
		return broker.Addr().String()
	}
	return ""
}

// Listeners are the URLs that devices connect to, that of MQTT first: mqtt,
// mqtts, ws or wss, with host and port; none where readings come only from
// another broker.
func (b *Bridge) Listeners() []string {
	if broker := b.broker.Load(); broker != nil {
		return broker.URLs()
	}
	return nil
}

// Source is the URL of the other broker that readings come from, or several
// separated by commas; empty without one.
func (b *Bridge) Source() string {
	if b.source == nil {
		return ""
	}
	return b.source.String()
}
