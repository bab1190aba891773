package bridge

import (
	"github.com/pulsegate/pulsegate/bridge/config"
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
		brokerGauges(g.metrics, c.MQTT, broker)
	}
	return b.openSource(c, o, g)
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
