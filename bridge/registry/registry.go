// Package registry knows which devices and gateways are enrolled, for which
// patients, and derives their secrets. The entries live in a JetStream
// key-value bucket that every replica watches; the bucket holds no secret in
// the clear.
package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

var (
	// ErrUnknown says that no device or gateway of that id is enrolled.
	ErrUnknown = errors.New("not enrolled")
	// ErrExists says that the id is taken.
	ErrExists = errors.New("enrolled already")
	// ErrBadID says that an id is none.
	ErrBadID = errors.New("not an id: it must match [A-Za-z0-9_-]{1,64} and not be a single _")
	// ErrConflict says that somebody else changed the entry at the same time.
	ErrConflict = errors.New("somebody else has changed it at the same time; look at it and try again")
	// ErrBehind says that this replica does not know whether it has all changes.
	ErrBehind = errors.New("the registry may be out of date: its bucket does not answer, or its changes do not arrive")
)

const enrolmentSize = 16

// Options say how a Registry is to work.
type Options struct {
	// Topic returns the topic that a device publishes on.
	Topic func(device string) string
	// Replica names this replica to the others.
	Replica string
	// KeepHistory is how long keys and assignments are kept after they ended.
	KeepHistory time.Duration
	// Changed is told of every id whose entry has changed after the first load,
	// once this replica has applied the change. It must not block. nil is nobody.
	Changed func(id string)
	Now     func() time.Time
	// Doubt says why Now may be wrong, or nil: nothing is changed then, since late
	// readings are judged by the times of changes. nil is no doubt ever.
	Doubt func() error
	Log   zerolog.Logger
}

// changeTime is the time of a change that is made now.
func (r *Registry) changeTime() (time.Time, error) {
	if r.options.Doubt != nil {
		if err := r.options.Doubt(); err != nil {
			return time.Time{}, fmt.Errorf("nothing can be changed by this replica: %w", err)
		}
	}
	return r.options.Now().UTC(), nil
}

// Registry is a replica's view of the bucket. It implements verify.Directory
// and is safe for concurrent use.
type Registry struct {
	options  Options
	nc       *nats.Conn
	bucket   jetstream.KeyValue
	masters  Masters
	instance string
	context  context.Context
	cancel   context.CancelFunc
	stop     sync.Once
	closing  chan struct{}
	working  sync.WaitGroup
	watch    watch
	currency currency
	peers    peers
	cache    cache

	// revision is the last change that has been applied.
	revision atomic.Uint64

	mu      sync.RWMutex
	members map[string]*member
	// disabled are the ids of entries that cannot be used.
	disabled map[string]struct{}
	changed  chan struct{}
}

// Open loads the bucket and watches it. It returns when all that the bucket
// holds has been taken in.
func Open(ctx context.Context, nc *nats.Conn, bucket jetstream.KeyValue, masters Masters, o Options) (*Registry, error) {
	r := &Registry{
		options: o, nc: nc, bucket: bucket, masters: masters, instance: nuid.Next(),
		closing:  make(chan struct{}),
		watch:    watch{again: make(chan struct{}, 1), loaded: make(chan struct{})},
		members:  make(map[string]*member),
		disabled: make(map[string]struct{}),
		changed:  make(chan struct{}),
		currency: currency{origin: o.Now(), wake: make(chan struct{}, 1)},
		peers:    peers{known: make(map[string]peer), changed: make(chan struct{}), met: make(chan struct{})},
	}
	r.context, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Registry) open(ctx context.Context) error {
	if err := r.proveMasters(ctx); err != nil {
		return err
	}
	// What was the last change before the watch began is applied when the watch
	// has caught up, even if its message is gone.
	before, made, err := r.lastSequence(ctx)
	if err != nil {
		return err
	}
	r.currency.made = made
	if err := r.startWatching(); err != nil {
		return err
	}
	select {
	case <-r.watch.loaded:
	case <-ctx.Done():
		return fmt.Errorf("loading the registry: %w", ctx.Err())
	}
	r.applied(before)
	if err := r.meet(ctx); err != nil {
		return fmt.Errorf("listening to the other replicas: %w", err)
	}
	if !r.round() {
		return errors.New("loading the registry: the bucket does not answer")
	}
	r.working.Add(1)
	go r.keepCurrent()
	return nil
}

