package presence_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/presence"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

const patience = 30 * time.Second

func need(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a NATS server with the gate's streams, a clock that stands still
// until it is advanced, and the devices that are enrolled.
type world struct {
	t      testing.TB
	server *server.Server
	dir    string
	port   int
	conn   *nats.Conn
	events *nats.Subscription
	// learned is told whenever a replica has learned something.
	learned chan struct{}

	mu       sync.Mutex
	now      time.Time
	trouble  error
	devices  map[string]*verify.Device
	replicas int
	barriers int64
	// change is what replicas that are started look for, if not what is usual.
	change func(*presence.Options)
}

// barrier is a device that replicas are told of, so that it is known when they
// have taken in all that was told before.
const barrier = "barrier"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Now(), devices: map[string]*verify.Device{barrier: {ID: barrier}}, learned: make(chan struct{}, 1)}
	w.dir, w.port = t.TempDir(), server.RANDOM_PORT
	w.open()
	t.Cleanup(w.shut)
	w.conn = w.connect()
	var err error
	limits := egress.Limits{MaxBytes: 64 << 20, MaxAge: time.Hour}
	_, err = egress.Ensure(t.Context(), w.conn, egress.Layout{
		Vitals: limits, Rejections: limits, Audit: limits, Devices: limits, Replicas: 1, DuplicateWindow: 2 * time.Minute, Republish: true,
	})
	need(t, err)
	w.events, err = w.conn.SubscribeSync("audit.presence.>")
	need(t, err)
	need(t, w.conn.Flush())
	return w
}

// open and shut have NATS come and go.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.server, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: w.port, StoreDir: w.dir, JetStream: true, JetStreamMaxStore: 1 << 30, NoSigs: true})
	need(w.t, err)
	w.server.Start()
	if !w.server.ReadyForConnections(patience) {
		w.t.Fatal("nats-server does not start")
	}
	w.port = w.server.Addr().(*net.TCPAddr).Port
}

func (w *world) shut() {
	w.server.Shutdown()
	w.server.WaitForShutdown()
}

func (w *world) connect() *nats.Conn {
	w.t.Helper()
	nc, err := nats.Connect(w.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	need(w.t, err)
	w.t.Cleanup(nc.Close)
	return nc
}

func (w *world) Device(id string) (*verify.Device, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.devices[id]
	return d, ok
}

func (w *world) active(id string) bool {
	d, ok := w.Device(id)
	return ok && !d.Revoked
}

func (w *world) read() (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now, nil
}

func (w *world) ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) unready(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = err
}

// enrol changes the registry, as far as the replicas see it.
func (w *world) enrol(d *verify.Device, replicas ...*replica) {
	w.mu.Lock()
	w.devices = maps.Clone(w.devices)
	w.devices[d.ID] = d
	w.mu.Unlock()
	for _, r := range replicas {
		r.Changed(d.ID)
	}
}

func (w *world) remove(id string, replicas ...*replica) {
	w.mu.Lock()
	w.devices = maps.Clone(w.devices)
	delete(w.devices, id)
	w.mu.Unlock()
	for _, r := range replicas {
		r.Changed(id)
	}
}

// replica is one gate's watch.
type replica struct {
	*presence.Watch
	world *world
	store *egress.Store
	conn  *nats.Conn
	held  presence.Held
}

const (
	silentAfter  = 5 * time.Minute
	refusedAfter = time.Minute
	drift        = 10 * time.Second
	// notice is how much later than due a silence may be noticed: two slots.
	notice = silentAfter/64 + time.Second
)

