package flowcontrol

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are upstream's, under upstream's names and labels.
type metrics struct {
	rejected, dispatched                            *prometheus.CounterVec
	queued, queuedSeats, executing, executingSeats  *prometheus.GaugeVec
	waited, executed, queueLength, seats            *prometheus.HistogramVec
	nominal, lower, upper, current                  *prometheus.GaugeVec
	demandHigh, demandMean, demandStdev, demandSlow *prometheus.GaugeVec
	target                                          *prometheus.GaugeVec
	fair                                            prometheus.Gauge
	waiting                                         *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	durations := []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}
	var all []prometheus.Collector
	name := func(n string) string { return "apiserver_flowcontrol_" + n }
	counter := func(n, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help}, labels)
		all = append(all, v)
		return v
	}
	gauge := func(n, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name(n), Help: help}, labels)
		all = append(all, v)
		return v
	}
	hist := func(n, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name(n), Help: help, Buckets: buckets}, labels)
		all = append(all, v)
		return v
	}
	const level, schema = "priority_level", "flow_schema"
	m := &metrics{
		rejected:       counter("rejected_requests_total", "Requests refused, by reason.", level, schema, "reason"),
		dispatched:     counter("dispatched_requests_total", "Requests let through.", level, schema),
		queued:         gauge("current_inqueue_requests", "Requests that wait in queues.", level, schema),
		queuedSeats:    gauge("current_inqueue_seats", "Seats that requests in queues wait for.", level, schema),
		executing:      gauge("current_executing_requests", "Requests that run; watches until they have sent their initial state.", level, schema),
		executingSeats: gauge("current_executing_seats", "Seats in use.", level, schema),
		waited:         hist("request_wait_duration_seconds", "Time requests waited in queues.", durations, level, schema, "execute"),
		executed:       hist("request_execution_seconds", "Time requests ran; watches until they have sent their initial state.", durations, level, schema, "type"),
		queueLength: hist("request_queue_length_after_enqueue", "Length of the queue that a request joined, with it.",
			[]float64{0, 10, 25, 50, 100, 250, 500, 1000}, level, schema),
		seats:       hist("work_estimated_seats", "Seats that requests were estimated to need.", []float64{1, 2, 4, 8, 16, 32, 64, 100}, level, schema),
		nominal:     gauge("nominal_limit_seats", "Seats of each level by its shares.", level),
		lower:       gauge("lower_limit_seats", "Fewest seats a level is left with.", level),
		upper:       gauge("upper_limit_seats", "Most seats a level can have.", level),
		current:     gauge("current_limit_seats", "Seats of each level at present.", level),
		demandHigh:  gauge("demand_seats_high_watermark", "Most seats wanted in the last period.", level),
		demandMean:  gauge("demand_seats_average", "Seats wanted in the last period, on average.", level),
		demandStdev: gauge("demand_seats_stdev", "Standard deviation of the seats wanted in the last period.", level),
		demandSlow:  gauge("demand_seats_smoothed", "Smoothed seats wanted.", level),
		target:      gauge("target_seats", "Seats a level should have.", level),
		fair: prometheus.NewGauge(prometheus.GaugeOpts{Name: name("seat_fair_frac"),
			Help: "Fraction of what they should have that can be given to all levels that can use it."}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inqueue_requests", Help: "Requests that wait in queues, by kind."}, []string{"request_kind"}),
	}
	for _, c := range append(all, m.fair, m.waiting) {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register flow control metrics: %w", err)
		}
	}
	m.waiting.WithLabelValues("mutating").Set(0)
	m.waiting.WithLabelValues("readOnly").Set(0)
	return m, nil
}

// series are the metrics of one schema and its level, looked up once.
type series struct {
	dispatched                                     prometheus.Counter
	queued, queuedSeats, executing, executingSeats prometheus.Gauge
	waited, refused, queueLength, seats            prometheus.Observer
	regular, watch                                 prometheus.Observer
}

func (s *series) executed(verb string) prometheus.Observer {
	if verb == "watch" {
		return s.watch
	}
	return s.regular
}

func (m *metrics) series(level, schema string) *series {
	return &series{
		dispatched: m.dispatched.WithLabelValues(level, schema),
		queued:     m.queued.WithLabelValues(level, schema), queuedSeats: m.queuedSeats.WithLabelValues(level, schema),
		executing: m.executing.WithLabelValues(level, schema), executingSeats: m.executingSeats.WithLabelValues(level, schema),
		waited: m.waited.WithLabelValues(level, schema, "true"), refused: m.waited.WithLabelValues(level, schema, "false"),
		queueLength: m.queueLength.WithLabelValues(level, schema), seats: m.seats.WithLabelValues(level, schema),
		regular: m.executed.WithLabelValues(level, schema, "regular"), watch: m.executed.WithLabelValues(level, schema, "watch"),
	}
}

// level shows one level's part in the division of seats.
func (m *metrics) level(name string, s *share, u usage) {
	set := func(v *prometheus.GaugeVec, x float64) { v.WithLabelValues(name).Set(x) }
	set(m.nominal, float64(s.nominal))
	set(m.lower, float64(s.lower))
	set(m.upper, float64(s.upper))
	set(m.current, float64(s.limit))
	set(m.demandHigh, float64(s.high))
	set(m.demandMean, u.mean)
	set(m.demandStdev, u.stdev)
	set(m.demandSlow, s.smooth)
	set(m.target, s.target)
}

// forget drops the series of a level that is gone.
func (m *metrics) forget(level string) {
	labels := prometheus.Labels{"priority_level": level}
	for _, v := range []*prometheus.GaugeVec{m.queued, m.queuedSeats, m.executing, m.executingSeats, m.nominal, m.lower, m.upper, m.current,
		m.demandHigh, m.demandMean, m.demandStdev, m.demandSlow, m.target} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.CounterVec{m.rejected, m.dispatched} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.HistogramVec{m.waited, m.executed, m.queueLength, m.seats} {
		v.DeletePartialMatch(labels)
	}
}
