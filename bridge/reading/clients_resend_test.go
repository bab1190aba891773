package reading_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// TestClientsSendAgain runs each client against a broker that takes the first
// copies without a PUBACK and closes the connection, as a gate does whose store
// is away. The client must send the same bytes again and end well.
func TestClientsSendAgain(t *testing.T) {
	const closed = 2
	for _, c := range exampleClients() {
		t.Run(c.name, func(t *testing.T) {
			broker := newForgetfulBroker(t, closed)
			cmd := c.start(t, append(credentials(), "MQTT_PORT="+broker.port), "97", "72", "42")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var first []byte
			for n := range closed + 1 {
				p := broker.next(t)
				if p.topic != "wearables/w-0001/vitals" || p.qos != 1 || p.retain {
					t.Errorf("copy %d: topic %q, QoS %d, retained %v", n, p.topic, p.qos, p.retain)
				}
				if first == nil {
					first = p.payload
				}
				if !bytes.Equal(first, p.payload) {
					t.Errorf("copy %d differs from the first:\n%s\n%s", n, first, p.payload)
				}
			}
			authentic(t, first)
		})
	}
}

// TestClientsGiveUp shows that a client whose reading nobody acknowledges does
// not end as if all were well.
func TestClientsGiveUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close() // so that nothing listens there
	for _, c := range exampleClients() {
		t.Run(c.name, func(t *testing.T) {
			cmd := c.start(t, append(credentials(), "MQTT_PORT="+port, "MQTT_ATTEMPTS=1"), "97", "72")
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit status 1: %s", err, out)
			}
			if !bytes.Contains(out, []byte("not acknowledged")) {
				t.Errorf("said %q", out)
			}
		})
	}
}

type publish struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

// forgetfulBroker is a real broker that closes the connection of the first
// publishes instead of acknowledging them.
type forgetfulBroker struct {
	mqtt.HookBase
	port string
	left chan struct{}
	got  chan publish
}

func newForgetfulBroker(t *testing.T, closed int) *forgetfulBroker {
	t.Helper()
	b := &forgetfulBroker{left: make(chan struct{}, closed), got: make(chan publish, 64)}
	for range closed {
		b.left <- struct{}{}
	}
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(b, nil); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.AddListener(listeners.NewNet("tcp", socket)); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	_, b.port, _ = net.SplitHostPort(socket.Addr().String())
	return b
}

func (b *forgetfulBroker) next(t *testing.T) publish {
	t.Helper()
	select {
	case p := <-b.got:
		return p
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
		return publish{}
	}
}

func (b *forgetfulBroker) ID() string { return "forgetful" }

func (b *forgetfulBroker) Provides(hook byte) bool {
	return hook == mqtt.OnConnectAuthenticate || hook == mqtt.OnACLCheck || hook == mqtt.OnPublish
}

func (b *forgetfulBroker) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	return cl.ID == "w-0001" && string(pk.Connect.Username) == "w-0001" && string(pk.Connect.Password) == "secret-password"
}

func (b *forgetfulBroker) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

func (b *forgetfulBroker) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	b.got <- publish{pk.TopicName, bytes.Clone(pk.Payload), pk.FixedHeader.Qos, pk.FixedHeader.Retain}
	select {
	case <-b.left:
		cl.Stop(errors.New("closed on purpose"))
		return pk, packets.ErrRejectPacket
	default:
		return pk, packets.CodeSuccessIgnore
	}
}
