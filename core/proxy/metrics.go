package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have upstream kube-proxy's names where it has such a metric.
type metrics struct {
	syncDuration      prometheus.Histogram
	programming       prometheus.Histogram
	lastSync          prometheus.Gauge
	lastQueued        prometheus.Gauge
	serviceChanges    prometheus.Counter
	endpointChanges   prometheus.Counter
	servicesPending   prometheus.Gauge
	endpointsPending  prometheus.Gauge
	failures          prometheus.Counter
	conntrackDeleted  prometheus.Counter
	conntrackFailures prometheus.Counter
	drift             prometheus.Counter
	ports             prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		syncDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_sync_proxy_rules_duration_seconds", Help: "Time to bring the kernel in line with the changes at hand.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_network_programming_duration_seconds", Help: "Time from the change of a pod or Service that an EndpointSlice recorded until the kernel has it.",
			Buckets: append(prometheus.ExponentialBuckets(0.005, 2, 12), 30, 60, 120, 300),
		}),
		lastSync:          gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the kernel was last in line with all changes."),
		lastQueued:        gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a change last arrived."),
		serviceChanges:    counter("kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services seen."),
		endpointChanges:   counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices seen."),
		servicesPending:   gauge("kubeproxy_sync_proxy_rules_service_changes_pending", "Services that changed and are not in the kernel yet."),
		endpointsPending:  gauge("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "EndpointSlices that changed and are not in the kernel yet."),
		failures:          counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Transactions that the kernel did not take."),
		conntrackDeleted:  counter("binnacle_proxy_conntrack_deleted_total", "UDP flows forgotten because their endpoint changed."),
		conntrackFailures: counter("binnacle_proxy_conntrack_failures_total", "Failed attempts to forget UDP flows."),
		drift:             counter("binnacle_proxy_audit_drift_total", "Differences found by the audit between kernel and plan."),
		ports:             gauge("binnacle_proxy_ports", "Rows in the desired table."),
	}
	reg.MustRegister(m.syncDuration, m.programming, m.lastSync, m.lastQueued, m.serviceChanges, m.endpointChanges,
		m.servicesPending, m.endpointsPending, m.failures, m.conntrackDeleted, m.conntrackFailures, m.drift, m.ports)
	return m
}

// stamp is a time as metrics have it.
func stamp(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
