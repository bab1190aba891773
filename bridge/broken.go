package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

const (
	// lookEvery is how often the embedded store is looked at.
	lookEvery = time.Second
	// brokenLooks is how often in a row it must have been found unavailable: a
	// process that was stopped for a while finds so for a moment.
	brokenLooks = 3
)

// watchEmbedded tells Failed once the embedded store has been unavailable for the
// set time. After an error in writing a file, such as a full disk, nats-server
// stores nothing more until it is started anew, and there is no other server to
// wait for. A stream at its limit is no such failure: it would be full again.
func (b *Bridge) watchEmbedded() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	b.later(func(context.Context) error {
		close(stop)
		<-stopped
		return nil
	})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		for found := 0; found < brokenLooks; {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			found++
			err := b.store.Err()
			if err == nil || errors.Is(err, egress.ErrFull) {
				found = 0
			}
			if found == brokenLooks {
				b.failed <- fmt.Errorf("the embedded store does not work any more, and nothing is acknowledged: %w; the log says why (a full disk?); once that is mended, start again", err)
			}
		}
	}()
}

// Failed receives an error if the gate cannot go on and should be closed and
// started anew, by a supervisor for example.
func (b *Bridge) Failed() <-chan error { return b.failed }
