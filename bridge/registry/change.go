package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// errDamaged says that an entry is there and cannot be used.
var errDamaged = errors.New("the registry's entry cannot be used")

// spreadLimit bounds how long a change may take to be applied everywhere.
const spreadLimit = 5 * time.Second

// Applied is the result of a change.
type Applied struct {
	Entry Entry
	// Behind names live replicas that have not applied the change in time.
	Behind []string
	// Unchanged is true where there was nothing to do.
	Unchanged bool
}

// Add enrols a device or gateway. It returns ErrBadID, ErrKey or ErrExists
// where that applies.
func (r *Registry) Add(ctx context.Context, n New) (Applied, error) {
	e, err := r.newEntry(n)
	if err != nil {
		return Applied{}, err
	}
	value, err := json.Marshal(e)
	if err != nil {
		return Applied{}, err
	}
	revision, err := r.bucket.Create(ctx, n.ID, value)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return Applied{}, fmt.Errorf("%s %s: %w", n.Kind, n.ID, ErrExists)
	}
	if err := conflict(err); err != nil {
		return Applied{}, err
	}
	return r.spread(ctx, e, revision), nil
}

func (r *Registry) newEntry(n New) (Entry, error) {
	if err := n.check(); err != nil {
		return Entry{}, err
	}
	now, err := r.changeTime()
	if err != nil {
		return Entry{}, err
	}
	master := r.masters.Newest()
	var enrolment [enrolmentSize]byte
	_, _ = rand.Read(enrolment[:]) // never fails, see crypto/rand
	e := Entry{
		Kind: n.Kind, ID: n.ID, State: cmp.Or(n.State, Active), Ward: n.Ward, Labels: n.Labels,
		Enrolment: hex.EncodeToString(enrolment[:]), Master: master.ID, Added: now, Changed: now, ChangedBy: n.By,
	}
	if n.Kind == KindGateway {
		return e, carry(&e, n.Carries, n.Prefixes)
	}
	key := KeyEntry{Generation: 1, Master: master.ID, From: now}
	if n.Key != nil {
		var err error
		b := binding{KindDevice, n.ID, enrolment[:], 1, master.ID}
		if key.Sealed, err = master.seal(n.Key, b); err != nil {
			return Entry{}, err
		}
	}
	e.Keys, e.Assignments = []KeyEntry{key}, []Assignment{{PatientID: n.Patient, From: now}}
	return e, nil
}

// errNothing tells change that the entry is as it should be.
var errNothing = errors.New("nothing to change")

// change edits an entry that nobody else may have changed meanwhile. What
// Signed notes by itself is nobody's change: the edit is made again after it.
func (r *Registry) change(ctx context.Context, kind Kind, id, by string, edit func(e *Entry, now time.Time) error) (Applied, error) {
	for {
		entry, revision, err := r.read(ctx, kind, id)
		if err != nil {
			return Applied{}, err
		}
		applied, err := r.edited(ctx, entry, revision, by, edit)
		if r.onlyNoted(ctx, entry, err) {
			continue
		}
		if err != nil {
			return Applied{}, fmt.Errorf("%s %s: %w", kind, id, err)
		}
		return applied, nil
	}
}

// onlyNoted says whether a change was refused for nothing but what Signed notes.
func (r *Registry) onlyNoted(ctx context.Context, read Entry, err error) bool {
	if !errors.Is(err, ErrConflict) {
		return false
	}
	latest, _, err := r.read(ctx, read.Kind, read.ID)
	return err == nil && latest.sameButUsed(read)
}

// edited stores an entry's new version, which follows upon a revision.
func (r *Registry) edited(ctx context.Context, entry Entry, revision uint64, by string, edit func(e *Entry, now time.Time) error) (Applied, error) {
	entry = entry.clone()
	now, err := r.changeTime()
	if err != nil {
		return Applied{}, err
	}
	switch err := edit(&entry, now); {
	case errors.Is(err, errNothing):
		// Somebody may have changed it just now: make sure of everybody.
		applied := r.spread(ctx, entry, revision)
		applied.Unchanged = true
		return applied, nil
	case err != nil:
		return Applied{}, err
	}
	entry.Changed, entry.ChangedBy = now, by
	entry.trim(now.Add(-r.options.KeepHistory))
	value, err := json.Marshal(entry)
	if err != nil {
		return Applied{}, err
	}
	revision, err = r.bucket.Update(ctx, entry.ID, value, revision)
	if err := conflict(err); err != nil {
		return Applied{}, err
	}
	return r.spread(ctx, entry, revision), nil
}

func (r *Registry) spread(ctx context.Context, e Entry, revision uint64) Applied {
	ctx, cancel := context.WithTimeout(ctx, spreadLimit)
	defer cancel()
	return Applied{Entry: e, Behind: r.everywhere(ctx, revision)}
}

// read returns an entry as the bucket has it now.
func (r *Registry) read(ctx context.Context, kind Kind, id string) (Entry, uint64, error) {
	stored, err := r.get(ctx, kind, id)
	if err != nil {
		return Entry{}, 0, err
	}
	e, err := parseEntry(id, stored.Value())
	if err != nil {
		return Entry{}, 0, damaged(kind, id, err)
	}
	if e.Kind != kind {
		return Entry{}, 0, fmt.Errorf("%s %q: %w: the id belongs to a %s", kind, id, ErrUnknown, e.Kind)
	}
	return e, stored.Revision(), nil
}

func damaged(kind Kind, id string, err error) error {
	return fmt.Errorf("%s %s: %w: %w; remove it and add it again", kind, id, errDamaged, err)
}

