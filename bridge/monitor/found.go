package monitor

import "github.com/prometheus/client_golang/prometheus"

// Labels are names and values that one gauge has as long as the program runs.
type Labels map[string]string

// Gauge shows the value of f whenever it is asked for. labels is nil, or tells it
// from others of its name.
func (m *Metrics) Gauge(name, help string, labels Labels, f func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels(labels)}, f))
}

// Counter shows the value of f, which never falls, whenever it is asked for.
func (m *Metrics) Counter(name, help string, f func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
}

// Gauges shows a value for each of the label's values that f returns whenever it
// is asked for; their number must be bounded.
func (m *Metrics) Gauges(name, help, label string, f func() map[string]float64) {
	m.found(prometheus.GaugeValue, name, help, label, f)
}

// Counters is Gauges for values that never fall.
func (m *Metrics) Counters(name, help, label string, f func() map[string]float64) {
	m.found(prometheus.CounterValue, name, help, label, f)
}

func (m *Metrics) found(kind prometheus.ValueType, name, help, label string, f func() map[string]float64) {
	m.registry.MustRegister(found{prometheus.NewDesc(name, help, []string{label}, nil), kind, f})
}

// found collects what a function finds, and nothing where it finds nothing.
type found struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	find func() map[string]float64
}

// Describe implements prometheus.Collector.
func (f found) Describe(to chan<- *prometheus.Desc) { to <- f.desc }

// Collect implements prometheus.Collector.
func (f found) Collect(to chan<- prometheus.Metric) {
	for value, v := range f.find() {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, v, value)
	}
}
