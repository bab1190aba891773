package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/egress"
)

const (
	// composePatience bounds one step of the composition, the first build included.
	composePatience = 30 * time.Minute
	// changePatience bounds what a composition that is up may take to change.
	changePatience = 5 * time.Minute
	// askAgain is how long after one answer of a container the next is asked for.
	askAgain = 250 * time.Millisecond
	// grafanaImage has no stand-in: nothing is shown as Grafana that is not.
	grafanaImage = "grafana/grafana:12.2.1"
)

// composition is docker-compose.yml as a project of its own.
type composition struct {
	command          []string
	project, profile string
	ports            map[string]string // on loopback, by the variable that chooses it
	// rate is how many readings a second each wearable sends.
	rate string
	// services are what up brings up; empty is everything, and then Grafana too.
	services []string
	// seen is how far the stream has been awaited.
	seen uint64
}

// needEngine skips where nobody asked for what needs a Docker engine, or there is
// none.
func needEngine(t *testing.T) {
	t.Helper()
	if os.Getenv("PULSEGATE_COMPOSE_TEST") != "1" {
		t.Skip("SKIPPED: this takes minutes and a Docker engine; PULSEGATE_COMPOSE_TEST=1 runs it")
	}
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skipf("SKIPPED: no Docker engine answers: %v", err)
	}
}

func newComposition(t *testing.T, profile, rate string) *composition {
	t.Helper()
	needEngine(t)
	c := &composition{
		command: []string{"docker-compose"}, project: fmt.Sprintf("pulsegate-test-%d", os.Getpid()), profile: profile, rate: rate,
		ports: lowPorts(t, "MQTT_PORT", "HTTP_PORT", "NATS_PORT", "GRAFANA_PORT"),
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

// lowPorts gives each name a TCP port that nobody listens on, below those that
// systems give to outgoing connections, which could take one meanwhile.
func lowPorts(t *testing.T, names ...string) map[string]string {
	t.Helper()
	const first, count = 20_000, 10_000
	ports := map[string]string{}
	for _, name := range names {
		for {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(count))))
			if err != nil {
				continue
			}
			// Closed only in the end, lest the same one be given twice.
			defer l.Close()
			_, ports[name], err = net.SplitHostPort(l.Addr().String())
			must(t, err)
			break
		}
	}
	return ports
}

func (c *composition) cmd(ctx context.Context, args ...string) *exec.Cmd {
	all := slices.Concat(c.command, []string{"--project-name", c.project})
	// The other profile is what docker-compose.yml starts with where none is named.
	if c.profile != "single" {
		all = append(all, "--profile", c.profile)
	}
	all = append(all, args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = ".."
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "COMPOSE_PROFILES=") })
	cmd.Env = append(cmd.Env, "FLEET_RATE="+c.rate)
	for name, port := range c.ports {
		cmd.Env = append(cmd.Env, name+"="+port)
	}
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

// build makes or gets all images, so that up finds them.
func (c *composition) build(t *testing.T) {
	t.Helper()
	provide(t, "golang:1.26", golangStandIn)
	provide(t, "nats:2.15", natsStandIn)
	provide(t, "prom/prometheus:v3.7.3", prometheusStandIn)
	if c.profile == "cluster" {
		provide(t, "haproxy:3.2", haproxyStandIn)
	}
	if !had(grafanaImage) {
		t.Logf("SKIPPED: Grafana, since there is no %s to be had here; everything else comes up", grafanaImage)
		c.services = slices.DeleteFunc(c.profileServices(t), func(name string) bool { return name == "grafana" })
	}
	c.run(t, "build", "--quiet")
}

// profileServices are those that up brings up where none are named.
func (c *composition) profileServices(t *testing.T) []string {
	t.Helper()
	var file struct {
		Services map[string]struct{ Profiles []string }
	}
	must(t, yaml.Unmarshal([]byte(c.run(t, "config")), &file))
	var names []string
	for name, service := range file.Services {
		if len(service.Profiles) == 0 || slices.Contains(service.Profiles, c.profile) {
			names = append(names, name)
		}
	}
	return names
}

// up brings everything up and reports when Prometheus knew of the first
// verified reading, by its own account.
func (c *composition) up(t *testing.T) {
	t.Helper()
	began := time.Now()
	c.run(t, append([]string{"up", "--detach"}, c.services...)...)
	var at float64
	c.await(t, "a verified reading in Prometheus", func() bool {
		at, _ = c.query(t, firstReading(began))
		return at > 0
	})
	t.Logf("FROM UP TO THE FIRST VERIFIED READING IN PROMETHEUS: %.1f s", at-float64(began.UnixNano())/1e9)
}

// firstReading asks for the time of the first sample since then that counts a
// reading.
func firstReading(since time.Time) string {
	const accepted = `pulsegate_messages_total{outcome="accepted"}`
	return fmt.Sprintf(`min(min_over_time(((timestamp(%[1]s) and %[1]s > 0) > %[2]d)[1h:1s]))`, accepted, since.Unix())
}

// query asks Prometheus, from within its container, for one number.
func (c *composition) query(t *testing.T, expression string) (value float64, found bool) {
	t.Helper()
	service := "prometheus"
	if c.profile == "cluster" {
		service = "prometheus-cluster"
	}
	out, err := exec.Command("docker", "exec", c.container(t, service), "promtool", "query", "instant", "http://localhost:9090", expression).Output()
	must(t, err)
	match := regexp.MustCompile(`=> (\S+) @`).FindSubmatch(out)
	if match == nil {
		return 0, false
	}
	value, err = strconv.ParseFloat(string(match[1]), 64)
	must(t, err)
	return value, true
}

// await asks again and again, since containers tell nobody when they change.
func (c *composition) await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	over := time.After(changePatience)
	for !happened() {
		select {
		case <-over:
			t.Fatalf("awaited in vain: %s", what)
		case <-time.After(askAgain):
		}
	}
}

func (c *composition) container(t *testing.T, service string) string {
	t.Helper()
	// Those that have ended too, which compose lists only if asked.
	return strings.TrimSpace(output(t, exec.Command("docker", "ps", "--all", "--quiet",
		"--filter", "label=com.docker.compose.project="+c.project, "--filter", "label=com.docker.compose.service="+service)))
}

func (c *composition) inspect(t *testing.T, service, format string) string {
	t.Helper()
	return strings.TrimSpace(output(t, exec.Command("docker", "inspect", "--format", format, c.container(t, service))))
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
	text, err := os.ReadFile(c.copyOut(t, "credentials", "/data/credentials/"+name))
	must(t, err)
	return strings.TrimSpace(string(text))
}

// connect reaches NATS where it is published, with a user's own credentials.
func (c *composition) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(strings.Replace(c.secret(t, user+".url"), "@nats:4222", "@127.0.0.1:"+c.ports["NATS_PORT"], 1))
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// awaitReadings waits until so many more have been stored.
func (c *composition) awaitReadings(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), changePatience)
	defer cancel()
	r, err := egress.NewReader(c.connect(t, "consumer"), egress.StreamVitals, egress.SubjectLive)
	must(t, err)
	enough := errors.New("enough")
	err = r.Follow(ctx, c.seen+1, func(m egress.Stored) error {
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
