package engine_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// serve runs a real server apart from any engine, at a free port, and returns its URL.
func serve(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	o.StoreDir = t.TempDir()
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server did not start")
	}
	return "nats://" + s.Addr().String()
}

func remote(t *testing.T, r engine.Remote) engine.Options {
	r.Wait = time.Second
	o := options(t.TempDir())
	o.Remote = r
	return o
}

func connects(t *testing.T, r engine.Remote) *engine.Engine {
	t.Helper()
	e := open(t, remote(t, r))
	if e.Embedded() || !e.Conn().IsConnected() {
		t.Errorf("embedded %v, connected %v", e.Embedded(), e.Conn().IsConnected())
	}
	return e
}

// The example configuration is loaded by a real server, and the accounts mean there what they mean when embedded.
func TestExampleConfiguration(t *testing.T) {
	for _, name := range []string{"GATE", "OPERATOR", "CONSUMER", "SECURITY"} {
		t.Setenv(name+"_PASSWORD", "pw-of-"+strings.ToLower(name))
	}
	o, err := server.ProcessConfigFile(filepath.Join("..", "..", "configs", "nats", "nats.conf"))
	must(t, err)
	if !o.JetStream || !o.SyncAlways {
		t.Errorf("JetStream %v, sync always %v", o.JetStream, o.SyncAlways)
	}
	// The disk that runs the test may be smaller than the example's.
	o.JetStreamMaxStore = 1 << 20
	url := serve(t, o)
	e := connects(t, engine.Remote{URL: url, User: "gate", Password: "pw-of-gate"})
	if e.URL() != url {
		t.Errorf("URL %s, want %s", e.URL(), url)
	}
	p := &plant{dir: t.TempDir(), gate: e.Conn()}
	p.fill(t)
	text := strings.Replace(url, "://", "://consumer:pw-of-consumer@", 1)
	must(t, os.WriteFile(engine.URLFile(p.dir, "consumer"), []byte(text), 0o600))
	p.login(t, "consumer").refuses(t, "gate.in.vitals.x", "{}")

	fails(t, remote(t, engine.Remote{URL: text}), "does not let this user publish $JS.API.INFO, ", "publish gate.in.vitals.>", "configs/nats")
	fails(t, remote(t, engine.Remote{URL: url, User: "gate", Password: "wrong-secret"}), url, "refused the credentials")
	fails(t, remote(t, engine.Remote{URL: url}), "refused the credentials")
	fails(t, remote(t, engine.Remote{URL: text, User: "gate"}), "part of the URL and user", "one of them")
	if connects(t, engine.Remote{URL: strings.Replace(url, "://", "://gate:pw-of-gate@", 1)}).URL() != url {
		t.Error("the URL shows the credentials")
	}
}

func TestRemoteByToken(t *testing.T) {
	url := serve(t, &server.Options{JetStream: true, Authorization: "a-token"})
	connects(t, engine.Remote{URL: url, Token: "a-token"})
	fails(t, remote(t, engine.Remote{URL: url, Token: "another"}), "refused the credentials")
}

func TestRemoteByNKey(t *testing.T) {
	pair, err := nkeys.CreateUser()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	path := filepath.Join(t.TempDir(), "gate.nk")
	must(t, os.WriteFile(path, seed, 0o600))
	url := serve(t, &server.Options{JetStream: true, Nkeys: []*server.NkeyUser{{Nkey: public}}})
	connects(t, engine.Remote{URL: url, NKeyFile: path})

	empty := filepath.Join(t.TempDir(), "empty.nk")
	must(t, os.WriteFile(empty, nil, 0o600))
	fails(t, remote(t, engine.Remote{URL: url, NKeyFile: empty}), empty, "seed")
	fails(t, remote(t, engine.Remote{URL: url, NKeyFile: path + "x"}), path+"x", "no such file")
	fails(t, remote(t, engine.Remote{URL: url, NKeyFile: path, Token: "t"}), "token and NKey file", "one of them")
}

func TestRemoteByCredsFile(t *testing.T) {
	operator, err := nkeys.CreateOperator()
	must(t, err)
	account, err := nkeys.CreateAccount()
	must(t, err)
	user, err := nkeys.CreateUser()
	must(t, err)
	key := func(pair nkeys.KeyPair) string {
		public, err := pair.PublicKey()
		must(t, err)
		return public
	}
	claims := jwt.NewAccountClaims(key(account))
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := claims.Encode(operator)
	must(t, err)
	userJWT, err := jwt.NewUserClaims(key(user)).Encode(account)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	must(t, err)
	path := filepath.Join(t.TempDir(), "gate.creds")
	must(t, os.WriteFile(path, creds, 0o600))

	system, err := nkeys.CreateAccount()
	must(t, err)
	systemJWT, err := jwt.NewAccountClaims(key(system)).Encode(operator)
	must(t, err)
	resolver := &server.MemAccResolver{}
	must(t, resolver.Store(key(account), accountJWT))
	must(t, resolver.Store(key(system), systemJWT))
	url := serve(t, &server.Options{
		JetStream: true, TrustedKeys: []string{key(operator)}, AccountResolver: resolver, SystemAccount: key(system),
	})
	connects(t, engine.Remote{URL: url, CredsFile: path})
	fails(t, remote(t, engine.Remote{URL: url, CredsFile: path + "x"}), path+"x", "no such file")
}

func TestRemoteThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	url := "nats://" + l.Addr().String()
	must(t, l.Close())
	fails(t, remote(t, engine.Remote{URL: url}), url, "cannot be reached", "check the address")
	fails(t, remote(t, engine.Remote{URL: strings.Replace(url, "://", "://gate:secret@", 1)}), url)
	fails(t, remote(t, engine.Remote{URL: "http://localhost:4222"}), "http://", "nats://HOST:PORT")
	fails(t, remote(t, engine.Remote{URL: "nats://gate:sec ret@host:port"}), "nats://HOST:PORT")
}

// A listener that accepts and says nothing must not hold the start up.
func TestRemoteThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	fails(t, remote(t, engine.Remote{URL: "nats://" + l.Addr().String()}), "cannot be reached")
}

// A server that starts after the gate is waited for.
func TestRemoteThatComesLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().(*net.TCPAddr)
	tried := make(chan error, 1)
	go func() {
		// The first attempt meets a connection that closes; then the port is free for the server.
		c, err := l.Accept()
		if err == nil {
			err = errors.Join(c.Close(), l.Close())
		}
		tried <- err
	}()
	opened := make(chan error, 1)
	o := remote(t, engine.Remote{URL: "nats://" + address.String()})
	o.Remote.Wait = patience
	go func() {
		e, err := engine.Open(t.Context(), o)
		if err == nil {
			err = e.Close()
		}
		opened <- err
	}()
	must(t, <-tried)
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: address.Port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	must(t, <-opened)
}

func TestRemoteWithoutJetStream(t *testing.T) {
	fails(t, remote(t, engine.Remote{URL: serve(t, &server.Options{})}), "offers no JetStream", "enable jetstream")
}
