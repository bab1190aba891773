//go:build unix

package bridge_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pulsegate/pulsegate/bridge/config"
	"github.com/pulsegate/pulsegate/bridge/egress"
	"github.com/pulsegate/pulsegate/bridge/engine"
	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/registry"
	"github.com/pulsegate/pulsegate/device-sim/load"
)

// besieged is a gate with honest devices and as many whose passwords are
// stolen, and a consumer of what it stores.
type besieged struct {
	tb             testing.TB
	broker         string
	honest, stolen []registry.Credentials
	reader         *egress.Reader
	next           uint64
}

func besiege(b *testing.B, c config.Config, devices int) *besieged {
	b.Helper()
	l := startGateWith(b, c, 2*devices)
	return besiegedAt(b, c.Data, l.broker, l.devices)
}

func besiegedAt(tb testing.TB, data, broker string, devices []registry.Credentials) *besieged {
	tb.Helper()
	url, err := os.ReadFile(engine.URLFile(data, "consumer"))
	if err != nil {
		tb.Fatal(err)
	}
	nc, err := nats.Connect(strings.TrimSpace(string(url)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	reader, err := egress.NewReader(nc, egress.StreamVitals, "vitals.>")
	if err != nil {
		tb.Fatal(err)
	}
	half := len(devices) / 2
	return &besieged{tb: tb, broker: broker, honest: devices[:half], stolen: devices[half:], reader: reader, next: 1}
}

// lanes are readings of the honest devices, signed now.
func (s *besieged) lanes(each int) []load.Lane {
	s.tb.Helper()
	lanes := make([]load.Lane, len(s.honest))
	for i, c := range s.honest {
		lanes[i] = load.Lane{Credentials: c, Payloads: signedReadings(s.tb, c, each)}
	}
	return lanes
}

// forgeries are readings in the names of honest devices, to be sent by stolen
// ones, with signatures that are none.
func (s *besieged) forgeries(each int) []load.Lane {
	s.tb.Helper()
	lanes := make([]load.Lane, len(s.stolen))
	for i, c := range s.stolen {
		victim := s.honest[i]
		c.Topic = victim.Topic
		victim.Key = reading.Identity{1}.String()
		lanes[i] = load.Lane{Credentials: c, Payloads: signedReadings(s.tb, victim, each)}
	}
	return lanes
}

// paced sends readings at a rate for so long, looks whether all of them, and
// nothing else, were stored, and returns how long their acknowledgements took.
func (s *besieged) paced(rate float64, lasts time.Duration) []time.Duration {
	s.tb.Helper()
	lanes := s.lanes(int(rate * lasts.Seconds() / float64(len(s.honest))))
	took := job{Paced: &load.Pace{Broker: s.broker, Rate: rate, Lanes: lanes}}.start(s.tb).wait().Took
	s.settle(lanes)
	slices.Sort(took)
	return took
}

// settle compares what was stored since the last time with what was sent.
func (s *besieged) settle(lanes []load.Lane) {
	s.tb.Helper()
	missing := make(map[string]bool)
	for _, l := range lanes {
		for _, payload := range l.Payloads {
			missing[string(payload)] = true
		}
	}
	var err error
	s.next, err = s.reader.Read(s.tb.Context(), s.next, func(m egress.Stored) error {
		if !missing[string(m.Data)] {
			return fmt.Errorf("%s was stored, and not sent, or stored twice", m.Data)
		}
		delete(missing, string(m.Data))
		return nil
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	if len(missing) > 0 {
		s.tb.Fatalf("%d of %d readings are lost", len(missing), len(lanes)*len(lanes[0].Payloads))
	}
}

func quantile(sorted []time.Duration, q float64) float64 {
	return sorted[int(q*float64(len(sorted)-1))].Seconds() * 1000
}

// rounds are the latencies, in ms, of rounds in pairs.
type rounds struct{ quiet50, quiet99, attacked50, attacked99, ratio []float64 }

// pair runs a round without and one with an attack, each first in half of the
// pairs.
func (r *rounds) pair(n int, quiet, attacked func() []time.Duration) {
	var q, a []time.Duration
	if n%2 == 0 {
		q, a = quiet(), attacked()
	} else {
		a, q = attacked(), quiet()
	}
	r.quiet50, r.quiet99 = append(r.quiet50, quantile(q, 0.5)), append(r.quiet99, quantile(q, 0.99))
	r.attacked50, r.attacked99 = append(r.attacked50, quantile(a, 0.5)), append(r.attacked99, quantile(a, 0.99))
	r.ratio = append(r.ratio, quantile(a, 0.99)/quantile(q, 0.99))
}

func (r *rounds) report(b *testing.B) {
	b.Logf("ratios of the rounds: %.2f", r.ratio)
	b.ReportMetric(median(r.quiet50), "quiet-p50-ms")
	b.ReportMetric(median(r.quiet99), "quiet-p99-ms")
	b.ReportMetric(median(r.attacked50), "attacked-p50-ms")
	b.ReportMetric(median(r.attacked99), "attacked-p99-ms")
	b.ReportMetric(median(r.ratio), "p99-ratio")
	b.ReportMetric(0, "ns/op")
}

const (
	// honestRate is authentic readings a second, honestFor how long a round is.
	honestRate = 2000
	honestFor  = 3 * time.Second
	// forgedInFlight is how many forgeries each connection keeps on their way.
	forgedInFlight = 32
)

// BenchmarkFlood measures authentic readings at a fixed rate, from the time that
// each was due to its PUBACK, alone and beside forged ones from as many
// connections, which two other processes send. Every reading must be stored, and
// nothing else. With the default limits who forges is locked out; with those of
// each sender raised, limits.forged_rate alone holds the flood back; with that
// raised too nothing does.
func BenchmarkFlood(b *testing.B) {
	raised := benchConfig(b)
	raised.Limits.LockoutAfter = 1_000_000
	defaults, none := raised, raised
	defaults.Limits = config.Default().Limits
	none.Limits.ForgedRate = 10_000_000
	for _, run := range []struct {
		name    string
		config  config.Config
		devices int
	}{{"defaults", defaults, 64}, {"raised", raised, 64}, {"raised-512", raised, 512}, {"none", none, 64}} {
		b.Run(run.name, func(b *testing.B) {
			run.config.Data = b.TempDir() + "/data"
			s := besiege(b, run.config, run.devices)
			var r rounds
			var forged []float64
			for n := range b.N {
				quiet := func() []time.Duration { return s.paced(honestRate, honestFor) }
				r.pair(n, quiet, func() []time.Duration {
					flood := job{Flood: &load.Options{Broker: s.broker, InFlight: forgedInFlight, Lanes: s.forgeries(forgedInFlight)}}.start(b).begun()
					began := time.Now()
					took := s.paced(honestRate, honestFor)
					lasted := time.Since(began)
					forged = append(forged, float64(flood.stop().Flooded.Answered)/lasted.Seconds())
					return took
				})
			}
			r.report(b)
			b.ReportMetric(median(forged), "forged/s")
			b.ReportMetric(honestRate, "authentic/s")
		})
	}
}

// BenchmarkRejecting measures what the whole process spends on a forged reading
// beside an authentic one, without its senders, and reports the ratio. No limit
// makes either wait.
func BenchmarkRejecting(b *testing.B) {
	c := benchConfig(b)
	c.Limits.LockoutAfter, c.Limits.ForgedRate = 1_000_000, 10_000_000
	const devices, inFlight = 32, 16
	s := besiege(b, c, devices)
	cost := func(lanes []load.Lane) float64 {
		before := processor(b)
		job{Closed: &load.Options{Broker: s.broker, InFlight: inFlight, Lanes: lanes}}.start(b).wait()
		return (processor(b) - before).Seconds() * 1e6 / perRound
	}
	var accepted, rejected, ratios []float64
	for range b.N {
		lanes := s.lanes(perRound / devices)
		a := cost(lanes)
		s.settle(lanes)
		r := cost(s.forgeries(perRound / devices))
		accepted, rejected, ratios = append(accepted, a), append(rejected, r), append(ratios, r/a)
	}
	b.ReportMetric(median(accepted), "accepted-us")
	b.ReportMetric(median(rejected), "rejected-us")
	b.ReportMetric(median(ratios), "rejected/accepted")
	b.ReportMetric(0, "ns/op")
}

// loopback are addresses of a crowd.
var loopback = []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}

// BenchmarkHalfOpen measures authentic readings beside 10,000 connections that
// never say anything and 1,000 that say a byte a second, opened anew whenever
// the gate ends them, and what one of them takes of the process' memory.
func BenchmarkHalfOpen(b *testing.B) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	crowd := load.Crowd{From: loopback, HalfOpen: 10_000, SlowWriters: 1000}
	if all := crowd.HalfOpen + crowd.SlowWriters; files.Cur < uint64(all)+1000 {
		b.Skipf("SKIPPED: this process may have %d files, too few for %d connections", files.Cur, all)
	}
	c := benchConfig(b)
	s := besiege(b, c, 64)
	crowd.Broker = s.broker
	var r rounds
	var each, opened []float64
	const long = 15 * time.Second // so that all of the crowd is opened anew
	for n := range b.N {
		quiet := func() []time.Duration { return s.paced(honestRate, long) }
		r.pair(n, quiet, func() []time.Duration {
			before := heldMemory()
			g := job{Crowd: &crowd}.start(b).begun()
			each = append(each, (heldMemory()-before)/float64(crowd.HalfOpen+crowd.SlowWriters))
			took := s.paced(honestRate, long)
			opened = append(opened, float64(g.stop().Opened))
			return took
		})
	}
	r.report(b)
	b.ReportMetric(median(each), "B/connection")
	b.ReportMetric(median(opened), "opened")
}

// heldMemory is what the process holds in heap and stacks, in bytes.
func heldMemory() float64 {
	runtime.GC()
	runtime.GC() // pools keep what they hold for one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
