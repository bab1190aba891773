package reading_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

// python is Debian's interpreter, the one that sees Debian's paho.
const python = "/usr/bin/python3"

const (
	clientsDir = "../../docs/clients"
	clientKey  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

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

func needPaho(t *testing.T) {
	t.Helper()
	need(t, python)
	if exec.Command(python, "-c", "import paho.mqtt.client").Run() != nil {
		absent(t, "python3-paho-mqtt")
	}
}

// exampleClients returns how each client of docs/clients is called. A client
// whose tools are absent is skipped in its own subtest.
func exampleClients() []exampleClient {
	return []exampleClient{
		{"shell", func(t *testing.T) []string {
			need(t, "sh", "openssl", "mosquitto_pub")
			return []string{"sh", filepath.Join(clientsDir, "client.sh")}
		}},
		{"python", func(t *testing.T) []string {
			needPaho(t)
			return []string{python, filepath.Join(clientsDir, "client.py")}
		}},
		{"c", func(t *testing.T) []string {
			need(t, "cc", "mosquitto_pub")
			if _, err := os.Stat("/usr/include/openssl/hmac.h"); err != nil {
				absent(t, "libssl-dev")
			}
			binary := filepath.Join(t.TempDir(), "client")
			build := exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", binary, filepath.Join(clientsDir, "client.c"), "-lcrypto")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("cc: %v\n%s", err, out)
			}
			return []string{binary}
		}},
	}
}

type exampleClient struct {
	name    string
	command func(*testing.T) []string
}

// start returns a client's command with an environment of the given settings
// and nothing else that a client reads.
func (c exampleClient) start(t *testing.T, settings []string, args ...string) *exec.Cmd {
	t.Helper()
	command := append(c.command(t), args...)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, settings...)
	return cmd
}

func credentials() []string {
	return []string{"WEARABLE_DEVICE_ID=w-0001", "WEARABLE_PATIENT_ID=p-0001", "WEARABLE_KEY=" + clientKey, "WEARABLE_PASSWORD=secret-password"}
}

func TestClientsSign(t *testing.T) {
	for _, c := range exampleClients() {
		t.Run(c.name, func(t *testing.T) {
			before := time.Now().Truncate(time.Second)
			out, err := c.start(t, credentials(), "--print", "97.5", "72", "42").Output()
			if err != nil {
				t.Fatal(err)
			}
			r := authentic(t, bytes.TrimSuffix(out, []byte("\n")))
			if r.Timestamp.Before(before) || r.Timestamp.After(time.Now()) {
				t.Errorf("timestamp %v is not the time of the call", r.Timestamp)
			}
			r.Timestamp = time.Time{}
			want := reading.Reading{DeviceID: "w-0001", PatientID: "p-0001", Seq: 42, HasSeq: true, SpO2: 97.5, HeartRate: 72}
			if r != want {
				t.Errorf("reads %+v, want %+v", r, want)
			}
		})
		t.Run(c.name+" without seq", func(t *testing.T) {
			out, err := c.start(t, credentials(), "--print", "97", "72").Output()
			if err != nil {
				t.Fatal(err)
			}
			if r := authentic(t, bytes.TrimSuffix(out, []byte("\n"))); r.HasSeq {
				t.Error("has a seq that nobody gave")
			}
		})
	}
}

func TestClientsRefuseWrongUsage(t *testing.T) {
	for _, c := range exampleClients() {
		for name, run := range map[string]struct {
			settings []string
			args     []string
		}{
			"one value":          {credentials(), []string{"--print", "97"}},
			"four values":        {credentials(), []string{"--print", "97", "72", "1", "2"}},
			"no credentials":     {nil, []string{"--print", "97", "72"}},
			"key not hex":        {append(credentials(), "WEARABLE_KEY=secret-key"), []string{"--print", "97", "72"}},
			"password not there": {append(credentials(), "WEARABLE_PASSWORD="), []string{"97", "72"}},
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				var stderr strings.Builder
				cmd := c.start(t, run.settings, run.args...)
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 2 {
					t.Errorf("ended with %v, want exit status 2", err)
				}
				if len(out) > 0 {
					t.Errorf("printed %q", out)
				}
				if stderr.Len() == 0 || strings.Contains(stderr.String(), "secret-") || strings.Contains(stderr.String(), "Traceback") {
					t.Errorf("said %q", stderr.String())
				}
			})
		}
	}
}

// authentic reads a payload that must be signed with clientKey.
func authentic(t *testing.T, payload []byte) reading.Reading {
	t.Helper()
	e, err := reading.Split(payload)
	if err != nil {
		t.Fatalf("%v: %q", err, payload)
	}
	if !reading.NewMAC(unhex(t, clientKey)).Verify(e) {
		t.Fatalf("the signature is wrong: %q", payload)
	}
	r, err := reading.Parse(payload)
	if err != nil {
		t.Fatalf("%v: %q", err, payload)
	}
	return r
}
