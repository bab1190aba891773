package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/configs"
)

var added = time.Date(2025, 11, 21, 23, 0, 0, 0, time.UTC)

const (
	history    = 72 * time.Hour
	password   = "a-password-of-a-test"
	oneMaster  = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
	twoMasters = oneMaster + "next 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f\n"
)

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
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

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("the error is %v, want %v", err, want)
	}
}

// site is a NATS with Pulsegate's accounts and a registry's bucket.
type site struct {
	server  *server.Server
	dir     string
	address string
	bucket  jetstream.KeyValue
	js      jetstream.JetStream
	nc      *nats.Conn
	clock   *clock
	log     *journal
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{clock: &clock{now: added}, log: &journal{}, dir: t.TempDir()}
	s.start(t, server.RANDOM_PORT)
	t.Cleanup(func() { s.stop() })
	s.nc = s.connect(t, s.address)
	s.js, s.bucket = s.open(t, s.nc)
	return s
}

func (s *site) start(t testing.TB, port int) {
	t.Helper()
	o := &server.Options{}
	variables := strings.NewReplacer("%", password).Replace(
		"GATE_PASSWORD: \"%\"\nOPERATOR_PASSWORD: \"%\"\nCONSUMER_PASSWORD: \"%\"\nSECURITY_PASSWORD: \"%\"\n")
	must(t, o.ProcessConfigString(variables+configs.NATSAccounts()))
	o.Host, o.Port, o.NoSigs, o.NoLog, o.JetStream, o.StoreDir = "127.0.0.1", port, true, true, true, s.dir
	var err error
	s.server, err = server.NewServer(o)
	must(t, err)
	s.server.Start()
	if !s.server.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	s.address = s.server.Addr().String()
}

func (s *site) stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// restart does something to the server's data while it is away.
func (s *site) restart(t testing.TB, meanwhile func()) {
	t.Helper()
	port := s.server.Addr().(*net.TCPAddr).Port
	s.stop()
	meanwhile()
	s.start(t, port)
}

func (s *site) connect(t testing.TB, address string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://"+address, nats.UserInfo("gate", password),
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// open returns the bucket as a connection sees it, made where it is not there.
func (s *site) open(t testing.TB, nc *nats.Conn) (jetstream.JetStream, jetstream.KeyValue) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	bucket, err := js.CreateKeyValue(within(t), jetstream.KeyValueConfig{Bucket: "devices"})
	must(t, err)
	return js, bucket
}

// setup is what a replica is opened with.
type setup struct {
	masters string
	address string
	options registry.Options
}

func (s *site) setup() setup {
	return setup{oneMaster, s.address, registry.Options{
		Topic:       func(device string) string { return "wearables/" + device + "/vitals" },
		Replica:     "here",
		KeepHistory: history,
		Now:         s.clock.Now,
		Log:         zerolog.New(s.log).Level(zerolog.TraceLevel),
	}}
}

// replica opens one more view of the bucket, with a connection of its own.
func (s *site) replica(t testing.TB, change ...func(*setup)) *registry.Registry {
	t.Helper()
	r, err := s.tryReplica(t, change...)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func (s *site) tryReplica(t testing.TB, change ...func(*setup)) (*registry.Registry, error) {
	t.Helper()
	with := s.setup()
	for _, c := range change {
		c(&with)
	}
	masters, err := registry.ParseMasters([]byte(with.masters))
	must(t, err)
	nc := s.connect(t, with.address)
	_, bucket := s.open(t, nc)
	return registry.Open(within(t), nc, bucket, masters, with.options)
}

func withMasters(text string) func(*setup) { return func(s *setup) { s.masters = text } }

func called(name string) func(*setup) { return func(s *setup) { s.options.Replica = name } }

// operator is a client with nothing but the operator's credentials.
func (s *site) operator(t testing.TB) (*registry.Client, *nats.Conn) {
	t.Helper()
	nc, err := nats.Connect("nats://"+s.address, nats.UserInfo("operator", password))
	must(t, err)
	t.Cleanup(nc.Close)
	return registry.NewClient(nc, "ann"), nc
}

// serve lets a registry answer operators and returns its audit.
func (s *site) serve(t testing.TB, r *registry.Registry) <-chan registry.Change {
	t.Helper()
	audit := make(chan registry.Change, 100)
	service, err := registry.Serve(r, "1.2.3", func(c registry.Change) { audit <- c })
	must(t, err)
	t.Cleanup(func() { must(t, service.Stop()) })
	return audit
}

func device(id string) registry.New {
	return registry.New{Kind: registry.KindDevice, ID: id, Patient: "p-1", By: "ann"}
}

func gateway(id string, carries, prefixes []string) registry.New {
	return registry.New{Kind: registry.KindGateway, ID: id, Carries: carries, Prefixes: prefixes, By: "ann"}
}

// enrol adds one and returns its credentials.
func enrol(t testing.TB, r *registry.Registry, n registry.New) registry.Credentials {
	t.Helper()
	applied, err := r.Add(within(t), n)
	must(t, err)
	if len(applied.Behind) > 0 {
		t.Fatalf("%v have not applied that %s was added", applied.Behind, n.ID)
	}
	c, err := r.Credentials(n.ID)
	must(t, err)
	return c
}

// done returns a change's result where it must have been applied everywhere.
func done(t testing.TB) func(registry.Applied, error) registry.Entry {
	return func(a registry.Applied, err error) registry.Entry {
		t.Helper()
		must(t, err)
		if len(a.Behind) > 0 || a.Unchanged {
			t.Errorf("behind are %v, unchanged is %v; want a change that is applied everywhere", a.Behind, a.Unchanged)
		}
		return a.Entry
	}
}

func generations(t testing.TB, r *registry.Registry, id string) string {
	t.Helper()
	d, known := r.Device(id)
	if !known {
		return "unknown"
	}
	var all []string
	for _, k := range d.Keys {
		text := fmt.Sprint(k.Generation)
		if !k.Until.IsZero() {
			text += fmt.Sprint(" until ", k.Until.Sub(added))
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}
