package certs_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/certs"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
)

// fixture is a source whose clock the test moves.
type fixture struct {
	server  *tls.Config
	now     time.Time
	resumed bool
	log     bytes.Buffer
}

func open(t *testing.T, files certs.Files) *fixture {
	t.Helper()
	f := &fixture{now: time.Now()}
	source, err := certs.Open(files, certs.Options{Now: func() time.Time { return f.now }, Log: zerolog.New(&f.log)})
	if err != nil {
		t.Fatal(err)
	}
	f.server = source.Config()
	return f
}

// shown is the server's name as a handshake shows it, or why it failed: by the
// server if it knows, since in TLS 1.3 the client ends first.
func (f *fixture) shown(client *tls.Config) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	refused := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			refused <- err
			return
		}
		defer conn.Close()
		refused <- tls.Server(conn, f.server).Handshake()
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(conn, client)
	err = c.Handshake()
	if refusal := <-refused; refusal != nil {
		return "", refusal
	}
	if err != nil {
		return "", err
	}
	_, _ = c.Read(make([]byte, 1)) // takes the session's ticket
	f.resumed = c.ConnectionState().DidResume
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func (f *fixture) expect(t *testing.T, client *tls.Config, want string) {
	t.Helper()
	if got, err := f.shown(client); err != nil || got != want {
		t.Errorf("the server shows %q (%v), want %q", got, err, want)
	}
}

func TestReload(t *testing.T) {
	authority := certstest.New(t)
	first, second := authority.Issue(t, "first"), authority.Issue(t, "second")
	f := open(t, certs.Files{Cert: first.Cert, Key: first.Key})
	client := &tls.Config{RootCAs: authority.Pool, ServerName: "localhost"}
	f.expect(t, client, "first")
	first.Replace(t, second)
	f.expect(t, client, "first") // the files were looked at a moment ago
	f.now = f.now.Add(time.Second)
	f.expect(t, client, "second")
	if !strings.Contains(f.log.String(), "changed TLS files are in use") {
		t.Errorf("the log says only %s", f.log.String())
	}
}

func TestABrokenChangeKeepsWhatWas(t *testing.T) {
	authority := certstest.New(t)
	for name, spoil := range map[string]func(t *testing.T, p certstest.Pair, ca string) error{
		"no certificate": func(_ *testing.T, p certstest.Pair, _ string) error { return os.WriteFile(p.Cert, []byte("x"), 0o600) },
		"another's key": func(t *testing.T, p certstest.Pair, _ string) error {
			return os.Rename(authority.Issue(t, "x").Key, p.Key)
		},
		"gone":         func(_ *testing.T, p certstest.Pair, _ string) error { return os.Remove(p.Key) },
		"no authority": func(_ *testing.T, _ certstest.Pair, ca string) error { return os.WriteFile(ca, nil, 0o600) },
		"half an authority": func(_ *testing.T, _ certstest.Pair, ca string) error {
			text, err := os.ReadFile(ca)
			if err != nil {
				return err
			}
			return os.WriteFile(ca, append(text, text[:len(text)/2]...), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			clients := certstest.New(t)
			pair, device := authority.Issue(t, "first"), clients.Issue(t, "w-1")
			f := open(t, certs.Files{Cert: pair.Cert, Key: pair.Key, ClientCA: clients.File})
			client := &tls.Config{RootCAs: authority.Pool, ServerName: "localhost", Certificates: []tls.Certificate{device.Certificate}}
			if err := spoil(t, pair, clients.File); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				f.now = f.now.Add(time.Second)
				f.expect(t, client, "first")
			}
			if n := strings.Count(f.log.String(), `"level":"error"`); n != 1 {
				t.Errorf("it is said %d times, want once: %s", n, f.log.String())
			}
			pair.Replace(t, authority.Issue(t, "second"))
			if err := os.Rename(certstest.New(t).File, clients.File); err != nil {
				t.Fatal(err)
			}
			f.now = f.now.Add(time.Second)
			if _, err := f.shown(client); err == nil || !strings.Contains(err.Error(), "unknown authority") {
				t.Errorf("a client of the authority from before: %v", err)
			}
		})
	}
}

// A resumed session must not carry a client past a change of authorities.
func TestNoSessionOutlivesItsAuthority(t *testing.T) {
	authority, clients := certstest.New(t), certstest.New(t)
	pair, device := authority.Issue(t, "server"), clients.Issue(t, "w-1")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		files := certs.Files{Cert: pair.Cert, Key: pair.Key, ClientCA: certstest.New(t).File}
		text, err := os.ReadFile(clients.File)
		if err != nil {
			t.Fatal(err)
		}
		strangers, err := os.ReadFile(files.ClientCA)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files.ClientCA, text, 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, files)
		client := &tls.Config{
			RootCAs: authority.Pool, ServerName: "localhost", Certificates: []tls.Certificate{device.Certificate},
			ClientSessionCache: tls.NewLRUClientSessionCache(1), MaxVersion: version,
		}
		f.expect(t, client, "server")
		f.expect(t, client, "server")
		if !f.resumed {
			t.Errorf("%s: no session is resumed, so that this test shows nothing", tls.VersionName(version))
		}
		if err := os.WriteFile(files.ClientCA, strangers, 0o600); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(time.Second)
		if _, err := f.shown(client); err == nil {
			t.Errorf("%s: it is let in", tls.VersionName(version))
		}
	}
}

func TestAnExpiredCertificate(t *testing.T) {
	authority := certstest.New(t)
	old := authority.Issue(t, "old", certstest.Until(time.Now().Add(-time.Hour)))
	if f := open(t, certs.Files{Cert: old.Cert, Key: old.Key}); !strings.Contains(f.log.String(), "not valid now") {
		t.Errorf("opened with it, the log says %s", f.log.String())
	}
	good := authority.Issue(t, "good")
	f := open(t, certs.Files{Cert: good.Cert, Key: good.Key})
	good.Replace(t, old)
	f.now = f.now.Add(time.Hour)
	_, _ = f.shown(&tls.Config{RootCAs: authority.Pool, ServerName: "localhost"})
	if !strings.Contains(f.log.String(), "not valid now") {
		t.Errorf("the log says %s", f.log.String())
	}
}

func TestBadFiles(t *testing.T) {
	authority := certstest.New(t)
	one, other := authority.Issue(t, "one"), authority.Issue(t, "other")
	for want, files := range map[string]certs.Files{
		"certificate: open /none":          {Cert: "/none", Key: one.Key},
		"private key: open /none":          {Cert: one.Cert, Key: "/none"},
		"clients' authorities: open /none": {Cert: one.Cert, Key: one.Key, ClientCA: "/none"},
		"private key does not match":       {Cert: one.Cert, Key: other.Key},
		"block 1 is no certificate":        {Cert: one.Cert, Key: one.Key, ClientCA: one.Key},
	} {
		_, err := certs.Open(files, certs.Options{Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: want one line with %q", err, want)
		}
	}
}
