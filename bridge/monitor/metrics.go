// Package monitor shows how the gate is doing: metrics, health and readiness
// over HTTP. It is the only package that knows Prometheus.
package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pulsegate/pulsegate/bridge/verify"
)

// Metrics counts what the gate does. No label holds a device, a patient or an
// address: their number is not bounded. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	outcomes []prometheus.Counter
	failures []prometheus.Counter
	unstored prometheus.Counter
	admitted prometheus.Counter
	dropped  prometheus.Counter
	previous prometheus.Counter
	store    prometheus.Histogram
	age      prometheus.Histogram
	// confirmed and confirmedLate are from receipt to confirmation.
	confirmed, confirmedLate prometheus.Observer
}

// latencies are bucket bounds in seconds, from what memory takes to what a
// failing store takes.
var latencies = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics returns Metrics on a registry of their own, with the Go runtime's.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.countMessages()
	m.failures = m.counters("pulsegate_authentication_failures_total", "MQTT connections refused because of who wanted them, by what was wrong.", "reason", authFailureNames[:])
	m.unstored = m.counter("pulsegate_store_failures_total", "Verified readings that could not be stored before the deadline; at QoS 1 and 2 the device sends them again.")
	m.admitted = m.counter("pulsegate_connections_admitted_total", "MQTT connections that were let in.")
	m.dropped = m.counter("pulsegate_replay_memory_misses_total", "Readings that the replay memory was too full to remember; JetStream's duplicate window still does.")
	m.previous = m.counter("pulsegate_previous_key_total", "Accepted readings that were signed with a key other than the device's newest, within a rotation's overlap.")
	m.store = m.histogram("pulsegate_store_seconds", "From publishing an accepted reading to the store's confirmation.")
	m.age = m.histogram("pulsegate_reading_age_seconds", "From an accepted reading's signed timestamp to its confirmation by the store.")
	m.confirm()
	return m
}

func (m *Metrics) countMessages() {
	var names []string
	for _, o := range verify.Outcomes() {
		names = append(names, o.String())
	}
	m.outcomes = m.counters("pulsegate_messages_total", "Messages decided, by outcome.", "outcome", names)
}

func (m *Metrics) confirm() {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "pulsegate_confirmation_seconds", Help: "From receiving a reading to its confirmation by the store, by outcome.", Buckets: latencies,
	}, []string{"outcome"})
	m.registry.MustRegister(v)
	m.confirmed, m.confirmedLate = v.WithLabelValues(verify.Accepted.String()), v.WithLabelValues(verify.Late.String())
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

// counters are one for each value of a label, in their order.
func (m *Metrics) counters(name, help, label string, values []string) []prometheus.Counter {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	m.registry.MustRegister(v)
	var all []prometheus.Counter
	for _, value := range values {
		all = append(all, v.WithLabelValues(value))
	}
	return all
}

func (m *Metrics) histogram(name, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencies})
	m.registry.MustRegister(h)
	return h
}

// Decided counts a message by its outcome.
func (m *Metrics) Decided(o verify.Outcome) { m.outcomes[o].Inc() }

// Stored notes the confirmation of an accepted reading: how long the store took,
// how long ago the reading was received, and how old it is by its timestamp.
func (m *Metrics) Stored(took, received, age time.Duration) {
	m.store.Observe(took.Seconds())
	m.confirmed.Observe(received.Seconds())
	// A device's clock may be ahead; a sum that falls is taken for a restart.
	m.age.Observe(max(age, 0).Seconds())
}

// StoredLate is Stored for a late reading, which may have waited for a look-up.
func (m *Metrics) StoredLate(received time.Duration) { m.confirmedLate.Observe(received.Seconds()) }

// StoreFailed counts a reading that could not be stored.
func (m *Metrics) StoreFailed() { m.unstored.Inc() }

// Admitted counts a connection that was let in.
func (m *Metrics) Admitted() { m.admitted.Inc() }

// AuthFailure is what was wrong with who wanted to connect. The set is closed.
type AuthFailure uint8

const (
	// WrongCredentials are those of nobody who is enrolled.
	WrongCredentials AuthFailure = iota
	// WrongClientID is not the id of whose credentials they are.
	WrongClientID
	// TooManyAttempts were made, so that nobody looked at the credentials.
	TooManyAttempts
	// FailedHandshake is that of TLS.
	FailedHandshake

	authFailureCount
)

var authFailureNames = [authFailureCount]string{"credentials", "client_id", "attempts", "tls"}

// AuthenticationFailed counts a refused connection.
func (m *Metrics) AuthenticationFailed(f AuthFailure) { m.failures[f].Inc() }

// NotRemembered counts a reading that the replay memory had no room for.
func (m *Metrics) NotRemembered() { m.dropped.Inc() }

// PreviousKey counts a reading that was signed with an older key of its device.
func (m *Metrics) PreviousKey() { m.previous.Inc() }
