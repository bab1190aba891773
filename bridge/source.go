package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// sourceName stands for the connection in the rejections of what came from
// another broker.
const sourceName = "source"

// openSource subscribes to another broker, where one is configured.
func (b *Bridge) openSource(c config.Config, o Options, g *gate) error {
	if c.Source.URL == "" {
		return nil
	}
	id, err := sourceClient(c.Source.ClientID)
	if err != nil {
		return err
	}
	g.fromSource = presence.ByBroker
	if c.Source.Share != "" {
		g.fromSource = presence.InTurns
	}
	b.source, err = source.Open(source.Options{
		Brokers: strings.Split(string(c.Source.URL), ","), TLS: func() (*tls.Config, error) { return sourceTLS(c.Source.TLS) },
		ClientID: id, User: c.Source.User, Password: string(c.Source.Password),
		Filters: sourceFilters(c), Share: c.Source.Share,
		InFlight: c.MQTT.InFlight, InFlightBytes: int64(c.MQTT.InFlightBytes),
		Handler: g.attend, Now: time.Now, Log: o.Log.With().Str("part", "source").Logger(),
	})
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	b.later(func(ctx context.Context) error { b.source.Close(ctx); return nil })
	b.sourceGauges(g.metrics)
	return nil
}

// sourceClient is an MQTT client identifier that is the same after a restart.
func sourceClient(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	host, err := os.Hostname()
	if err != nil || !reading.ValidID(host) {
		return "", fmt.Errorf("source.client_id: none can be made from this host's name (%q), and the other broker finds what waits for this replica by it; set one that is this replica's own and stays the same", host)
	}
	return "pulsegate-" + host, nil
}

// sourceFilters are the topic filters; without any, that of the devices' topics.
func sourceFilters(c config.Config) []string {
	if len(c.Source.Topics) > 0 {
		return c.Source.Topics
	}
	return []string{verify.DeviceTopic(c.MQTT.Topic, "+")}
}

// sourceTLS reads the files, each time anew, since certificates are renewed.
func sourceTLS(files config.TLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.CA != "" {
		text, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, fmt.Errorf("source.tls.ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("source.tls.ca: %s holds no certificate in PEM form", files.CA)
		}
	}
	if files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("source.tls.cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// attend is the gate's handler for a connection to another broker. Who sent a
// message is known there, not here: check 5 has no connection to compare.
func (g *gate) attend(broker string) ingress.Handler {
	pair := limits.Pair{Address: limits.AddressOf(broker), Name: sourceName}
	one := &caller{gate: g, name: sourceName, way: g.fromSource, remote: broker, purse: g.fair.sourcePurse(pair)}
	one.session = one.newSession()
	return one
}

func (b *Bridge) sourceGauges(m *monitor.Metrics) {
	m.Gauge("pulsegate_source_connected", "Whether readings can come from the other MQTT broker: 1 while connected and subscribed, else 0.", nil, func() float64 { return truth(b.source.Err() == nil) })
	m.Counter("pulsegate_source_reconnects_total", "Connections to the other MQTT broker after the first.", func() float64 { return float64(b.source.Reconnects()) })
	m.Counter("pulsegate_source_received_total", "Messages from the other MQTT broker, those that came again included.", func() float64 { return float64(b.source.Received()) })
	m.Counter("pulsegate_source_lost_total", "Messages from the other MQTT broker that came at QoS 0 and could not be stored.", func() float64 { return float64(b.source.Lost()) })
}

// sourceErr says why no readings come from the other broker, where they come from
// nowhere else: devices that connect here must not be sent away for it.
func (b *Bridge) sourceErr() error {
	if b.source == nil || b.broker.Load() != nil {
		return nil
	}
	return b.source.Err()
}

// drainSource begins to close the source, which lets what is in flight finish
// until ctx is done, and returns how to wait for that.
func (b *Bridge) drainSource(ctx context.Context) (wait func()) {
	if b.source == nil {
		return func() {}
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.source.Close(ctx)
	}()
	return func() { <-closed }
}
