package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// composePatience bounds one step of the composition, the first build included.
const composePatience = 15 * time.Minute

// TestComposeUp brings docker-compose.yml up as it stands, twice, with an
// attacker beside the fleet, and settles what was sent against what a consumer
// reads from the stream.
func TestComposeUp(t *testing.T) {
	c := newComposition(t)
	provide(t, "golang:1.26", golangStandIn)
	provide(t, "nats:2.15", natsStandIn)
	// Without the image, compose builds it of this source.
	_ = exec.Command("docker", "rmi", "--force", "pulsegate").Run()
	c.run(t, "up", "--detach")
	c.checkPorts(t)
	c.checkReady(t)
	consumer := c.secret(t, "consumer.url")
	c.awaitReadings(t, 400)
	if shown := c.run(t, "logs", "--no-color", "watch"); !strings.Contains(shown, "p-0001") {
		t.Errorf("watch has shown nothing of patient p-0001:\n%s", shown)
	}
	c.stopAndSettle(t)

	// Containers made anew go on with the secrets and the devices of the volumes.
	c.run(t, "down")
	c.run(t, "up", "--detach")
	c.checkReady(t)
	if c.secret(t, "consumer.url") != consumer {
		t.Error("the second start made new passwords")
	}
	c.awaitReadings(t, 100)
	c.stopAndSettle(t)

	c.run(t, "down", "--volumes")
	if left := output(t, exec.Command("docker", "volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project="+c.project)); left != "" {
		t.Errorf("volumes are left: %s", left)
	}
}

// composition is docker-compose.yml as a project of its own.
type composition struct {
	command          []string
	project          string
	mqtt, http, nats string // ports on loopback
	// seen is how far the stream has been awaited.
	seen uint64
}

func newComposition(t *testing.T) *composition {
	t.Helper()
	if os.Getenv("PULSEGATE_COMPOSE_TEST") != "1" {
		t.Skip("SKIPPED: this takes minutes and a Docker engine; PULSEGATE_COMPOSE_TEST=1 runs it")
	}
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skipf("SKIPPED: no Docker engine answers: %v", err)
	}
	ports := freePorts(t, 3)
	c := &composition{
		command: []string{"docker-compose"}, project: fmt.Sprintf("pulsegate-test-%d", os.Getpid()),
		mqtt: ports[0], http: ports[1], nats: ports[2],
	}
	if exec.Command("docker", "compose", "version").Run() == nil {
		c.command = []string{"docker", "compose"}
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := c.cmd(context.Background(), "logs", "--no-color", "--tail", "40").CombinedOutput()
			t.Logf("%s", logs)
		}
		_ = c.cmd(context.Background(), "down", "--volumes").Run()
	})
	return c
}

// freePorts returns TCP ports that nobody listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		// Closed only in the end, lest the same one be given twice.
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		must(t, err)
		ports = append(ports, port)
	}
	return ports
}

func (c *composition) cmd(ctx context.Context, args ...string) *exec.Cmd {
	all := slices.Concat(c.command, []string{"--project-name", c.project}, args)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "MQTT_PORT="+c.mqtt, "HTTP_PORT="+c.http, "NATS_PORT="+c.nats)
	return cmd
}

func (c *composition) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), composePatience)
	defer cancel()
	began := time.Now()
	out := output(t, c.cmd(ctx, args...))
	t.Logf("%s %s: %s", strings.Join(c.command, " "), strings.Join(args, " "), time.Since(began).Round(100*time.Millisecond))
	return out
}

func (c *composition) container(t *testing.T, service string) string {
	t.Helper()
	// Those that have ended too, which compose lists only if asked.
	return strings.TrimSpace(output(t, exec.Command("docker", "ps", "--all", "--quiet",
		"--filter", "label=com.docker.compose.project="+c.project, "--filter", "label=com.docker.compose.service="+service)))
}

// copyOut copies a file or directory out of a service's container.
func (c *composition) copyOut(t *testing.T, service, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	output(t, exec.Command("docker", "cp", c.container(t, service)+":"+path, to))
	return to
}

func (c *composition) secret(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(c.copyOut(t, "pulsegate", "/data/credentials/"+name))
	must(t, err)
	return strings.TrimSpace(string(text))
}

