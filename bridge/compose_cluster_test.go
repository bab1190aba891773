package bridge_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

// TestComposeCluster kills a replica of Pulsegate, and then the NATS server that
// leads the stream of readings, under load and attack, and settles the account.
func TestComposeCluster(t *testing.T) {
	c := newComposition(t, "cluster", "10")
	c.build(t)
	c.up(t)
	c.checkPorts(t)
	c.checkContained(t)
	c.checkReady(t)
	c.checkGrafana(t)
	c.awaitHealthy(t, "pulsegate-2")
	c.checkAddresses(t)

	c.killUnderLoad(t, "pulsegate-1", "pulsegate-2")
	c.awaitHealthy(t, "pulsegate-1")
	leader := c.cluster(t).Leader
	c.killUnderLoad(t, leader, "pulsegate-2")
	c.await(t, leader+" has caught up", func() bool { return current(c.cluster(t)) })
	c.stopAndSettle(t)
	c.run(t, "down", "--volumes")
}

// killUnderLoad kills a service with no warning, sees a replica of Pulsegate go
// on to accept readings without it, and starts it again.
func (c *composition) killUnderLoad(t *testing.T, victim, replica string) {
	t.Helper()
	const more = 500
	accepted := func() float64 {
		n, _ := c.query(t, `pulsegate_messages_total{outcome="accepted", instance="`+replica+`:8080"}`)
		return n
	}
	output(t, exec.Command("docker", "kill", "--signal", "KILL", c.container(t, victim)))
	before := accepted()
	c.await(t, replica+" accepts readings while "+victim+" is dead", func() bool { return accepted() >= before+more })
	if state := c.inspect(t, victim, "{{.State.Status}} {{.State.ExitCode}}"); state != "exited 137" {
		t.Errorf("%s was to be dead and is %s", victim, state)
	}
	c.run(t, "start", victim)
	t.Logf("%s was killed; %s accepted %.0f readings meanwhile", victim, replica, accepted()-before)
}

func (c *composition) awaitHealthy(t *testing.T, service string) {
	t.Helper()
	c.await(t, service+" is healthy", func() bool { return c.inspect(t, service, "{{.State.Health.Status}}") == "healthy" })
}

// checkAddresses waits until a rejection names the attacker's own address, which
// only the PROXY protocol can have told, and fails if any names another.
func (c *composition) checkAddresses(t *testing.T) {
	t.Helper()
	address := c.inspect(t, "attacker", `{{(index .NetworkSettings.Networks "`+c.project+`_devices").IPAddress}}`)
	var rejections []egress.Stored
	c.await(t, "a rejection", func() bool {
		rejections = c.stored(t, "security", egress.StreamRejections, egress.SubjectRejections)
		return len(rejections) > 0
	})
	if foreign := slices.IndexFunc(rejections, func(m egress.Stored) bool { return !strings.Contains(string(m.Data), `"`+address+":") }); foreign >= 0 {
		t.Errorf("a rejection does not name the attacker's address %s: %s", address, rejections[foreign].Data)
	}
}

// cluster is what the servers say of the stream of readings.
func (c *composition) cluster(t *testing.T) *jetstream.ClusterInfo {
	t.Helper()
	nc := c.connect(t, "consumer")
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), egress.StreamVitals)
	must(t, err)
	return stream.CachedInfo().Cluster
}

func current(c *jetstream.ClusterInfo) bool {
	return len(c.Replicas) == 2 && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
}
