package bridge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/config"
)

func TestBadStarts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = taken.Close() }()
	busy := taken.Addr().String()
	running := small(t)
	start(t, running)
	for name, run := range map[string]struct {
		change func(*config.Config)
		want   []string
	}{
		"MQTT port in use":  {func(c *config.Config) { c.MQTT.Listen = busy }, []string{"mqtt", busy, "--mqtt-listen"}},
		"HTTP port in use":  {func(c *config.Config) { c.HTTP.Listen = busy }, []string{"http", busy, "--http-listen"}},
		"NATS port in use":  {func(c *config.Config) { c.NATS.Listen = busy }, []string{busy, "in use"}},
		"directory in use":  {func(c *config.Config) { c.Data = running.Data }, []string{running.Data, "another pulsegate"}},
		"directory a file":  {func(c *config.Config) { c.Data = file(t, c.Data, 0o600) }, []string{"data directory"}},
		"master key's mode": {func(c *config.Config) { file(t, filepath.Join(c.Data, bridge.MasterKeyFile), 0o644) }, []string{"0644", "chmod 600"}},
		"master key's text": {func(c *config.Config) { file(t, filepath.Join(c.Data, bridge.MasterKeyFile), 0o600) }, []string{"64 hexadecimal digits"}},
		"NATS not there":    {func(c *config.Config) { c.NATS.URL = "nats://gate:hidden-password@127.0.0.1:1" }, []string{"127.0.0.1:1", "cannot be reached"}},
		"streams too large": {func(c *config.Config) { c.Store.Vitals.MaxBytes = 1 << 60 }, []string{"disk"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := small(t)
			run.change(&c)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			b, err := bridge.Start(ctx, c, bridge.Options{Log: zerolog.Nop()})
			if err == nil {
				_ = b.Close(t.Context())
				t.Fatal("it starts")
			}
			for _, want := range run.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(err.Error(), "hidden-password") {
				t.Errorf("not one line without a secret: %q", err)
			}
		})
	}
}

// file writes a file with nothing useful in it, and returns its path.
func file(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte("x"), mode))
	must(t, os.Chmod(path, mode))
	return path
}

// A start that failed leaves nothing behind that a second one would meet.
func TestAStartAfterAFailedOne(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := small(t)
	c.HTTP.Listen = taken.Addr().String()
	if _, err := bridge.Start(t.Context(), c, bridge.Options{Log: zerolog.Nop()}); err == nil {
		t.Fatal("it starts")
	}
	must(t, taken.Close())
	start(t, c)
}

func TestHealthAndMetrics(t *testing.T) {
	s := start(t, small(t))
	d := s.enrol(t, "w-0001", "p-0001")
	send(s.dial(t, d, 5), d.Topic, [][]byte{d.sign(t), tampered(d.sign(t))})
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": `pulsegate_messages_total{outcome="accepted"}`} {
		answer, err := http.Get("http://" + s.HTTP() + path)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, want %q in\n%s", path, answer.Status, want, body)
		}
		if strings.Contains(string(body), d.DeviceID) || strings.Contains(string(body), d.PatientID) {
			t.Errorf("%s names a device or a patient:\n%s", path, body)
		}
	}
}
