package egress_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// batch publishes readings with a bounded number in flight, and counts what each
// came to.
type batch struct {
	store   *egress.Store
	slots   chan struct{}
	waiting sync.WaitGroup
	// reached is closed when that many have been confirmed.
	reached chan struct{}
	goal    int

	mu        sync.Mutex
	answers   map[int]int
	confirmed map[int]bool
	wrong     []error
}

func newBatch(s *egress.Store, goal int) *batch {
	return &batch{
		store: s, slots: make(chan struct{}, 64), reached: make(chan struct{}), goal: goal,
		answers: make(map[int]int), confirmed: make(map[int]bool),
	}
}

func (b *batch) publish(n int) {
	b.slots <- struct{}{}
	b.waiting.Add(1)
	b.store.Publish(record(n), func(_ egress.Confirmation, err error) {
		b.answered(n, err)
		<-b.slots
		b.waiting.Done()
	})
}

func (b *batch) answered(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[n]++
	if err == nil {
		b.confirmed[n] = true
		if len(b.confirmed) == b.goal {
			close(b.reached)
		}
	} else if !errors.Is(err, egress.ErrNotStored) {
		b.wrong = append(b.wrong, err)
	}
}

// settle waits for all, and returns which of them were confirmed.
func (b *batch) settle(t *testing.T, published int) map[int]bool {
	t.Helper()
	b.waiting.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.wrong {
		t.Errorf("an error that is not ErrNotStored: %v", err)
	}
	for n := range published {
		if b.answers[n] != 1 {
			t.Errorf("reading %d was answered %d times", n, b.answers[n])
		}
	}
	return b.confirmed
}

// inStream counts how often each payload is stored.
func (d *depot) inStream(t *testing.T) map[string]int {
	t.Helper()
	stored := make(map[string]int)
	left := d.messages(t, "VITALS")
	c, err := d.js.OrderedConsumer(soon(t), "VITALS", jetstream.OrderedConsumerConfig{})
	need(t, err)
	for ; left > 0; left-- {
		m, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
		need(t, err)
		stored[string(m.Data())]++
	}
	return stored
}

// TestTheStoreIsTakenAwayUnderLoad stops NATS in the middle of a stream of
// readings, and brings it back after all have failed.
func TestTheStoreIsTakenAwayUnderLoad(t *testing.T) {
	const readings = 2000
	d := openDepot(t)
	d.ensure(t, depotLayout())
	s := d.store(t, 400*time.Millisecond)
	b := newBatch(s, 500)
	published := make(chan struct{})
	go func() {
		defer close(published)
		// 320 more than the goal: some are on their way when NATS goes.
		for n := range b.goal + 320 {
			b.publish(n)
		}
	}()
	<-b.reached
	d.stop()
	<-published
	confirmed := b.settle(t, b.goal+320)
	t.Logf("%d of %d were confirmed before NATS went", len(confirmed), b.goal+320)
	d.start(t)
	stored := d.await(t)
	for n := range b.goal + 320 {
		if times := stored[string(record(n).Payload)]; times > 1 || confirmed[n] && times == 0 {
			t.Errorf("reading %d is stored %d times, confirmed: %v", n, times, confirmed[n])
		}
	}
	again := newBatch(d.store(t, 20*time.Second), -1)
	for n := range readings {
		again.publish(n)
	}
	if got := len(again.settle(t, readings)); got != readings {
		t.Errorf("%d of %d were confirmed after NATS came back", got, readings)
	}
	stored = d.inStream(t)
	for n := range readings {
		if times := stored[string(record(n).Payload)]; times != 1 {
			t.Errorf("reading %d is stored %d times, want once", n, times)
		}
	}
}

// await waits for the connection to be back, and returns what is stored.
func (d *depot) await(t *testing.T) map[string]int {
	t.Helper()
	status := d.nc.StatusChanged()
	for !d.nc.IsConnected() {
		select {
		case <-status:
		case <-soon(t).Done():
			t.Fatal("NATS does not come back")
		}
	}
	return d.inStream(t)
}

// TestAnOutageShorterThanTheDeadline loses nothing and fails nothing.
func TestAnOutageShorterThanTheDeadline(t *testing.T) {
	const readings = 1000
	d := openDepot(t)
	d.ensure(t, depotLayout())
	b := newBatch(d.store(t, 25*time.Second), 300)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := range readings {
			b.publish(n)
		}
	}()
	<-b.reached
	d.stop()
	d.start(t)
	<-published
	if got := len(b.settle(t, readings)); got != readings {
		t.Errorf("%d of %d were confirmed", got, readings)
	}
	stored := d.inStream(t)
	for n := range readings {
		if times := stored[string(record(n).Payload)]; times != 1 {
			t.Errorf("reading %d is stored %d times, want once", n, times)
		}
	}
}

// TestNATSStopsReading holds the connection up until sending blocks. Giving up,
// rejections and closing must go on.
func TestNATSStopsReading(t *testing.T) {
	d := openDepot(t)
	r := newRelay(t, d.server.Addr().String())
	d.connect(t, r.url())
	t.Cleanup(r.resume) // or closing the connection would block
	d.ensure(t, depotLayout())
	s := d.store(t, 2500*time.Millisecond) // longer than an unanswered publish waits before it goes out again
	r.pause()
	large := bytes.Repeat([]byte("x"), 4096)
	answers := make(chan answer, 16<<10)
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for n := range cap(answers) {
			reading := record(n)
			reading.Payload = large
			s.Publish(reading, func(c egress.Confirmation, err error) { answers <- answer{c, err} })
		}
	})
	for range 100 {
		if a := receive(t, answers); !errors.Is(a.err, egress.ErrNotStored) || !strings.Contains(a.err.Error(), "did not answer in time") {
			t.Errorf("the error is %v", a.err)
		}
	}
	rejected := 0
	for s.Reject(egress.Rejection{Outcome: verify.BadSignature, Time: time.Now()}) {
		if rejected++; rejected > 1<<20 {
			t.Fatal("rejections are never too many")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err == nil {
		t.Error("closing says nothing of the events that are left")
	}
	if s.Pending() != 0 {
		t.Errorf("%d are pending after closing", s.Pending())
	}
	r.resume()
	publishing.Wait()
}

// TestWhatWaitedToBeSentMustStand holds the connection up with much, so that a
// reading waits behind it until it is old.
func TestWhatWaitedToBeSentMustStand(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	r := newRelay(t, d.server.Addr().String())
	d.connect(t, r.url())
	t.Cleanup(r.resume)
	d.ensure(t, depotLayout())
	p := d.patient(t, time.Hour)
	r.pause()
	large := record(1)
	large.Payload = bytes.Repeat([]byte("x"), 4096)
	for range 8 << 10 {
		p.Publish(large, func(egress.Confirmation, error) {})
	}
	fallen := errors.New("fallen")
	waiting := record(2)
	waiting.Stands = func() error { return fallen }
	answers := make(chan answer, 1)
	p.Publish(waiting, func(c egress.Confirmation, err error) { answers <- answer{c, err} })
	p.forward(20 * time.Second)
	r.resume()
	if a := receive(t, answers); !errors.Is(a.err, egress.ErrWithdrawn) || !errors.Is(a.err, fallen) {
		t.Errorf("answer %+v, want that it is withdrawn", a)
	}
	if a := publish(t, p.Store, record(3)); a.err != nil {
		t.Fatal(a.err)
	}
	if times := d.inStream(t)[string(waiting.Payload)]; times != 0 {
		t.Errorf("what was withdrawn is stored %d times", times)
	}
}
