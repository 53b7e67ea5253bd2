package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has upstream's names and labels.
type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	sli, slo    *prometheus.HistogramVec
	sizes       *prometheus.HistogramVec
	inflight    *prometheus.GaugeVec
	long        *prometheus.GaugeVec
	rejected    *prometheus.CounterVec
	watchEvents *prometheus.CounterVec
	watchSizes  *prometheus.HistogramVec
	audit       prometheus.Counter
	auditErrors prometheus.Counter
	panics      prometheus.Counter
	retired     *prometheus.GaugeVec
	authn       *prometheus.CounterVec
	series      sync.Map // observation without size and time → *series
}

func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	buckets := []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}
	target := []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	withDry := append([]string{"dry_run"}, target...)
	hist := func(name, help string, buckets []float64, labels []string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		requests: count("apiserver_request_total", "Requests by verb, dry run, group, version, resource, scope, component and HTTP code.",
			append(withDry, "code")...),
		duration: hist("apiserver_request_duration_seconds", "Time to answer requests; of watches, to end them.", buckets, withDry),
		sli:      hist("apiserver_request_sli_duration_seconds", "Time to answer requests, long-running ones left out.", buckets, target),
		slo:      hist("apiserver_request_slo_duration_seconds", "Same as apiserver_request_sli_duration_seconds, under its former name.", buckets, target),
		sizes:    hist("apiserver_response_sizes", "Bytes of answers.", prometheus.ExponentialBuckets(1000, 10, 7), target),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Most requests in flight of late, by kind."}, []string{"request_kind"}),
		long:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests", Help: "Long-running requests under way."}, target),
		rejected: count("apiserver_dropped_requests_total", "Requests answered with 429 because too many were in flight.", "request_kind"),
		watchEvents: count("apiserver_watch_events_total", "Events sent to watches over HTTP.",
			"group", "version", "resource"),
		watchSizes: hist("apiserver_watch_events_sizes", "Bytes of watch events.", prometheus.ExponentialBuckets(1024, 2, 8), []string{"group", "version", "resource"}),
		audit:      prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_event_total", Help: "Audit events generated."}),
		auditErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_error_total",
			Help: "Audit events that could not be written."}),
		panics:  prometheus.NewCounter(prometheus.CounterOpts{Name: "binnacle_api_panics_total", Help: "Requests that ended in a panic."}),
		retired: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_requested_deprecated_apis", Help: "Deprecated versions that have been asked for."}, []string{"group", "version", "resource", "subresource", "removed_release"}),
		authn:   count("authentication_attempts", "Authentication attempts by result.", "result"),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.sli, m.slo, m.sizes, m.inflight, m.long, m.rejected,
		m.watchEvents, m.watchSizes, m.audit, m.auditErrors, m.panics, m.retired, m.authn} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register API server metrics: %w", err)
		}
	}
	m.inflight.WithLabelValues("mutating").Set(0)
	m.inflight.WithLabelValues("readOnly").Set(0)
	return m, nil
}

// observation is what metrics say about one request.
type observation struct {
	verb, group, version, resource, sub, scope string
	dryRun, long                               bool
	code                                       int
	size                                       int64
	took                                       time.Duration
}

func (o *observation) labels() []string {
	return []string{o.verb, o.group, o.version, o.resource, o.sub, o.scope, "apiserver"}
}

// series are the metrics of requests that differ in time and size only.
type series struct {
	requests                  prometheus.Counter
	duration, sli, slo, sizes prometheus.Observer
}

// seriesOf finds the series of o, which are looked up by label once.
func (m *metrics) seriesOf(o *observation) *series {
	key := *o
	key.size, key.took = 0, 0
	if s, ok := m.series.Load(key); ok {
		return s.(*series)
	}
	labels := o.labels()
	dry := ""
	if o.dryRun {
		dry = "All"
	}
	withDry := append([]string{dry}, labels...)
	s := &series{
		requests: m.requests.WithLabelValues(append(slices.Clone(withDry), strconv.Itoa(o.code))...),
		duration: m.duration.WithLabelValues(withDry...),
	}
	if !o.long {
		s.sli, s.slo = m.sli.WithLabelValues(labels...), m.slo.WithLabelValues(labels...)
	}
	if o.verb == "GET" || o.verb == "LIST" {
		s.sizes = m.sizes.WithLabelValues(labels...)
	}
	m.series.Store(key, s)
	return s
}

func (m *metrics) observe(o *observation) {
	s := m.seriesOf(o)
	took := o.took.Seconds()
	s.requests.Inc()
	s.duration.Observe(took)
	if s.sli != nil {
		s.sli.Observe(took)
		s.slo.Observe(took)
	}
	if s.sizes != nil && o.size > 0 {
		s.sizes.Observe(float64(o.size))
	}
}

// metricVerb is a verb as upstream's metrics spell it.
func metricVerb(verb, sub string) string {
	switch sub {
	case "exec", "attach", "portforward", "proxy", "log":
		if sub != "log" {
			return "CONNECT"
		}
	}
	switch verb {
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "":
		return "OTHER"
	}
	return strings.ToUpper(verb)
}

func scopeOf(namespace, name, verb string) string {
	switch {
	case name != "" || verb == "create":
		return "resource"
	case namespace != "":
		return "namespace"
	}
	return "cluster"
}

func knownVerb(verb string) bool {
	switch verb {
	case "GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION", "CONNECT", "HEAD", "OPTIONS":
		return true
	}
	return false
}
