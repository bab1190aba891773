package bridge

import (
	"context"
	"errors"
	"time"
)

// closeLimit bounds how long the parts may take to end once nothing is in flight
// or the time to finish is over.
const closeLimit = 5 * time.Second

var errStopping = errors.New("the gate is stopping")

// drain lets what is in flight finish until ctx is done, and returns the context
// of what comes after.
func (b *Bridge) drain(ctx context.Context) (context.Context, context.CancelFunc) {
	b.stopping.Store(true)
	await := b.drainSource(ctx)
	if broker := b.broker.Load(); broker != nil {
		broker.Drain(ctx)
	}
	await()
	return context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
}
