package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// Add enrols a device for a patient and returns its credentials once this
// replica serves it. It returns ErrBadID or ErrExists where that applies.
func (r *Registry) Add(ctx context.Context, id, patient string) (Credentials, error) {
	if !reading.ValidID(id) {
		return Credentials{}, fmt.Errorf("device id %q: %w", id, ErrBadID)
	}
	if !reading.ValidID(patient) {
		return Credentials{}, fmt.Errorf("patient id %q: %w", patient, ErrBadID)
	}
	var enrolment [16]byte
	_, _ = rand.Read(enrolment[:])
	e := Entry{
		DeviceID: id, PatientID: patient, Enrolment: hex.EncodeToString(enrolment[:]),
		Generation: 1, Added: r.options.Now().UTC(),
	}
	value, err := json.Marshal(e)
	if err != nil {
		return Credentials{}, err
	}
	revision, err := r.bucket.Create(ctx, id, value)
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		return Credentials{}, fmt.Errorf("device %s: %w", id, ErrExists)
	case err != nil:
		return Credentials{}, fmt.Errorf("writing to the registry: %w", err)
	}
	if err := r.await(ctx, revision); err != nil {
		return Credentials{}, err
	}
	return r.Credentials(id)
}

// Remove takes a device out of the registry; from then on it is unknown. It
// looks in the bucket itself, since an entry that this replica cannot use, or
// has not seen yet, must be removable too.
func (r *Registry) Remove(ctx context.Context, id string) error {
	if !reading.ValidID(id) {
		return fmt.Errorf("device id %q: %w", id, ErrBadID)
	}
	entry, err := r.bucket.Get(ctx, id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return fmt.Errorf("device %q: %w", id, ErrUnknown)
	case err != nil:
		return fmt.Errorf("reading the registry: %w", err)
	}
	if err := r.bucket.Delete(ctx, id, jetstream.LastRevision(entry.Revision())); err != nil {
		return fmt.Errorf("writing to the registry: %w", err)
	}
	return r.awaitGone(ctx, id, entry.Revision())
}

// await returns once this replica has applied a revision of the bucket.
func (r *Registry) await(ctx context.Context, revision uint64) error {
	return r.until(ctx, func() bool { return r.revision >= revision })
}

// awaitGone returns once a revision of a device is no longer served here; a
// later one may be.
func (r *Registry) awaitGone(ctx context.Context, id string, revision uint64) error {
	return r.until(ctx, func() bool {
		d := r.devices[id]
		return r.revision > revision && (d == nil || d.revision > revision)
	})
}

func (r *Registry) until(ctx context.Context, reached func() bool) error {
	for {
		r.mu.RLock()
		ok, changed := reached(), r.changed
		r.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-r.ended:
			return fmt.Errorf("the change is stored, but this replica has not seen it: %w", ErrNotWatched)
		case <-ctx.Done():
			return fmt.Errorf("the change is stored, but this replica has not seen it yet: %w", ctx.Err())
		}
	}
}
