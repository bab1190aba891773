package bridge_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// wire is where clients find the gate, whatever its address is by now. It can
// cut a connection in the middle of QoS 2.
type wire struct {
	net.Listener
	// packets are the first bytes of what passed, of both directions; cuts are
	// told when one has been made.
	packets chan byte
	cuts    chan struct{}

	mu     sync.Mutex
	target string
	cut    byte
}

func newWire(t *testing.T) *wire {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{Listener: tcp, packets: make(chan byte, 4096), cuts: make(chan struct{}, 1)}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() {
		for {
			client, err := tcp.Accept()
			if err != nil {
				return
			}
			go w.connect(client)
		}
	}()
	return w
}

func (w *wire) connect(client net.Conn) {
	defer client.Close()
	w.mu.Lock()
	target := w.target
	w.mu.Unlock()
	gate, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer gate.Close()
	go func() {
		defer client.Close()
		defer gate.Close()
		w.pass(client, gate)
	}()
	w.pass(gate, client)
}

// pass lets whole packets through, but for the one that is to be cut off.
func (w *wire) pass(to io.Writer, from io.Reader) {
	for in := bufio.NewReader(from); ; {
		packet, err := nextPacket(in)
		if err != nil || w.cutsOff(packet[0]>>4) {
			return
		}
		w.packets <- packet[0]
		if _, err := to.Write(packet); err != nil {
			return
		}
	}
}

func nextPacket(in *bufio.Reader) ([]byte, error) {
	for n := 2; ; n++ {
		head, err := in.Peek(n)
		if err != nil {
			return nil, err
		}
		length, used, err := packets.DecodeLength(bytes.NewReader(head[1:]))
		if errors.Is(err, io.EOF) {
			continue // the length has more bytes
		}
		if err != nil {
			return nil, err
		}
		packet := make([]byte, 1+used+length)
		_, err = io.ReadFull(in, packet)
		return packet, err
	}
}

func (w *wire) cutsOff(kind byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut != kind {
		return false
	}
	w.cut, w.target = 0, "" // and nobody gets through until the gate is back
	w.cuts <- struct{}{}
	return true
}

func (w *wire) leadTo(s *system) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = s.MQTT()
}

func (w *wire) cutAt(kind byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = kind
}

func (w *wire) awaitCut(t *testing.T) {
	t.Helper()
	select {
	case <-w.cuts:
	case <-time.After(3 * mqttest.Patience):
		t.Fatal("the packet that is to be cut off never comes")
	}
	for len(w.packets) > 0 {
		<-w.packets
	}
}

// saw waits for a packet, and says which flags it had.
func (w *wire) saw(t *testing.T, kind byte) (flags byte) {
	t.Helper()
	end := time.After(3 * mqttest.Patience)
	for {
		select {
		case first := <-w.packets:
			if first>>4 == kind {
				return first & 0x0f
			}
		case <-end:
			t.Fatalf("no %s passes", packets.PacketNames[kind])
		}
	}
}

// restart ends a gate and starts one on the same data.
func (s *system) restart(t *testing.T, c config.Config) *system {
	t.Helper()
	must(t, awaitEnd(t, s.close(t, time.Minute)))
	return start(t, c)
}

// acrossRestarts lets a real client publish at QoS 2 and restarts the gate in
// the middle: once before the client has PUBREC, and once before PUBCOMP.
func acrossRestarts(t *testing.T, connect func(t *testing.T, w *wire, d *device) (publish func(payload []byte))) {
	t.Helper()
	c := small(t)
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	w := newWire(t)
	w.leadTo(s)
	publish := connect(t, w, d)
	w.saw(t, packets.Connack)
	var sent [][]byte
	for _, lost := range []byte{packets.Pubrec, packets.Pubcomp} {
		w.cutAt(lost)
		sent = append(sent, d.sign(t))
		publish(sent[len(sent)-1])
		w.awaitCut(t)
		s = s.restart(t, c)
		w.leadTo(s)
		w.saw(t, packets.Connack)
		if lost == packets.Pubrec {
			if flags := w.saw(t, packets.Publish); flags != 0x0c {
				t.Errorf("PUBLISH comes again with flags %#x, want DUP and QoS 2", flags)
			}
		}
		w.saw(t, packets.Pubrel)
		w.saw(t, packets.Pubcomp)
	}
	stored := s.stored(t)
	if len(stored) != len(sent) {
		t.Fatalf("%d are stored, want %d", len(stored), len(sent))
	}
	for i, m := range stored {
		checkStored(t, m, d, sent[i])
	}
}

func TestQoS2OfPahoAcrossRestarts(t *testing.T) {
	t.Parallel()
	acrossRestarts(t, func(t *testing.T, w *wire, d *device) func([]byte) {
		client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + w.Addr().String()).SetClientID(d.DeviceID).
			SetUsername(d.Username).SetPassword(d.Password).SetProtocolVersion(4).
			SetCleanSession(false).SetMaxReconnectInterval(100 * time.Millisecond))
		await(t, client.Connect())
		t.Cleanup(func() { client.Disconnect(0) })
		return func(payload []byte) { client.Publish(d.Topic, 2, false, payload) }
	})
}

