package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/pflag"
)

const home = "HOME=/home/nurse"

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func parseFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func mustLoad(t *testing.T, s Sources) Config {
	t.Helper()
	c, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExampleIsTheDefault(t *testing.T) {
	want := Default()
	want.Data = "/home/nurse/.local/state/pulsegate"
	got := mustLoad(t, Sources{File: filepath.Join("..", "..", "configs", "pulsegate.yaml"), Environ: []string{home}})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// An example that leaves a setting out would equal the default all the same.
func TestExampleHasEverySetting(t *testing.T) {
	name := filepath.Join("..", "..", "configs", "pulsegate.yaml")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	l := loader{config: Default(), origins: map[string]string{}}
	if err := l.yaml(name, data); err != nil {
		t.Fatal(err)
	}
	for _, setting := range leaves() {
		if l.origins[setting.key] == "" {
			t.Errorf("%s is missing from %s", setting.key, name)
		}
	}
}

func TestEverySettingHasAVariableAndARule(t *testing.T) {
	params, err := env.GetFieldParamsWithOptions(&Config{}, env.Options{Prefix: envPrefix, Environment: map[string]string{"A": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	var tagged []string
	for _, p := range params {
		if p.OwnKey != "" {
			tagged = append(tagged, p.Key)
		}
	}
	var derived []string
	for _, l := range leaves() {
		derived = append(derived, l.variable())
		if r := rules()[l.key]; r.allowed == "" || r.check == nil {
			t.Errorf("%s has no rule", l.key)
		}
	}
	if !slices.Equal(tagged, derived) {
		t.Errorf("the env tags give %v\nthe yaml tags %v", tagged, derived)
	}
	if len(rules()) != len(derived) {
		t.Errorf("%d rules for %d settings", len(rules()), len(derived))
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "mqtt: {listen: '127.0.0.1:1'}\nnats: {url: nats://file}\n")
	other := write(t, "mqtt: {listen: '127.0.0.1:9'}\n")
	none := parseFlags(t)
	for _, test := range []struct {
		name       string
		sources    Sources
		listen     string
		natsServer string
	}{
		{"default", Sources{Flags: none}, "127.0.0.1:1883", ""},
		{"file", Sources{File: file, Flags: none}, "127.0.0.1:1", "nats://file"},
		{"environment over file", Sources{File: file, Environ: []string{"PULSEGATE_MQTT_LISTEN=127.0.0.1:2"}, Flags: none}, "127.0.0.1:2", "nats://file"},
		{"empty variable is not set", Sources{File: file, Environ: []string{"PULSEGATE_MQTT_LISTEN="}, Flags: none}, "127.0.0.1:1", "nats://file"},
		{"flag over environment", Sources{File: file, Environ: []string{"PULSEGATE_MQTT_LISTEN=127.0.0.1:2"}, Flags: parseFlags(t, "--mqtt-listen=:3")}, ":3", "nats://file"},
		{"flag with the default's value", Sources{File: file, Flags: parseFlags(t, "--mqtt-listen=127.0.0.1:1883")}, "127.0.0.1:1883", "nats://file"},
		{"empty flag over file", Sources{File: file, Flags: parseFlags(t, "--nats=")}, "127.0.0.1:1", ""},
		{"PULSEGATE_CONFIG", Sources{Environ: []string{"PULSEGATE_CONFIG=" + file}, Flags: none}, "127.0.0.1:1", "nats://file"},
		{"--config over PULSEGATE_CONFIG", Sources{Environ: []string{"PULSEGATE_CONFIG=" + file}, Flags: parseFlags(t, "--config", other)}, "127.0.0.1:9", ""},
		{"no flags at all", Sources{File: file}, "127.0.0.1:1", "nats://file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.sources.Environ = append(test.sources.Environ, home)
			c := mustLoad(t, test.sources)
			if c.MQTT.Listen != test.listen || string(c.NATS.URL) != test.natsServer {
				t.Errorf("got %q and %q", c.MQTT.Listen, string(c.NATS.URL))
			}
		})
	}
}

func TestEveryFlagSetsItsSetting(t *testing.T) {
	c := mustLoad(t, Sources{Flags: parseFlags(t, "--data=/d", "--mqtt-listen=:1", "--nats-listen=:2", "--http-listen=:3", "--nats=nats://h", "--log-level=warn")})
	got := []string{c.Data, c.MQTT.Listen, c.NATS.Listen, c.HTTP.Listen, string(c.NATS.URL), c.Log.Level}
	if want := []string{"/d", ":1", ":2", ":3", "nats://h", "warn"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestListenersAndClients(t *testing.T) {
	c := mustLoad(t, Sources{File: write(t, `
mqtt:
  listen: ""
  tls: {listen: ":8883", cert: c, key: k, client: both, client_ca: a}
  websocket: {listen: ":9001", scheme: wss, origins: ["https://ward.example.org", "http://localhost:3000"]}
keys:
  master: |
    1 00
    2 11
`), Environ: []string{home, "PULSEGATE_MQTT_ANONYMOUS=loopback"}})
	if m := c.MQTT; m.Listen != "" || m.TLS.Client != ClientBoth || len(m.WebSocket.Origins) != 2 || m.Anonymous != AnonymousLoopback {
		t.Errorf("got %+v", m)
	}
	if c.Keys.Master != "1 00\n2 11\n" {
		t.Errorf("the master keys' lines are %q", string(c.Keys.Master))
	}
}

func TestProfilesOnLoopback(t *testing.T) {
	for _, args := range [][]string{{"--http-pprof"}, {"--http-pprof", "--http-listen=[::1]:1"}, {"--http-pprof", "--http-listen=localhost:0"}} {
		if c := mustLoad(t, Sources{Environ: []string{home}, Flags: parseFlags(t, args...)}); !c.HTTP.Pprof {
			t.Errorf("%q: off", args)
		}
	}
	if c := mustLoad(t, Sources{Environ: []string{home}}); c.HTTP.Pprof {
		t.Error("on without being asked for")
	}
}

func TestAnonymous(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, AnonymousRefuse},
		{[]string{"--mqtt-anonymous"}, AnonymousLoopback},
		{[]string{"--mqtt-anonymous", "--mqtt-listen=localhost:1"}, AnonymousLoopback},
		{[]string{"--mqtt-anonymous", "--mqtt-listen=[::1]:1"}, AnonymousLoopback},
		{[]string{"--mqtt-anonymous=force", "--mqtt-listen=:1"}, AnonymousForce},
	} {
		c := mustLoad(t, Sources{Environ: []string{home}, Flags: parseFlags(t, test.args...)})
		if c.MQTT.Anonymous != test.want {
			t.Errorf("%q: got %q, want %q", test.args, c.MQTT.Anonymous, test.want)
		}
	}
}

func TestKindsOfValues(t *testing.T) {
	file := write(t, `
nats: {url: "nats://a, tls://b:4222", user: u, password: 0123, sync: 100ms}
store: {republish: false, replicas: 3, vitals: {max_bytes: 1048576}}
http:
`)
	c := mustLoad(t, Sources{File: file, Environ: []string{
		home, "PULSEGATE_CONSUMERS=triage,research", "PULSEGATE_STORE_AUDIT_MAX_BYTES=1.5GiB", "PULSEGATE_STORE_DEVICES_MAX_BYTES=64MB",
		"PULSEGATE_FRESHNESS_MAX_AGE=1m1s", "PULSEGATE_OPERATOR_URL=x", "OTHER=x",
		"PULSEGATE_SERVICE_HOST=10.0.0.1", "PULSEGATE_PORT=tcp://10.0.0.1:1883", "PULSEGATE_PORT_1883_TCP_ADDR=10.0.0.1",
	}, Allow: []string{"PULSEGATE_OPERATOR_URL"}})
	want := Default()
	want.Data = "/home/nurse/.local/state/pulsegate"
	want.NATS.URL, want.NATS.User, want.NATS.Password = "nats://a, tls://b:4222", "u", "0123"
	want.NATS.Sync = Sync(100 * time.Millisecond)
	want.Store.Republish, want.Store.Replicas, want.Store.Vitals.MaxBytes = false, 3, MiB
	want.Store.Audit.MaxBytes, want.Store.Devices.MaxBytes = 1536*MiB, 64_000_000
	want.Freshness.MaxAge = Duration(61 * time.Second)
	want.Consumers = []string{"triage", "research"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestDefaultData(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    string
	}{
		{[]string{home}, "/home/nurse/.local/state/pulsegate"},
		{[]string{home, "XDG_STATE_HOME=/state"}, "/state/pulsegate"},
		{[]string{home, "XDG_STATE_HOME=state"}, "/home/nurse/.local/state/pulsegate"},
	} {
		if got := mustLoad(t, Sources{Environ: test.environ}).Data; got != test.want {
			t.Errorf("%q: got %q, want %q", test.environ, got, test.want)
		}
	}
	if _, err := DefaultData(nil); err == nil {
		t.Error("no error without HOME")
	}
}

func TestWithoutFileEmptyAndCommented(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "mqtt:\n  # listen: x\n", "\ufeffmqtt:\r\n  receive_maximum: 64\r\n"} {
		c := mustLoad(t, Sources{File: write(t, text), Environ: []string{"HOME=/"}})
		c.Data = ""
		if !reflect.DeepEqual(c, Default()) {
			t.Errorf("%q changed the default: %+v", text, c)
		}
	}
}

// TestProduction loads the example for production, which has another log format
// than a terminal's, and no door without TLS.
func TestProduction(t *testing.T) {
	c := mustLoad(t, Sources{File: filepath.Join("..", "..", "configs", "production.yaml"), Environ: []string{home}})
	if c.MQTT.Listen != "" || c.MQTT.TLS.Listen == "" || c.HTTP.TLS.Cert == "" || c.Store.Replicas != 3 || c.Log.Format != FormatJSON {
		t.Errorf("it is %+v", c)
	}
}
