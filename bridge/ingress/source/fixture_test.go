package source_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/ingress/source"
	"github.com/pulsegate/pulsegate/bridge/ingress/source/mosquittest"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// soon is how long a test looks at what must not happen.
const soon = 100 * time.Millisecond

// secret must be in no log and no error.
const secret = "SECRET-OF-THE-SOURCE"

const topic = "wearables/w-1/vitals"

var (
	accepted = ingress.Disposition{Outcome: verify.Accepted}
	failed   = ingress.Disposition{Stored: ingress.Failed}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// absent ends a test whose tool is not there: as skipped, or as failed where the
// machine is meant to have everything.
func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", what)
	}
	t.Skipf("SKIPPED: %s is not installed", what)
}

// call is a message that waits for the test to settle it.
type call struct {
	ingress.Message
	broker string
	done   func(ingress.Disposition)
}

// gate is a source whose handler leaves everything to the test.
type gate struct {
	*source.Source
	calls chan call
	log   *buffer
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

type handler struct {
	*gate
	broker string
}

func (h handler) Handle(m ingress.Message, done func(ingress.Disposition)) {
	h.calls <- call{m, h.broker, done}
}

// start opens a source that need not be connected yet.
func start(t *testing.T, change func(*source.Options)) *gate {
	t.Helper()
	g := &gate{calls: make(chan call, 4096), log: &buffer{}}
	o := source.Options{
		ClientID: "gate", Filters: []string{"wearables/+/vitals"}, InFlight: 1000, InFlightBytes: 1 << 20,
		Handler: func(broker string) ingress.Handler { return handler{g, broker} },
		Now:     time.Now, Log: zerolog.New(g.log).Level(zerolog.TraceLevel),
	}
	change(&o)
	var err error
	g.Source, err = source.Open(o)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g.Close(ctx)
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("the log holds the password: %s", g.log)
		}
	})
	return g
}

// open connects a source to a broker.
func open(t *testing.T, b *mosquittest.Broker, change ...func(*source.Options)) *gate {
	t.Helper()
	g := start(t, func(o *source.Options) {
		o.Brokers = []string{b.URL()}
		for _, c := range change {
			c(o)
		}
	})
	g.connected(t)
	return g
}

func named(id string) func(*source.Options) { return func(o *source.Options) { o.ClientID = id } }

// until waits for what no event tells of.
func (g *gate) until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * mqttest.Patience); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s; Err: %v; log: %s", what, g.Err(), g.log)
		}
	}
}

func (g *gate) connected(t *testing.T) {
	t.Helper()
	g.until(t, "connected", func() bool { return g.Err() == nil })
}

// broken waits until Err says something.
func (g *gate) broken(t *testing.T, texts ...string) {
	t.Helper()
	g.until(t, fmt.Sprintf("broken by %q", texts), func() bool {
		err := g.Err()
		if err == nil {
			return false
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				return false
			}
		}
		return true
	})
}

func (g *gate) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-g.calls:
		return c
	case <-time.After(3 * mqttest.Patience):
		t.Fatalf("no message reached the handler; Err: %v; log: %s", g.Err(), g.log)
		return call{}
	}
}

// take expects messages with these payloads, in this order.
func (g *gate) take(t *testing.T, payloads ...string) []call {
	t.Helper()
	var all []call
	for _, want := range payloads {
		c := g.next(t)
		if string(c.Payload) != want {
			t.Fatalf("the handler got %q, want %q", c.Payload, want)
		}
		all = append(all, c)
	}
	return all
}

// settle expects messages and accepts each before the next.
func (g *gate) settle(t *testing.T, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		g.take(t, p)[0].done(accepted)
	}
}

// quiet expects that no message reaches the handler.
func (g *gate) quiet(t *testing.T) {
	t.Helper()
	select {
	case c := <-g.calls:
		t.Fatalf("the handler got %q", c.Payload)
	case <-time.After(soon):
	}
}

// close ends the source in an orderly way.
func (g *gate) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mqttest.Patience)
	defer cancel()
	g.Close(ctx)
	if ctx.Err() != nil {
		t.Error("it did not close by itself")
	}
}

// numbers are payloads from first to last.
func numbers(first, last int) []string {
	var all []string
	for n := first; n <= last; n++ {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

func payloads(texts ...string) [][]byte {
	var all [][]byte
	for _, text := range texts {
		all = append(all, []byte(text))
	}
	return all
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
