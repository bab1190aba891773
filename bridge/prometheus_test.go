package bridge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// rulesFile has the alerts.
const rulesFile = "../configs/prometheus/rules.yml"

// tries is how many wrong passwords lock somebody out here: more than the bad
// signatures in traffic.
const tries = 3

// startObserved starts a gate that has every metric: with TLS, and with another
// broker, which is not there.
func startObserved(t *testing.T) (*system, *certstest.Authority) {
	t.Helper()
	authority := certstest.New(t)
	pair := authority.Issue(t, "the gate")
	c := small(t)
	c.MQTT.TLS = config.MQTTTLS{Listen: "127.0.0.1:0", Cert: pair.Cert, Key: pair.Key, Client: config.ClientPassword}
	c.HTTP.TLS = config.HTTPTLS{Cert: pair.Cert, Key: pair.Key}
	c.Source.URL, c.Source.ClientID = "mqtt://127.0.0.1:1", "replica-1"
	c.Limits.LockoutAfter = tries
	must(t, c.Validate())
	return start(t, c), authority
}

// traffic has the gate decide in several ways: three readings are accepted.
func (s *system) traffic(t *testing.T) {
	t.Helper()
	d := s.enrol(t, "w-0001", "p-0001")
	c := s.dial(t, d, 5)
	all := d.readings(t, 3)
	all = append(all, all[0], tampered(d.sign(t)), d.sign(t, at(-10*time.Minute)))
	for i, payload := range all {
		c.Send(mqttest.Publish(uint16(i+1), 1, d.Topic, payload))
	}
	for range all {
		c.Expect(packets.Puback)
	}
}

// prometheus is Debian's, scraping one gate.
type prometheus struct {
	address string
	client  http.Client
}

func startPrometheus(t *testing.T, s *system, authority *certstest.Authority) *prometheus {
	t.Helper()
	need(t, "prometheus")
	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	must(t, err)
	file := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `
global: {scrape_interval: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - job_name: pulsegate
    scheme: https
    tls_config: {ca_file: %q}
    static_configs: [{targets: [%q]}]
`, rules, authority.File, s.HTTP()), 0o600))
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	log, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &prometheus{client: http.Client{Timeout: mqttest.Patience}}
	p.listens(t, bufio.NewScanner(log))
	return p
}

// listens learns from the log where Prometheus listens, and reads on, lest it is
// held up.
func (p *prometheus) listens(t *testing.T, log *bufio.Scanner) {
	t.Helper()
	var said strings.Builder
	listening := regexp.MustCompile(`msg="Listening on".* address=(\S+)`)
	for log.Scan() {
		said.WriteString(log.Text() + "\n")
		if m := listening.FindStringSubmatch(log.Text()); m != nil {
			p.address = m[1]
			go func() {
				for log.Scan() {
				}
			}()
			return
		}
	}
	t.Fatalf("Prometheus ended: %s", said.String())
}

// get asks the API, and says why it could not be asked.
func (p *prometheus) get(path string, data any) error {
	answer, err := p.client.Get("http://" + p.address + path)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	one := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(answer.Body).Decode(&one); err != nil {
		return fmt.Errorf("%s: %w", answer.Status, err)
	}
	if one.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, one.Error)
	}
	return nil
}

// series are the values of what a query finds.
func (p *prometheus) series(query string) (values []string, err error) {
	var data struct{ Result []struct{ Value [2]any } }
	err = p.get("/api/v1/query?query="+url.QueryEscape(query), &data)
	for _, r := range data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values, err
}

// finds waits until a query finds something; a query that Prometheus refuses
// never will.
func (p *prometheus) finds(t *testing.T, what, query string) {
	t.Helper()
	var err error
	for end := time.Now().Add(3 * mqttest.Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var values []string
		if values, err = p.series(query); err == nil && len(values) > 0 {
			return
		}
		if err != nil && strings.Contains(err.Error(), "parse error") {
			break
		}
	}
	t.Errorf("%s: nothing is found by %s: %v", what, query, err)
}

// queries are those of the dashboard, by the titles of their panels, as Grafana
// would ask them.
func queries(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../configs/grafana/dashboards/pulsegate.json")
	must(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &board))
	grafana := strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*")
	all := map[string][]string{}
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			all[p.Title] = append(all[p.Title], grafana.Replace(q.Expr))
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard has no queries")
	}
	return all
}

func TestPrometheusShowsTheGate(t *testing.T) {
	t.Parallel()
	need(t, "prometheus")
	s, authority := startObserved(t)
	p := startPrometheus(t, s, authority)
	s.traffic(t)
	p.finds(t, "traffic", `sum(pulsegate_messages_total{outcome="accepted"}) == 3`)
	p.finds(t, "certificates", `count(pulsegate_certificate_expiry_timestamp_seconds > time()) == 2`)
	for title, all := range queries(t) {
		for _, query := range all {
			p.finds(t, title, query)
		}
	}
	p.rulesAreWell(t)

	// An alert that waits for nothing.
	for range tries {
		mqttest.Dial(t, s.MQTT(), 5).Connect("w-0001", mqttest.Login("w-0001", "wrong"))
	}
	p.finds(t, "alert", `ALERTS{alertname="PulsegateLockouts",alertstate="firing",severity="warning"}`)
}

// rulesAreWell waits until every rule has been evaluated, and fails if one could
// not be.
func (p *prometheus) rulesAreWell(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(3 * mqttest.Patience); ; time.Sleep(50 * time.Millisecond) {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		must(t, p.get("/api/v1/rules", &data))
		evaluated, left := 0, ""
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health == "err" {
					t.Errorf("%s: %s", r.Name, r.LastError)
				}
				if r.Health == "unknown" {
					left = r.Name
				}
				evaluated++
			}
		}
		if left == "" && evaluated > 0 || t.Failed() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("of %d rules, %s has never been evaluated", evaluated, left)
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, arguments := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", strings.Replace(rulesFile, ".yml", "_test.yml", 1)}} {
		promtool(t, nil, arguments...)
	}
}

func promtool(t *testing.T, in []byte, arguments ...string) {
	t.Helper()
	need(t, "promtool")
	cmd := exec.CommandContext(t.Context(), "promtool", arguments...)
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
}
