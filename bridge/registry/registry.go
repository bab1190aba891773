// Package registry knows which devices are enrolled, for which patients, and
// derives their secrets. The entries live in a JetStream key-value bucket that
// every replica watches; the bucket holds no secret.
package registry

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

var (
	// ErrUnknown says that no device of that id is enrolled.
	ErrUnknown = errors.New("no such device")
	// ErrExists says that a device of that id is enrolled already.
	ErrExists = errors.New("the device is enrolled already")
	// ErrBadID says that an id is none.
	ErrBadID = errors.New("not an id: it must match [A-Za-z0-9_-]{1,64} and not be a single _")
	// ErrNotWatched says that the bucket's changes do not arrive: the bucket, or
	// the connection to NATS, is gone.
	ErrNotWatched = errors.New("the registry is not watched any more: restart this process")
)

// Entry is what the bucket holds of a device.
type Entry struct {
	DeviceID  string `json:"device_id"`
	PatientID string `json:"patient_id"`
	// Enrolment is random and new at every add, as 32 hexadecimal digits, so
	// that adding a removed id again revives none of its secrets.
	Enrolment string `json:"enrolment"`
	// Generation counts the device's keys from 1.
	Generation uint32    `json:"generation"`
	Added      time.Time `json:"added"`
}

// Options say how a Registry is to work.
type Options struct {
	// Topic returns the topic that a device publishes on.
	Topic func(device string) string
	Now   func() time.Time
	Log   zerolog.Logger
}

// Registry is a replica's view of the bucket. It implements verify.Directory
// and is safe for concurrent use.
type Registry struct {
	options Options
	bucket  jetstream.KeyValue
	master  Master
	watcher jetstream.KeyWatcher
	stop    sync.Once
	closing chan struct{}
	ended   chan struct{}

	mu       sync.RWMutex
	devices  map[string]*device
	revision uint64
	changed  chan struct{}
}

// device is an entry with its secrets, which are derived when first needed.
type device struct {
	entry     Entry
	revision  uint64
	enrolment []byte
	verified  atomic.Pointer[verify.Device]
	password  atomic.Pointer[string]
}

// Open loads the bucket and watches it. It returns when all that the bucket
// holds has been taken in.
func Open(ctx context.Context, bucket jetstream.KeyValue, master Master, o Options) (*Registry, error) {
	r := &Registry{
		options: o, bucket: bucket, master: master,
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		devices: make(map[string]*device),
		changed: make(chan struct{}),
	}
	// The watch outlives ctx, which bounds only the first load.
	watcher, err := bucket.WatchAll(context.WithoutCancel(ctx))
	if err != nil {
		return nil, fmt.Errorf("watching the registry: %w", err)
	}
	r.watcher = watcher
	loaded := make(chan struct{})
	go r.follow(loaded)
	select {
	case <-loaded:
		return r, nil
	case <-r.ended:
		return nil, fmt.Errorf("loading the registry: %w", r.Err())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("loading the registry: %w", ctx.Err()), r.Close())
	}
}

// Close stops watching. Further calls do nothing.
func (r *Registry) Close() error {
	var err error
	r.stop.Do(func() {
		close(r.closing)
		if r.Err() == nil {
			err = r.watcher.Stop()
		}
		<-r.ended
	})
	return err
}

// Err returns ErrNotWatched once changes no longer reach this replica, or nil.
func (r *Registry) Err() error {
	select {
	case <-r.ended:
		return ErrNotWatched
	default:
		return nil
	}
}

// follow takes in every change; a nil marks the end of what was there before.
func (r *Registry) follow(loaded chan<- struct{}) {
	defer close(r.ended)
	for update := range r.watcher.Updates() {
		if update == nil {
			close(loaded)
			continue
		}
		r.apply(update)
	}
	select {
	case <-r.closing:
	default:
		r.options.Log.Error().Err(ErrNotWatched).Msg("the registry is out of date from now on")
	}
}

