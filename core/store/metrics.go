package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"binnacle.io/core/client"
)

// metrics are upstream's, under upstream's names.
type metrics struct {
	duration  *prometheus.HistogramVec
	requests  *prometheus.CounterVec
	failures  *prometheus.CounterVec
	decode    *prometheus.CounterVec
	storage   *prometheus.CounterVec
	received  *prometheus.CounterVec
	sent      *prometheus.CounterVec
	ended     *prometheus.CounterVec
	inits     *prometheus.CounterVec
	grown     *prometheus.CounterVec
	capacity  *prometheus.GaugeVec
	revision  *prometheus.GaugeVec
	watchers  *prometheus.GaugeVec
	readWait  prometheus.Histogram
	progress  prometheus.Counter
	reloads   prometheus.Counter
	leaseSize prometheus.Histogram
}

// tableMetrics are those of one kind, looked up once.
type tableMetrics struct {
	storage, received, dispatched, terminated, inits, grown prometheus.Counter
	capacity, revision, watchers                            prometheus.Gauge
}

func newMetrics() *metrics {
	perKind := []string{"group", "resource"}
	perOp := []string{"operation", "group", "resource"}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, perKind)
	}
	return &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "etcd_request_duration_seconds",
			Help: "Duration of requests to etcd by operation and kind.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3,
				4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
		}, perOp),
		requests: counter("etcd_requests_total", "Requests to etcd by operation and kind.", perOp),
		failures: counter("etcd_request_errors_total", "Failed requests to etcd by operation and kind.", perOp),
		decode:   counter("apiserver_storage_decode_errors_total", "Stored values that could not be decoded.", perKind),
		storage:  counter("apiserver_storage_events_received_total", "Events received from etcd.", perKind),
		received: counter("apiserver_watch_cache_events_received_total", "Events that entered the cache.", perKind),
		sent:     counter("apiserver_watch_cache_events_dispatched_total", "Events handed to watchers.", perKind),
		ended:    counter("apiserver_terminated_watchers_total", "Watchers ended because they fell behind.", perKind),
		inits:    counter("apiserver_watch_cache_initializations_total", "Times the cache was filled from etcd.", perKind),
		grown:    counter("watch_cache_capacity_increase_total", "Times the ring of events was enlarged.", perKind),
		capacity: gauge("watch_cache_capacity", "Events the ring has room for."),
		revision: gauge("apiserver_watch_cache_resource_version", "Revision of the last change."),
		watchers: gauge("binnacle_store_cursors", "Open cursors."),
		readWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "binnacle_store_read_wait_seconds",
			Help:    "Time reads waited for the cache to be as fresh as asked.",
			Buckets: []float64{0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 3},
		}),
		progress:  prometheus.NewCounter(prometheus.CounterOpts{Name: "binnacle_store_progress_notifications_total", Help: "Progress notifications received from etcd."}),
		reloads:   prometheus.NewCounter(prometheus.CounterOpts{Name: "binnacle_store_reloads_total", Help: "Times everything was read anew because the watch lost history."}),
		leaseSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_lease_object_counts", Help: "Objects attached to one etcd lease.", Buckets: []float64{10, 50, 100, 500, 1000, 2500, 5000}}),
	}
}

