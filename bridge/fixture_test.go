package bridge_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
)

// marker is in every reading of these tests, and must be in no log.
const marker = "MARKER-OF-A-READING"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// journal is a log at the finest level, and what must not be in it.
type journal struct {
	mu      sync.Mutex
	text    bytes.Buffer
	secrets []string
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) hide(secrets ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.secrets = append(j.secrets, secrets...)
}

func (j *journal) check(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, secret := range j.secrets {
		for line := range strings.Lines(j.text.String()) {
			if secret != "" && strings.Contains(line, secret) {
				t.Errorf("the log holds what it must not: %s", line)
			}
		}
	}
}

// system is a gate with everything real, and what its test knows about it.
type system struct {
	*bridge.Bridge
	dir     string
	urls    map[string]string
	journal *journal
}

// small is the default configuration with free ports and little space.
func small(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.Data = filepath.Join(t.TempDir(), "data")
	c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Store.Vitals.MaxBytes = 64 * config.MiB
	c.Store.Rejections.MaxBytes, c.Store.Audit.MaxBytes, c.Store.Devices.MaxBytes = 8*config.MiB, 8*config.MiB, 8*config.MiB
	must(t, c.Validate())
	return c
}

func start(t *testing.T, c config.Config) *system {
	t.Helper()
	s := &system{dir: c.Data, journal: &journal{}, urls: map[string]string{}}
	s.journal.hide(marker, string(c.NATS.Password))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	s.Bridge, err = bridge.Start(ctx, c, bridge.Options{Log: zerolog.New(s.journal).Level(zerolog.TraceLevel)})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), mqttest.Patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		s.journal.check(t)
	})
	if c.NATS.URL != "" {
		return s
	}
	for _, user := range []string{"operator", "consumer", "security"} {
		text, err := os.ReadFile(engine.URLFile(c.Data, user))
		must(t, err)
		s.urls[user] = strings.TrimSpace(string(text))
		_, password, _ := strings.Cut(strings.TrimPrefix(s.urls[user], "nats://"), ":")
		password, _, _ = strings.Cut(password, "@")
		s.journal.hide(password)
	}
	master, err := os.ReadFile(filepath.Join(c.Data, bridge.MasterKeyFile))
	must(t, err)
	s.journal.hide(strings.TrimSpace(string(master)))
	return s
}

// user logs in to NATS as the consumer or the security officer.
func (s *system) user(t *testing.T, name string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.urls[name])
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func (s *system) subscribe(t *testing.T, user, subject string) *nats.Subscription {
	t.Helper()
	nc := s.user(t, user)
	sub, err := nc.SubscribeSync(subject)
	must(t, err)
	must(t, nc.Flush())
	return sub
}

func receive(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(mqttest.Patience)
	if err != nil {
		t.Fatalf("%s: %v", sub.Subject, err)
	}
	return m
}

// rejection is a message of REJECTIONS.
type rejection struct {
	subject string
	Outcome string `json:"outcome"`
	Device  string `json:"device_id"`
	Conn    string `json:"connection"`
	Remote  string `json:"remote"`
	SHA256  string `json:"payload_sha256"`
	Reason  string `json:"reason"`
	Time    time.Time
}

func receiveRejection(t *testing.T, sub *nats.Subscription) rejection {
	t.Helper()
	m := receive(t, sub)
	r := rejection{subject: m.Subject}
	must(t, json.Unmarshal(m.Data, &r))
	if bytes.Contains(m.Data, []byte(marker)) {
		t.Errorf("the rejection holds the reading: %s", m.Data)
	}
	return r
}

// stored returns all of VITALS.
func (s *system) stored(t *testing.T) []egress.Stored {
	t.Helper()
	reader, err := egress.NewReader(s.user(t, "consumer"), egress.StreamVitals, "vitals.>")
	must(t, err)
	var all []egress.Stored
	_, err = reader.Read(t.Context(), 1, func(m egress.Stored) error {
		all = append(all, m)
		return nil
	})
	must(t, err)
	return all
}

// device is an enrolled one.
type device struct {
	registry.Credentials
	seq int
}

func (s *system) enrol(t *testing.T, id, patient string) *device {
	t.Helper()
	c, err := s.Enrol(t.Context(), id, patient)
	must(t, err)
	s.journal.hide(c.Password, c.Key)
	return &device{Credentials: c}
}

// sign returns a payload that no one has signed before. The members given
// replace those of a right and present reading.
func (d *device) sign(t *testing.T, members ...string) []byte {
	t.Helper()
	d.seq++
	text := []string{
		fmt.Sprintf(`"device_id":%q`, d.DeviceID), fmt.Sprintf(`"patient_id":%q`, d.PatientID),
		fmt.Sprintf(`"timestamp":%.3f`, float64(time.Now().UnixMilli())/1000), fmt.Sprintf(`"seq":%d`, d.seq),
		`"spo2":97`, `"heart_rate":72`, fmt.Sprintf(`"note":%q`, marker),
	}
	for _, m := range members {
		name, _, _ := strings.Cut(m, ":")
		i := slices.IndexFunc(text, func(old string) bool { return strings.HasPrefix(old, name+":") })
		text[i] = m
	}
	payload, err := reading.Sign(mustHex(d.Key), []byte("{"+strings.Join(text, ",")+"}"))
	must(t, err)
	return payload
}

// at is a timestamp that much from now.
func at(d time.Duration) string {
	return fmt.Sprintf(`"timestamp":%.3f`, float64(time.Now().Add(d).UnixMilli())/1000)
}

// tampered changes one digit of a payload.
func tampered(payload []byte) []byte {
	return bytes.Replace(payload, []byte(`"spo2":97`), []byte(`"spo2":87`), 1)
}

func (s *system) dial(t *testing.T, d *device, version byte, options ...mqttest.Option) *mqttest.Client {
	t.Helper()
	c := mqttest.Dial(t, s.MQTT(), version)
	if ack := c.Connect(d.DeviceID, append(options, mqttest.Login(d.Username, d.Password))...); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return c
}

// identity is what the payload's signature says.
func identity(t *testing.T, payload []byte) string {
	t.Helper()
	e, err := reading.Split(payload)
	must(t, err)
	return e.Signature.String()
}

// checkStored compares a message with the reading that it must be.
func checkStored(t *testing.T, m egress.Stored, d *device, payload []byte) {
	t.Helper()
	if want := "vitals.live." + d.PatientID + "." + d.DeviceID; m.Subject != want {
		t.Errorf("subject %s, want %s", m.Subject, want)
	}
	if !bytes.Equal(m.Data, payload) {
		t.Errorf("stored\n%s\nin place of\n%s", m.Data, payload)
	}
	if len(m.Header) != 2 || m.Header.Get("Nats-Msg-Id") != identity(t, payload) || !findings.MatchString(m.Header.Get("Pulsegate-Findings")) {
		t.Errorf("headers %v", m.Header)
	}
}

var findings = regexp.MustCompile(`^generation=1, age_ms=\d+, received=\d{10}\.\d{3}, replica="[A-Za-z0-9_-]+"$`)

// need ends a test whose tool is not there: as skipped, or as failed where the
// machine is meant to have everything.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			absent(t, tool)
		}
	}
}

func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", what)
	}
	t.Skipf("SKIPPED: %s is not installed", what)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
