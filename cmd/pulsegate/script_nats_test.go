package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pulsegate/pulsegate/bridge/engine"
)

// startNATS runs a real server. The credentials are made before it, for its
// accounts, and after it, for its address.
func startNATS(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: natsserver DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(engine.MakeCredentials(dir, "nats://127.0.0.1:4222"))
	o, err := server.ProcessConfigFile(engine.AccountsFile(dir))
	ts.Check(err)
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	o.JetStream, o.StoreDir = true, ts.MkAbs("store")
	s, err := server.NewServer(o)
	ts.Check(err)
	s.Start()
	ts.Defer(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		ts.Fatalf("the NATS server did not start")
	}
	ts.Check(engine.MakeCredentials(dir, "nats://"+s.Addr().String()))
	for variable, user := range map[string]string{"GATE_URL": "gate", operator.variable(): "operator"} {
		ts.Setenv(variable, strings.TrimSpace(ts.ReadFile(engine.URLFile(args[0], user))))
	}
}

// addLagging says until the script ends that a replica is at the registry's
// beginning, as one would whose changes do not arrive.
func addLagging(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: lagging NAME")
	}
	nc, err := nats.Connect(ts.Getenv("GATE_URL"))
	ts.Check(err)
	report := fmt.Sprintf(`{"instance":"instance-of-%[1]s","replica":%[1]q,"revision":0}`, args[0])

	ts.Check(nc.Publish("gate.replicas", []byte(report)))
	ts.Check(nc.Flush())
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_ = nc.Publish("gate.replicas", []byte(report))
			case <-end:
				return
			}
		}
	}()
	ts.Defer(func() {
		close(end)
		<-ended
		nc.Close()
	})
}
