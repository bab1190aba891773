package registry

import (
	"context"
	"time"
)

// usedLimit bounds noting that a key has been used.
const usedLimit = 5 * time.Second

// Signed tells the registry which key signed an accepted reading, so that a
// rotation can be seen to be over. It does not block, and does something only
// for the first reading under a new key.
func (r *Registry) Signed(id string, generation uint32) {
	m := r.find(id)
	if m == nil || m.rest == nil || len(m.rest.keys) < 2 {
		return
	}
	newest := &m.rest.keys[0]
	if newest.generation != generation || newest.used || m.rest.noting.Swap(true) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(r.context, usedLimit)
		defer cancel()
		if err := r.Used(ctx, id, generation); err != nil {
			// The next reading tries again.
			m.rest.noting.Store(false)
			r.options.Log.Debug().Err(err).Str("device", id).Msg("it could not be noted that a device uses its new key")
		}
	}()
}
