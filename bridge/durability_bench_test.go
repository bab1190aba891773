//go:build unix

package bridge_test

import (
	"testing"
	"time"

	"github.com/pulsegate/pulsegate/bridge/config"
)

// BenchmarkDurability measures what the embedded server's fsync costs, in
// interleaved rounds of 32 connections with 16 in flight: before every
// acknowledgement, every 100 ms, and every two minutes, which is what a
// nats-server does unless it is configured. It reports readings per second.
func BenchmarkDurability(b *testing.B) {
	syncs := []struct {
		name  string
		every config.Sync
	}{
		{"always/s", config.SyncAlways},
		{"100ms/s", config.Sync(100 * time.Millisecond)},
		{"2m/s", config.Sync(2 * time.Minute)},
	}
	const connections, inFlight = 32, 16
	gates := make([]loaded, len(syncs))
	for i, s := range syncs {
		c := benchConfig(b)
		c.NATS.Sync = s.every
		gates[i] = startGateWith(b, c, connections)
	}
	rates := make([][]float64, len(syncs))
	for n := range b.N {
		for k := range syncs {
			i := (n + k) % len(syncs)
			rates[i] = append(rates[i], gates[i].round(b, inFlight).rate)
		}
	}
	for i, s := range syncs {
		b.ReportMetric(median(rates[i]), s.name)
	}
	b.ReportMetric(0, "ns/op")
}
