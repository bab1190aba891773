package registry_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

var added = time.Date(2025, 11, 21, 23, 0, 0, 0, time.UTC)

// site is a NATS with a registry's bucket, and the master key beside it.
type site struct {
	dir    string
	engine *engine.Engine
	bucket jetstream.KeyValue
	master registry.Master
	log    *journal
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), log: &journal{}}
	var err error
	s.engine, err = engine.Open(within(t), engine.Options{Dir: s.dir, Listen: "127.0.0.1:0", Sync: "1m", Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(func() { must(t, s.engine.Close()) })
	js, err := jetstream.New(s.engine.Conn())
	must(t, err)
	s.bucket, err = js.CreateKeyValue(within(t), jetstream.KeyValueConfig{Bucket: "devices"})
	must(t, err)
	s.master, err = registry.LoadMaster(filepath.Join(s.dir, "master.key"))
	must(t, err)
	return s
}

// replica opens one more view of the bucket.
func (s *site) replica(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.Open(within(t), s.bucket, s.master, registry.Options{
		Topic: func(device string) string { return "wearables/" + device + "/vitals" },
		Now:   func() time.Time { return added },
		Log:   zerolog.New(s.log),
	})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

// operator is a client with nothing but the operator's URL.
func (s *site) operator(t *testing.T) *registry.Client {
	t.Helper()
	url, err := os.ReadFile(engine.URLFile(s.dir, "operator"))
	must(t, err)
	nc, err := nats.Connect(strings.TrimSpace(string(url)))
	must(t, err)
	t.Cleanup(nc.Close)
	return registry.NewClient(nc)
}

// serve lets a registry answer operators and returns its audit.
func (s *site) serve(t *testing.T, r *registry.Registry) <-chan registry.Change {
	t.Helper()
	audit := make(chan registry.Change, 100)
	service, err := registry.Serve(s.engine.Conn(), r, "1.2.3", func(c registry.Change) { audit <- c })
	must(t, err)
	t.Cleanup(func() { must(t, service.Stop()) })
	must(t, s.engine.Conn().Flush())
	return audit
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("the error is %v, want %v", err, want)
	}
}
