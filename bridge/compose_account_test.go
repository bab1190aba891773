package bridge_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/device-sim/attack"
	"github.com/pulsegate/pulsegate/device-sim/ledger"
)

// checkPorts fails unless the ports that the variables choose are published, on
// loopback, and nothing else is.
func (c *composition) checkPorts(t *testing.T) {
	t.Helper()
	var published, want []string
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
	for name, port := range c.ports {
		if name != "GRAFANA_PORT" || c.services == nil {
			want = append(want, "127.0.0.1:"+port)
		}
	}
	slices.Sort(want)
	slices.Sort(published)
	if !slices.Equal(published, want) {
		t.Errorf("published are %v, want %v", published, want)
	}
}

// checkContained fails where a container may do more than it must.
func (c *composition) checkContained(t *testing.T) {
	t.Helper()
	const want = `true ["ALL"] ["no-new-privileges:true"] false`
	for _, name := range c.profileServices(t) {
		if name == "grafana" && c.services != nil {
			continue
		}
		got := c.inspect(t, name, "{{.HostConfig.ReadonlyRootfs}} {{json .HostConfig.CapDrop}} {{json .HostConfig.SecurityOpt}} {{.HostConfig.Privileged}}")
		if got != want {
			t.Errorf("%s: read-only root, dropped capabilities, security options, privileged are %s, want %s", name, got, want)
		}
		if user := c.inspect(t, name, "{{.Config.User}}"); user == "" || user == "root" || strings.HasPrefix(user, "0") {
			t.Errorf("%s runs as the user %q", name, user)
		}
	}
}

// checkReady needs no patience: compose has waited until it was.
func (c *composition) checkReady(t *testing.T) {
	t.Helper()
	answer, err := http.Get("http://127.0.0.1:" + c.ports["HTTP_PORT"] + "/readyz")
	must(t, err)
	must(t, answer.Body.Close())
	if answer.StatusCode != http.StatusOK {
		t.Errorf("/readyz says %s", answer.Status)
	}
}

// checkGrafana waits until whoever comes, logged in as nobody, is offered the
// dashboard.
func (c *composition) checkGrafana(t *testing.T) {
	t.Helper()
	if c.services != nil {
		return // there is no image, as build has said
	}
	c.await(t, "the dashboard in Grafana", func() bool {
		answer, err := http.Get("http://127.0.0.1:" + c.ports["GRAFANA_PORT"] + "/api/search?type=dash-db")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		found, err := io.ReadAll(answer.Body)
		return err == nil && answer.StatusCode == http.StatusOK && strings.Contains(string(found), "Pulsegate")
	})
}

func (c *composition) stored(t *testing.T, user, stream, subject string) []egress.Stored {
	t.Helper()
	r, err := egress.NewReader(c.connect(t, user), stream, subject)
	must(t, err)
	var all []egress.Stored
	_, err = r.Read(t.Context(), 0, func(m egress.Stored) error {
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
	// Its exit status is 0 only if nothing was lost, stored twice, forged or misfiled.
	t.Log(c.run(t, "run", "--rm", "settle"))
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
