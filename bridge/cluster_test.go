package bridge_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
	"github.com/pulsegate/pulsegate/configs"
)

// cluster is a real NATS server apart from the gate, with the accounts of
// configs/nats, which can be taken away and brought back.
type cluster struct {
	*server.Server
	file, dir string
	port      int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	n := &cluster{dir: t.TempDir(), port: server.RANDOM_PORT}
	n.file = filepath.Join(t.TempDir(), "nats.conf")
	var text strings.Builder
	for _, user := range []string{"GATE", "OPERATOR", "CONSUMER", "SECURITY"} {
		fmt.Fprintf(&text, "%s_PASSWORD: %q\n", user, password(user))
	}
	must(t, os.WriteFile(n.file, []byte(text.String()+configs.NATSAccounts()), 0o600))
	n.run(t)
	t.Cleanup(n.stop)
	return n
}

func password(user string) string { return "password-of-" + strings.ToLower(user) }

func (n *cluster) run(t *testing.T) {
	t.Helper()
	o, err := server.ProcessConfigFile(n.file)
	must(t, err)
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", n.port, true, true
	o.JetStream, o.StoreDir = true, n.dir
	n.Server, err = server.NewServer(o)
	must(t, err)
	n.Start()
	if !n.ReadyForConnections(mqttest.Patience) {
		t.Fatal("the NATS server did not start")
	}
	n.port = n.Addr().(*net.TCPAddr).Port
}

func (n *cluster) stop() {
	n.Shutdown()
	n.WaitForShutdown()
}

func (n *cluster) url(user string) string {
	return fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", strings.ToLower(user), password(user), n.port)
}

// startAt starts a gate that stores in the cluster.
func startAt(t *testing.T, n *cluster, change func(*config.Config)) *system {
	t.Helper()
	c := small(t)
	c.NATS.URL = config.ServerURL(n.url("gate"))
	if change != nil {
		change(&c)
	}
	must(t, c.Validate())
	s := start(t, c)
	for _, user := range []string{"operator", "consumer", "security"} {
		s.urls[user] = n.url(user)
	}
	s.journal.hide(password("gate"))
	return s
}

// vitals sets the stream's size; with 1 byte it is full.
func (n *cluster) vitals(t *testing.T, maxBytes int64) {
	t.Helper()
	nc, err := nats.Connect(n.url("gate"))
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), egress.StreamVitals)
	must(t, err)
	c := stream.CachedInfo().Config
	c.MaxBytes = maxBytes
	_, err = js.UpdateStream(t.Context(), c)
	must(t, err)
}
