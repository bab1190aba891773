package clock_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/clock"
)

const tolerance = 2 * time.Second

// world has a machine's clock and NATS' that can be set. It stands in a bubble
// of testing/synctest, where time passes only when every goroutine waits: so a
// test sleeps without taking time, and knows what happens when.
type world struct {
	*clock.Clock
	begin time.Time
	// machine and nats are by how much the clocks are ahead of true time.
	machine, nats atomic.Int64
	// there and back are how long a question and its answer travel.
	there, back atomic.Int64
	away        atomic.Bool
	asked       atomic.Int64
	// interrupt, where it is set, is called once, when the machine's clock is read
	// the next time, before and after that.
	interrupt     atomic.Pointer[func()]
	interruptLate atomic.Pointer[func()]
	log           bytes.Buffer
}

// inWorld runs a test in a world whose clocks are right.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, &world{begin: time.Now()}) })
}

// compared is a Clock that has been compared once.
func compared(t *testing.T, w *world) {
	t.Helper()
	w.open(t)
	need(t, w.First(t.Context()))
	synctest.Wait()
}

func (w *world) open(t *testing.T) {
	w.Clock = clock.New(clock.Options{
		Wall: w.wall, Elapsed: func() time.Duration { return time.Since(w.begin) },
		Tolerance: tolerance, Ask: w.ask, Log: zerolog.New(&w.log),
	})
	t.Cleanup(func() { need(t, w.Close(context.Background())) })
}

// truth is the true time.
func (w *world) truth() time.Time { return time.Now().Round(0) }

func (w *world) wall() time.Time {
	if f := w.interrupt.Swap(nil); f != nil {
		(*f)()
	}
	now := w.truth().Add(time.Duration(w.machine.Load()))
	if f := w.interruptLate.Swap(nil); f != nil {
		(*f)()
	}
	return now
}

var errAway = errors.New("nobody answers")

func (w *world) ask(ctx context.Context) (time.Time, error) {
	w.asked.Add(1)
	if w.away.Load() {
		return time.Time{}, errAway
	}
	travel(ctx, &w.there)
	now := w.truth().Add(time.Duration(w.nats.Load()))
	travel(ctx, &w.back)
	return now, ctx.Err()
}

func travel(ctx context.Context, long *atomic.Int64) {
	select {
	case <-time.After(time.Duration(long.Load())):
	case <-ctx.Done():
	}
}

func set(clock *atomic.Int64, ahead time.Duration) { clock.Store(int64(ahead)) }

// pass lets time pass, and what is to happen happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// told is what the time told is ahead of true time.
func (w *world) told() time.Duration { return w.Now().Sub(w.truth()) }

// lines are the messages in the log so far.
func (w *world) lines() []string {
	return strings.Split(strings.TrimSuffix(w.log.String(), "\n"), "\n")[:strings.Count(w.log.String(), "\n")]
}

func need(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// says fails unless an error has all of the parts.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %v, want it to say %q", err, part)
		}
	}
}
