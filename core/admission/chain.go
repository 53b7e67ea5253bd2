package admission

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"binnacle.io/core/telemetry"
)

// Chain runs plugins in order.
type Chain struct {
	plugins atomic.Pointer[[]Plugin]
	tracer  trace.Tracer
	step    *prometheus.HistogramVec
	each    *prometheus.HistogramVec
}

// NewChain returns a chain of the given plugins, which may be none; Use sets
// them later. tel is the API server's component.
func NewChain(tel *telemetry.Component, plugins ...Plugin) (*Chain, error) {
	buckets := []float64{0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 2.5}
	c := &Chain{
		tracer: tel.Tracer,
		step: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_step_admission_duration_seconds",
			Help:    "Duration of an admission step (admit or validate), for each operation.",
			Buckets: buckets,
		}, []string{"type", "operation", "rejected"}),
		each: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_controller_admission_duration_seconds",
			Help:    "Duration of one admission plugin, for each operation and step (admit or validate).",
			Buckets: buckets,
		}, []string{"name", "type", "operation", "rejected"}),
	}
	for _, m := range []prometheus.Collector{c.step, c.each} {
		if err := tel.Registry.Register(m); err != nil {
			return nil, fmt.Errorf("cannot register admission metrics: %w", err)
		}
	}
	c.Use(plugins...)
	return c, nil
}

// Use replaces the plugins. Plugins read through a client of the very pipeline
// the chain is part of; so the chain is made first, then the pipeline, then
// the plugins. Requests that arrive before Use pass unchecked: serve after it.
func (c *Chain) Use(plugins ...Plugin) {
	list := slices.Clone(plugins)
	c.plugins.Store(&list)
}

// Mutate runs the mutators that handle a.
func (c *Chain) Mutate(ctx context.Context, a *Attributes) error {
	return c.run(ctx, "admit", a, func(p Plugin) func(context.Context, *Attributes) error {
		if m, ok := p.(Mutator); ok {
			return m.Admit
		}
		return nil
	})
}

// Validate runs the validators that handle a.
func (c *Chain) Validate(ctx context.Context, a *Attributes) error {
	return c.run(ctx, "validate", a, func(p Plugin) func(context.Context, *Attributes) error {
		if v, ok := p.(Validator); ok {
			return v.Validate
		}
		return nil
	})
}

func (c *Chain) run(ctx context.Context, step string, a *Attributes, choose func(Plugin) func(context.Context, *Attributes) error) (err error) {
	start := time.Now()
	ctx, span := c.tracer.Start(ctx, "admission "+step, trace.WithAttributes(
		attribute.String("k8s.resource.name", a.Resource.String()),
		attribute.String("k8s.admission.operation", string(a.Op)),
	))
	defer func() {
		c.step.WithLabelValues(step, string(a.Op), strconv.FormatBool(err != nil)).Observe(time.Since(start).Seconds())
		telemetry.Spent(ctx, telemetry.InAdmission, start)
		telemetry.End(span, err)
	}()
	for _, p := range *c.plugins.Load() {
		f := choose(p)
		if f == nil || !p.Handles(a.Op, a.Resource, a.Subresource) {
			continue
		}
		from := time.Now()
		err := f(ctx, a)
		c.each.WithLabelValues(p.Name(), step, string(a.Op), strconv.FormatBool(err != nil)).Observe(time.Since(from).Seconds())
		if err != nil {
			span.SetAttributes(attribute.String("k8s.admission.plugin", p.Name()))
			return err
		}
	}
	return nil
}
