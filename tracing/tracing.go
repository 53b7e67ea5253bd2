package tracing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"binnacle.io/core/telemetry"
)

// Tracing is the span store with its receivers and query APIs.
type Tracing struct {
	cfg     Config
	tel     *telemetry.Component
	store   *store
	metrics *metrics
	now     func() time.Time

	queue     chan queued
	processor *processor
	permits   chan struct{} // one per OTLP request being handled

	grpcListener, httpListener net.Listener
	closeOnce                  sync.Once
}

// queued is a span waiting for the store, or a request to say when all before
// it are stored.
type queued struct {
	span    sdktrace.ReadOnlySpan
	flushed chan<- struct{}
}

// maintainEvery is how often age and segments are looked at.
const maintainEvery = 10 * time.Second

// New opens the store in cfg.DataDir and binds the receivers' addresses. Spans
// given to Processor wait until Run.
func New(cfg Config, tel *telemetry.Component) (*Tracing, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Tracing{
		cfg: cfg, tel: tel, now: time.Now,
		queue:   make(chan queued, cfg.QueueSpans),
		permits: make(chan struct{}, cfg.MaxRequests),
	}
	t.metrics = newMetrics(t)
	t.processor = &processor{t: t}
	var dir segmentDir
	if cfg.DataDir != "" {
		dir = segmentDir(filepath.Join(cfg.DataDir, "traces"))
	}
	t.store = newStore(cfg, dir, func(reason string, n int) { t.metrics.evicted.WithLabelValues(reason).Add(float64(n)) })
	faults, err := t.store.load(t.now())
	if err != nil {
		return nil, err
	}
	for _, fault := range faults {
		t.metrics.storeErrors.Inc()
		tel.Log.Warn("lost spans of a damaged segment", "err", fault)
	}
	tel.Registry.MustRegister(t.metrics)

	listen := func(address string, to *net.Listener) error {
		if address == "" {
			return nil
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("cannot listen for OTLP on %q: %w", address, err)
		}
		*to = l
		return nil
	}
	if err := listen(cfg.GRPCAddress, &t.grpcListener); err != nil {
		return nil, err
	}
	if err := listen(cfg.HTTPAddress, &t.httpListener); err != nil {
		t.closeListeners()
		return nil, err
	}
	return t, nil
}

func (t *Tracing) closeListeners() {
	t.closeOnce.Do(func() {
		for _, l := range []net.Listener{t.grpcListener, t.httpListener} {
			if l != nil {
				_ = l.Close() // nothing to lose on a listener
			}
		}
	})
}

// GRPCAddr is the bound address of the OTLP gRPC receiver, or nil.
func (t *Tracing) GRPCAddr() net.Addr { return addr(t.grpcListener) }

// HTTPAddr is the bound address of the OTLP HTTP receiver, or nil.
func (t *Tracing) HTTPAddr() net.Addr { return addr(t.httpListener) }

func addr(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Processor takes the process' own spans: add it to the telemetry.Hub.
func (t *Tracing) Processor() sdktrace.SpanProcessor { return t.processor }

// Run receives and stores until ctx ends, then takes what is queued and seals
// everything to disk.
func (t *Tracing) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer t.closeListeners()
	errs := make(chan error, 3)
	running := 0
	start := func(f func(context.Context) error) {
		running++
		go func() { errs <- f(ctx) }()
	}
	start(t.drain)
	if t.grpcListener != nil {
		start(t.serveGRPC)
	}
	if t.httpListener != nil {
		start(t.serveHTTP)
	}
	var err error
	for range running {
		if e := <-errs; e != nil {
			err = errors.Join(err, e)
			cancel()
		}
	}
	return errors.Join(err, t.store.maintain(t.now(), true))
}

// drain moves queued spans to the store and keeps the store within bounds.
func (t *Tracing) drain(ctx context.Context) error {
	tick := time.NewTicker(min(maintainEvery, t.cfg.SegmentAge))
	defer tick.Stop()
	batch := make([]*Span, 0, 256)
	take := func(q queued) {
		for more := true; more; {
			if q.span != nil {
				batch = append(batch, fromSDK(q.span))
			}
			if q.flushed != nil || len(batch) == cap(batch) {
				t.accept(batch, sourceOwn)
				batch = batch[:0]
			}
			if q.flushed != nil {
				close(q.flushed)
			}
			select {
			case q = <-t.queue:
			default:
				more = false
			}
		}
		t.accept(batch, sourceOwn)
		batch = batch[:0]
	}
	for {
		select {
		case q := <-t.queue:
			take(q)
		case <-tick.C:
			if err := t.store.maintain(t.now(), false); err != nil {
				t.metrics.storeErrors.Inc()
				t.tel.Log.Error("cannot keep span segments", "err", err)
			}
		case <-ctx.Done():
			t.processor.stop()
			take(queued{})
			return nil
		}
	}
}

// accept stores valid spans and returns how many were refused.
func (t *Tracing) accept(spans []*Span, source string) (refused int) {
	valid := spans[:0:len(spans)]
	for _, s := range spans {
		if s.valid() {
			valid = append(valid, s)
		}
	}
	refused = len(spans) - len(valid)
	t.store.add(valid, t.now())
	t.metrics.received.WithLabelValues(source).Add(float64(len(valid)))
	if refused > 0 {
		t.metrics.dropped.WithLabelValues(dropInvalid).Add(float64(refused))
	}
	return refused
}

// Where spans come from, and why they are dropped.
const (
	sourceOwn  = "process"
	sourceGRPC = "otlp_grpc"
	sourceHTTP = "otlp_http"

	dropQueueFull = "queue_full"
	dropInvalid   = "invalid"
	dropStopped   = "stopped"
)

type metrics struct {
	received, dropped, evicted *prometheus.CounterVec
	requests                   *prometheus.CounterVec
	storeErrors                prometheus.Counter
	bytes, spans, queued       prometheus.GaugeFunc
}

func newMetrics(t *Tracing) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m := &metrics{
		received: counter("binnacle_tracing_spans_received_total", "Spans stored, by where they came from.", "source"),
		dropped:  counter("binnacle_tracing_spans_dropped_total", "Spans that were not stored, by reason.", "reason"),
		evicted:  counter("binnacle_tracing_spans_evicted_total", "Stored spans that were let go, by the bound that was reached.", "reason"),
		requests: counter("binnacle_tracing_otlp_requests_total", "OTLP requests by transport and outcome.", "transport", "code"),
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_tracing_store_errors_total", Help: "Failures to read or write span segments on disk.",
		}),
		bytes:  gauge("binnacle_tracing_store_bytes", "Memory held by stored spans.", func() float64 { b, _, _ := t.store.size(); return float64(b) }),
		spans:  gauge("binnacle_tracing_store_spans", "Stored spans.", func() float64 { _, n, _ := t.store.size(); return float64(n) }),
		queued: gauge("binnacle_tracing_queue_spans", "Own spans waiting for the store.", func() float64 { return float64(len(t.queue)) }),
	}
	for _, r := range []string{dropQueueFull, dropInvalid, dropStopped} {
		m.dropped.WithLabelValues(r)
	}
	for _, r := range []string{evictedAge, evictedSize} {
		m.evicted.WithLabelValues(r)
	}
	return m
}

func (m *metrics) each(f func(prometheus.Collector)) {
	for _, c := range []prometheus.Collector{m.received, m.dropped, m.evicted, m.requests, m.storeErrors, m.bytes, m.spans, m.queued} {
		f(c)
	}
}

func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.each(func(c prometheus.Collector) { c.Describe(ch) })
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.each(func(c prometheus.Collector) { c.Collect(ch) })
}
