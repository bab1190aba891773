package bridge_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// python is Debian's interpreter, the one that sees Debian's paho.
const python = "/usr/bin/python3"

func TestPaho(t *testing.T) {
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.MQTT()).SetClientID(d.DeviceID).
		SetUsername(d.Username).SetPassword(d.Password).SetAutoReconnect(false).SetProtocolVersion(4))
	await(t, client.Connect())
	var sent [][]byte
	for _, qos := range []byte{1, 2, 0, 1} {
		sent = append(sent, d.sign(t))
		await(t, client.Publish(d.Topic, qos, false, sent[len(sent)-1]))
	}
	subscription := client.Subscribe(d.Topic, 1, nil)
	await(t, subscription)
	if granted := subscription.(*mqtt.SubscribeToken).Result()[d.Topic]; granted != 0x80 {
		t.Errorf("SUBACK %#x, want 0x80", granted)
	}
	client.Disconnect(0)
	stored := s.stored(t)
	if len(stored) != len(sent) {
		t.Fatalf("%d are stored, want %d", len(stored), len(sent))
	}
	for i, m := range stored {
		checkStored(t, m, d, sent[i])
	}
}

func await(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(mqttest.Patience) {
		t.Fatal("no acknowledgement")
	}
	must(t, token.Error())
}

// mosquittoPub sends one payload with Debian's client.
func (s *system) mosquittoPub(t *testing.T, d *device, payload []byte, version string, qos int) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.MQTT())
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", fmt.Sprint(qos),
		"-i", d.DeviceID, "-u", d.Username, "-P", d.Password, "-t", d.Topic, "-s")
	cmd.Stdin = bytes.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mosquitto_pub: %v: %s", err, out)
	}
}

func TestMosquittoPub(t *testing.T) {
	need(t, "mosquitto_pub")
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	events := s.subscribe(t, "security", "rejected.>")
	triage := s.subscribe(t, "consumer", "vitals.live.>")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []int{0, 1, 2} {
			payload := d.sign(t)
			s.mosquittoPub(t, d, payload, version, qos)
			if m := receive(t, triage); !bytes.Equal(m.Data, payload) {
				t.Errorf("%s, QoS %d: arrived as %s", version, qos, m.Data)
			}
			if version == "mqttv5" && qos > 0 {
				continue // there it ends with an error, as it should
			}
			s.mosquittoPub(t, d, tampered(d.sign(t)), version, qos)
			if r := receiveRejection(t, events); r.subject != "rejected.bad_signature.w-0001" {
				t.Errorf("%s, QoS %d: %+v", version, qos, r)
			}
		}
	}
	if stored := s.stored(t); len(stored) != 6 {
		t.Errorf("%d are stored, want 6", len(stored))
	}
}

// The clients in docs/clients are complete: what they send is accepted, and
// with one digit changed refused.
func TestExampleClients(t *testing.T) {
	const clients = "../docs/clients/"
	for name, command := range map[string]func(*testing.T) []string{
		"shell": func(t *testing.T) []string {
			need(t, "sh", "openssl", "mosquitto_pub")
			return []string{"sh", clients + "client.sh"}
		},
		"python": func(t *testing.T) []string {
			need(t, python)
			if exec.Command(python, "-c", "import paho.mqtt.client").Run() != nil {
				absent(t, "python3-paho-mqtt")
			}
			return []string{python, clients + "client.py"}
		},
		"c": func(t *testing.T) []string {
			need(t, "cc", "mosquitto_pub")
			if _, err := os.Stat("/usr/include/openssl/hmac.h"); err != nil {
				absent(t, "libssl-dev")
			}
			binary := filepath.Join(t.TempDir(), "client")
			if out, err := exec.Command("cc", "-o", binary, clients+"client.c", "-lcrypto").CombinedOutput(); err != nil {
				t.Fatalf("cc: %v\n%s", err, out)
			}
			return []string{binary}
		},
	} {
		t.Run(name, func(t *testing.T) {
			words := command(t)
			s := start(t, small(t))
			d := s.enrol(t, "w-0001", "p-0001")
			run := func(arguments ...string) []byte {
				t.Helper()
				host, port, err := net.SplitHostPort(s.MQTT())
				must(t, err)
				cmd := exec.CommandContext(t.Context(), words[0], append(words[1:], arguments...)...)
				cmd.Env = []string{
					"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "MQTT_HOST=" + host, "MQTT_PORT=" + port, "MQTT_ATTEMPTS=1",
					"WEARABLE_DEVICE_ID=" + d.DeviceID, "WEARABLE_PATIENT_ID=" + d.PatientID, "WEARABLE_KEY=" + d.Key, "WEARABLE_PASSWORD=" + d.Password,
				}
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v: %s", err, stderr.Bytes())
				}
				return out
			}
			events := s.subscribe(t, "security", "rejected.>")
			triage := s.subscribe(t, "consumer", "vitals.live.>")
			run("97", "72", "1")
			first := receive(t, triage)
			if first.Subject != "vitals.live.p-0001.w-0001" || !bytes.Contains(first.Data, []byte("97")) {
				t.Errorf("arrived on %s: %s", first.Subject, first.Data)
			}
			printed := bytes.TrimSuffix(run("--print", "97", "72", "2"), []byte("\n"))
			changed := bytes.Replace(printed, []byte("97"), []byte("87"), 1)
			c := s.dial(t, d, 5)
			c.Send(mqttest.Publish(1, 1, d.Topic, changed), mqttest.Publish(2, 1, d.Topic, printed))
			c.ExpectBytes(0x40, 3, 0, 1, 0x87)
			c.ExpectBytes(0x40, 2, 0, 2)
			if r := receiveRejection(t, events); r.subject != "rejected.bad_signature.w-0001" {
				t.Errorf("%+v", r)
			}
			if m := receive(t, triage); !bytes.Equal(m.Data, printed) {
				t.Errorf("arrived as %s", m.Data)
			}
			t.Logf("accepted %s; refused %s", printed, changed)
		})
	}
}
