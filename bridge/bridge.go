// Package bridge is the gate as a whole: Start is the one place that wires its
// parts together.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
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

// keepHistory is how long keys and assignments are kept after they ended: as
// long as late readings will be.
const keepHistory = 72 * time.Hour

// MasterKeyFile is the name of the master secret in the data directory.
const MasterKeyFile = "master.key"

// Bridge is a running gate.
type Bridge struct {
	engine   *engine.Engine
	store    *egress.Store
	registry *registry.Registry
	broker   atomic.Pointer[ingress.Broker]
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
		sampled:    o.Log.Sample(&zerolog.BurstSampler{Burst: 5, Period: 10 * time.Second}),
		remembered: time.Duration(c.Freshness.MaxAge + c.Store.Deadline),
		failures:   rate.NewLimiter(10, 100),
		patience:   time.Duration(c.Store.Deadline),
	}
	broker, err := openBroker(c, o, g)
	if err != nil {
		return err
	}
	b.broker.Store(broker)
	b.later(broker.Close)
	b.gauges(metrics, g)
	b.monitor, err = openMonitor(c.HTTP, o, metrics, b.ready)
	if err != nil {
		return err
	}
	b.later(b.monitor.Close)
	return nil
}

// openStore starts or reaches NATS and prepares the streams.
func (b *Bridge) openStore(ctx context.Context, c config.Config, o Options) (bucket jetstream.KeyValue, store *egress.Store, err error) {
	layout := layoutOf(c)
	b.later(func(context.Context) error {
		if b.engine == nil {
			return nil
		}
		return b.engine.Close()
	})
	bucket, err = b.openEngine(ctx, engineOptions(c, layout, o.Log), layout)
	if errors.Is(err, egress.ErrWindowRaised) && b.engine.Embedded() {
		// Only a start fills the longer memory.
		if err = b.engine.Close(); err == nil {
			bucket, err = b.openEngine(ctx, engineOptions(c, layout, o.Log), layout)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	store, err = egress.NewStore(b.engine.Conn(), egress.Options{
		Deadline: time.Duration(c.Store.Deadline), Replica: replica(), Now: o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	b.store = store
	b.later(store.Close)
	return bucket, store, nil
}

func (b *Bridge) openEngine(ctx context.Context, o engine.Options, layout egress.Layout) (jetstream.KeyValue, error) {
	e, err := engine.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	b.engine = e
	return egress.Ensure(ctx, e.Conn(), layout)
}

// openRegistry loads the devices and serves them to operators.
func (b *Bridge) openRegistry(ctx context.Context, c config.Config, o Options, bucket jetstream.KeyValue, store *egress.Store) (*verify.Verifier, error) {
	masters, err := mastersOf(ctx, c, bucket)
	if err != nil {
		return nil, err
	}
	b.registry, err = registry.Open(ctx, b.engine.Conn(), bucket, masters, registry.Options{
		Topic:   func(device string) string { return verify.DeviceTopic(c.MQTT.Topic, device) },
		Replica: replica(), KeepHistory: keepHistory, Changed: b.disconnect, Now: o.Now, Log: o.Log,
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
	service, err := registry.Serve(b.registry, o.Version, func(change registry.Change) {
		o.Log.Info().Str("verb", change.Verb).Str("id", change.ID).Str("by", change.By).Msg("the registry has been changed")
		store.Audit("registry."+change.Verb, change)
	})
	if err != nil {
		return nil, err
	}
	b.later(func(context.Context) error { return service.Stop() })
	return verifier, nil
}

// mastersOf returns the master secrets of the configuration or the data
// directory, and makes one only for a registry that has none.
func mastersOf(ctx context.Context, c config.Config, bucket jetstream.KeyValue) (registry.Masters, error) {
	if c.Keys.Master != "" {
		m, err := registry.ParseMasters([]byte(c.Keys.Master))
		if err != nil {
			return m, fmt.Errorf("keys.master: %w", err)
		}
		return m, nil
	}
	file := filepath.Join(c.Data, MasterKeyFile)
	m, err := registry.ReadMasters(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	made, err := registry.HasMasters(ctx, bucket)
	switch {
	case err != nil:
		return m, fmt.Errorf("reading the registry: %w", err)
	case made:
		return m, fmt.Errorf("master key: there is no %s, but this registry was made with one: restore it from a backup, or copy it from another replica", file)
	}
	return registry.LoadMasters(file)
}

func (b *Bridge) later(closer func(context.Context) error) { b.closers = append(b.closers, closer) }

func (b *Bridge) gauges(m *monitor.Metrics, g *gate) {
	m.Gauge("pulsegate_connections", "MQTT connections that are open.", func() float64 { return float64(b.broker.Load().Connections()) })
	m.Counter("pulsegate_tls_handshakes_failed_total", "MQTT connections that ended in the TLS handshake.", func() float64 { return float64(b.broker.Load().HandshakesFailed()) })
	m.Gauge("pulsegate_store_pending", "Readings that wait for the store's confirmation.", func() float64 { return float64(g.store.Pending()) })
	m.Gauge("pulsegate_replay_memory_readings", "Readings that the replay memory holds.", func() float64 { return float64(g.memory.Size()) })
	m.Gauge("pulsegate_registry_devices", "Devices that are enrolled.", func() float64 { return float64(b.registry.Size()) })
	m.Gauge("pulsegate_registry_disabled_entries", "Entries of the registry that this replica cannot use: damaged, or its master key is missing here.", func() float64 { return float64(b.registry.Disabled()) })
	m.Gauge("pulsegate_registry_revision", "Last change of the registry that this replica has applied.", func() float64 { return float64(b.registry.Revision()) })
}

// ready says why new connections should go elsewhere, or nil.
func (b *Bridge) ready() error {
	if status := b.engine.Conn().Status(); status != nats.CONNECTED {
		return fmt.Errorf("NATS is not connected: %s", status)
	}
	return errors.Join(b.registry.Err(), b.store.Err())
}

// disconnect closes the connection of one who may no longer have it.
func (b *Bridge) disconnect(id string) {
	if _, known := b.registry.Known(id); known {
		return
	}
	if broker := b.broker.Load(); broker != nil {
		broker.Disconnect(id)
	}
}

// Registry is the gate's registry.
func (b *Bridge) Registry() *registry.Registry { return b.registry }

// Enrol adds a device and returns its credentials.
func (b *Bridge) Enrol(ctx context.Context, device, patient string) (registry.Credentials, error) {
	_, err := b.registry.Add(ctx, registry.New{Kind: registry.KindDevice, ID: device, Patient: patient, By: "pulsegate"})
	if err != nil {
		return registry.Credentials{}, err
	}
	return b.registry.Credentials(device)
}

// MQTT is the address of the first of Listeners, host:port.
func (b *Bridge) MQTT() string { return b.broker.Load().Addr().String() }

// Listeners are the URLs that devices connect to, that of MQTT first: mqtt,
// mqtts, ws or wss, with host and port.
func (b *Bridge) Listeners() []string { return b.broker.Load().URLs() }

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
