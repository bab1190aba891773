//go:build unix

package bridge_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/monitor"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

// BenchmarkMetrics measures all that metrics do for an accepted reading beside
// the whole way of a reading, TCP publish to PUBACK, in interleaved rounds. The
// ratio to the time between two readings is what metrics can cost of the
// throughput at the most, had they a processor to wait for; that to the processor
// time, load included, is what they take of it.
func BenchmarkMetrics(b *testing.B) {
	gate, metrics := startGate(b, 32), monitor.NewMetrics()
	var alone, between, busy []float64
	for b.Loop() {
		r := gate.round(b, 16)
		between = append(between, 1e9/r.rate)
		busy = append(busy, float64(r.cpu.Nanoseconds())/perRound)
		alone = append(alone, metricsOfOne(metrics))
	}
	b.ReportMetric(median(alone), "metrics-ns")
	b.ReportMetric(median(between), "reading-ns")
	b.ReportMetric(100*median(alone)/median(between), "%throughput")
	b.ReportMetric(100*median(alone)/median(busy), "%cpu")
	b.ReportMetric(0, "ns/op")
}

// metricsOfOne is the time in nanoseconds that the metrics of one accepted
// reading take.
func metricsOfOne(m *monitor.Metrics) float64 {
	const times = 1_000_000
	began := time.Now()
	for i := range times {
		received := time.Duration(i%4000) * time.Microsecond
		m.Decided(verify.Accepted)
		m.Stored(received, time.Since(began)-received, 20*received)
	}
	return float64(time.Since(began).Nanoseconds()) / times
}
