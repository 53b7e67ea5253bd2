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
	inflight    map[string]prometheus.Gauge // by request kind
	long        *prometheus.GaugeVec
	watchEvents *prometheus.CounterVec
	watchSizes  *prometheus.HistogramVec
	panics      prometheus.Counter
	retired     *prometheus.GaugeVec
	authn       *prometheus.CounterVec
	terminated  *prometheus.CounterVec
	aborted     *prometheus.CounterVec
	bodies      *prometheus.HistogramVec
	filters     struct{ authentication, authorization, fairness prometheus.Observer }
	watchLists  *prometheus.HistogramVec
	initial     *prometheus.CounterVec
	// certificates observes how long those that clients show are good for yet.
	certificates prometheus.Histogram
	handshakes   prometheus.Counter
	own          *prometheus.CounterVec
	series       sync.Map // observation without sizes and time → *series
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
		long:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests", Help: "Long-running requests under way."}, target),
		terminated: count("apiserver_request_terminations_total", "Requests that the server refused for its own protection.",
			append(slices.Clone(target), "code")...),
		aborted: count("apiserver_request_aborts_total", "Requests whose answer broke off.", "verb", "group", "version", "resource", "subresource", "scope"),
		bodies: hist("apiserver_request_body_size_bytes", "Bytes of request bodies.", prometheus.ExponentialBuckets(50_000, 2, 7),
			[]string{"resource", "verb", "group"}),
		watchLists: hist("apiserver_watch_list_duration_seconds", "Time to send the initial state of watches that ask for it.",
			[]float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 15, 20, 30, 45, 60}, []string{"group", "version", "resource", "scope"}),
		initial: count("apiserver_init_events_total", "Objects sent as the initial state of watches.", "group", "resource"),
		certificates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "apiserver_client_certificate_expiration_seconds", Help: "Remaining lifetime of the certificates that requests come with.",
			Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000},
		}),
		handshakes: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_tls_handshake_errors_total", Help: "Connections that ended in the TLS handshake."}),
		own:        count("apiserver_selfrequest_total", "Requests of the server to itself.", "verb", "group", "resource", "subresource"),
		watchEvents: count("apiserver_watch_events_total", "Events sent to watches over HTTP.",
			"group", "version", "resource"),
		watchSizes: hist("apiserver_watch_events_sizes", "Bytes of watch events.", prometheus.ExponentialBuckets(1024, 2, 8), []string{"group", "version", "resource"}),
		panics:     prometheus.NewCounter(prometheus.CounterOpts{Name: "binnacle_api_panics_total", Help: "Requests that ended in a panic."}),
		retired:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_requested_deprecated_apis", Help: "Deprecated versions that have been asked for."}, []string{"group", "version", "resource", "subresource", "removed_release"}),
		authn:      count("authentication_attempts", "Authentication attempts by result.", "result"),
	}
	inflight := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Requests in flight, by kind."}, []string{"request_kind"})
	filters := hist("apiserver_request_filter_duration_seconds", "Time that requests spent in steps of the pipeline.",
		[]float64{0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 5, 10, 15, 30}, []string{"filter"})
	m.filters.authentication, m.filters.authorization, m.filters.fairness = filters.WithLabelValues("authentication"), filters.WithLabelValues("authorization"), filters.WithLabelValues("priorityandfairness")
	m.inflight = map[string]prometheus.Gauge{"mutating": inflight.WithLabelValues("mutating"), "readOnly": inflight.WithLabelValues("readOnly")}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.sli, m.slo, m.sizes, inflight, m.long, buildInfo(), m.initial, m.certificates, m.terminated, m.aborted, m.bodies, m.watchLists, m.handshakes, m.own, filters,
		m.watchEvents, m.watchSizes, m.panics, m.retired, m.authn} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register API server metrics: %w", err)
		}
	}
	return m, nil
}

// buildInfo says which version of Kubernetes this is.
func buildInfo() prometheus.Collector {
	v := Version()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubernetes_build_info", Help: "Always 1; the labels say what was built.", ConstLabels: prometheus.Labels{
		"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit, "git_tree_state": v.GitTreeState,
		"build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform,
	}})
	g.Set(1)
	return g
}

// observation is what metrics say about one request.
type observation struct {
	verb, group, version, resource, sub, scope string
	dryRun, long                               bool
	code                                       int
	size, sent                                 int64 // bytes of answer and request
	took                                       time.Duration
}

func (o *observation) labels() []string {
	return []string{o.verb, o.group, o.version, o.resource, o.sub, o.scope, "apiserver"}
}

// series are the metrics of requests that differ in time and size only.
type series struct {
	requests                          prometheus.Counter
	duration, sli, slo, sizes, bodies prometheus.Observer
}

// seriesOf finds the series of o, which are looked up by label once.
func (m *metrics) seriesOf(o *observation) *series {
	key := *o
	key.size, key.sent, key.took = 0, 0, 0
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
	if o.group+o.resource != "" && mutatingVerb(o.verb) {
		s.bodies = m.bodies.WithLabelValues(o.resource, strings.ToLower(o.verb), o.group)
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
	if s.bodies != nil && o.sent > 0 {
		s.bodies.Observe(float64(o.sent))
	}
}

func mutatingVerb(verb string) bool {
	switch verb {
	case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
		return true
	}
	return false
}

// refused counts a request that priority and fairness refused.
func (m *metrics) refused(o *observation) {
	m.terminated.WithLabelValues(append(o.labels(), "429")...).Inc()
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
