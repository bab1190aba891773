package registry

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// watchLimit bounds the beginning of a watch, not the watch.
const watchLimit = 2 * time.Second

// watch brings the bucket's changes.
type watch struct {
	// again asks to begin anew where the watch is, anew to drop all before.
	again  chan struct{}
	anew   atomic.Bool
	loaded chan struct{}
}

// startWatching watches until the registry is closed. watch.loaded closes when
// all that was there has been applied.
func (r *Registry) startWatching() error {
	one, err := r.begin()
	if err != nil {
		return fmt.Errorf("watching the registry: %w", err)
	}
	reconnected := r.nc.StatusChanged(nats.CONNECTED)
	r.working.Add(1)
	go func() {
		defer r.working.Done()
		defer r.nc.RemoveStatusListener(reconnected)
		for one != nil {
			r.follow(one, reconnected)
			one.end()
			if r.watch.anew.Swap(false) {
				r.forget()
			}
			one = r.resume()
		}
	}()
	return nil
}

// running is a watch that has begun.
type running struct {
	jetstream.KeyWatcher
	cancel context.CancelFunc
}

// begin starts a watch, or gives up soon: the answer may be lost with the
// connection, and the one that has come back is not to wait for it.
func (r *Registry) begin(from ...jetstream.WatchOpt) (*running, error) {
	ctx, cancel := context.WithCancel(r.context)
	late := time.AfterFunc(watchLimit, cancel)
	watcher, err := r.bucket.WatchAll(ctx, from...)
	if err != nil {
		cancel()
		return nil, err
	}
	late.Stop() // where it has fired, the watch ends at once
	return &running{watcher, cancel}, nil
}

// end stops a watch, without waiting for a server that may be away. What the
// watch has still to bring is taken, since it would keep a goroutine, and all
// that, for ever.
func (w *running) end() {
	go func() {
		_ = w.Stop()
		w.cancel()
		for range w.Updates() {
		}
	}()
}

// follow takes in changes until the watch ends or should be begun anew.
func (r *Registry) follow(one *running, reconnected <-chan nats.Status) {
	for {
		select {
		case update, open := <-one.Updates():
			switch {
			case !open:
				return
			case update == nil:
				r.firstLoadDone()
			default:
				r.apply(update)
				if r.isLoaded() {
					r.tell(update.Key())
				}
			}
		case <-reconnected:
			return
		case <-r.watch.again:
			return
		case <-r.closing:
			return
		}
	}
}

// resume watches from the first change that has not been applied, trying until
// that succeeds or the registry is closed, which is nil.
func (r *Registry) resume() *running {
	for {
		select {
		case <-r.closing:
			return nil
		default:
		}
		var from []jetstream.WatchOpt
		if revision := r.Revision(); revision > 0 && r.isLoaded() {
			from = append(from, jetstream.ResumeFromRevision(revision+1))
		}
		if one, err := r.begin(from...); err == nil {
			return one
		}
		select {
		case <-r.closing:
			return nil
		case <-time.After(renewPause):
		}
	}
}

func (r *Registry) watchAgain() {
	select {
	case r.watch.again <- struct{}{}:
	default: // it will begin anew already
	}
}

func (r *Registry) isLoaded() bool {
	select {
	case <-r.watch.loaded:
		return true
	default:
		return false
	}
}

// firstLoadDone is called by the one goroutine that follows.
func (r *Registry) firstLoadDone() {
	if !r.isLoaded() {
		close(r.watch.loaded)
	}
}

// forget drops everything, for a bucket that is another one now. Only the
// goroutine that follows may call it, so that nothing of the old one comes after.
func (r *Registry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = make(map[string]*member)
	r.disabled = make(map[string]struct{})
	r.revision.Store(0)
}
