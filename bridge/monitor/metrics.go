// Package monitor shows how the gate is doing: metrics, health and readiness
// over HTTP. It is the only package that knows Prometheus.
package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Metrics counts what the gate does. No label holds a device: their number is
// not bounded. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	outcomes []prometheus.Counter
	unstored prometheus.Counter
	lost     prometheus.Counter
	refused  prometheus.Counter
	dropped  prometheus.Counter
	previous prometheus.Counter
	store    prometheus.Histogram
	age      prometheus.Histogram
}

// latencies are bucket bounds in seconds, from what memory takes to what a
// failing store takes.
var latencies = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics returns Metrics on a registry of their own, with the Go runtime's.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pulsegate_messages_total", Help: "Messages decided, by outcome.",
	}, []string{"outcome"})
	for _, o := range verify.Outcomes() {
		m.outcomes = append(m.outcomes, messages.WithLabelValues(o.String()))
	}
	m.unstored = counter("pulsegate_store_failures_total", "Verified readings that could not be stored before the deadline; at QoS 1 and 2 the device sends them again.")
	m.lost = counter("pulsegate_rejections_dropped_total", "Rejections that were counted but are missing in the stream REJECTIONS, because too many waited.")
	m.refused = counter("pulsegate_authentication_failures_total", "MQTT connections refused for their user name or password.")
	m.dropped = counter("pulsegate_replay_memory_misses_total", "Readings that the replay memory was too full to remember; JetStream's duplicate window still does.")
	m.previous = counter("pulsegate_previous_key_total", "Accepted readings that were signed with a key other than the device's newest, within a rotation's overlap.")
	m.store = histogram("pulsegate_store_seconds", "From publishing a reading to the store's confirmation.")
	m.age = histogram("pulsegate_reading_age_seconds", "From a reading's signed timestamp to its confirmation by the store.")
	m.registry.MustRegister(messages, m.unstored, m.lost, m.refused, m.dropped, m.previous, m.store, m.age,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencies})
}

// Gauge shows the value of f whenever it is asked for.
func (m *Metrics) Gauge(name, help string, f func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// Counter shows the value of f, which never falls, whenever it is asked for.
func (m *Metrics) Counter(name, help string, f func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
}

// Decided counts a message by its outcome.
func (m *Metrics) Decided(o verify.Outcome) { m.outcomes[o].Inc() }

// Stored notes a confirmation: how long the store took, and how old the reading
// was then.
func (m *Metrics) Stored(took, age time.Duration) {
	m.store.Observe(took.Seconds())
	// A device's clock may be ahead; a sum that falls is taken for a restart.
	m.age.Observe(max(age, 0).Seconds())
}

// StoreFailed counts a reading that could not be stored.
func (m *Metrics) StoreFailed() { m.unstored.Inc() }

// RejectionLost counts a rejection that will not be in the stream.
func (m *Metrics) RejectionLost() { m.lost.Inc() }

// AuthenticationFailed counts a refused connection.
func (m *Metrics) AuthenticationFailed() { m.refused.Inc() }

// NotRemembered counts a reading that the replay memory had no room for.
func (m *Metrics) NotRemembered() { m.dropped.Inc() }

// PreviousKey counts a reading that was signed with an older key of its device.
func (m *Metrics) PreviousKey() { m.previous.Inc() }
