package ingress_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/ingress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// soon is how long a test looks at what must not happen.
const soon = 100 * time.Millisecond

var (
	accepted = ingress.Disposition{Outcome: verify.Accepted}
	rejected = ingress.Disposition{Outcome: verify.BadSignature}
	failed   = ingress.Disposition{Stored: ingress.Failed}
)

// call is a message that waits for the test to settle it.
type call struct {
	ingress.Message
	connection ingress.Connection
	done       func(ingress.Disposition)
}

// script is a Door and Handler that leaves everything to the test.
type script struct {
	calls chan call
	// admission is the answer to every CONNECT.
	admission ingress.Admission
	// meet, where set, is called while the door is open.
	meet func(ingress.Connection)
	// settle, where set, answers in place of the test.
	settle func(call)

	mu  sync.Mutex
	met []ingress.Connection
}

func (s *script) Admit(c ingress.Connection) (ingress.Handler, ingress.Admission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.met = append(s.met, c)
	if s.meet != nil {
		s.meet(c)
	}
	return scripted{s, c}, s.admission
}

func (s *script) admitted() []ingress.Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]ingress.Connection(nil), s.met...)
}

type scripted struct {
	*script
	connection ingress.Connection
}

func (h scripted) Handle(m ingress.Message, done func(ingress.Disposition)) {
	c := call{Message: m, connection: h.connection, done: done}
	if h.settle != nil {
		h.settle(c)
		return
	}
	h.calls <- c
}

func (s *script) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-s.calls:
		return c
	case <-time.After(mqttest.Patience):
		t.Fatal("no message reached the handler")
		return call{}
	}
}

func (s *script) take(t *testing.T, n int) []call {
	t.Helper()
	calls := make([]call, n)
	for i := range calls {
		calls[i] = s.next(t)
	}
	return calls
}

// quiet expects that no message reaches the handler.
func (s *script) quiet(t *testing.T) {
	t.Helper()
	s.quietFor(t, soon)
}

func (s *script) quietFor(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case c := <-s.calls:
		t.Fatalf("the message on %s reached the handler too early", c.Topic)
	case <-time.After(d):
	}
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

// lines is how many lines end so, and how many events they stand for, since some
// tell how many others were left out.
func (b *buffer) lines(t *testing.T, end string) (lines, events int) {
	t.Helper()
	for text := range strings.Lines(b.String()) {
		var line struct {
			Message string
			LeftOut int `json:"left_out"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if strings.HasSuffix(line.Message, end) {
			lines++
			events += max(1, line.LeftOut)
		}
	}
	return lines, events
}

// broker is a running one with the script behind it.
type broker struct {
	*script
	*ingress.Broker
	log *buffer
}

func open(t testing.TB, change func(*ingress.Options)) *broker {
	t.Helper()
	b := &broker{script: &script{calls: make(chan call, 4096)}, log: &buffer{}}
	o := ingress.Options{
		Listeners: []ingress.Listener{{Address: "127.0.0.1:0"}}, MaxConnections: 100, ReceiveMaximum: 64, InFlight: 1000, InFlightBytes: 1 << 20,
		Log: zerolog.New(b.log).Level(zerolog.TraceLevel),
	}
	if change != nil {
		change(&o)
	}
	var err error
	if b.Broker, err = ingress.Open(o, b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.shut(t) })
	return b
}

func (b *broker) shut(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mqttest.Patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (b *broker) dial(t *testing.T, version byte) *mqttest.Client {
	t.Helper()
	return mqttest.Dial(t, b.Addr().String(), version)
}

// connect dials and is let in as a device, with a clean start unless an option
// says otherwise.
func (b *broker) connect(t *testing.T, version byte, id string, options ...mqttest.Option) *mqttest.Client {
	t.Helper()
	c := b.dial(t, version)
	if ack := c.Connect(id, append(options, mqttest.Login(id, "a password"))...); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return c
}

// both runs a test for MQTT 3.1.1 and 5.
func both(t *testing.T, test func(t *testing.T, version byte)) {
	t.Run("3.1.1", func(t *testing.T) { test(t, 4) })
	t.Run("5", func(t *testing.T) { test(t, 5) })
}

// publishes returns n QoS 1 publishes with packet identifiers from first.
func publishes(first, n int) []packets.Packet {
	pks := make([]packets.Packet, n)
	for i := range pks {
		pks[i] = publish(uint16(first+i), 1)
	}
	return pks
}

func publish(id uint16, qos byte) packets.Packet {
	return mqttest.Publish(id, qos, "wearables/w-1/vitals", []byte("payload"))
}
