package monitor_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

func serve(t *testing.T, m *monitor.Metrics, ready func() error) string {
	t.Helper()
	s, err := monitor.Serve(monitor.Options{Listen: "127.0.0.1:0", Log: zerolog.Nop()}, m, ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func metrics(t *testing.T, base string) map[string]*dto.MetricFamily {
	t.Helper()
	status, _, body := get(t, base+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func total(t *testing.T, families map[string]*dto.MetricFamily, name string) float64 {
	t.Helper()
	f := families[name]
	if f == nil || len(f.GetMetric()) != 1 {
		t.Fatalf("%s is not there once: %v", name, f)
	}
	if f.GetType() == dto.MetricType_GAUGE {
		return f.GetMetric()[0].GetGauge().GetValue()
	}
	return f.GetMetric()[0].GetCounter().GetValue()
}

// byLabel are the values of a family with one label.
func byLabel(t *testing.T, families map[string]*dto.MetricFamily, name, label string) map[string]float64 {
	t.Helper()
	values := make(map[string]float64)
	for _, m := range families[name].GetMetric() {
		if len(m.GetLabel()) != 1 || m.GetLabel()[0].GetName() != label {
			t.Fatalf("%s has labels %v, want %s alone", name, m.GetLabel(), label)
		}
		values[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return values
}

func TestEveryOutcomeIsCounted(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	counts := func() map[string]float64 { return byLabel(t, metrics(t, base), "pulsegate_messages_total", "outcome") }
	before := counts()
	if len(before) != len(verify.Outcomes()) {
		t.Errorf("%d outcomes are shown before anything happened, want %d", len(before), len(verify.Outcomes()))
	}
	for n, o := range verify.Outcomes() {
		if v, shown := before[o.String()]; !shown || v != 0 {
			t.Errorf("%v is %v at first (shown: %v), want 0", o, v, shown)
		}
		for range n + 1 {
			m.Decided(o)
		}
	}
	after := counts()
	for n, o := range verify.Outcomes() {
		if after[o.String()] != float64(n+1) {
			t.Errorf("%v was counted %v times, want %d", o, after[o.String()], n+1)
		}
	}
}

func TestEveryAuthenticationFailureIsCounted(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	for n, f := range []monitor.AuthFailure{monitor.WrongCredentials, monitor.WrongClientID, monitor.TooManyAttempts, monitor.FailedHandshake} {
		for range n + 1 {
			m.AuthenticationFailed(f)
		}
	}
	want := map[string]float64{"credentials": 1, "client_id": 2, "attempts": 3, "tls": 4}
	if got := byLabel(t, metrics(t, base), "pulsegate_authentication_failures_total", "reason"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCounters(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	m.StoreFailed()
	m.Admitted()
	m.NotRemembered()
	m.PreviousKey()
	families := metrics(t, base)
	for _, name := range []string{
		"pulsegate_store_failures_total", "pulsegate_connections_admitted_total", "pulsegate_replay_memory_misses_total", "pulsegate_previous_key_total",
	} {
		if got := total(t, families, name); got != 1 {
			t.Errorf("%s is %v, want 1", name, got)
		}
	}
	if families["go_goroutines"] == nil {
		t.Error("the Go runtime is not shown")
	}
	for name, f := range families {
		if strings.HasPrefix(name, "pulsegate_") && f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
}

func TestHistograms(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	m.Stored(2*time.Millisecond, 5*time.Millisecond, time.Second)
	m.Stored(2*time.Millisecond, 5*time.Millisecond, -4*time.Second)
	m.StoredLate(7 * time.Second)
	families := metrics(t, base)
	for _, want := range []struct {
		name, outcome string
		samples       uint64
		sum           float64
	}{
		{"pulsegate_store_seconds", "", 2, 0.004},
		{"pulsegate_reading_age_seconds", "", 2, 1},
		{"pulsegate_confirmation_seconds", "accepted", 2, 0.01},
		{"pulsegate_confirmation_seconds", "late", 1, 7},
	} {
		found := false
		for _, h := range families[want.name].GetMetric() {
			if want.outcome != "" && h.GetLabel()[0].GetValue() != want.outcome {
				continue
			}
			found = true
			if h := h.GetHistogram(); h.GetSampleCount() != want.samples || math.Abs(h.GetSampleSum()-want.sum) > 1e-9 {
				t.Errorf("%s of %q has %d samples of %v in all, want %d of %v", want.name, want.outcome, h.GetSampleCount(), h.GetSampleSum(), want.samples, want.sum)
			}
		}
		if !found {
			t.Errorf("%s of %q is missing", want.name, want.outcome)
		}
	}
}

func TestFoundAtEachScrape(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	var now atomic.Int64
	values := func() map[string]float64 {
		if now.Load() == 0 {
			return nil
		}
		return map[string]float64{"a": float64(now.Load()), "b": 7}
	}
	m.Gauge("pulsegate_one", "A value.", nil, func() float64 { return float64(now.Load()) })
	m.Gauge("pulsegate_two", "A value.", monitor.Labels{"of": "x"}, func() float64 { return 1 })
	m.Gauge("pulsegate_two", "A value.", monitor.Labels{"of": "y"}, func() float64 { return 2 })
	m.Counter("pulsegate_counted_total", "A count.", func() float64 { return float64(now.Load()) })
	m.Gauges("pulsegate_many", "Values.", "of", values)
	m.Counters("pulsegate_tallied_total", "Counts.", "of", values)
	if families := metrics(t, base); families["pulsegate_many"] != nil || total(t, families, "pulsegate_one") != 0 {
		t.Error("what is not found is shown")
	}
	now.Store(42)
	families := metrics(t, base)
	for _, name := range []string{"pulsegate_one", "pulsegate_counted_total"} {
		if got := total(t, families, name); got != 42 {
			t.Errorf("%s is %v, want 42", name, got)
		}
	}
	for name, want := range map[string]map[string]float64{
		"pulsegate_two": {"x": 1, "y": 2}, "pulsegate_many": {"a": 42, "b": 7}, "pulsegate_tallied_total": {"a": 42, "b": 7},
	} {
		if got := byLabel(t, families, name, "of"); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if kind := families["pulsegate_tallied_total"].GetType(); kind != dto.MetricType_COUNTER {
		t.Errorf("counters are of type %v", kind)
	}
}

func TestProfiles(t *testing.T) {
	for _, on := range []monitor.Profiles{true, false} {
		s, err := monitor.Serve(monitor.Options{Listen: "127.0.0.1:0", Profiles: on, Log: zerolog.Nop()}, monitor.NewMetrics(), func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close(context.Background()) }()
		for path, there := range map[string]bool{
			"/debug/pprof/": true, "/debug/pprof/heap?debug=1": true, "/debug/pprof/profile?seconds=1": true,
			"/debug/pprof/cmdline": false, // it may hold a password
		} {
			want := http.StatusNotFound
			if bool(on) && there {
				want = http.StatusOK
			}
			if status, _, _ := get(t, "http://"+s.Addr().String()+path); status != want {
				t.Errorf("profiles %v: %s answers %d, want %d", on, path, status, want)
			}
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	var trouble atomic.Pointer[error]
	base := serve(t, monitor.NewMetrics(), func() error {
		if err := trouble.Load(); err != nil {
			return *err
		}
		return nil
	})
	check := func(path string, status int, body string) {
		t.Helper()
		gotStatus, header, gotBody := get(t, base+path)
		if gotStatus != status || gotBody != body || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %q as %s, want %d %q", path, gotStatus, gotBody, header.Get("Content-Type"), status, body)
		}
	}
	check("/readyz", http.StatusOK, "ok\n")
	err := errors.New("NATS is away")
	trouble.Store(&err)
	check("/readyz", http.StatusServiceUnavailable, "NATS is away\n")
	check("/healthz", http.StatusOK, "ok\n")
	trouble.Store(nil)
	check("/readyz", http.StatusOK, "ok\n")
	if status, _, _ := get(t, base+"/elsewhere"); status != http.StatusNotFound {
		t.Errorf("another path answers %d", status)
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, err = monitor.Serve(monitor.Options{Listen: taken.Addr().String(), Log: zerolog.Nop()}, monitor.NewMetrics(), func() error { return nil })
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "--http-listen") {
		t.Errorf("the error is %v, want one that names the address and the flag", err)
	}
}
