package scheduler

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics have upstream's names and labels.
type metrics struct {
	attempts  *prometheus.CounterVec   // result, profile
	attempt   *prometheus.HistogramVec // result, profile
	algorithm prometheus.Histogram
	sli       *prometheus.HistogramVec // attempts
	tries     prometheus.Histogram
	incoming  *prometheus.CounterVec // queue, event
	pending   *prometheus.GaugeVec   // queue
	refused   *prometheus.GaugeVec   // plugin, profile
	bindings  *prometheus.HistogramVec
	cacheSize *prometheus.GaugeVec
}

const profileName = "default-scheduler"

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_schedule_attempts_total",
			Help: "Attempts to schedule pods, by result: scheduled, unschedulable, error."}, []string{"result", "profile"}),
		attempt: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_scheduling_attempt_duration_seconds",
			Help: "Scheduling attempt latency, decision and binding.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18)}, []string{"result", "profile"}),
		algorithm: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_scheduling_algorithm_duration_seconds",
			Help: "Latency of the decision alone.", Buckets: prometheus.ExponentialBuckets(0.00001, 2, 20)}),
		sli: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_sli_duration_seconds",
			Help: "From the pod being seen to its binding, all attempts included.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 20)}, []string{"attempts"}),
		tries: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_attempts",
			Help: "Attempts it took to schedule a pod.", Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		incoming: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_queue_incoming_pods_total",
			Help: "Pods added to the queues, by queue and event."}, []string{"queue", "event"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_pending_pods",
			Help: "Pending pods by queue: active, backoff, unschedulable, gated."}, []string{"queue"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_unschedulable_pods",
			Help: "Unschedulable pods by the plugin that refused them."}, []string{"plugin", "profile"}),
		bindings: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_framework_extension_point_duration_seconds",
			Help: "Latency of the extension points.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 12)}, []string{"extension_point", "status", "profile"}),
		cacheSize: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_scheduler_cache_size",
			Help: "Nodes, pods and assumed pods the scheduler knows."}, []string{"type"}),
	}
	reg.MustRegister(m.attempts, m.attempt, m.algorithm, m.sli, m.tries, m.incoming, m.pending, m.refused, m.bindings, m.cacheSize)
	return m
}
