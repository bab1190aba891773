package egress_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/reading"
)

// depot is a nats-server that can be taken away and brought back, and the gate's
// connection to it.
type depot struct {
	dir    string
	port   int
	server *server.Server
	nc     *nats.Conn
	js     jetstream.JetStream
}

func depotLayout() egress.Layout {
	limits := egress.Limits{MaxBytes: 16 << 20, MaxAge: time.Hour}
	return egress.Layout{
		Vitals: limits, Rejections: limits, Audit: limits, Devices: egress.Limits{MaxBytes: 1 << 20},
		Replicas: 1, DuplicateWindow: 2 * time.Minute, Republish: true, Consumers: []string{"triage"},
	}
}

func need(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func openDepot(t testing.TB) *depot {
	t.Helper()
	d := &depot{dir: t.TempDir(), port: server.RANDOM_PORT}
	d.start(t)
	t.Cleanup(d.stop)
	d.connect(t, d.server.ClientURL())
	return d
}

func (d *depot) start(t testing.TB) {
	t.Helper()
	var err error
	d.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: d.port, StoreDir: d.dir, JetStream: true, JetStreamMaxStore: 256 << 20, NoSigs: true,
	})
	need(t, err)
	d.server.Start()
	if !d.server.ReadyForConnections(20 * time.Second) {
		t.Fatal("nats-server does not start")
	}
	d.port = d.server.Addr().(*net.TCPAddr).Port
}

func (d *depot) stop() {
	d.server.Shutdown()
	d.server.WaitForShutdown()
}

func (d *depot) connect(t testing.TB, url string) {
	t.Helper()
	var err error
	d.nc, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.FlusherTimeout(2*time.Minute), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	need(t, err)
	t.Cleanup(d.nc.Close)
	d.js, err = jetstream.New(d.nc)
	need(t, err)
}

func (d *depot) ensure(t testing.TB, l egress.Layout) {
	t.Helper()
	_, err := egress.Ensure(soon(t), d.nc, l)
	need(t, err)
}

func (d *depot) store(t testing.TB, deadline time.Duration) *egress.Store {
	t.Helper()
	s, err := egress.NewStore(d.nc, egress.Options{Deadline: deadline, Replica: "gate-1", Now: time.Now, Log: zerolog.Nop()})
	need(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func (d *depot) messages(t testing.TB, stream string) uint64 {
	t.Helper()
	s, err := d.js.Stream(soon(t), stream)
	need(t, err)
	return s.CachedInfo().State.Msgs
}

// record is a reading of its own for each n.
func record(n int) egress.Record {
	payload := fmt.Appendf(nil, `{ "n":%d , "unknown":"\u00e4 ä" }`, n)
	return egress.Record{
		Identity: reading.Identity(sha256.Sum256(payload)), Patient: "p-1", Device: "w-1", Payload: payload, Generation: 3,
		Age: -1234 * time.Microsecond, Received: time.UnixMilli(1763766000246),
	}
}

type answer struct {
	egress.Confirmation
	err error
}

// publish stores one reading and waits for what becomes of it.
func publish(t testing.TB, s *egress.Store, r egress.Record) answer {
	t.Helper()
	answers := make(chan answer, 2)
	s.Publish(r, func(c egress.Confirmation, err error) { answers <- answer{c, err} })
	return receive(t, answers)
}

func receive(t testing.TB, answers <-chan answer) answer {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("the store's caller hears nothing")
		return answer{}
	}
}

// relay stands between the gate and NATS, and can stop passing on.
type relay struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	open     *sync.Cond
	paused   bool
}

func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	r := &relay{target: target}
	r.open = sync.NewCond(&r.mu)
	var err error
	r.listener, err = net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	go r.accept()
	t.Cleanup(func() { r.resume(); _ = r.listener.Close() })
	return r
}

func (r *relay) url() string { return "nats://" + r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		upstream, err := net.Dial("tcp", r.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		go r.pass(upstream, client)
		go r.pass(client, upstream)
	}
}

func (r *relay) pass(to, from net.Conn) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.wait()
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (r *relay) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.paused {
		r.open.Wait()
	}
}

func (r *relay) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
}

func (r *relay) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = false
	r.open.Broadcast()
}
