package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// keyProofs is the bucket's key for the masters' proofs. No id has a dot.
const keyProofs = "masters.proofs"

// proveMasters makes sure that this replica's masters are those of the
// registry. A replica that made its own would refuse every device.
func (r *Registry) proveMasters(ctx context.Context) error {
	for {
		err := r.proveOnce(ctx)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

func (r *Registry) proveOnce(ctx context.Context) error {
	proofs, revision, err := readProofs(ctx, r.bucket)
	if err != nil {
		return err
	}
	added, err := r.masters.prove(proofs)
	if err != nil || !added {
		return err
	}
	value, err := json.Marshal(proofs)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = r.bucket.Create(ctx, keyProofs, value)
	} else {
		_, err = r.bucket.Update(ctx, keyProofs, value, revision)
	}
	return conflict(err)
}

// prove compares the masters with a registry's proofs, and adds those that it
// does not know yet.
func (m Masters) prove(proofs map[string]string) (added bool, err error) {
	shared := len(proofs) == 0
	for _, one := range m.all {
		known, ok := proofs[one.ID]
		shared = shared || ok
		switch {
		case !ok:
			proofs[one.ID], added = one.proof(), true
		case known != one.proof():
			return false, fmt.Errorf("the master key %q is not the one that this registry was made with: bring the right master.key into the data directory", one.ID)
		}
	}
	if !shared {
		return false, errors.New("none of this replica's master keys is one that this registry was made with: bring the right master.key into the data directory")
	}
	return added, nil
}

// CheckMasters says why a replica with these masters would not take a bucket for
// its registry, or nil. It changes nothing.
func CheckMasters(ctx context.Context, bucket jetstream.KeyValue, m Masters) error {
	proofs, _, err := readProofs(ctx, bucket)
	if err == nil {
		_, err = m.prove(proofs)
	}
	return err
}

// HasMasters says whether a bucket was made with a master secret: then a new one
// would be the wrong one.
func HasMasters(ctx context.Context, bucket jetstream.KeyValue) (bool, error) {
	_, err := bucket.Get(ctx, keyProofs)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

func readProofs(ctx context.Context, bucket jetstream.KeyValue) (map[string]string, uint64, error) {
	proofs := make(map[string]string)
	entry, err := bucket.Get(ctx, keyProofs)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return proofs, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("reading the registry: %w", err)
	case json.Unmarshal(entry.Value(), &proofs) != nil || proofs == nil:
		return nil, 0, fmt.Errorf("the registry's entry %s is damaged: restore the bucket from a backup", keyProofs)
	}
	return proofs, entry.Revision(), nil
}

// conflict turns JetStream's refusal of an outdated write into ErrConflict.
func conflict(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch),
		// Create has no such name for losing a race after a removal.
		errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		return ErrConflict
	}
	return fmt.Errorf("writing to the registry: %w", err)
}
