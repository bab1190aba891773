package egress_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

// library is a NATS with the gate's streams, and a consumer of readings.
type library struct {
	dir      string
	engine   *engine.Engine
	consumer *nats.Conn
	count    int
}

func openLibrary(t *testing.T, republish egress.Republish) *library {
	t.Helper()
	l := &library{dir: t.TempDir()}
	l.open(t, "127.0.0.1:0")
	if _, err := egress.Ensure(t.Context(), l.engine.Conn(), readerLayout(republish)); err != nil {
		t.Fatal(err)
	}
	url, err := os.ReadFile(engine.URLFile(l.dir, "consumer"))
	if err != nil {
		t.Fatal(err)
	}
	l.consumer, err = nats.Connect(strings.TrimSpace(string(url)), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.consumer.Close)
	return l
}

func readerLayout(republish egress.Republish) egress.Layout {
	limits := egress.Limits{MaxBytes: 16 << 20, MaxAge: time.Hour}
	return egress.Layout{
		Vitals: limits, Rejections: limits, Audit: limits, Devices: limits,
		Replicas: 1, DuplicateWindow: time.Minute, Republish: republish,
	}
}

func (l *library) open(t *testing.T, listen string) {
	t.Helper()
	var err error
	l.engine, err = engine.Open(t.Context(), engine.Options{Dir: l.dir, Listen: listen, Sync: "1m", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.engine.Close() })
}

func (l *library) reader(t *testing.T) *egress.Reader {
	t.Helper()
	r, err := egress.NewReader(l.consumer, egress.StreamVitals, egress.SubjectLive)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// store stores n messages; each says which one it is.
func (l *library) store(t *testing.T, n int) {
	t.Helper()
	js, err := jetstream.New(l.engine.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		l.count++
		text := fmt.Sprint(l.count)
		m := &nats.Msg{Subject: "gate.in.vitals.live.p-1.w-1", Header: nats.Header{jetstream.MsgIDHeader: {text}}, Data: []byte(text)}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// inOrder fails at the first message that is not the next one, and ends at the last.
func inOrder(first, last int) func(egress.Stored) error {
	want := first
	return func(m egress.Stored) error {
		if string(m.Data) != fmt.Sprint(want) || m.Sequence != uint64(want) || m.Header.Get(jetstream.MsgIDHeader) != string(m.Data) {
			return fmt.Errorf("got %q at %d, want %d", m.Data, m.Sequence, want)
		}
		if want++; want > last {
			return errEnough
		}
		return nil
	}
}

var errEnough = errors.New("enough")

func TestReadGivesEveryStoredMessageOnce(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 1100)
	for _, from := range []int{0, 1, 700, 1100, 1101} {
		got := 0
		check := inOrder(max(from, 1), 1<<30)
		next, err := l.reader(t).Read(t.Context(), uint64(from), func(m egress.Stored) error {
			got++
			return check(m)
		})
		if err != nil || next != 1101 || got != 1101-max(from, 1) {
			t.Errorf("from %d: %d messages, then %d, %v", from, got, next, err)
		}
	}
}

func TestReadLeavesOutTheReadsOwnHeaders(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 1)
	_, err := l.reader(t).Read(t.Context(), 1, func(m egress.Stored) error {
		if len(m.Header) != 1 || m.Subject != "vitals.live.p-1.w-1" || m.Time.IsZero() {
			t.Errorf("got %+v", m)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReadOfAnEmptyStream(t *testing.T) {
	next, err := openLibrary(t, true).reader(t).Read(t.Context(), 0, func(egress.Stored) error { return errEnough })
	if next != 1 || err != nil {
		t.Errorf("got %d, %v", next, err)
	}
}

func TestReadGoesOnFromWhatWasRefused(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 3)
	next, err := l.reader(t).Read(t.Context(), 0, func(m egress.Stored) error {
		if m.Sequence == 2 {
			return errEnough
		}
		return nil
	})
	if next != 2 || err != errEnough {
		t.Errorf("got %d, %v", next, err)
	}
}

func TestReadLeavesOutOtherSubjects(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 1)
	js, err := jetstream.New(l.engine.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "gate.in.vitals.late.p-1.w-1.29", nil); err != nil {
		t.Fatal(err)
	}
	got := 0
	next, err := l.reader(t).Read(t.Context(), 0, func(egress.Stored) error { got++; return nil })
	if got != 1 || next != 3 || err != nil {
		t.Errorf("%d messages, then %d, %v", got, next, err)
	}
}

func TestFollowMissesNothingAndRepeatsNothing(t *testing.T) {
	for name, republish := range map[string]egress.Republish{"woken": true, "polling": false} {
		t.Run(name, func(t *testing.T) {
			l := openLibrary(t, republish)
			l.store(t, 600)
			ended := follow(t, l.reader(t), 1, 1800)
			l.store(t, 1200)
			if err := <-ended; !errors.Is(err, errEnough) {
				t.Error(err)
			}
		})
	}
}

func TestFollowGoesOnAfterAnOutage(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 10)
	url := l.engine.URL()
	seen := make(chan struct{})
	ended := make(chan error, 1)
	check := inOrder(1, 20)
	reader := l.reader(t)
	go func() {
		ended <- reader.Follow(t.Context(), 0, func(m egress.Stored) error {
			if m.Sequence == 10 {
				close(seen)
			}
			return check(m)
		})
	}()
	<-seen
	if err := l.engine.Close(); err != nil {
		t.Fatal(err)
	}
	l.open(t, strings.TrimPrefix(url, "nats://"))
	l.store(t, 10)
	if err := <-ended; !errors.Is(err, errEnough) {
		t.Error(err)
	}
}

func TestFollowNoticesAnotherStreamInItsPlace(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 3)
	ended := make(chan error, 1)
	seen := make(chan struct{})
	reader := l.reader(t)
	go func() {
		ended <- reader.Follow(t.Context(), 0, func(m egress.Stored) error {
			if m.Sequence == 3 {
				close(seen)
			}
			return nil
		})
	}()
	<-seen
	js, err := jetstream.New(l.engine.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), egress.StreamVitals); err != nil {
		t.Fatal(err)
	}
	if _, err := egress.Ensure(t.Context(), l.engine.Conn(), readerLayout(true)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, egress.ErrReplaced) {
		t.Error(err)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	l := openLibrary(t, true)
	l.store(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := l.reader(t).Follow(ctx, 0, func(egress.Stored) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func follow(t *testing.T, r *egress.Reader, first, last int) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- r.Follow(t.Context(), uint64(first), inOrder(first, last)) }()
	return ended
}