// checkPorts fails unless MQTT, HTTP and NATS are published, on loopback, and
// nothing else is.
func (c *composition) checkPorts(t *testing.T) {
	t.Helper()
	var published []string
	ids := strings.Fields(output(t, exec.Command("docker", "ps", "--quiet", "--filter", "label=com.docker.compose.project="+c.project)))
	for _, id := range ids {
		var ports map[string][]struct{ HostIp, HostPort string }
		must(t, json.Unmarshal([]byte(output(t, exec.Command("docker", "inspect", "--format", "{{json .NetworkSettings.Ports}}", id))), &ports))
		for _, bindings := range ports {
			for _, b := range bindings {
				published = append(published, net.JoinHostPort(b.HostIp, b.HostPort))
			}
		}
	}
	want := []string{"127.0.0.1:" + c.mqtt, "127.0.0.1:" + c.http, "127.0.0.1:" + c.nats}
	slices.Sort(want)
	slices.Sort(published)
	if !slices.Equal(published, want) {
		t.Errorf("published are %v, want %v", published, want)
	}
}

// checkReady needs no patience: compose has waited for the health check.
func (c *composition) checkReady(t *testing.T) {
	t.Helper()
	answer, err := http.Get("http://127.0.0.1:" + c.http + "/readyz")
	must(t, err)
	must(t, answer.Body.Close())
	if answer.StatusCode != http.StatusOK {
		t.Errorf("/readyz says %s", answer.Status)
	}
}

// reader reads a stream with a user's own credentials.
func (c *composition) reader(t *testing.T, user, stream, subject string) *egress.Reader {
	t.Helper()
	url := strings.Replace(c.secret(t, user+".url"), "@nats:4222", "@127.0.0.1:"+c.nats, 1)
	nc, err := nats.Connect(url)
	must(t, err)
	t.Cleanup(nc.Close)
	r, err := egress.NewReader(nc, stream, subject)
	must(t, err)
	return r
}

// awaitReadings waits until so many more have been stored.
func (c *composition) awaitReadings(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	enough := errors.New("enough")
	err := c.reader(t, "consumer", egress.StreamVitals, egress.SubjectLive).Follow(ctx, c.seen+1, func(m egress.Stored) error {
		c.seen = m.Sequence
		if n--; n > 0 {
			return nil
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatalf("%d more readings were awaited: %v", n, err)
	}
}

func (c *composition) stored(t *testing.T, user, stream, subject string) []egress.Stored {
	t.Helper()
	var all []egress.Stored
	_, err := c.reader(t, user, stream, subject).Read(t.Context(), 0, func(m egress.Stored) error {
		all = append(all, m)
		return nil
	})
	must(t, err)
	return all
}

// stopAndSettle ends fleet and attacker and fails unless nothing was lost,
// duplicated or forged, and every attack met what it declared.
func (c *composition) stopAndSettle(t *testing.T) {
	t.Helper()
	c.run(t, "stop", "fleet", "attacker")
	for _, service := range []string{"fleet", "attacker"} {
		// Zero only if all that was sent has been acknowledged.
		if status := strings.TrimSpace(output(t, exec.Command("docker", "inspect", "--format", "{{.State.ExitCode}}", c.container(t, service)))); status != "0" {
			t.Errorf("%s ended with status %s", service, status)
		}
	}
	entries, err := ledger.Read(c.copyOut(t, "fleet", "/data/ledger"))
	must(t, err)
	var readings []ledger.StoredReading
	for _, m := range c.stored(t, "consumer", egress.StreamVitals, egress.SubjectLive) {
		readings = append(readings, ledger.StoredReading{Subject: m.Subject, Payload: m.Data})
		c.seen = m.Sequence
	}
	var rejections []ledger.Rejection
	for _, m := range c.stored(t, "security", egress.StreamRejections, egress.SubjectRejections) {
		var r ledger.Rejection
		must(t, json.Unmarshal(m.Data, &r))
		rejections = append(rejections, r)
	}
	account := ledger.Settle(entries, readings)
	account.Attribute(entries, rejections)
	checkAccount(t, account)
}

func checkAccount(t *testing.T, account ledger.Account) {
	t.Helper()
	report, err := json.Marshal(account)
	must(t, err)
	t.Logf("%s\nforged %d, misfiled %d, undeclared %v", report, account.Forged, account.Misfiled, account.Undeclared)
	a := account.Authentic
	if a.Sent == 0 || a.Acknowledged != a.Sent || a.Delivered != a.Sent || a.Lost != 0 || a.Duplicated != 0 {
		t.Errorf("authentic readings: %+v", a)
	}
	if account.Forged != 0 || account.Misfiled != 0 || len(account.Undeclared) != 0 {
		t.Errorf("forged %d, misfiled %d, undeclared %v", account.Forged, account.Misfiled, account.Undeclared)
	}
	for _, each := range attack.All() {
		got := account.Attacks[each.Name]
		if got == nil || got.Sent == 0 || got.Delivered != 0 || len(got.Rejected) == 0 {
			t.Errorf("attack %s: %+v", each.Name, got)
		}
	}
}