// pythonClient publishes each line that it reads.
const pythonClient = `
import sys
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
port, device, user, password, topic, version = sys.argv[1:]
if version == "5":
    client = mqtt.Client(device, protocol=mqtt.MQTTv5)
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    kept = {"clean_start": False, "properties": session}
else:
    client, kept = mqtt.Client(device, clean_session=False), {}
client.username_pw_set(user, password)
client.reconnect_delay_set(1, 1)
client.connect("127.0.0.1", int(port), **kept)
client.loop_start()
for line in sys.stdin:
    client.publish(topic, line.strip(), qos=2)
client.disconnect()
`

func TestQoS2OfPythonAcrossRestarts(t *testing.T) {
	t.Parallel()
	need(t, python)
	if exec.Command(python, "-c", "import paho.mqtt.client").Run() != nil {
		absent(t, "python3-paho-mqtt")
	}
	for _, version := range []string{"4", "5"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			acrossRestarts(t, func(t *testing.T, w *wire, d *device) func([]byte) {
				_, port, err := net.SplitHostPort(w.Addr().String())
				must(t, err)
				cmd := exec.CommandContext(t.Context(), python, "-c", pythonClient, port, d.DeviceID, d.Username, d.Password, d.Topic, version)
				var output bytes.Buffer
				cmd.Stdout, cmd.Stderr = &output, &output
				in, err := cmd.StdinPipe()
				must(t, err)
				must(t, cmd.Start())
				t.Cleanup(func() {
					_ = in.Close()
					if err := cmd.Wait(); t.Failed() {
						t.Logf("the client ended with %v: %s", err, output.Bytes())
					}
				})
				return func(payload []byte) {
					_, err := in.Write(append(payload, '\n'))
					must(t, err)
				}
			})
		})
	}
}

// mosquitto_pub gives up when its connection breaks, and is run again with the
// same reading.
func TestQoS2OfMosquittoPubAcrossRestarts(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		c := small(t)
		s := start(t, c)
		d := s.enrol(t, "w-0001", "p-0001")
		w := newWire(t)
		host, port, err := net.SplitHostPort(w.Addr().String())
		must(t, err)
		publish := func(payload []byte) ([]byte, error) {
			arguments := []string{"-h", host, "-p", port, "-V", version, "-q", "2", "-c",
				"-i", d.DeviceID, "-u", d.Username, "-P", d.Password, "-t", d.Topic, "-s"}
			if version == "mqttv5" {
				arguments = append(arguments, "-x", "3600")
			}
			cmd := exec.CommandContext(t.Context(), "mosquitto_pub", arguments...)
			cmd.Stdin = bytes.NewReader(payload)
			return cmd.CombinedOutput()
		}
		var sent [][]byte
		for _, lost := range []byte{packets.Pubrec, packets.Pubcomp} {
			w.leadTo(s)
			w.cutAt(lost)
			payload := d.sign(t)
			sent = append(sent, payload)
			if out, err := publish(payload); err == nil {
				t.Errorf("%s: without %s it ends well: %s", version, packets.PacketNames[lost], out)
			}
			w.awaitCut(t)
			s = s.restart(t, c)
			w.leadTo(s)
			if out, err := publish(payload); err != nil {
				t.Errorf("%s, again after %s was lost: %v: %s", version, packets.PacketNames[lost], err, out)
			}
		}
		stored := s.stored(t)
		if len(stored) != len(sent) {
			t.Fatalf("%s: %d are stored, want %d", version, len(stored), len(sent))
		}
		for i, m := range stored {
			checkStored(t, m, d, sent[i])
		}
	}
}

// The answers themselves, after a restart: a PUBLISH that comes again is a
// duplicate and gets PUBREC, and a PUBREL whose identifier nobody knows gets
// PUBCOMP [MQTT-4.3.3-11], in MQTT 5 with the reason.
func TestQoS2AnswersAfterARestart(t *testing.T) {
	t.Parallel()
	c := small(t)
	s := start(t, c)
	d := s.enrol(t, "w-0001", "p-0001")
	session := func(pk *packets.Packet) {
		mqttest.Resume(pk)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	}
	var sent [][]byte
	for _, version := range []byte{4, 5} {
		payload := d.sign(t)
		sent = append(sent, payload)
		client := s.dial(t, d, version, session)
		client.Send(mqttest.Publish(7, 2, d.Topic, payload))
		client.ExpectBytes(0x50, 2, 0, 7)
		s = s.restart(t, c)

		client = s.dial(t, d, version, session)
		client.Send(mqttest.Pubrel(7))
		if pk := client.Expect(packets.Pubcomp); pk.PacketID != 7 || version == 5 && pk.ReasonCode != 0x92 || version == 4 && len(pk.Raw) != 4 {
			t.Errorf("version %d: PUBCOMP %x", version, pk.Raw)
		}
		again := mqttest.Publish(7, 2, d.Topic, payload)
		again.FixedHeader.Dup = true
		client.Send(again)
		client.ExpectBytes(0x50, 2, 0, 7)
		client.Send(mqttest.Pubrel(7))
		client.ExpectBytes(0x70, 2, 0, 7)
	}
	if stored := s.stored(t); len(stored) != len(sent) {
		t.Errorf("%d are stored, want %d", len(stored), len(sent))
	}
}
