package fleet_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// broker is a real Mochi broker. Where take says no to a publish it sends no
// PUBACK, and drops the connection if cut says so.
type broker struct {
	mochi.HookBase
	address string
	server  *mochi.Server

	mu       sync.Mutex
	password string
	take     func(client string, count int) bool
	cut      func(client string, count int) bool
	counts   map[string]int
	received map[string][]string
	taken    map[string][]string
	// takeovers counts sessions that a second connection took.
	takeovers int
	changed   chan struct{}
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{
		password: "secret", counts: make(map[string]int), changed: make(chan struct{}, 1),
		received: make(map[string][]string), taken: make(map[string][]string),
		take: func(string, int) bool { return true }, cut: func(string, int) bool { return false },
	}
	b.server = mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := b.server.AddHook(b, nil); err != nil {
		t.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := b.server.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		t.Fatal(err)
	}
	b.address = listener.Address()
	t.Cleanup(func() { _ = b.server.Close() })
	return b
}

func (b *broker) Provides(event byte) bool {
	switch event {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish, mochi.OnDisconnect:
		return true
	}
	return false
}

func (b *broker) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(pk.Connect.Password) == b.password
}

func (b *broker) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (b *broker) OnDisconnect(_ *mochi.Client, err error, _ bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == packets.ErrSessionTakenOver { //nolint:errorlint // Mochi hands the code itself over
		b.takeovers++
	}
}

func (b *broker) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.notify()
	b.counts[cl.ID]++
	b.received[cl.ID] = append(b.received[cl.ID], string(pk.Payload))
	if b.take(cl.ID, b.counts[cl.ID]) {
		b.taken[cl.ID] = append(b.taken[cl.ID], string(pk.Payload))
		return pk, packets.CodeSuccessIgnore
	}
	if b.cut(cl.ID, b.counts[cl.ID]) {
		cl.Stop(io.ErrUnexpectedEOF)
	}
	return pk, packets.ErrRejectPacket
}

func (b *broker) notify() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// until waits until the condition holds. It is asked after every publish, with
// the broker locked.
func (b *broker) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for {
		b.mu.Lock()
		met := condition()
		b.mu.Unlock()
		if met {
			return
		}
		select {
		case <-b.changed:
		case <-t.Context().Done():
			t.Fatalf("the test ended before %s", what)
		}
	}
}

// reconfigure changes the broker's behaviour while it runs.
func (b *broker) reconfigure(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// dropAll cuts every connection, as a network does.
func (b *broker) dropAll() {
	for _, cl := range b.server.Clients.GetAll() {
		cl.Stop(io.ErrUnexpectedEOF)
	}
}

func credentials(n int) []registry.Credentials {
	var all []registry.Credentials
	for i := range n {
		id := fmt.Sprintf("w-%04d", i+1)
		key := make([]byte, 32)
		key[0] = byte(i + 1)
		all = append(all, registry.Credentials{
			DeviceID: id, PatientID: fmt.Sprintf("p-%04d", i+1), Topic: "wearables/" + id + "/vitals",
			Username: id, Password: "secret", Key: hex.EncodeToString(key),
		})
	}
	return all
}

func openLedger(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open("")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entries(t *testing.T, l *ledger.Ledger) []ledger.Entry {
	t.Helper()
	all, err := l.Entries()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stored is what the broker took, as a stream would hold it.
func (b *broker) stored() []ledger.StoredReading {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []ledger.StoredReading
	for device, payloads := range b.taken {
		for _, p := range payloads {
			subject := "vitals.live.p-" + device[len("w-"):] + "." + device
			all = append(all, ledger.StoredReading{Subject: subject, Payload: []byte(p)})
		}
	}
	return all
}
