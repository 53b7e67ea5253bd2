package cgroup

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// ResourceHandler serves the kubelet's /metrics/resource, which metrics-server
// reads: CPU and memory of node, pods and containers and nothing else.
func (e *Exporter) ResourceHandler() http.Handler {
	return promhttp.HandlerFor(prometheus.GathererFunc(e.gatherResource), promhttp.HandlerOpts{})
}

func (e *Exporter) gatherResource() ([]*dto.MetricFamily, error) {
	containers := e.inv.Containers()
	f := &families{}
	failed := 0.0
	counter := func(name, help string, l []*dto.LabelPair, v float64, ms int64) {
		f.counter(name, help, l, v)
		stamp(f, name, ms)
	}
	gauge := func(name, help string, l []*dto.LabelPair, v float64, ms int64) {
		f.gauge(name, help, l, v)
		stamp(f, name, ms)
	}
	if u, t, err := e.sampler.Node(); err == nil {
		counter("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil, seconds(u.CPU), t.UnixMilli())
		gauge("node_memory_working_set_bytes", "Current working set of the node in bytes", nil, float64(u.WorkingSet), t.UnixMilli())
	} else {
		failed = 1
	}
	pods := map[string]bool{}
	for _, s := range e.sampler.Sample(nil, containers) {
		c, ms := s.Container, s.Time.UnixMilli()
		if pod := c.podPath(); !pods[pod] {
			pods[pod] = true
			if u, ok := e.podUsage(pod); ok {
				l := pairs("namespace", c.Namespace, "pod", c.Pod)
				counter("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", l, seconds(u.CPU), ms)
				gauge("pod_memory_working_set_bytes", "Current working set of the pod in bytes", l, float64(u.WorkingSet), ms)
			}
		}
		if c.Sandbox {
			continue
		}
		l := pairs("container", c.Name, "namespace", c.Namespace, "pod", c.Pod)
		counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", l, seconds(s.CPU), ms)
		gauge("container_memory_working_set_bytes", "Current working set of the container in bytes", l, float64(s.WorkingSet), ms)
		if !c.StartedAt.IsZero() {
			f.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds", l, float64(c.StartedAt.UnixNano())/1e9)
		}
	}
	const scrape = "1 if there was an error while getting container metrics, 0 otherwise"
	f.gauge("scrape_error", scrape, nil, failed)
	f.gauge("resource_scrape_error", scrape, nil, failed)
	return f.sorted(), nil
}

// stamp sets the time of the latest series of a family: the moment of the
// sample, which is not that of the scrape.
func stamp(f *families, name string, ms int64) {
	m := f.byName[name].Metric
	m[len(m)-1].TimestampMs = &ms
}

func (e *Exporter) podUsage(path string) (Usage, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.reader.read(path)
	if !ok || !strings.HasPrefix(path, "/") {
		return Usage{}, false
	}
	return s.Usage, true
}
