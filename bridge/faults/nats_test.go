//go:build linux

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
)

// natsServers are a NATS of its own: one server, or a cluster in which each
// holds every stream. They keep addresses and stores when started again.
type natsServers struct {
	t       *testing.T
	servers []*natsServer
	// credentials is the directory with everybody's URL files.
	credentials string
}

type natsServer struct {
	*process
	name, address string
}

// startNATS starts one server, or a cluster of three.
func startNATS(t *testing.T, count int) *natsServers {
	t.Helper()
	n := &natsServers{t: t, credentials: t.TempDir()}
	var urls, routes []string
	for i := range count {
		s := &natsServer{name: fmt.Sprintf("n%d", i+1), address: address(t)}
		n.servers = append(n.servers, s)
		urls = append(urls, "nats://"+s.address)
		routes = append(routes, address(t))
	}
	must(t, engine.MakeCredentials(n.credentials, strings.Join(urls, ",")))
	for i, s := range n.servers {
		file := filepath.Join(n.credentials, s.name+".conf")
		must(t, os.WriteFile(file, []byte(s.configuration(t.TempDir(), routes, i)), 0o600))
		s.process = newProcess(t, "nats-server "+s.name, regexp.MustCompile(`Server is ready`), program(t, natsProgram), "-c", file)
	}
	for _, s := range n.servers {
		s.start()
	}
	if count > 1 {
		n.awaitMeta()
	}
	return n
}

// configuration is as configs/nats/nats.conf says, with what differs here.
func (s *natsServer) configuration(store string, routes []string, self int) string {
	text := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q, max_file_store: 2GiB, sync_interval: always }\n", s.name, s.address, store)
	if len(routes) > 1 {
		text += fmt.Sprintf("cluster { name: faults, listen: %q, routes: [\"nats://%s\"] }\n", routes[self], strings.Join(routes, `", "nats://`))
	}
	return text + "include accounts.conf\n"
}

// url is where a user logs in.
func (n *natsServers) url(user string) string {
	n.t.Helper()
	text, err := os.ReadFile(engine.URLFile(n.credentials, user))
	must(n.t, err)
	return strings.TrimSpace(string(text))
}

func (n *natsServers) jetstream() jetstream.JetStream {
	n.t.Helper()
	nc, err := nats.Connect(n.url("gate"), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.Timeout(patience))
	must(n.t, err)
	n.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(n.t, err)
	return js
}

// awaitMeta waits until the cluster can make streams.
func (n *natsServers) awaitMeta() {
	n.t.Helper()
	js := n.jetstream()
	eventually(n.t, "the cluster has no leader", func(ctx context.Context) error {
		_, err := js.AccountInfo(ctx)
		return err
	})
}

// leader returns the server that leads the stream of readings, once the others
// follow it without a lag.
func (n *natsServers) leader(js jetstream.JetStream) *natsServer {
	n.t.Helper()
	var found *natsServer
	eventually(n.t, "the stream has no leader with two followers", func(ctx context.Context) error {
		stream, err := js.Stream(ctx, egress.StreamVitals)
		if err != nil {
			return err
		}
		cluster := stream.CachedInfo().Cluster
		for _, peer := range cluster.Replicas {
			if !peer.Current || peer.Offline {
				return fmt.Errorf("%s is behind", peer.Name)
			}
		}
		for _, s := range n.servers {
			if s.name == cluster.Leader {
				found = s
				return nil
			}
		}
		return fmt.Errorf("the leader is %q", cluster.Leader)
	})
	return found
}

// eventually asks until there is no error.
func eventually(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		once, stop := context.WithTimeout(ctx, 2*time.Second)
		err := ask(once)
		stop()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}
