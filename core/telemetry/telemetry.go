package telemetry

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config is what users may choose about telemetry.
type Config struct {
	// Node is the name of this machine as a cluster node; it becomes the
	// span resource attribute k8s.node.name. Empty leaves it out.
	Node string
	// Log receives all log records. Nil means slog.Default's handler.
	Log slog.Handler
}

// Component is one instrumented part of the process.
type Component struct {
	// Name is the span service.name and the log attribute "component".
	Name string
	// Job is the Prometheus job label the common dashboards expect
	// ("apiserver", "kubelet", "kube-scheduler", …).
	Job string
	// Registry holds the component's metrics and nothing else's.
	Registry *prometheus.Registry
	// Tracer starts the component's spans.
	Tracer trace.Tracer
	// Log is for constant messages with key-value pairs.
	Log *slog.Logger

	provider *sdktrace.TracerProvider
}

// Hub creates components and knows them all. It is safe for concurrent use.
type Hub struct {
	cfg Config
	fan fanout

	mu         sync.Mutex
	components []*Component // append only, guarded by mu
}

// NewHub returns a hub without components or span processors.
func NewHub(cfg Config) *Hub {
	if cfg.Log == nil {
		cfg.Log = slog.Default().Handler()
	}
	return &Hub{cfg: cfg}
}

// Component creates a component. Each call makes a new one, so call it once
// where the component is built and pass the result down.
func (h *Hub) Component(name, job string) *Component {
	attrs := []attribute.KeyValue{attribute.String("service.name", name), attribute.String("service.namespace", "binnacle")}
	if h.cfg.Node != "" {
		attrs = append(attrs, attribute.String("k8s.node.name", h.cfg.Node))
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(sdkresource.NewSchemaless(attrs...)),
		sdktrace.WithSpanProcessor(&h.fan),
	)
	c := &Component{
		Name:     name,
		Job:      job,
		Registry: prometheus.NewRegistry(),
		Tracer:   provider.Tracer("binnacle.io/" + name),
		Log:      slog.New(h.cfg.Log).With("component", name),
		provider: provider,
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.components = append(h.components, c)
	return c
}

// Components returns the components created so far, in order of creation.
func (h *Hub) Components() []*Component {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.components)
}

// AddSpanProcessor sends all spans that end from now on to p as well. p's
// OnEnd is called on the goroutine that ends the span and must not block.
func (h *Hub) AddSpanProcessor(p sdktrace.SpanProcessor) { h.fan.add(p) }

// Shutdown flushes and stops the span processors.
func (h *Hub) Shutdown(ctx context.Context) error { return h.fan.Shutdown(ctx) }

// RegisterProcess adds the Go runtime's and the process' own metrics
// (go_*, process_*) to the component. Every component that stands for an
// upstream process has them: dashboards ask for process_* by job.
func (c *Component) RegisterProcess() {
	c.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
}

// Discard returns a component that keeps metrics and drops spans and logs,
// for tests and for code that is not observed.
func Discard() *Component {
	return NewHub(Config{Log: slog.NewTextHandler(io.Discard, nil)}).Component("discard", "discard")
}

// fanout is a span processor that hands spans to a list that may grow.
type fanout struct {
	mu   sync.Mutex // held by add only
	list atomic.Pointer[[]sdktrace.SpanProcessor]
}

func (f *fanout) add(p sdktrace.SpanProcessor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := append(slices.Clone(f.all()), p)
	f.list.Store(&list)
}

func (f *fanout) all() []sdktrace.SpanProcessor {
	if l := f.list.Load(); l != nil {
		return *l
	}
	return nil
}

func (f *fanout) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	for _, p := range f.all() {
		p.OnStart(ctx, s)
	}
}

func (f *fanout) OnEnd(s sdktrace.ReadOnlySpan) {
	for _, p := range f.all() {
		p.OnEnd(s)
	}
}

func (f *fanout) ForceFlush(ctx context.Context) error {
	for _, p := range f.all() {
		if err := p.ForceFlush(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *fanout) Shutdown(ctx context.Context) error {
	for _, p := range f.all() {
		if err := p.Shutdown(ctx); err != nil {
			return err
		}
	}
	return nil
}
