// Package mosquittest runs a real Mosquitto for tests.
package mosquittest

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// Broker is one Mosquitto, which can be killed and started again on the same
// port with the same directory.
type Broker struct {
	// Address is host:port of the listener.
	Address string
	// Dir holds the configuration and the persistent state.
	Dir string

	config  string
	process *os.Process
	ended   chan struct{}
	log     lines
}

// lines is what Mosquitto says.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Start runs a Mosquitto that keeps its sessions over a restart and lets
// everybody in, but for what the given lines of mosquitto.conf change. Without
// Mosquitto the test is skipped, and in CI it fails.
func Start(t testing.TB, config ...string) *Broker {
	t.Helper()
	return StartIn(t, t.TempDir(), config...)
}

// StartIn is Start with a directory that the lines may name files of.
func StartIn(t testing.TB, dir string, config ...string) *Broker {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{Dir: dir, config: filepath.Join(dir, "mosquitto.conf")}
	t.Cleanup(b.Kill)
	for range attempts {
		b.Address = freeAddress(t)
		_, port, _ := net.SplitHostPort(b.Address)
		text := append([]string{
			// Root would otherwise become somebody who cannot read the directory.
			"user " + me.Username, "persistence true", "persistence_location " + dir + "/",
			"max_inflight_messages 0", "max_queued_messages 0", "log_type all",
			"listener " + port + " 127.0.0.1",
		}, config...)
		if !strings.Contains(strings.Join(config, "\n"), "allow_anonymous") {
			text = append(text, "allow_anonymous true")
		}
		if err := os.WriteFile(b.config, []byte(strings.Join(text, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if b.run(t) {
			return b
		}
	}
	t.Fatalf("Mosquitto does not start: %s", b.log.String())
	return nil
}

// attempts is how many ports are tried, since a free one may be taken before
// Mosquitto has it.
const attempts = 3

// Run starts it again after Kill or Stop.
func (b *Broker) Run(t testing.TB) {
	t.Helper()
	if !b.run(t) {
		t.Fatalf("Mosquitto does not start: %s", b.log.String())
	}
}

// run returns whether Mosquitto serves, or else has ended.
func (b *Broker) run(t testing.TB) bool {
	t.Helper()
	process := exec.Command(program(t), "-c", b.config)
	process.Stdout, process.Stderr = &b.log, &b.log
	before := strings.Count(b.log.String(), running)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	b.process, b.ended = process.Process, make(chan struct{})
	go func() { defer close(b.ended); _ = process.Wait() }()
	for range poll(t) {
		select {
		case <-b.ended:
			return false
		default:
		}
		if strings.Count(b.log.String(), running) > before {
			return true
		}
	}
	return false
}

// running is what Mosquitto logs when it serves.
const running = " running\n"

// poll gives turns to look at something until it has taken too long.
func poll(t testing.TB) iter.Seq[int] {
	return func(yield func(int) bool) {
		end := time.Now().Add(3 * mqttest.Patience)
		for n := 0; time.Now().Before(end) && t.Context().Err() == nil; n++ {
			if !yield(n) {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// Kill ends it at once, so that it saves nothing.
func (b *Broker) Kill() { b.signal(syscall.SIGKILL) }

// Stop ends it in an orderly way, so that it saves everything.
func (b *Broker) Stop() { b.signal(syscall.SIGTERM) }

func (b *Broker) signal(s os.Signal) {
	if b.process == nil {
		return
	}
	_ = b.process.Signal(s)
	<-b.ended
	b.process = nil
}

// Save makes it write its state to the disk, and waits until it has.
func (b *Broker) Save(t testing.TB) {
	t.Helper()
	file := filepath.Join(b.Dir, "mosquitto.db")
	_ = os.Remove(file)
	// Not every system that builds this has that signal.
	if out, err := exec.Command("kill", "-USR1", strconv.Itoa(b.process.Pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// It writes another file and renames it.
	b.await(t, "its state on the disk", func() bool { _, err := os.Stat(file); return err == nil })
}

// URL is where to connect.
func (b *Broker) URL() string { return "mqtt://" + b.Address }

// Acknowledged are the packet identifiers of a client's PUBACKs, in the order in
// which they came.
func (b *Broker) Acknowledged(client string) []string {
	var all []string
	for line := range strings.Lines(b.log.String()) {
		if _, rest, found := strings.Cut(line, "Received PUBACK from "+client+" (Mid: "); found {
			id, _, _ := strings.Cut(rest, ",")
			all = append(all, id)
		}
	}
	return all
}

// Await waits until Mosquitto has logged a text so many times.
func (b *Broker) Await(t testing.TB, text string, times int) {
	t.Helper()
	b.await(t, fmt.Sprintf("%q %d times", text, times), func() bool { return strings.Count(b.log.String(), text) >= times })
}

func (b *Broker) await(t testing.TB, what string, met func() bool) {
	t.Helper()
	for range poll(t) {
		if met() {
			return
		}
	}
	t.Fatalf("Mosquitto: waited in vain for: %s; it said: %s", what, b.log.String())
}

// Publisher connects a client that publishes.
func (b *Broker) Publisher(t testing.TB, id string, options ...mqttest.Option) *Publisher {
	t.Helper()
	c := mqttest.Dial(t, b.Address, 4)
	if ack := c.Connect(id, options...); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return &Publisher{Client: c}
}

// Publisher is a device at Mosquitto.
type Publisher struct {
	*mqttest.Client
	last uint16
}

// Publish sends messages at QoS 1 and waits for their acknowledgements.
func (p *Publisher) Publish(topic string, payloads ...[]byte) {
	var all []packets.Packet
	for _, payload := range payloads {
		p.last = p.last%math.MaxUint16 + 1 // 0 is none
		all = append(all, mqttest.Publish(p.last, 1, topic, payload))
	}
	p.Send(all...)
	for range payloads {
		p.Expect(packets.Puback)
	}
}

func program(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("mosquitto is not installed")
	}
	t.Skip("SKIPPED: mosquitto is not installed")
	return ""
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
