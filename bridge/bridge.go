// Package bridge is the gate as a whole: Start is the one place that wires its
// parts together.
package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/limits"
	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Options are what is not configuration. Their zero values are ready.
type Options struct {
	Log zerolog.Logger
	// Now is the clock that readings are judged by, once it has been found to be
	// NATS'; nil is time.Now. Durations are always measured by the machine's
	// monotonic clock.
	Now func() time.Time
	// Version is the program's, a semantic version; empty is 0.0.0.
	Version string
	// Tap is shown every publish as it came in, before any check. It must not
	// block, nor change the payload.
	Tap func(topic string, payload []byte)
}

// leastHistory is how long keys and assignments are kept after they ended, or as
// long as late readings are taken, if that is longer.
const leastHistory = 72 * time.Hour

// MasterKeyFile is the name of the master secret in the data directory.
const MasterKeyFile = "master.key"

// Bridge is a running gate.
type Bridge struct {
	engine   *engine.Engine
	store    *egress.Store
	registry *registry.Registry
	// presence is nil before it is known who is enrolled.
	presence atomic.Pointer[presence.Watch]
	// broker is nil where readings come only from another, and source where
	// there is no other.
	broker   atomic.Pointer[ingress.Broker]
	source   *source.Source
	monitor  *monitor.Server
	clock    *clock.Clock
	started  atomic.Bool
	stopping atomic.Bool
	// hurry ends all waiting of who is over a limit; nil before there is a gate.
	hurry  func()
	failed chan error
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
	b := &Bridge{failed: make(chan error, 1)}
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
	b.openClock(ctx, c, o)
	verifier, err := b.openRegistry(ctx, c, o, bucket, store)
	if err != nil {
		return err
	}
	g := &gate{
		registry: b.registry, verifier: verifier, clock: b.clock, memory: verify.NewMemory(c.ReplayMemory.MaxReadings),
		store: store, metrics: metrics, now: time.Now, tap: o.Tap, log: o.Log,
		sampled:    limits.NewLog(o.Log),
		remembered: time.Duration(c.Freshness.MaxAge + c.Store.Deadline),
		patience:   time.Duration(c.Store.Deadline),
		fair:       newFairness(c.Limits),
		refusals:   newRefusals(c.Limits.RejectionRate, store),
		hangUp:     b.hangUp,
	}
	if g.presence, err = b.openPresence(c, o, store); err != nil {
		return err
	}
	b.hurry = g.fair.stop
	b.later(func(context.Context) error { g.sampled.Tell(); return nil })
	b.later(g.refusals.close)
	if err := b.openDoors(c, o, g); err != nil {
		return err
	}
	if b.engine.Embedded() {
		b.watchEmbedded()
	}
	b.gauges(c, o, g)
	b.monitor, err = openMonitor(c.HTTP, o, metrics, b.ready)
	if err != nil {
		return err
	}
	b.later(b.monitor.Close)
	b.started.Store(true)
	return nil
}

// openStore starts or reaches NATS and prepares the streams.
func (b *Bridge) openStore(ctx context.Context, c config.Config, o Options) (bucket jetstream.KeyValue, store *egress.Store, err error) {
	layout := LayoutOf(c)
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
		Deadline: time.Duration(c.Store.Deadline), UnavailableAfter: time.Duration(c.Store.UnavailableAfter), Replica: replica(), Now: time.Now, Log: o.Log,
		Late: lateOptions(c),
	})
	if err != nil {
		return nil, nil, err
	}
	b.store = store
	b.later(func(ctx context.Context) error {
		// Its events are best effort: no reason to end as failed.
		if err := store.Close(ctx); err != nil {
			o.Log.Warn().Err(err).Msg("events may be missing from the streams of rejections and the audit")
		}
		return nil
	})
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

// openClock compares the clock with NATS', for the first time before anybody can
// connect. One that is off keeps everybody out until it is right.
func (b *Bridge) openClock(ctx context.Context, c config.Config, o Options) {
	b.clock = clock.New(clock.Options{
		Wall: o.Now, Tolerance: time.Duration(c.Freshness.ClockTolerance), Log: o.Log,
		Ask: func(ctx context.Context) (time.Time, error) { return egress.ServerTime(ctx, b.engine.Conn()) },
	})
	b.later(b.clock.Close)
	_ = b.clock.First(ctx)
}

// openRegistry loads the devices and serves them to operators.
func (b *Bridge) openRegistry(ctx context.Context, c config.Config, o Options, bucket jetstream.KeyValue, store *egress.Store) (*verify.Verifier, error) {
	masters, err := mastersOf(ctx, c, bucket)
	if err != nil {
		return nil, err
	}
	b.registry, err = registry.Open(ctx, b.engine.Conn(), bucket, masters, registry.Options{
		Topic:   func(device string) string { return verify.DeviceTopic(c.MQTT.Topic, device) },
		Replica: replica(), KeepHistory: max(leastHistory, time.Duration(c.Freshness.MaxLate)), Changed: b.changed, Now: time.Now, Doubt: b.clock.Err, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	b.later(func(context.Context) error { return b.registry.Close() })
	verifier, err := verify.New(verify.Config{
		Topic: c.MQTT.Topic, MaxAge: time.Duration(c.Freshness.MaxAge), MaxFuture: time.Duration(c.Freshness.MaxFuture),
		Late: verify.LatePolicy(c.Freshness.Late), MaxLate: time.Duration(c.Freshness.MaxLate),
	}, b.registry, b.clock.Read)
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

// mastersOf returns the master secrets of the configuration, of its file or of
// the data directory's, and makes one only for a registry that has none.
func mastersOf(ctx context.Context, c config.Config, bucket jetstream.KeyValue) (registry.Masters, error) {
	if c.Keys.Master != "" {
		m, err := registry.ParseMasters([]byte(c.Keys.Master))
		if err != nil {
			return m, fmt.Errorf("keys.master: %w", err)
		}
		return m, nil
	}
	file := cmp.Or(c.Keys.MasterFile, filepath.Join(c.Data, MasterKeyFile))
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

// HTTP is the address of health and metrics, host:port.
func (b *Bridge) HTTP() string { return b.monitor.Addr().String() }

// NATS is the URL of NATS, without credentials.
func (b *Bridge) NATS() string { return b.engine.URL() }

// Close fails readiness, refuses new connections, lets what is in flight finish
// until ctx is done, and then stops the parts. It returns when all have ended,
// or soon after ctx is done; what is undecided by then is not acknowledged.
func (b *Bridge) Close(ctx context.Context) error {
	if b.hurry != nil {
		b.hurry()
	}
	ctx, cancel := b.drain(ctx)
	defer cancel()
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
