package engine_test

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// A server that includes the accounts lets in whoever has a URL file, as the
// user that the file names and with its permissions.
func TestMadeCredentials(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().(*net.TCPAddr)
	must(t, free.Close())
	dir := filepath.Join(t.TempDir(), "credentials")
	must(t, engine.MakeCredentials(dir, "nats://"+address.String()))

	conf := filepath.Join(filepath.Dir(dir), "nats.conf")
	must(t, os.WriteFile(conf, []byte("include credentials/accounts.conf\n"), 0o600))
	o, err := server.ProcessConfigFile(conf)
	must(t, err)
	o.Host, o.Port, o.NoSigs, o.NoLog, o.JetStream, o.StoreDir = "127.0.0.1", address.Port, true, true, true, t.TempDir()
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })

	e := connects(t, engine.Remote{URLFile: engine.URLFile(dir, "gate")})
	if strings.Contains(e.URL(), "@") {
		t.Error("URL shows the credentials")
	}
	for _, user := range []string{"operator", "consumer", "security"} {
		text, err := os.ReadFile(engine.URLFile(dir, user))
		must(t, err)
		refused := make(chan error, 1)
		nc, err := nats.Connect(strings.TrimSpace(string(text)),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		must(t, err)
		t.Cleanup(nc.Close)
		c := &client{Conn: nc, user: user, refusals: refused}
		c.refuses(t, "gate.in.vitals.live.p-1.w-1", "{}")
	}
}

func TestURLFileThatCannotBeUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.url")
	fails(t, remote(t, engine.Remote{URLFile: path}), path, "no such file")
	must(t, os.WriteFile(path, []byte("\n"), 0o600))
	fails(t, remote(t, engine.Remote{URLFile: path}), path, "is empty")
	must(t, os.WriteFile(path, []byte("nats://gate:sec ret@host:port"), 0o600))
	fails(t, remote(t, engine.Remote{URLFile: path}), "nats://HOST:PORT")
	must(t, os.WriteFile(path, []byte("nats://gate:secret@host:4222"), 0o600))
	must(t, os.Chmod(path, 0o604))
	fails(t, remote(t, engine.Remote{URLFile: path}), path, "0604", "chmod 600")
	must(t, os.Chmod(path, 0o600))
	fails(t, remote(t, engine.Remote{URLFile: path, Token: "t"}), "part of the URL and token", "one of them")
}

// Servers that include the routes find each other, and ask whoever else comes
// for a password.
func TestMadeRoutes(t *testing.T) {
	var addresses, urls []string
	var held []net.Listener
	for range 2 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		addresses = append(addresses, free.Addr().String())
		urls = append(urls, "nats://"+free.Addr().String())
		held = append(held, free)
	}
	for _, listener := range held {
		must(t, listener.Close())
	}
	dir := filepath.Join(t.TempDir(), "credentials")
	must(t, engine.MakeRoutes(dir, strings.Join(urls, ",")))
	var servers []*server.Server
	for _, address := range addresses {
		conf := filepath.Join(filepath.Dir(dir), address+".conf")
		must(t, os.WriteFile(conf, []byte("cluster {\n  name: test\n  listen: \""+address+"\"\n  include credentials/routes.conf\n}\n"), 0o600))
		o, err := server.ProcessConfigFile(conf)
		must(t, err)
		o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
		s, err := server.NewServer(o)
		must(t, err)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	ctx := within(t)
	for servers[0].NumRoutes() == 0 || servers[1].NumRoutes() == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("the servers have not found each other")
		case <-time.After(10 * time.Millisecond): // a server tells nobody of its routes
		}
	}
	stranger, err := net.Dial("tcp", addresses[0])
	must(t, err)
	defer stranger.Close()
	greeting, err := bufio.NewReader(stranger).ReadString('\n')
	must(t, err)
	if !strings.Contains(greeting, `"auth_required":true`) {
		t.Errorf("a stranger among the servers is greeted with %s", greeting)
	}
}
