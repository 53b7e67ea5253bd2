package alerting

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"binnacle.io/alerting/queue"
)

// dropRefused joins queue's reasons: the receiver said no for good.
const dropRefused = "refused"

// metrics are ours; rules', routing's and Alertmanager's notifiers' are theirs.
type metrics struct {
	delivered, retried, dropped *prometheus.CounterVec
	delay                       prometheus.Histogram
	reloadOK, reloadTime        prometheus.Gauge
	configHash                  prometheus.Gauge
	lostAlerts                  prometheus.Counter
	receivers, integrations     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		delivered: counter("binnacle_alerting_queue_delivered_total", "Notifications that the receiver took.", "destination"),
		retried:   counter("binnacle_alerting_queue_retries_total", "Attempts to deliver that failed and will be repeated.", "destination"),
		dropped:   counter("binnacle_alerting_queue_dropped_total", "Notifications that were given up, by reason.", "destination", "reason"),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "binnacle_alerting_queue_delay_seconds", Help: "Time from the decision to notify until the receiver took it.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 15, 60, 300, 3600},
		}),
		lostAlerts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_alerting_restore_failures_total", Help: "Starts at which the alerts of before could not be read.",
		}),
		reloadOK:     gauge("alertmanager_config_last_reload_successful", "Whether the last configuration reload attempt was successful."),
		reloadTime:   gauge("alertmanager_config_last_reload_success_timestamp_seconds", "Timestamp of the last successful configuration reload."),
		configHash:   gauge("alertmanager_config_hash", "Hash of the currently loaded alertmanager configuration."),
		receivers:    gauge("alertmanager_receivers", "Number of configured receivers."),
		integrations: gauge("alertmanager_integrations", "Number of configured integrations."),
	}
	reg.MustRegister(m.delivered, m.retried, m.dropped, m.delay, m.lostAlerts, m.reloadOK, m.reloadTime, m.configHash, m.receivers, m.integrations)
	return m
}

// configured makes the counters of a destination exist, so that their first
// increase is seen as one.
func (m *metrics) configured(destination string) {
	m.delivered.WithLabelValues(destination)
	m.retried.WithLabelValues(destination)
	for _, reason := range []string{dropRefused, queue.ReasonFull, queue.ReasonExpired, queue.ReasonDamaged} {
		m.dropped.WithLabelValues(destination, reason)
	}
}

// queueCollector shows the queues as they are.
type queueCollector struct {
	store *queue.Store
	now   func() time.Time
}

var (
	queueLabels = []string{"destination"}
	queueItems  = prometheus.NewDesc("binnacle_alerting_queue_items", "Notifications that wait for delivery.", queueLabels, nil)
	queueBytes  = prometheus.NewDesc("binnacle_alerting_queue_bytes", "Size of the notifications that wait for delivery.", queueLabels, nil)
	queueAge    = prometheus.NewDesc("binnacle_alerting_queue_oldest_age_seconds", "How long the oldest notification has been waiting; 0 when none is.", queueLabels, nil)
)

func (c queueCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- queueItems
	ch <- queueBytes
	ch <- queueAge
}

func (c queueCollector) Collect(ch chan<- prometheus.Metric) {
	for destination, s := range c.store.Stats() {
		age := 0.0
		if !s.Oldest.IsZero() {
			age = c.now().Sub(s.Oldest).Seconds()
		}
		ch <- prometheus.MustNewConstMetric(queueItems, prometheus.GaugeValue, float64(s.Items), destination)
		ch <- prometheus.MustNewConstMetric(queueBytes, prometheus.GaugeValue, float64(s.Bytes), destination)
		ch <- prometheus.MustNewConstMetric(queueAge, prometheus.GaugeValue, age, destination)
	}
}