func (m *metrics) register(reg prometheus.Registerer, more ...prometheus.Collector) error {
	for _, c := range append(more, m.duration, m.requests, m.failures, m.decode, m.storage, m.received, m.sent, m.ended,
		m.inits, m.grown, m.capacity, m.revision, m.watchers, m.readWait, m.progress, m.reloads, m.leaseSize) {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("cannot register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) table(gr client.Resource) tableMetrics {
	return tableMetrics{
		storage:    m.storage.WithLabelValues(gr.Group, gr.Resource),
		inits:      m.inits.WithLabelValues(gr.Group, gr.Resource),
		received:   m.received.WithLabelValues(gr.Group, gr.Resource),
		dispatched: m.sent.WithLabelValues(gr.Group, gr.Resource),
		terminated: m.ended.WithLabelValues(gr.Group, gr.Resource),
		grown:      m.grown.WithLabelValues(gr.Group, gr.Resource),
		capacity:   m.capacity.WithLabelValues(gr.Group, gr.Resource),
		revision:   m.revision.WithLabelValues(gr.Group, gr.Resource),
		watchers:   m.watchers.WithLabelValues(gr.Group, gr.Resource),
	}
}

// forget drops the series of a kind that is no longer served.
func (m *metrics) forget(gr client.Resource) {
	labels := prometheus.Labels{"group": gr.Group, "resource": gr.Resource}
	for _, v := range []*prometheus.CounterVec{m.requests, m.failures, m.decode, m.storage, m.received, m.sent, m.ended, m.inits, m.grown} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.GaugeVec{m.capacity, m.revision, m.watchers} {
		v.DeletePartialMatch(labels)
	}
	m.duration.DeletePartialMatch(labels)
}

func (m *metrics) request(op string, gr client.Resource, start time.Time, err error) {
	m.duration.WithLabelValues(op, gr.Group, gr.Resource).Observe(time.Since(start).Seconds())
	m.requests.WithLabelValues(op, gr.Group, gr.Resource).Inc()
	if err != nil {
		m.failures.WithLabelValues(op, gr.Group, gr.Resource).Inc()
	}
}

// collector reports what is counted when asked.
type collector struct {
	store                                                  *Store
	objects, resources, sizes, database, encoded, unusable *prometheus.Desc
}

func newCollector(s *Store) *collector {
	perKind := []string{"group", "resource"}
	return &collector{
		store:     s,
		objects:   prometheus.NewDesc("apiserver_storage_objects", "Stored objects by kind.", []string{"resource"}, nil),
		resources: prometheus.NewDesc("apiserver_resource_objects", "Stored objects by kind.", perKind, nil),
		sizes:     prometheus.NewDesc("apiserver_resource_size_estimate_bytes", "Size of stored values by kind.", perKind, nil),
		database:  prometheus.NewDesc("apiserver_storage_size_bytes", "Size of the database file.", []string{"storage_cluster_id"}, nil),
		encoded:   prometheus.NewDesc("binnacle_store_encoded_bytes", "Cached encodings of objects.", nil, nil),
		unusable:  prometheus.NewDesc("binnacle_store_undecodable_objects", "Stored values that cannot be decoded, by kind.", perKind, nil),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.objects, c.resources, c.sizes, c.database, c.encoded, c.unusable} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, t := range c.store.tables() {
		gr := t.resource
		n := float64(t.current.Load().entries.Len())
		gauge(c.objects, n, gr.String())
		gauge(c.resources, n, gr.Group, gr.Resource)
		gauge(c.sizes, float64(t.bytes.Load()), gr.Group, gr.Resource)
		if bad := t.corruptCount(); bad > 0 {
			gauge(c.unusable, float64(bad), gr.Group, gr.Resource)
		}
	}
	gauge(c.encoded, float64(c.store.encodings.total()))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Gathering goes on without the size when etcd does not tell it.
	if size, err := c.store.databaseSize(ctx); err == nil {
		gauge(c.database, float64(size), "etcd-0")
	}
}

// Gatherer returns etcd's own metrics, to be labelled job="etcd". An embedded
// etcd keeps them in the process-wide default registry, together with go_* and
// process_* of the process that etcd is part of. With external endpoints there
// are none: etcd is scraped where it runs.
func (s *Store) Gatherer() prometheus.Gatherer {
	if s.server == nil {
		return prometheus.Gatherers{}
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all, err := prometheus.DefaultGatherer.Gather()
		kept := all[:0]
		for _, f := range all {
			name := f.GetName()
			for _, prefix := range []string{"etcd_", "grpc_server_", "go_", "process_"} {
				if strings.HasPrefix(name, prefix) {
					kept = append(kept, f)
					break
				}
			}
		}
		return kept, err
	})
}
