// Package bridge is the gate as a whole: Start is the one place that wires its
// parts together.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Options are what is not configuration. Their zero values are ready.
type Options struct {
	Log zerolog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Version is the program's, a semantic version; empty is 0.0.0.
	Version string
	// Tap is shown every publish as it came in, before any check. It must not
	// block, nor change the payload.
	Tap func(topic string, payload []byte)
}

// MasterKeyFile is the name of the master secret in the data directory.
const MasterKeyFile = "master.key"

// Bridge is a running gate.
type Bridge struct {
	engine   *engine.Engine
	registry *registry.Registry
	broker   *ingress.Broker
	monitor  *monitor.Server
	// closers end the parts, the last started first.
	closers []func(context.Context) error
}

// Start brings everything up and returns when readings are served. ctx bounds
// the start only. An error says what was wrong and what to do about it; then
// nothing is left running.
func Start(ctx context.Context, c config.Config, o Options) (*Bridge, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Version == "" {
		o.Version = "0.0.0"
	}
	b := &Bridge{}
	if err := b.start(ctx, c, o); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func (b *Bridge) start(ctx context.Context, c config.Config, o Options) error {
	metrics := monitor.NewMetrics()
	bucket, store, err := b.openStore(ctx, c, o)
	if err != nil {
		return err
	}
	verifier, err := b.openRegistry(ctx, c, o, bucket, store)
	if err != nil {
		return err
	}
	g := &gate{
		registry: b.registry, verifier: verifier, memory: verify.NewMemory(c.ReplayMemory.MaxReadings),
		store: store, metrics: metrics, now: o.Now, tap: o.Tap, log: o.Log,
		remembered: time.Duration(c.Freshness.MaxAge + c.Store.Deadline),
		failures:   rate.NewLimiter(10, 100),
	}
	b.broker, err = ingress.Open(ingress.Options{
		Listen: c.MQTT.Listen, MaxConnections: c.MQTT.MaxConnections,
		ReceiveMaximum: uint16(c.MQTT.ReceiveMaximum), InFlight: c.MQTT.InFlight,
		Log: o.Log.With().Str("part", "mqtt").Logger(),
	}, g)
	if err != nil {
		return err
	}
	b.later(b.broker.Close)
	b.gauges(metrics, g)
	b.monitor, err = monitor.Serve(c.HTTP.Listen, metrics, b.ready, o.Log)
	if err != nil {
		return err
	}
	b.later(b.monitor.Close)
	return nil
}

// openStore starts or reaches NATS and prepares the streams.
func (b *Bridge) openStore(ctx context.Context, c config.Config, o Options) (bucket jetstream.KeyValue, store *egress.Store, err error) {
	layout := layoutOf(c)
	b.engine, err = engine.Open(ctx, engineOptions(c, layout, o.Log))
	if err != nil {
		return nil, nil, err
	}
	b.later(func(context.Context) error { return b.engine.Close() })
	if bucket, err = egress.Ensure(ctx, b.engine.Conn(), layout); err != nil {
		return nil, nil, err
	}
	store, err = egress.NewStore(b.engine.Conn(), egress.Options{
		Deadline: time.Duration(c.Store.Deadline), Replica: replica(), Now: o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	b.later(store.Close)
	return bucket, store, nil
}

// openRegistry loads the devices and serves them to operators.
func (b *Bridge) openRegistry(ctx context.Context, c config.Config, o Options, bucket jetstream.KeyValue, store *egress.Store) (*verify.Verifier, error) {
	master, err := registry.LoadMaster(filepath.Join(c.Data, MasterKeyFile))
	if err != nil {
		return nil, err
	}
	b.registry, err = registry.Open(ctx, bucket, master, registry.Options{
		Topic: func(device string) string { return verify.DeviceTopic(c.MQTT.Topic, device) },
		Now:   o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	b.later(func(context.Context) error { return b.registry.Close() })
	verifier, err := verify.New(verify.Config{
		Topic: c.MQTT.Topic, MaxAge: time.Duration(c.Freshness.MaxAge), MaxFuture: time.Duration(c.Freshness.MaxFuture),
		Late: verify.LatePolicy(c.Freshness.Late),
	}, b.registry, o.Now)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	service, err := registry.Serve(b.engine.Conn(), b.registry, o.Version, func(change registry.Change) {
		o.Log.Info().Str("verb", change.Verb).Str("device", change.DeviceID).Msg("the registry has been changed")
		store.Audit("registry."+change.Verb, change)
	})
	if err != nil {
		return nil, err
	}
	b.later(func(context.Context) error { return service.Stop() })
	return verifier, nil
}

func (b *Bridge) later(closer func(context.Context) error) { b.closers = append(b.closers, closer) }

func (b *Bridge) gauges(m *monitor.Metrics, g *gate) {
	m.Gauge("pulsegate_connections", "MQTT connections that are open.", func() float64 { return float64(b.broker.Connections()) })
	m.Gauge("pulsegate_store_pending", "Readings that wait for the store's confirmation.", func() float64 { return float64(g.store.Pending()) })
	m.Gauge("pulsegate_replay_memory_readings", "Readings that the replay memory holds.", func() float64 { return float64(g.memory.Size()) })
	m.Gauge("pulsegate_registry_devices", "Devices that are enrolled.", func() float64 { n, _ := b.registry.Size(); return float64(n) })
	m.Gauge("pulsegate_registry_revision", "Last change of the registry that this replica has applied.", func() float64 { _, r := b.registry.Size(); return float64(r) })
}

// ready says why new connections should go elsewhere, or nil.
func (b *Bridge) ready() error {
	if status := b.engine.Conn().Status(); status != nats.CONNECTED {
		return fmt.Errorf("NATS is not connected: %s", status)
	}
	return nil
}

// Registry is the gate's registry.
func (b *Bridge) Registry() *registry.Registry { return b.registry }

// MQTT is the address that devices connect to, host:port.
func (b *Bridge) MQTT() string { return b.broker.Addr().String() }

// HTTP is the address of health and metrics, host:port.
func (b *Bridge) HTTP() string { return b.monitor.Addr().String() }

// NATS is the URL of NATS, without credentials.
func (b *Bridge) NATS() string { return b.engine.URL() }

// Close stops the parts, the door first. It returns when all have ended, or
// soon after ctx is done.
func (b *Bridge) Close(ctx context.Context) error {
	var all error
	for i := len(b.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, b.closers[i](ctx))
	}
	b.closers = nil
	return all
}

// replica names this process in what it stores.
func replica() string {
	if host, err := os.Hostname(); err == nil && reading.ValidID(host) {
		return host
	}
	return nuid.Next()
}
