package registry

import (
	"context"
	"time"
)

// Await lets a test wait for a change that another replica made.
func (r *Registry) Await(ctx context.Context, revision uint64) error { return r.await(ctx, revision) }

// Behind names the live replicas that have not applied a revision.
func (r *Registry) Behind(revision uint64) []string {
	names, _ := r.behind(revision)
	return names
}

// Everywhere returns once every live replica has applied a revision, or with the
// names of those that have not.
func (r *Registry) Everywhere(ctx context.Context, revision uint64) []string {
	return r.everywhere(ctx, revision)
}

// Derived counts the devices whose keys are derived.
func (r *Registry) Derived() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, m := range r.members {
		if m.verified.Load() != nil {
			n++
		}
	}
	return n
}

const (
	// Page is how many entries one answer of list holds.
	Page = page
	// Cached bounds Derived.
	Cached = cached
	// Lease is how long a replica may judge.
	Lease = lease
	// PeerLimit is how long a silent replica is waited for.
	PeerLimit = peerLimit
	// KeyProofs is where the masters' proofs are.
	KeyProofs = keyProofs
	// MaxText is the longest ward.
	MaxText = maxText
)

// ChangeWith changes a device's ward, with something happening between the
// reading of the entry and its writing.
func ChangeWith(r *Registry, ctx context.Context, id string, between func()) (Applied, error) {
	return r.change(ctx, KindDevice, id, "carl", func(e *Entry, _ time.Time) error {
		between()
		e.Ward = "changed"
		return nil
	})
}
