package engine_test

import (
	"bytes"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// fails opens an engine that must not open, and checks that the error is one line with all of want in it.
func fails(t *testing.T, o engine.Options, want ...string) {
	t.Helper()
	e, err := engine.Open(within(t), o)
	if err == nil {
		_ = e.Close()
		t.Fatal("opened")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func users() []string { return []string{"operator", "consumer", "security"} }

func TestEmbeddedAtAFreePort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	e := open(t, options(dir))
	if !e.Embedded() || !strings.HasPrefix(e.URL(), "nats://127.0.0.1:") || strings.HasSuffix(e.URL(), ":0") {
		t.Errorf("embedded %v at %s", e.Embedded(), e.URL())
	}
	if name := e.Conn().Opts.Name; name != "pulsegate" {
		t.Errorf("connection named %q", name)
	}
	for path, want := range map[string]os.FileMode{
		dir: 0o700 | os.ModeDir, engine.URLFile(dir, "operator"): 0o600, engine.URLFile(dir, "consumer"): 0o600,
		engine.URLFile(dir, "security"): 0o600,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), want)
		}
	}
}

func TestCloseTwiceAndOpenAgain(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.Open(within(t), options(dir))
	must(t, err)
	must(t, e.Close())
	must(t, e.Close())
	if !e.Conn().IsClosed() {
		t.Error("the connection is open")
	}
	if c, err := net.Dial("tcp", strings.TrimPrefix(e.URL(), "nats://")); err == nil {
		_ = c.Close()
		t.Error("the server still listens")
	}
	open(t, options(dir))
}

func TestPasswordsAndDataOutliveARestart(t *testing.T) {
	o := options(t.TempDir())
	first, err := engine.Open(within(t), o)
	must(t, err)
	before := &plant{dir: o.Dir, gate: first.Conn()}
	before.fill(t)
	texts := map[string]string{}
	for _, user := range users() {
		text, err := os.ReadFile(engine.URLFile(o.Dir, user))
		must(t, err)
		texts[user] = string(text)
	}
	must(t, first.Close())

	second := open(t, o)
	for _, user := range users() {
		text, err := os.ReadFile(engine.URLFile(o.Dir, user))
		must(t, err)
		want := strings.Replace(texts[user], strings.TrimPrefix(first.URL(), "nats://"), strings.TrimPrefix(second.URL(), "nats://"), 1)
		if string(text) != want {
			t.Errorf("%s.url changed beyond its address", user)
		}
	}
	after := &plant{dir: o.Dir, gate: second.Conn()}
	m, err := after.login(t, "consumer").RequestWithContext(within(t), "$JS.API.DIRECT.GET.VITALS", []byte(`{"seq":1}`))
	must(t, err)
	if string(m.Data) != "first" {
		t.Errorf("stored reading %q, want first", m.Data)
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	fails(t, options(dir), dir, "in use by another pulsegate")
	remote := options(dir)
	remote.Remote.URL = "nats://127.0.0.1:1"
	fails(t, remote, dir, "in use by another pulsegate")
}

func TestBadDirectory(t *testing.T) {
	fails(t, engine.Options{}, "no data directory")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	fails(t, options(file), file, "data directory")
	fails(t, options(filepath.Join(file, "below")), file, "data directory")
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Log("a directory without write permission is not tried: it does not stop this user")
		return
	}
	closed := t.TempDir()
	must(t, os.Chmod(closed, 0o500))
	fails(t, options(closed), closed, "this user may write")
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	o := options(t.TempDir())
	o.Listen = l.Addr().String()
	fails(t, o, o.Listen, "is in use")
	// Nothing of the failed start holds on to the directory.
	o.Listen = "127.0.0.1:0"
	open(t, o)
}

func TestBadOptions(t *testing.T) {
	for _, listen := range []string{"4222", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1"} {
		o := options(t.TempDir())
		o.Listen = listen
		fails(t, o, "NATS address", listen)
	}
	for _, sync := range []string{"sometimes", "0s", "-2m"} {
		o := options(t.TempDir())
		o.Sync = sync
		fails(t, o, "sync", sync, "always")
	}
	o := options(t.TempDir())
	o.MaxStore = math.MaxInt64
	fails(t, o, o.Dir, "free")
}

func TestSyncByInterval(t *testing.T) {
	o := options(t.TempDir())
	o.Sync, o.MaxStore = "2m", 1<<20
	p := &plant{dir: o.Dir, gate: open(t, o).Conn()}
	p.fill(t)
}

func TestURLFileThatIsNotToBeTrusted(t *testing.T) {
	secret := "Aa0-_Aa0-_Aa0-_Aa0-_"
	for _, text := range []string{
		"", "nats://127.0.0.1:4222\n", "nats://consumer@127.0.0.1:4222\n", "nats://other:" + secret + "@127.0.0.1:4222\n",
		"nats://consumer:short@127.0.0.1:4222\n", "nats://consumer:" + secret + "%22@127.0.0.1:4222\n", "://" + secret,
	} {
		o := options(t.TempDir())
		path := engine.URLFile(o.Dir, "consumer")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		fails(t, o, path, "delete it")
		if _, err := engine.Open(within(t), o); err == nil || strings.Contains(err.Error(), secret) {
			t.Error("the error holds the password")
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	o := options(t.TempDir())
	path := engine.URLFile(o.Dir, "security")
	must(t, os.WriteFile(path, []byte("nats://security:"+secret+"@127.0.0.1:4222\n"), 0o600))
	must(t, os.Chmod(path, 0o640))
	fails(t, o, path, "0640", "chmod 600")
	must(t, os.Chmod(path, 0o600))
	open(t, o)
}

func TestLogHoldsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	o := options(t.TempDir())
	o.Log = zerolog.New(zerolog.SyncWriter(&log))
	e, err := engine.Open(within(t), o)
	must(t, err)
	p := &plant{dir: o.Dir, gate: e.Conn()}
	p.fill(t)
	p.login(t, "consumer").refuses(t, "gate.in.vitals.x", "a reading")
	if _, err := nats.Connect(e.URL(), nats.UserInfo("consumer", "a wrong one")); err == nil {
		t.Error("a wrong password was taken")
	}
	secrets := []string{"a wrong one", "a reading", p.gate.Opts.Password}
	for _, user := range users() {
		text, err := os.ReadFile(engine.URLFile(o.Dir, user))
		must(t, err)
		_, rest, _ := strings.Cut(string(text), user+":")
		password, _, _ := strings.Cut(rest, "@")
		secrets = append(secrets, password)
	}
	must(t, e.Close())
	if !strings.Contains(log.String(), "gate.in.vitals.x") {
		t.Error("the server's messages do not reach the log")
	}
	for i, secret := range secrets {
		if secret == "" || strings.Contains(log.String(), secret) {
			t.Errorf("secret %d is empty or in the log", i)
		}
	}
}
