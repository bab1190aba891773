package bridge

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"github.com/pulsegate/pulsegate/bridge/certs"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
)

// openBroker listens for devices.
func openBroker(c config.Config, o Options, g *gate) (*ingress.Broker, error) {
	listeners, err := listenersOf(c.MQTT, o, g.metrics)
	if err != nil {
		return nil, err
	}
	balancers, err := balancersOf(c.MQTT)
	if err != nil {
		return nil, err
	}
	broker, err := ingress.Open(ingress.Options{
		Listeners: listeners, MaxConnections: c.MQTT.MaxConnections,
		MaxConnectionsPerAddress: c.MQTT.MaxConnectionsPerAddress, Balancers: balancers,
		ReceiveMaximum: uint16(c.MQTT.ReceiveMaximum), InFlight: c.MQTT.InFlight, InFlightBytes: int64(c.MQTT.InFlightBytes),
		HandshakeFailed: g.handshakeFailed,
		Log:             o.Log.With().Str("part", "mqtt").Logger(),
	}, g)
	if err != nil {
		return nil, err
	}
	g.warnOfAnonymous(c.MQTT.Anonymous, listeners, broker.URLs())
	return broker, nil
}

func listenersOf(m config.MQTT, o Options, metrics *monitor.Metrics) ([]ingress.Listener, error) {
	var secure *tls.Config
	if m.TLS.Cert != "" {
		source, err := certs.Open(certs.Files{Cert: m.TLS.Cert, Key: m.TLS.Key, ClientCA: m.TLS.ClientCA}, certsOptions(o))
		if err != nil {
			return nil, fmt.Errorf("mqtt.tls: %w", err)
		}
		certificateGauge(metrics, "mqtt", source)
		secure = source.Config()
	}
	var all []ingress.Listener
	if m.Listen != "" {
		all = append(all, ingress.Listener{Address: m.Listen, Setting: "--mqtt-listen", Demand: demand(m.Anonymous, config.ClientPassword)})
	}
	if m.TLS.Listen != "" {
		all = append(all, ingress.Listener{Address: m.TLS.Listen, Setting: "mqtt.tls.listen", TLS: secure, Demand: demand(m.Anonymous, m.TLS.Client)})
	}
	if m.WebSocket.Listen != "" {
		l := ingress.Listener{
			Address: m.WebSocket.Listen, Setting: "mqtt.websocket.listen", Demand: demand(m.Anonymous, config.ClientPassword),
			WebSocket: &ingress.WebSocket{Origins: m.WebSocket.Origins},
		}
		if m.WebSocket.Scheme == config.SchemeSecure {
			l.TLS, l.Demand = secure, demand(m.Anonymous, m.TLS.Client)
		}
		all = append(all, l)
	}
	return all, nil
}

// balancersOf are those whom the PROXY protocol is spoken with.
func balancersOf(m config.MQTT) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range m.ProxyProtocol {
		block, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("mqtt.proxy_protocol: %w", err)
		}
		all = append(all, block.Masked())
	}
	return all, nil
}

// demand is what a listener wants to be shown: without passwords, what remains
// of what a client must show.
func demand(anonymous, client string) ingress.Demand {
	passwords := anonymous != config.AnonymousLoopback && anonymous != config.AnonymousForce
	switch {
	case client == config.ClientBoth && passwords:
		return ingress.PasswordAndCertificate
	case client == config.ClientBoth, client == config.ClientCertificate:
		return ingress.Certificate
	case passwords:
		return ingress.Password
	}
	return ingress.Nothing
}

// openListener is the audit's event of a listener that lets everybody in.
type openListener struct {
	Listener string    `json:"listener"`
	Time     time.Time `json:"time"`
}

// warnOfAnonymous says loudly where no password is demanded.
func (g *gate) warnOfAnonymous(anonymous string, listeners []ingress.Listener, urls []string) {
	for i, l := range listeners {
		if l.Demand != ingress.Nothing {
			continue
		}
		g.log.Warn().Str("listener", urls[i]).Str("anonymous", anonymous).
			Msg("ANYBODY who reaches this listener is let in as any device, without a password; signatures are still checked; this is for laboratories only")
		g.store.Audit("listener.anonymous", openListener{urls[i], g.now().UTC()})
	}
}

// openMonitor listens for those who ask after the gate's health.
func openMonitor(c config.HTTP, o Options, m *monitor.Metrics, ready func() error) (*monitor.Server, error) {
	options := monitor.Options{Listen: c.Listen, Profiles: monitor.Profiles(c.Pprof), Log: o.Log}
	if c.TLS.Cert != "" {
		source, err := certs.Open(certs.Files{Cert: c.TLS.Cert, Key: c.TLS.Key}, certsOptions(o))
		if err != nil {
			return nil, fmt.Errorf("http.tls: %w", err)
		}
		certificateGauge(m, "http", source)
		options.TLS = source.Config()
	}
	return monitor.Serve(options, m, ready)
}

func certsOptions(o Options) certs.Options {
	return certs.Options{Now: o.Now, Log: o.Log.With().Str("part", "tls").Logger()}
}
