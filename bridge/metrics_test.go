package bridge_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
	"github.com/pulsegate/pulsegate/bridge/ingress/mqttest"
)

// scrape is what Prometheus gets from a gate with TLS, in its text form.
func (s *system) scrape(t *testing.T, authority *certstest.Authority) string {
	t.Helper()
	c := http.Client{Timeout: mqttest.Patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: authority.Pool}}}
	answer, err := c.Get("https://" + s.HTTP() + "/metrics")
	must(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	return string(body)
}

// described is what is said of a metric: its type and its labels.
type described struct{ kind, labels string }

func documented(t *testing.T) map[string]described {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	all := map[string]described{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(pulsegate_\\w+)` \\| (\\w+) \\| ([\\w, ]*?) ?\\| .+ \\|$").FindAllStringSubmatch(string(text), -1) {
		labels := strings.Split(m[3], ", ")
		slices.Sort(labels)
		all[m[1]] = described{m[2], strings.Join(labels, ", ")}
	}
	return all
}

// labelsOf are the names of a metric's labels. An empty value counts for none.
func labelsOf(m *dto.Metric) string {
	var names []string
	for _, l := range m.GetLabel() {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// What a gate shows is what the documentation has, and the other way round. No
// value of a label comes from outside.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	s, authority := startObserved(t)
	s.traffic(t)
	text := s.scrape(t, authority)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	must(t, err)
	left := documented(t)
	for name, f := range families {
		if !strings.HasPrefix(name, "pulsegate_") {
			continue
		}
		got := described{strings.ToLower(f.GetType().String()), labelsOf(f.GetMetric()[0])}
		if want, known := left[name]; !known || got != want {
			t.Errorf("%s is %v, docs/operations.md says %v", name, got, want)
		}
		delete(left, name)
	}
	for name := range left {
		t.Errorf("docs/operations.md has %s, the gate has not", name)
	}
	for _, secret := range []string{"w-0001", "p-0001", "127.0.0.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics hold %s", secret)
		}
	}
	promtool(t, ours(text), "check", "metrics")
}

// ours leaves the Go client's own metrics out: their names are not ours to mend.
func ours(text string) []byte {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "pulsegate_") {
			lines.WriteString(line)
		}
	}
	return []byte(lines.String())
}

// What happens is counted where it belongs.
func TestMetricsOfReadingsAndLogins(t *testing.T) {
	t.Parallel()
	s, authority := startObserved(t)
	s.traffic(t)
	login := func(client, password string) {
		d := mqttest.Dial(t, s.MQTT(), 5)
		defer d.Close()
		d.Connect(client, mqttest.Login("w-0001", password))
	}
	login("w-0001", "wrong")
	d, _ := s.Registry().Credentials("w-0001")
	login("w-0002", d.Password)
	if _, err := tls.Dial("tcp", s.host(t, "mqtts"), &tls.Config{ServerName: "localhost"}); err == nil {
		t.Fatal("a client trusts whom it does not know")
	}
	for _, line := range []string{
		`pulsegate_messages_total{outcome="accepted"} 3`, `pulsegate_messages_total{outcome="late"} 1`,
		`pulsegate_messages_total{outcome="duplicate"} 1`, `pulsegate_messages_total{outcome="bad_signature"} 1`,
		`pulsegate_confirmation_seconds_count{outcome="accepted"} 3`, `pulsegate_confirmation_seconds_count{outcome="late"} 1`,
		`pulsegate_confirmation_seconds_bucket{outcome="accepted",le="60"} 3`, `pulsegate_store_seconds_bucket{le="60"} 3`,
		`pulsegate_reading_age_seconds_bucket{le="60"} 3`,
		`pulsegate_connections_admitted_total 1`, `pulsegate_authentication_failures_total{reason="credentials"} 1`,
		`pulsegate_authentication_failures_total{reason="client_id"} 1`, `pulsegate_authentication_failures_total{reason="tls"} 1`,
		`pulsegate_authentication_failures_total{reason="attempts"} 0`,
		`pulsegate_registry_devices 1`, `pulsegate_connections 1`, `pulsegate_in_flight_readings 0`, `pulsegate_ready 1`,
	} {
		until(t, line, func() bool { return strings.Contains(s.scrape(t, authority), "\n"+line+"\n") })
	}
	text := s.scrape(t, authority)
	took, since := value(t, text, "pulsegate_store_seconds_sum"), value(t, text, `pulsegate_confirmation_seconds_sum{outcome="accepted"}`)
	if took <= 0 || since <= took {
		t.Errorf("the store took %v of the %v seconds since receipt", took, since)
	}
}

func value(t *testing.T, text, name string) float64 {
	t.Helper()
	_, rest, _ := strings.Cut(text, "\n"+name+" ")
	number, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.ParseFloat(number, 64)
	must(t, err)
	return v
}

// The streams are shown while NATS is there, and a scrape works without it.
func TestMetricsFollowNATS(t *testing.T) {
	t.Parallel()
	n := newCluster(t)
	s := startAt(t, n, nil)
	shown := func(line string) func() bool {
		return func() bool {
			_, text := s.page(t, "/metrics")
			return strings.Contains(text, "\n"+line)
		}
	}
	for _, stream := range []string{"VITALS", "REJECTIONS", "AUDIT", "KV_devices"} {
		until(t, "the stream "+stream, shown(`pulsegate_stream_limit_bytes{stream="`+stream+`"} `))
	}
	until(t, "connected and ready", func() bool { return shown("pulsegate_nats_connected 1\n")() && shown("pulsegate_ready 1\n")() })
	n.stop()
	until(t, "not connected, not ready, no streams", func() bool {
		return shown("pulsegate_nats_connected 0\n")() && shown("pulsegate_ready 0\n")() && !shown("pulsegate_stream_")()
	})
	n.run(t)
	until(t, "connected and ready again", func() bool {
		return shown("pulsegate_nats_connected 1\n")() && shown("pulsegate_nats_reconnects_total 1\n")() && shown("pulsegate_ready 1\n")()
	})
}

func TestProfilesByConfiguration(t *testing.T) {
	t.Parallel()
	c := small(t)
	c.HTTP.Pprof = true
	must(t, c.Validate())
	for want, s := range map[int]*system{http.StatusOK: start(t, c), http.StatusNotFound: start(t, small(t))} {
		if status, _ := s.page(t, "/debug/pprof/goroutine?debug=1"); status != want {
			t.Errorf("the profile answers %d, want %d", status, want)
		}
	}
}
