package node

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the kubelet_* series, upstream's names.
type metrics struct {
	podStart, podStartSLI, relist, relistInterval prometheus.Histogram
	workers, workerStart                          *prometheus.HistogramVec
	started, startErrors                          *prometheus.CounterVec
	podsStarted                                   prometheus.Counter
	probes                                        *prometheus.CounterVec
	logBytes                                      *prometheus.GaugeVec
	statusWrites                                  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, name string, running func() (pods int, containers map[string]int), desired func() int) *metrics {
	seconds := prometheus.DefBuckets
	start := []float64{0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}
	m := &metrics{
		podStart: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_duration_seconds",
			Help: "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run.", Buckets: start}),
		podStartSLI: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_sli_duration_seconds",
			Help: "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch.", Buckets: start}),
		relist: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pleg_relist_duration_seconds",
			Help: "Duration in seconds for relisting pods in PLEG.", Buckets: seconds}),
		relistInterval: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pleg_relist_interval_seconds",
			Help: "Interval in seconds between relisting in PLEG.", Buckets: seconds}),
		workers: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_pod_worker_duration_seconds",
			Help: "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync.", Buckets: seconds}, []string{"operation_type"}),
		workerStart: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "binnacle_node_pod_action_duration_seconds",
			Help: "Duration of one action on a pod, by action and result.", Buckets: seconds}, []string{"action", "result"}),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_started_containers_total",
			Help: "Cumulative number of containers started."}, []string{"container_type"}),
		startErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_started_containers_errors_total",
			Help: "Cumulative number of errors when starting containers."}, []string{"container_type", "code"}),
		podsStarted: prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_started_pods_total", Help: "Cumulative number of pods started."}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "prober_probe_total",
			Help: "Cumulative number of a liveness, readiness or startup probe for a container by result."},
			[]string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
		logBytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_container_log_filesystem_used_bytes",
			Help: "Bytes used by the container's logs on the filesystem."}, []string{"uid", "namespace", "pod", "container"}),
		statusWrites: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "binnacle_node_pod_status_writes_total",
			Help: "Writes of pod statuses to the API by result."}, []string{"result"}),
	}
	nodeName := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1.",
		ConstLabels: prometheus.Labels{"node": name}})
	nodeName.Set(1)
	reg.MustRegister(m.podStart, m.podStartSLI, m.relist, m.relistInterval, m.workers, m.workerStart, m.started, m.startErrors, m.podsStarted,
		m.logBytes, m.statusWrites, nodeName,
		&runningCollector{running: running, desired: desired,
			pods:       prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil),
			containers: prometheus.NewDesc("kubelet_running_containers", "Number of containers currently running", []string{"container_state"}, nil),
			active:     prometheus.NewDesc("kubelet_active_pods", "The number of pods the kubelet considers active and which are being considered when admitting new pods.", []string{"static"}, nil),
		})
	return m
}

// runningCollector counts when it is asked.
type runningCollector struct {
	running                  func() (int, map[string]int)
	desired                  func() int
	pods, containers, active *prometheus.Desc
}

func (c *runningCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.pods
	ch <- c.containers
	ch <- c.active
}

func (c *runningCollector) Collect(ch chan<- prometheus.Metric) {
	pods, containers := c.running()
	ch <- prometheus.MustNewConstMetric(c.pods, prometheus.GaugeValue, float64(pods))
	for state, n := range containers {
		ch <- prometheus.MustNewConstMetric(c.containers, prometheus.GaugeValue, float64(n), state)
	}
	ch <- prometheus.MustNewConstMetric(c.active, prometheus.GaugeValue, float64(c.desired()), "")
}
