package monitor_test

import (
	"context"
	"errors"
	"io"
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

func TestEveryOutcomeIsCounted(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	counts := func() map[string]float64 {
		byOutcome := make(map[string]float64)
		for _, c := range metrics(t, base)["pulsegate_messages_total"].GetMetric() {
			if len(c.GetLabel()) != 1 || c.GetLabel()[0].GetName() != "outcome" {
				t.Fatalf("labels %v, want outcome alone", c.GetLabel())
			}
			byOutcome[c.GetLabel()[0].GetValue()] = c.GetCounter().GetValue()
		}
		return byOutcome
	}
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

func TestCountersAndHistograms(t *testing.T) {
	m := monitor.NewMetrics()
	base := serve(t, m, func() error { return nil })
	m.StoreFailed()
	m.RejectionLost()
	m.RejectionLost()
	m.AuthenticationFailed()
	m.NotRemembered()
	m.Stored(2*time.Millisecond, time.Second)
	m.Stored(2*time.Millisecond, -4*time.Second)
	m.Gauge("pulsegate_test", "A value.", func() float64 { return 42 })
	families := metrics(t, base)
	for name, want := range map[string]float64{
		"pulsegate_store_failures_total":          1,
		"pulsegate_rejections_dropped_total":      2,
		"pulsegate_authentication_failures_total": 1,
		"pulsegate_replay_memory_misses_total":    1,
		"pulsegate_test":                          42,
	} {
		if got := total(t, families, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"pulsegate_store_seconds": 0.004, "pulsegate_reading_age_seconds": 1} {
		h := families[name].GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 2 || math.Abs(h.GetSampleSum()-want) > 1e-9 {
			t.Errorf("%s has %d samples of %v in all, want 2 of %v", name, h.GetSampleCount(), h.GetSampleSum(), want)
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