// Assign gives a device to another patient, from now on.
func (r *Registry) Assign(ctx context.Context, id, patient, by string) (Applied, error) {
	if !reading.ValidID(patient) {
		return Applied{}, fmt.Errorf("patient id %q: %w", patient, ErrBadID)
	}
	return r.change(ctx, KindDevice, id, by, func(e *Entry, now time.Time) error {
		if e.Patient() == patient {
			return errNothing
		}
		e.Assignments[0].Until = now
		e.Assignments = append([]Assignment{{PatientID: patient, From: now}}, e.Assignments...)
		return nil
	})
}

// Rotate gives a device a new key, derived from the newest master; the old one
// stays in force for overlap, and with it the password if the master is another.
func (r *Registry) Rotate(ctx context.Context, id string, overlap time.Duration, by string) (Applied, error) {
	if overlap < 0 {
		return Applied{}, fmt.Errorf("%w: the overlap is %v; it must not be negative", ErrInvalid, overlap)
	}
	return r.change(ctx, KindDevice, id, by, func(e *Entry, now time.Time) error {
		for i := range e.Keys {
			if until := now.Add(overlap); e.Keys[i].Until.IsZero() || until.Before(e.Keys[i].Until) {
				e.Keys[i].Until = until
			}
		}
		e.Master = r.masters.Newest().ID
		next := KeyEntry{Generation: e.Generation() + 1, Master: e.Master, From: now}
		e.Keys = append([]KeyEntry{next}, e.Keys...)
		return nil
	})
}

// Revoke cuts a device or gateway off; Restore lets it in again.
func (r *Registry) Revoke(ctx context.Context, kind Kind, id, by string) (Applied, error) {
	return r.become(ctx, kind, id, by, Revoked)
}

// Restore undoes Revoke.
func (r *Registry) Restore(ctx context.Context, kind Kind, id, by string) (Applied, error) {
	return r.become(ctx, kind, id, by, Active)
}

func (r *Registry) become(ctx context.Context, kind Kind, id, by string, state State) (Applied, error) {
	return r.change(ctx, kind, id, by, func(e *Entry, _ time.Time) error {
		if e.State == state {
			return errNothing
		}
		e.State = state
		return nil
	})
}

// Carry sets for which devices a gateway may bring readings.
func (r *Registry) Carry(ctx context.Context, id string, devices, prefixes []string, by string) (Applied, error) {
	return r.change(ctx, KindGateway, id, by, func(e *Entry, _ time.Time) error {
		if slices.Equal(e.Carries, devices) && slices.Equal(e.Prefixes, prefixes) {
			return errNothing
		}
		return carry(e, devices, prefixes)
	})
}

// Used notes that a device has signed with its newest key after a rotation. It
// is no change that anybody waits for.
func (r *Registry) Used(ctx context.Context, id string, generation uint32) error {
	entry, revision, err := r.read(ctx, KindDevice, id)
	if err != nil || entry.Generation() != generation || !entry.Keys[0].Used.IsZero() {
		return err
	}
	entry.Keys[0].Used = r.options.Now().UTC()
	value, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	_, err = r.bucket.Update(ctx, id, value, revision)
	return conflict(err)
}

// Remove takes a device or gateway out; from then on it is unknown, and nothing
// revives its secrets. An entry that is damaged can be removed too.
func (r *Registry) Remove(ctx context.Context, kind Kind, id string) (Applied, error) {
	for {
		entry, revision, err := r.removable(ctx, kind, id)
		if err != nil {
			return Applied{}, err
		}
		err = conflict(r.bucket.Delete(ctx, id, jetstream.LastRevision(revision)))
		if r.onlyNoted(ctx, entry, err) {
			continue
		}
		if err != nil {
			return Applied{}, fmt.Errorf("%s %s: %w", kind, id, err)
		}
		last, _, err := r.lastSequence(ctx)
		if err != nil {
			// It is removed; who has heard of it cannot be said.
			return Applied{Entry: entry, Behind: []string{r.options.Replica}}, nil
		}
		return r.spread(ctx, entry, last), nil
	}
}

func (r *Registry) removable(ctx context.Context, kind Kind, id string) (Entry, uint64, error) {
	stored, err := r.get(ctx, kind, id)
	if err != nil {
		return Entry{}, 0, err
	}
	entry, err := parseEntry(id, stored.Value())
	switch {
	case err != nil:
		entry = Entry{Kind: kind, ID: id} // what is damaged is shown to nobody
	case entry.Kind != kind:
		return Entry{}, 0, fmt.Errorf("%s %q: %w: the id belongs to a %s", kind, id, ErrUnknown, entry.Kind)
	}
	return entry, stored.Revision(), nil
}

func (r *Registry) get(ctx context.Context, kind Kind, id string) (jetstream.KeyValueEntry, error) {
	if !reading.ValidID(id) {
		return nil, fmt.Errorf("%s id %q: %w", kind, id, ErrBadID)
	}
	stored, err := r.bucket.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("%s %q: %w", kind, id, ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the registry: %w", err)
	}
	return stored, nil
}

// Show returns an entry as the bucket has it now.
func (r *Registry) Show(ctx context.Context, kind Kind, id string) (Entry, error) {
	e, _, err := r.read(ctx, kind, id)
	return e, err
}

// List returns at most limit entries of a kind in the order of their ids,
// beginning behind after.
func (r *Registry) List(ctx context.Context, kind Kind, after string, limit int) ([]Entry, error) {
	entries := []Entry{}
	for _, id := range r.ids(kind, after, limit) {
		e, _, err := r.read(ctx, kind, id)
		switch {
		case errors.Is(err, ErrUnknown): // removed meanwhile
		case errors.Is(err, errDamaged):
			entries = append(entries, Entry{Kind: kind, ID: id, State: Damaged})
		case err != nil:
			return nil, err
		default:
			entries = append(entries, e)
		}
	}
	return entries, nil
}