// start starts a replica, and returns when it knows what has been announced.
func (w *world) start() *replica {
	w.t.Helper()
	w.replicas++
	r := &replica{world: w}
	name := fmt.Sprintf("gate-%d", w.replicas)
	r.conn = w.connect()
	var err error
	r.store, err = egress.NewStore(r.conn, egress.Options{Deadline: 10 * time.Second, UnavailableAfter: time.Minute, Replica: name, Now: time.Now, Log: zerolog.Nop()})
	need(w.t, err)
	w.t.Cleanup(func() { _ = r.store.Close(context.Background()) })
	o := presence.Options{
		SilentAfter: silentAfter, RefusedAfter: refusedAfter, ClockDrift: drift, Replica: name,
		Directory: w, Active: w.active, Journal: r.store, Conn: r.conn, Now: w.read, Ready: w.ready, Log: zerolog.New(zerolog.NewTestWriter(w.t)),
	}
	if w.change != nil {
		w.change(&o)
	}
	o.Learned = func() {
		select {
		case w.learned <- struct{}{}:
		default:
		}
	}
	r.Watch, err = presence.New(o)
	need(w.t, err)
	w.t.Cleanup(r.stop)
	for id := range w.devices {
		r.Changed(id)
	}
	r.BeginStill()
	select {
	case <-r.CaughtUp():
	case <-time.After(patience):
		w.t.Fatal("what has been announced cannot be read")
	}
	return r
}

func (r *replica) stop() { need(r.world.t, r.Close(context.Background())) }

// together lets replicas do what is due at the same time, and returns when they
// have heard what they told each other.
func (w *world) together(replicas ...*replica) {
	w.t.Helper()
	var all sync.WaitGroup
	for _, r := range replicas {
		all.Go(r.work)
	}
	all.Wait()
	for _, r := range replicas {
		need(w.t, r.conn.Flush())
	}
	w.barriers++
	heard := w.now.UnixMicro() + w.barriers
	need(w.t, w.conn.Publish("gate.presence", fmt.Appendf(nil, `{"instance":"test","devices":[%q],"heard":[%d]}`, barrier, heard)))
	for _, r := range replicas {
		w.until("the replicas hear each other", func() bool {
			s, _ := r.Of(barrier)
			return s.LastHeard.UnixMicro() == heard
		})
	}
}

// work does what is due, and again what could not be announced for the load of
// the machine.
func (r *replica) work() {
	r.Turn()
	for deadline := time.Now().Add(patience); r.Waiting() > 0 && r.world.ready() == nil && time.Now().Before(deadline); {
		r.Turn()
	}
}

// pass lets time pass, with a look now and then.
func (w *world) pass(d time.Duration, replicas ...*replica) {
	w.t.Helper()
	for step := d / 50; d > 0; d -= step {
		w.advance(min(step, d))
		w.together(replicas...)
	}
}

// until waits for what other replicas' messages bring about.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for deadline := time.After(patience); !done(); {
		select {
		case <-w.learned:
		case <-deadline:
			w.t.Fatalf("never: %s", what)
		}
	}
}

// in says whether a replica holds a device to be in trouble.
func (r *replica) in(device string, c presence.Condition) func() bool {
	return func() bool {
		s, _ := r.Of(device)
		_, in := s.Troubles[c]
		return in
	}
}

func not(f func() bool) func() bool { return func() bool { return !f() } }

// hears takes in a current reading that was measured just now.
func (r *replica) hears(device string, seq uint64) {
	now, _ := r.world.read()
	r.Live(&r.held, device, presence.Sighting{Received: now, Measured: now, Seq: seq, HasSeq: true})
}

// stores puts a reading into the stream, as if another gate had.
func (r *replica) stores(patient, device string, seq int) {
	r.world.t.Helper()
	done := make(chan error, 1)
	r.store.Publish(egress.Record{
		Identity: reading.Identity{byte(seq)}, Patient: patient, Device: device, Received: time.Now(),
		Payload: fmt.Appendf(nil, `{"device_id":%q,"seq":%d,"spo2":97}`, device, seq),
	}, func(_ egress.Confirmation, err error) { done <- err })
	need(r.world.t, <-done)
}

var errAway = errors.New("the store is away")
