package ingress

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// flight bounds the messages of all connections that are being decided. Who
// waits for a place is served in the order of coming, and a connection waits for
// one at a time: none starves the others.
type flight struct {
	places, room *semaphore.Weighted

	messages, bytes atomic.Int64
}

func newFlight(messages int, bytes int64) *flight {
	return &flight{places: semaphore.NewWeighted(int64(messages)), room: semaphore.NewWeighted(bytes)}
}

// enter waits until there is a place for a message and room for its bytes, which
// must be no more than the bound, or until ctx is done.
func (f *flight) enter(ctx context.Context, size int64) error {
	if err := f.places.Acquire(ctx, 1); err != nil {
		return err
	}
	if err := f.room.Acquire(ctx, size); err != nil {
		f.places.Release(1)
		return err
	}
	f.messages.Add(1)
	f.bytes.Add(size)
	return nil
}

func (f *flight) leave(size int64) {
	f.bytes.Add(-size)
	f.messages.Add(-1)
	f.room.Release(size)
	f.places.Release(1)
}
