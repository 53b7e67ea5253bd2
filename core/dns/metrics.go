package dns

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

type metrics struct {
	reloads *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "binnacle_dns_corefile_reloads_total", Help: "Corefiles taken or refused.",
	}, []string{"result"})}
	reg.MustRegister(m.reloads, coreDNS{prometheus.DefaultGatherer})
	return m
}

// coreDNS brings the metrics that CoreDNS keeps in the process' default
// registry into a component's.
type coreDNS struct{ from prometheus.Gatherer }

// Describe implements prometheus.Collector: what there is depends on the
// Corefile.
func (coreDNS) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c coreDNS) Collect(ch chan<- prometheus.Metric) {
	families, err := c.from.Gather()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("coredns", "CoreDNS metrics", nil, nil), err)
		return
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coredns_") {
			continue
		}
		for _, m := range f.Metric {
			labels := make([]string, len(m.Label))
			for i, l := range m.Label {
				labels[i] = l.GetName()
			}
			ch <- gathered{prometheus.NewDesc(f.GetName(), f.GetHelp(), labels, nil), m}
		}
	}
}

// gathered is a metric that is already in its exposed form.
type gathered struct {
	desc *prometheus.Desc
	m    *dto.Metric
}

// Desc implements prometheus.Metric.
func (g gathered) Desc() *prometheus.Desc { return g.desc }

// Write implements prometheus.Metric.
func (g gathered) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Gauge, out.Histogram, out.Summary, out.Untyped = g.m.Label, g.m.Counter, g.m.Gauge, g.m.Histogram, g.m.Summary, g.m.Untyped
	return nil
}