// lastSequence asks for the bucket's last change, and when the bucket was made.
func (r *Registry) lastSequence(ctx context.Context) (uint64, time.Time, error) {
	status, err := r.bucket.Status(ctx)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("looking at the registry's bucket: %w", err)
	}
	full, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return 0, time.Time{}, errors.New("looking at the registry's bucket: it is no stream")
	}
	info := full.StreamInfo()
	return info.State.LastSeq, info.Created, nil
}

// Close stops watching, and tells the other replicas. Further calls do nothing.
func (r *Registry) Close() error {
	r.stop.Do(func() {
		close(r.closing)
		r.cancel()
		r.working.Wait()
		// Whoever is told that this replica has left waits for it no more.
		r.currency.since.Store(0)
		r.leave()
	})
	return nil
}

// Err returns ErrBehind while this replica does not know whether it has all
// changes, or nil.
func (r *Registry) Err() error {
	if !r.Leased(r.options.Now()) {
		return ErrBehind
	}
	return nil
}

// tell says that an entry has changed after the first load.
func (r *Registry) tell(id string) {
	if r.options.Changed != nil && id != keyProofs {
		r.options.Changed(id)
	}
	// The others wait to hear that this replica has applied it.
	r.wakeUp()
}

func (r *Registry) apply(update jetstream.KeyValueEntry) {
	id := update.Key()
	var m *member
	bad := false
	if update.Operation() == jetstream.KeyValuePut && id != keyProofs {
		e, err := parseEntry(id, update.Value())
		if err == nil {
			m, err = r.memberOf(&e)
		}
		if err != nil {
			// One bad entry disables its device and nothing else.
			bad = true
			r.options.Log.Error().Err(err).Str("device", id).Msg("registry entry cannot be used; the device is disabled until it is mended")
		}
	}
	r.mu.Lock()
	delete(r.disabled, id)
	switch {
	case m != nil:
		r.members[m.id] = m
	case bad:
		r.disabled[id] = struct{}{}
		fallthrough
	default:
		delete(r.members, id)
	}
	r.mu.Unlock()
	r.applied(update.Revision())
}

// applied notes how far this replica is, and wakes those who wait for that.
func (r *Registry) applied(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision.Store(max(r.revision.Load(), revision))
	close(r.changed)
	r.changed = make(chan struct{})
}

// Device implements verify.Directory.
func (r *Registry) Device(id string) (*verify.Device, bool) {
	m := r.find(id)
	if m == nil || m.gateway {
		return nil, false
	}
	if v := m.verified.Load(); v != nil {
		return v, true
	}
	v := &verify.Device{ID: m.id, Patient: m.patient, Revoked: m.revoked, Keys: r.signing(m)}
	if m.rest != nil && m.rest.history != nil {
		v.Since, v.Former = m.rest.history.since, m.rest.history.former
	}
	// Sessions keep MAC states by the pointer, so there should be only one.
	if !m.verified.CompareAndSwap(nil, v) {
		if other := m.verified.Load(); other != nil {
			return other, true
		}
		return v, true
	}
	r.cache.add(m)
	return v, true
}

func (r *Registry) find(id string) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members[id]
}

// Size is how many devices and gateways are enrolled.
func (r *Registry) Size() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.members)
}

// Disabled is how many entries this replica cannot use: damaged ones, and those
// whose master secret it lacks.
func (r *Registry) Disabled() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.disabled)
}

// Revision is the last change that this replica has applied.
func (r *Registry) Revision() uint64 { return r.revision.Load() }

// await returns once this replica has applied a revision of the bucket.
func (r *Registry) await(ctx context.Context, revision uint64) error {
	for {
		r.mu.RLock()
		reached, changed := r.Revision() >= revision, r.changed
		r.mu.RUnlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the change is stored, but this replica has not seen it yet: %w", ctx.Err())
		}
	}
}

// ids returns the ids of a kind behind one, sorted, at most limit.
func (r *Registry) ids(kind Kind, after string, limit int) []string {
	r.mu.RLock()
	all := make([]string, 0, len(r.members))
	for id, m := range r.members {
		if id > after && m.kind() == kind {
			all = append(all, id)
		}
	}
	// What cannot be read may be anything; it is shown among the devices.
	for id := range r.disabled {
		if id > after && kind == KindDevice {
			all = append(all, id)
		}
	}
	r.mu.RUnlock()
	slices.Sort(all)
	return all[:min(limit, len(all))]
}
