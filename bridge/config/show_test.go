package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const word = "hunter2" // a secret that must never show

// Slips that put a secret where an error could quote it.
func TestErrorsShowNoSecret(t *testing.T) {
	for _, text := range []string{
		"nats: {password: [" + word + "]}",
		"nats: {token: {" + word + ": 1}}",
		"nats: {password: &" + word + " x}",
		"nats: {password " + word + "}",
		"nats: {password " + word + ": x}",
		"nats: {password:" + word + "}",
		"nats: {password=" + word + ": x}",
		"nats: {password=" + word + ": x, password=" + word + ": x}",
		"nats: password:" + word,
		"nats:\n  user: a\n  password:" + word + "\n  token: x\n",
		"nats:\n  listen: :1\n    password:" + word + "\n",
		"nats: {url: 'nats://u:" + word + "@h:port'}",
		"nats: {url: 'u:" + word + "'}",
		"nats: {listen: 'nats://u:" + word + "@h'}",
		"nats: {password: \"" + word + "\\0\"}",
		"nats: {password: \"" + word + "\\q\"}",
		"nats: {password: '" + word + "}",
		"nats: {password: " + word + "}",
		"nats: {user: u, password: " + word + "}",
		"keys: {master: " + word + ", other: x}",
		"keys: {master: [" + word + "]}",
		"keys: {master: \"" + word + "\\0\"}",
		"nats: {url: 'nats://h', token: " + word + ", user: u, password: " + word + "}",
	} {
		_, err := Load(Sources{File: write(t, text), Environ: []string{home}})
		if err == nil {
			t.Errorf("%q is accepted", text)
		} else if strings.Contains(err.Error(), word) {
			t.Errorf("%q: the error shows the secret: %v", text, err)
		}
	}
	for _, variable := range []string{"PULSEGATE_NATS_PASS=" + word, "PULSEGATE_NATS_TOKEN=" + word, "PULSEGATE_NATS_URL=u:" + word + "@h:x"} {
		_, err := Load(Sources{Environ: []string{home, variable}})
		if err == nil || strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func secretive() Config {
	c := Default()
	c.NATS.URL = "nats://u:" + word + "@h:4222"
	c.NATS.Password = word
	c.NATS.Token = word
	c.Keys.Master = "1 " + word + "\n"
	return c
}

func TestSecretsPrintMasked(t *testing.T) {
	c := secretive()
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{string(asJSON), string(asYAML)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		printed = append(printed, fmt.Sprintf(verb, c), fmt.Sprintf(verb, c.Masked()))
	}
	for _, text := range printed {
		if strings.Contains(text, word) || !strings.Contains(text, mask) {
			t.Errorf("not masked: %s", text)
		}
	}
	if m := c.Masked(); string(m.Keys.Master) != mask || string(m.NATS.Password) != mask || string(m.NATS.Token) != mask || string(m.NATS.URL) != "nats://****@h:4222" {
		t.Errorf("not masked: %q", []string{string(m.NATS.Password), string(m.NATS.Token), string(m.NATS.URL)})
	}
	if string(c.NATS.Password) != word {
		t.Error("Masked changed its receiver")
	}
	if m := Default().Masked(); !reflect.DeepEqual(m, Default()) {
		t.Errorf("an empty secret is masked: %+v", m)
	}
}

func TestServerURLMasks(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"nats://h:4222,h2":                   "nats://h:4222,h2",
		"nats://u:p@h:4222":                  "nats://****@h:4222",
		"tls://token@h":                      "tls://****@h",
		"u:p@h":                              "nats://****@h",
		"nats://u:p@a:1,nats://u:p@b:2":      "nats://****@a:1,nats://****@b:2",
		"nats://u:1,2@h":                     mask,
		"nats://u:1/2@h":                     mask,
		"nats://u:p@h:port":                  mask,
		"https://u:p@h":                      mask,
		"nats://u:p@a:1, nats://u:p@[::1]:2": "nats://****@a:1,nats://****@[::1]:2",
	} {
		if got := ServerURL(text).String(); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// What `pulsegate config` prints is a file that says the same.
func TestYAMLLoadsAgain(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"default": func(*Config) {},
		"no list": func(c *Config) { c.Consumers = []string{} },
		"strange": func(c *Config) {
			c.Data = "/a: b # c"
			c.NATS.URL = "nats://h"
			c.NATS.User = ""
			c.NATS.CredsFile = "007"
		},
		"durations": func(c *Config) {
			c.NATS.Sync = Sync(1500 * time.Microsecond)
			c.Freshness.MaxAge = Duration(1100 * time.Millisecond)
		},
		"sizes": func(c *Config) { c.Store.Vitals.MaxBytes = GiB + 1; c.Store.Audit.MaxBytes = 1536 * KiB },
	} {
		want := Default()
		want.Data = "/data"
		change(&want)
		text, err := want.YAML()
		if err != nil {
			t.Fatal(err)
		}
		got := mustLoad(t, Sources{File: write(t, string(text))})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s\ngot  %+v\nwant %+v", name, text, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for _, test := range []struct {
		value fmt.Stringer
		want  string
	}{
		{Duration(0), "0s"},
		{Duration(10 * time.Second), "10s"},
		{Duration(10 * time.Minute), "10m"},
		{Duration(100 * time.Minute), "1h40m"},
		{Duration(168 * time.Hour), "168h"},
		{Duration(time.Hour + time.Second), "1h0m1s"},
		{Duration(90 * time.Second), "1m30s"},
		{SyncAlways, "always"},
		{Sync(time.Minute), "1m"},
		{Bytes(0), "0"},
		{2 * GiB, "2GiB"},
		{Bytes(1025), "1025"},
		{Bytes(64_000_000), "62500KiB"},
	} {
		if got := test.value.String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
