package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// process is the real program, serving.
type process struct {
	*exec.Cmd
	dir, mqtt string
	stderr    bytes.Buffer
	ended     chan error
}

func serveProcess(t *testing.T, dir string, environ ...string) *process {
	t.Helper()
	free := "127.0.0.1:0"
	p := &process{dir: dir, ended: make(chan error, 1)}
	p.Cmd = exec.Command("pulsegate", "serve", "--data", dir, "--mqtt-listen", free, "--nats-listen", free, "--http-listen", free)
	p.Env = append(os.Environ(), append(environ, "PULSEGATE_STORE_REJECTIONS_MAX_BYTES=1MiB", "PULSEGATE_STORE_AUDIT_MAX_BYTES=1MiB")...)
	p.Stderr = &p.stderr
	out, err := p.StdoutPipe()
	must(t, err)
	must(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("the log of %s:\n%s", dir, p.stderr.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		p.ended <- p.Wait()
		close(p.ended)
	}()
	found := readyLine().FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("no ready line but %q, %v", line, err)
	}
	p.mqtt = found[1]
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// enrol adds a device with the command line.
func (p *process) enrol(t *testing.T) registry.Credentials {
	t.Helper()
	out, err := exec.Command("pulsegate", "device", "add", "w-1", "--patient", "p-1", "--json", "--data", p.dir).Output()
	must(t, err)
	var c registry.Credentials
	must(t, json.Unmarshal(out, &c))
	return c
}

func (p *process) dial(t *testing.T, c registry.Credentials) *mqttest.Client {
	t.Helper()
	client := mqttest.Dial(t, p.mqtt, 5)
	if ack := client.Connect(c.DeviceID, mqttest.Login(c.Username, c.Password)); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return client
}

func signed(t *testing.T, c registry.Credentials, seq int) []byte {
	t.Helper()
	key, err := parseKey(c.Key, "key")
	must(t, err)
	payload, err := reading.Sign(key, fmt.Appendf(nil, `{"device_id":%q,"patient_id":%q,"timestamp":%.3f,"seq":%d,"spo2":97,"heart_rate":72}`,
		c.DeviceID, c.PatientID, float64(time.Now().UnixMilli())/1000, seq))
	must(t, err)
	return payload
}

// stopsAccepting waits until nobody gets in any more.
func (p *process) stopsAccepting(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(mqttest.Patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.mqtt)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(end) {
			t.Fatal("it still accepts connections")
		}
	}
}

func (p *process) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(mqttest.Patience):
		t.Fatal("it does not end")
		return nil
	}
}

// stored returns what is in VITALS.
func (p *process) stored(t *testing.T) map[string]bool {
	t.Helper()
	url, err := os.ReadFile(engine.URLFile(p.dir, "consumer"))
	must(t, err)
	nc, err := nats.Connect(strings.TrimSpace(string(url)))
	must(t, err)
	defer nc.Close()
	reader, err := egress.NewReader(nc, egress.StreamVitals, "vitals.>")
	must(t, err)
	all := make(map[string]bool)
	_, err = reader.Read(t.Context(), 1, func(m egress.Stored) error {
		all[string(m.Data)] = true
		return nil
	})
	must(t, err)
	return all
}

// A device publishes all the time and somebody else says nothing, when the
// service is told to stop. It ends well and soon, and what it has acknowledged
// is stored.
func TestTerminateWhileADevicePublishes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := serveProcess(t, dir)
	c := p.enrol(t)
	silent, client := mqttest.Dial(t, p.mqtt, 4), p.dial(t, c)
	var payloads [][]byte // by packet identifier - 1
	for i := range 5000 {
		payloads = append(payloads, signed(t, c, i))
	}
	go func() {
		for i, payload := range payloads {
			if client.TrySend(mqttest.Publish(uint16(i+1), 1, c.Topic, payload)) != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var acknowledged [][]byte
	for {
		pk, err := client.Next()
		must(t, err)
		if pk.FixedHeader.Type == packets.Disconnect {
			if pk.ReasonCode != 0x9C {
				t.Errorf("DISCONNECT %#x, want 0x9c", pk.ReasonCode)
			}
			break
		}
		if acknowledged = append(acknowledged, payloads[pk.PacketID-1]); len(acknowledged) == 200 {
			must(t, p.Process.Signal(syscall.SIGTERM))
		}
	}
	must(t, p.end(t)) // exit status 0
	silent.ExpectEnd()
	if len(acknowledged) == len(payloads) {
		t.Error("it went on until the device had nothing more to send")
	}
	stored := serveProcess(t, dir).stored(t)
	for _, payload := range acknowledged {
		if !stored[string(payload)] {
			t.Errorf("acknowledged and lost: %s", payload)
		}
	}
}

// While it waits for a store that takes nothing more, a second signal ends it.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := serveProcess(t, filepath.Join(t.TempDir(), "data"), "PULSEGATE_STORE_VITALS_MAX_BYTES=64KiB", "PULSEGATE_STORE_DEADLINE=50s")
		c := p.enrol(t)
		client := p.dial(t, c)
		go func() {
			for i := range 400 { // more than there is room for
				if client.TrySend(mqttest.Publish(uint16(i+1), 1, c.Topic, signed(t, c, i))) != nil {
					return
				}
			}
		}()
		acknowledged := make(chan struct{})
		go func() {
			for {
				if _, err := client.Next(); err != nil {
					return
				}
				acknowledged <- struct{}{}
			}
		}()
		for n, full := 0, false; !full; n++ {
			select {
			case <-acknowledged:
			case <-time.After(time.Second):
				if full = n > 0; n == 400 {
					t.Fatal("the store has room for all readings")
				}
			}
		}
		must(t, p.Process.Signal(syscall.SIGTERM))
		p.stopsAccepting(t)
		select {
		case err := <-p.ended:
			t.Fatalf("it ended with %v though readings are in flight", err)
		case <-time.After(100 * time.Millisecond):
		}
		must(t, p.Process.Signal(second))
		var exit *exec.ExitError
		if err := p.end(t); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != second {
			t.Errorf("it ended with %v, want %v", err, second)
		}
	}
}
