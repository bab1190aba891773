package egress_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// asksTime asks a server that has this machine's clock.
func asksTime(t *testing.T, nc *nats.Conn) {
	t.Helper()
	before := time.Now().Round(0)
	now, err := egress.ServerTime(soon(t), nc)
	after := time.Now().Round(0)
	need(t, err)
	if now.Before(before) || now.After(after) {
		t.Errorf("between %v and %v the server's time is %v", before, after, now)
	}
}

func TestServerTime(t *testing.T) {
	d := openDepot(t)
	_, err := egress.ServerTime(soon(t), d.nc)
	if err == nil || !strings.Contains(err.Error(), "looking at stream VITALS: ") {
		t.Errorf("without the stream: %v", err)
	}
	d.ensure(t, depotLayout())
	asksTime(t, d.nc)
	d.stop()
	ctx, cancel := context.WithTimeout(soon(t), time.Second)
	defer cancel()
	if _, err := egress.ServerTime(ctx, d.nc); err == nil {
		t.Error("a server that is away told its time")
	}
}

// TestServerTimeOfACluster asks by way of each server, so that some of the
// answers come from another, and again from another leader.
func TestServerTimeOfACluster(t *testing.T) {
	conns := startThree(t)
	layout := depotLayout()
	layout.Replicas = 3
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(soon(t), 2*time.Second)
		defer cancel()
		_, err := egress.Ensure(ctx, conns[0], layout) // nobody answers before there is a leader
		return err
	})
	first := leader(t, conns[0])
	for _, nc := range conns {
		asksTime(t, nc)
	}
	_, err := conns[0].RequestWithContext(soon(t), "$JS.API.STREAM.LEADER.STEPDOWN.VITALS", nil)
	need(t, err)
	eventually(t, func() error {
		if now := leader(t, conns[0]); now == "" || now == first {
			return fmt.Errorf("%q leads", now)
		}
		return nil
	})
	for _, nc := range conns {
		asksTime(t, nc)
	}
}

// startThree starts a cluster of three servers and connects to each.
func startThree(t *testing.T) []*nats.Conn {
	t.Helper()
	var routes []string
	listeners := make([]net.Listener, 3)
	for i := range listeners {
		var err error
		listeners[i], err = net.Listen("tcp", "127.0.0.1:0")
		need(t, err)
		routes = append(routes, "nats-route://"+listeners[i].Addr().String())
	}
	var conns []*nats.Conn
	for i, l := range listeners {
		need(t, l.Close())
		conns = append(conns, serverWith(t, fmt.Sprintf(`server_name: n%d
jetstream: {max_file: 256MB}
cluster { name: three, listen: %q, routes: [%s] }
accounts { GATE { jetstream: enabled, users: [{user: gate, password: password}] } }`,
			i, l.Addr().String(), strings.Join(routes, ", "))))
	}
	return conns
}

// leader is the server that leads VITALS, or empty.
func leader(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	js, err := jetstream.New(nc)
	need(t, err)
	ctx, cancel := context.WithTimeout(soon(t), time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, egress.StreamVitals)
	if err != nil {
		return ""
	}
	return stream.CachedInfo().Cluster.Leader
}

// eventually tries until it succeeds.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestServerTimeThatIsNone has answers that a server of today gives rarely or
// never: an older one, one that is not the leader.
func TestServerTimeThatIsNone(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true})
	need(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := nats.Connect(s.ClientURL())
	need(t, err)
	t.Cleanup(nc.Close)
	const moment = `"2026-01-02T03:04:05.000000006Z"`
	var answer string
	_, err = nc.Subscribe("$JS.API.STREAM.INFO.VITALS", func(m *nats.Msg) {
		if len(m.Data) != 0 {
			t.Errorf("the request is %q, want an empty one, which costs least", m.Data)
		}
		_ = m.Respond([]byte(answer))
	})
	need(t, err)
	for sent, says := range map[string]string{
		`{"config":{"name":"VITALS"}}`:                                              "older than 2.10",
		`{"config":{"name":"VITALS"},"cluster":{"name":"c"},"ts":` + moment + `}`:   "VITALS has no leader",
		`{"error":{"code":503,"err_code":10008,"description":"no leader for now"}}`: "no leader for now",
		`nonsense`:                          "looking at stream VITALS: ",
		`{"config":{},"ts":` + moment + `}`: "",
		`{"config":{},"cluster":{"leader":"n1"},"ts":` + moment + `}`: "",
	} {
		answer = sent
		now, err := egress.ServerTime(soon(t), nc)
		switch {
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: the error is %v, want it to say %q", sent, err, says)
		case says == "" && (err != nil || !now.Equal(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))):
			t.Errorf("%s: the time is %v, %v", sent, now, err)
		}
	}
}
