package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// patience bounds waiting for an event that must come.
const patience = 10 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func options(dir string) engine.Options {
	return engine.Options{Dir: dir, Listen: "127.0.0.1:0", Log: zerolog.Nop()}
}

func open(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.Open(within(t), o)
	must(t, err)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plant is an embedded engine with the streams as the gate makes them, and a stored reading.
type plant struct {
	dir  string
	gate *nats.Conn
	js   jetstream.JetStream
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{dir: t.TempDir()}
	p.gate = open(t, options(p.dir)).Conn()
	p.fill(t)
	return p
}

func (p *plant) fill(t *testing.T) {
	t.Helper()
	ctx := within(t)
	js, err := jetstream.New(p.gate)
	must(t, err)
	p.js = js
	for _, config := range []jetstream.StreamConfig{
		{
			Name: "VITALS", Subjects: []string{"gate.in.vitals.>"}, AllowDirect: true,
			SubjectTransform: &jetstream.SubjectTransformConfig{Source: "gate.in.vitals.>", Destination: "vitals.>"},
			RePublish:        &jetstream.RePublish{Source: "vitals.>", Destination: "vitals.>"},
		},
		{Name: "REJECTIONS", Subjects: []string{"rejected.>"}, AllowDirect: true},
		{Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true},
	} {
		_, err := js.CreateStream(ctx, config)
		must(t, err)
	}
	_, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "devices"})
	must(t, err)
	_, err = js.CreateConsumer(ctx, "VITALS", jetstream.ConsumerConfig{Durable: "triage", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	_, err = p.gate.Subscribe("gate.registry.>", func(m *nats.Msg) { _ = m.Respond([]byte("done")) })
	must(t, err)
	p.store(t, "gate.in.vitals.live.p-1.w-1", "first")
	p.store(t, "rejected.bad_signature.w-1", "{}")
	p.store(t, "audit.device", "{}")
}

func (p *plant) store(t *testing.T, subject, data string) *jetstream.PubAck {
	t.Helper()
	ack, err := p.js.Publish(within(t), subject, []byte(data))
	must(t, err)
	return ack
}

// client is a user's own TCP connection, made with nothing but its URL file.
type client struct {
	*nats.Conn
	user     string
	refusals chan error
}

func (p *plant) login(t *testing.T, user string) *client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, user+".url"))
	must(t, err)
	c := &client{user: user, refusals: make(chan error, 64)}
	c.Conn, err = nats.Connect(strings.TrimSpace(string(text)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.refusals <- err }))
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// refuses fails the test unless the server refuses the publish.
func (c *client) refuses(t *testing.T, subject, data string) {
	t.Helper()
	must(t, c.Publish(subject, []byte(data)))
	c.awaitRefusal(t, subject)
}

func (c *client) awaitRefusal(t *testing.T, subject string) {
	t.Helper()
	select {
	case err := <-c.refusals:
		// An account's mapping comes before the check, so the server may name the subject with "refused." before it.
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject+`"`) {
			t.Fatalf("%s, %s: %v, want a permissions violation", c.user, subject, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s: %s was not refused", c.user, subject)
	}
}

func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsgWithContext(within(t))
	if err != nil {
		t.Fatalf("%s: %v", sub.Subject, err)
	}
	return m
}

func subscribe(t *testing.T, c *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := c.SubscribeSync(subject)
	must(t, err)
	must(t, c.Flush())
	return sub
}

// sequences returns the last sequences of VITALS, REJECTIONS, AUDIT and the registry.
func (p *plant) sequences(t *testing.T) string {
	t.Helper()
	var last []string
	for _, name := range []string{"VITALS", "REJECTIONS", "AUDIT", "KV_devices"} {
		stream, err := p.js.Stream(within(t), name)
		must(t, err)
		last = append(last, fmt.Sprint(stream.CachedInfo().State.LastSeq))
	}
	return strings.Join(last, " ")
}
