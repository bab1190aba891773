package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// triage is the consumer: it pulls verified readings from JetStream with a
// consumer's credentials, as any other would, and listens to the rejections
// with a security officer's.
type triage struct {
	consumer, security *nats.Conn
	consuming          jetstream.ConsumeContext
	board              *board

	mu         sync.Mutex
	stored     []delivery
	rejections []ledger.Rejection
	// sequence is the last of VITALS that has arrived.
	sequence uint64
	// changed is closed and replaced with each arrival.
	changed chan struct{}
}

// delivery is a reading as it arrived.
type delivery struct {
	ledger.StoredReading
	at time.Time
}

func subscribe(dir string, b *board) (*triage, error) {
	t := &triage{board: b, changed: make(chan struct{})}
	err := t.subscribe(dir)
	if err != nil {
		t.close()
		return nil, fmt.Errorf("subscribing the demo's consumer: %w", err)
	}
	return t, nil
}

func (t *triage) subscribe(dir string) (err error) {
	if t.security, err = dial(dir, "security"); err != nil {
		return err
	}
	if _, err = t.security.Subscribe("rejected.>", t.refuse); err != nil {
		return err
	}
	if t.consumer, err = dial(dir, "consumer"); err != nil {
		return err
	}
	js, err := jetstream.New(t.consumer)
	if err != nil {
		return err
	}
	durable, err := js.Consumer(context.Background(), egress.StreamVitals, "triage")
	if err != nil {
		return err
	}
	t.consuming, err = durable.Consume(t.take)
	return err
}

func dial(dir, user string) (*nats.Conn, error) {
	url, err := os.ReadFile(engine.URLFile(dir, user))
	if err != nil {
		return nil, err
	}
	return nats.Connect(strings.TrimSpace(string(url)), nats.Name("pulsegate demo"))
}

func (t *triage) take(m jetstream.Msg) {
	now := time.Now()
	t.board.verified(m.Data())
	t.mu.Lock()
	if meta, err := m.Metadata(); err == nil {
		t.sequence = max(t.sequence, meta.Sequence.Stream)
	}
	t.stored = append(t.stored, delivery{ledger.StoredReading{Subject: m.Subject(), Payload: m.Data()}, now})
	t.notify()
	t.mu.Unlock()
	_ = m.Ack()
}

func (t *triage) refuse(m *nats.Msg) {
	var r ledger.Rejection
	if json.Unmarshal(m.Data, &r) != nil {
		return
	}
	t.board.refused(r.Outcome, max(1, r.LeftOut))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejections = append(t.rejections, r)
	t.notify()
}

func (t *triage) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// await returns when all that is stored has arrived and every attack has met
// its outcomes, or when ctx ends; the account then shows what is missing.
func (t *triage) await(ctx context.Context, entries []ledger.Entry) error {
	last, err := t.last(ctx)
	if err != nil {
		return err
	}
	for {
		t.mu.Lock()
		done, changed := t.sequence >= last && t.allMet(entries), t.changed
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// last is the last sequence of VITALS, when nobody sends any more.
func (t *triage) last(ctx context.Context) (uint64, error) {
	js, err := jetstream.New(t.consumer)
	if err != nil {
		return 0, err
	}
	stream, err := js.Stream(ctx, egress.StreamVitals)
	if err != nil {
		return 0, fmt.Errorf("looking at what is stored: %w", err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// allMet says whether there is an outcome for every attempt of every attack.
func (t *triage) allMet(entries []ledger.Entry) bool {
	open := make(map[string]int)
	for _, e := range entries {
		if !e.Honest() {
			open[e.SHA256] += e.Attempts
		}
	}
	for _, r := range t.rejections {
		open[r.SHA256]--
	}
	for _, n := range open {
		if n > 0 {
			return false
		}
	}
	return true
}

func (t *triage) received() []delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stored
}

func (t *triage) refused() []ledger.Rejection {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rejections
}

func (t *triage) close() {
	if t.consuming != nil {
		t.consuming.Stop()
		<-t.consuming.Closed()
	}
	for _, nc := range []*nats.Conn{t.consumer, t.security} {
		if nc != nil {
			nc.Close()
		}
	}
}