func (r *Registry) apply(update jetstream.KeyValueEntry) {
	var d *device
	if update.Operation() == jetstream.KeyValuePut {
		var err error
		if d, err = parse(update); err != nil {
			// One bad entry disables its device and nothing else.
			r.options.Log.Error().Err(err).Str("device", update.Key()).Msg("registry entry cannot be used; the device is disabled until it is mended")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if d == nil {
		delete(r.devices, update.Key())
	} else {
		r.devices[update.Key()] = d
	}
	r.revision = update.Revision()
	close(r.changed)
	r.changed = make(chan struct{})
}

// parse reads an entry. Its errors quote nothing of it.
func parse(update jetstream.KeyValueEntry) (*device, error) {
	var e Entry
	if json.Unmarshal(update.Value(), &e) != nil {
		return nil, errors.New("not JSON of an entry's form")
	}
	key := update.Key()
	enrolment, err := hex.DecodeString(e.Enrolment)
	switch {
	case err != nil || len(enrolment) != 16:
		return nil, errors.New("enrolment is not 32 hexadecimal digits")
	case e.DeviceID != key || !reading.ValidID(key):
		return nil, errors.New("device_id is not the entry's key")
	case !reading.ValidID(e.PatientID):
		return nil, errors.New("patient_id is not an id")
	case e.Generation == 0:
		return nil, errors.New("generation is 0; it counts from 1")
	}
	return &device{entry: e, revision: update.Revision(), enrolment: enrolment}, nil
}

// Device implements verify.Directory.
func (r *Registry) Device(id string) (*verify.Device, bool) {
	d := r.find(id)
	if d == nil {
		return nil, false
	}
	if v := d.verified.Load(); v != nil {
		return v, true
	}
	v := &verify.Device{
		ID: d.entry.DeviceID, Patient: d.entry.PatientID,
		Keys: []verify.Key{{
			Generation: d.entry.Generation,
			Secret:     r.master.derive(forSigning, d.entry.DeviceID, d.enrolment, d.entry.Generation),
		}},
	}
	// Sessions keep MAC states by the pointer, so there must be only one.
	if !d.verified.CompareAndSwap(nil, v) {
		v = d.verified.Load()
	}
	return v, true
}

func (r *Registry) find(id string) *device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.devices[id]
}

// Authenticate says whether a password is the device's, in a time that does
// not depend on how much of it is right.
func (r *Registry) Authenticate(id, password string) bool {
	d := r.find(id)
	if d == nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(r.password(d)), []byte(password)) == 1
}

func (r *Registry) password(d *device) string {
	if p := d.password.Load(); p != nil {
		return *p
	}
	p := hex.EncodeToString(r.master.derive(forPassword, d.entry.DeviceID, d.enrolment, 0))
	d.password.Store(&p)
	return p
}

// Size is how many devices are enrolled, and Revision the last change that
// this replica has applied.
func (r *Registry) Size() (devices int, revision uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.devices), r.revision
}

// Show returns a device's entry.
func (r *Registry) Show(id string) (Entry, error) {
	d := r.find(id)
	if d == nil {
		return Entry{}, fmt.Errorf("device %q: %w", id, ErrUnknown)
	}
	return d.entry, nil
}

// List returns at most limit entries in the order of their ids, beginning
// behind after.
func (r *Registry) List(after string, limit int) []Entry {
	behind := r.behind(after)
	// Sorting many devices takes long enough for the lock to hold up readings.
	slices.SortFunc(behind, func(a, b *device) int { return strings.Compare(a.entry.DeviceID, b.entry.DeviceID) })
	entries := make([]Entry, min(limit, len(behind)))
	for i := range entries {
		entries[i] = behind[i].entry
	}
	return entries
}

func (r *Registry) behind(after string) []*device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found := make([]*device, 0, len(r.devices))
	for id, d := range r.devices {
		if id > after {
			found = append(found, d)
		}
	}
	return found
}

// Credentials returns what a device needs to know, secrets included.
func (r *Registry) Credentials(id string) (Credentials, error) {
	d := r.find(id)
	if d == nil {
		return Credentials{}, fmt.Errorf("device %q: %w", id, ErrUnknown)
	}
	v, _ := r.Device(id)
	if v == nil {
		return Credentials{}, fmt.Errorf("device %q: %w", id, ErrUnknown)
	}
	return Credentials{
		DeviceID: id, PatientID: v.Patient, Topic: r.options.Topic(id),
		Username: id, Password: r.password(d), Key: hex.EncodeToString(v.Keys[0].Secret),
	}, nil
}
