package doctor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/cmd/pulsegate/doctor"
)

const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// settings are those of a small gate on free ports.
func settings(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.Data = filepath.Join(t.TempDir(), "data")
	c.MQTT.Listen, c.HTTP.Listen, c.NATS.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	for _, size := range []*config.Bytes{&c.Store.Vitals.MaxBytes, &c.Store.Rejections.MaxBytes, &c.Store.Audit.MaxBytes, &c.Store.Devices.MaxBytes} {
		*size = 4 * config.MiB
	}
	return c
}

// start runs a gate, and returns the configuration with its addresses.
func start(t *testing.T, c config.Config) config.Config {
	t.Helper()
	c, _ = startStop(t, c)
	return c
}

// startStop is start, and how to stop the gate before the test ends.
func startStop(t *testing.T, c config.Config) (config.Config, func()) {
	t.Helper()
	c, stop, _ := startLogging(t, c)
	return c, stop
}

// startLogging is startStop, and the log, to be read when the gate has stopped.
func startLogging(t *testing.T, c config.Config) (config.Config, func(), *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	b, err := bridge.Start(within(t), c, bridge.Options{Log: zerolog.New(zerolog.SyncWriter(log))})
	must(t, err)
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	for _, url := range b.Listeners() {
		scheme, address, _ := strings.Cut(url, "://")
		switch scheme {
		case "mqtt":
			c.MQTT.Listen = address
		case "mqtts":
			c.MQTT.TLS.Listen = address
		default:
			c.MQTT.WebSocket.Listen = address
		}
	}
	c.HTTP.Listen = b.HTTP()
	return c, stop, log
}

// refused is the one line that a gate does not start with.
func refused(t *testing.T, c config.Config, parts ...string) {
	t.Helper()
	b, err := bridge.Start(within(t), c, bridge.Options{})
	if err == nil {
		t.Fatal("the gate starts: ", b.Close(within(t)))
	}
	text := err.Error()
	if strings.Contains(text, "\n") {
		t.Errorf("not one line: %s", text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// result is what the doctor has said.
type result []doctor.Check

func options(c config.Config) doctor.Options {
	return doctor.Options{Config: c, By: "a test", Now: time.Now, Ready: func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTP.Listen+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusOK {
			return errors.Join(err, fmt.Errorf("not ready: %s", text))
		}
		return err
	}}
}

func examine(t *testing.T, c config.Config) result { return doctor.Run(t.Context(), options(c)) }

// says wants a line of a check with a status and some text.
func (r result) says(t *testing.T, name string, status doctor.Status, parts ...string) {
	t.Helper()
	for _, c := range r {
		found := c.Name == name && c.Status == status
		for _, part := range parts {
			found = found && strings.Contains(c.Message, part)
		}
		if found {
			return
		}
	}
	t.Errorf("there is no line %s %s with %q:\n%s", status, name, parts, r)
}

// onlyFails wants no other check to fail than those named.
func (r result) onlyFails(t *testing.T, names ...string) {
	t.Helper()
	if got := doctor.Failed(r); fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("failed are %v, not %v:\n%s", got, names, r)
	}
}

func (r result) String() string {
	var text strings.Builder
	_ = doctor.Print(&text, r)
	return text.String()
}

// run starts a real NATS server, with JetStream for those accounts too, and
// returns its URL.
func run(t *testing.T, o *server.Options, accounts ...string) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	o.JetStream, o.StoreDir = true, t.TempDir()
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server did not start")
	}
	for _, name := range accounts {
		account, err := s.LookupAccount(name)
		must(t, err)
		must(t, account.EnableJetStream(nil, nil))
	}
	return "nats://" + s.Addr().String()
}

// own starts a NATS server with the gate's accounts, and returns settings for it
// and a connection as the gate.
func own(t *testing.T) (config.Config, jetstream.JetStream) {
	t.Helper()
	dir := t.TempDir()
	must(t, engine.MakeCredentials(dir, "nats://127.0.0.1:4222"))
	o, err := server.ProcessConfigFile(engine.AccountsFile(dir))
	must(t, err)
	must(t, engine.MakeCredentials(dir, run(t, o)))
	c := settings(t)
	c.NATS.URLFile = engine.URLFile(dir, "gate")
	nc, _, err := engine.Connect(within(t), bridge.RemoteOf(c), zerolog.Nop())
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	return c, js
}

// runTLS is run with a certificate.
func runTLS(t *testing.T, pair certstest.Pair) string {
	t.Helper()
	url := run(t, &server.Options{TLS: true, TLSTimeout: 5, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair.Certificate}}})
	return strings.Replace(url, "nats://", "tls://", 1)
}
