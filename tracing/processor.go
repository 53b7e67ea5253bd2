package tracing

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// processor queues the process' own spans.
type processor struct {
	t       *Tracing
	stopped atomic.Bool
}

func (p *processor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd never blocks: a span that finds the queue full is dropped and counted.
func (p *processor) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if p.stopped.Load() {
		p.t.metrics.dropped.WithLabelValues(dropStopped).Inc()
		return
	}
	select {
	case p.t.queue <- queued{span: s}:
	default:
		p.t.metrics.dropped.WithLabelValues(dropQueueFull).Inc()
	}
}

func (p *processor) stop() { p.stopped.Store(true) }

// ForceFlush returns when every span ended before is stored. It needs Run.
func (p *processor) ForceFlush(ctx context.Context) error {
	if p.stopped.Load() {
		return nil
	}
	done := make(chan struct{})
	select {
	case p.t.queue <- queued{flushed: done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown flushes and takes no more spans.
func (p *processor) Shutdown(ctx context.Context) error {
	err := p.ForceFlush(ctx)
	p.stop()
	return err
}

func fromSDK(s sdktrace.ReadOnlySpan) *Span {
	sc := s.SpanContext()
	out := &Span{
		Trace: TraceID(sc.TraceID()), ID: SpanID(sc.SpanID()), Parent: SpanID(s.Parent().SpanID()),
		TraceState: sc.TraceState().String(),
		Name:       s.Name(),
		Kind:       kindFromSDK(s.SpanKind()),
		Start:      s.StartTime().UnixNano(),
		Duration:   max(0, int64(s.EndTime().Sub(s.StartTime()))),
		Attrs:      attrsFromSDK(s.Attributes()),
		Scope:      Scope{Name: s.InstrumentationScope().Name, Version: s.InstrumentationScope().Version},
		Resource:   &Resource{},
	}
	switch st := s.Status(); st.Code {
	case codes.Ok:
		out.Status = StatusOK
	case codes.Error:
		out.Status, out.StatusMessage = StatusError, st.Description
	}
	for _, a := range attrsFromSDK(s.Resource().Attributes()) {
		if a.Key == serviceName {
			out.Resource.Service = a.Value.Text()
		} else {
			out.Resource.Attrs = append(out.Resource.Attrs, a)
		}
	}
	out.Resource.name()
	for _, e := range s.Events() {
		out.Events = append(out.Events, Event{Time: e.Time.UnixNano(), Name: e.Name, Attrs: attrsFromSDK(e.Attributes)})
	}
	for _, l := range s.Links() {
		out.Links = append(out.Links, Link{
			Trace: TraceID(l.SpanContext.TraceID()), Span: SpanID(l.SpanContext.SpanID()), Attrs: attrsFromSDK(l.Attributes),
		})
	}
	return out
}

const (
	serviceName    = "service.name"
	unknownService = "unknown_service" // OpenTelemetry's resource conventions
)

func (r *Resource) name() {
	if r.Service == "" {
		r.Service = unknownService
	}
}

func kindFromSDK(k trace.SpanKind) Kind {
	switch k {
	case trace.SpanKindInternal:
		return KindInternal
	case trace.SpanKindServer:
		return KindServer
	case trace.SpanKindClient:
		return KindClient
	case trace.SpanKindProducer:
		return KindProducer
	case trace.SpanKindConsumer:
		return KindConsumer
	}
	return KindUnspecified
}

func attrsFromSDK(kvs []attribute.KeyValue) []Attr {
	out := make([]Attr, 0, len(kvs))
	for _, kv := range kvs {
		out = append(out, Attr{Key: string(kv.Key), Value: valueFromSDK(kv.Value)})
	}
	return out
}

func valueFromSDK(v attribute.Value) Value {
	boolean := func(b bool) Value {
		if b {
			return Value{Type: TypeBool, Int: 1}
		}
		return Value{Type: TypeBool}
	}
	switch v.Type() {
	case attribute.BOOL:
		return boolean(v.AsBool())
	case attribute.INT64:
		return Value{Type: TypeInt, Int: v.AsInt64()}
	case attribute.FLOAT64:
		return Value{Type: TypeFloat, Float: v.AsFloat64()}
	case attribute.STRING:
		return Value{Type: TypeString, Str: v.AsString()}
	case attribute.BOOLSLICE:
		return listFrom(v.AsBoolSlice(), boolean)
	case attribute.INT64SLICE:
		return listFrom(v.AsInt64Slice(), func(n int64) Value { return Value{Type: TypeInt, Int: n} })
	case attribute.FLOAT64SLICE:
		return listFrom(v.AsFloat64Slice(), func(f float64) Value { return Value{Type: TypeFloat, Float: f} })
	case attribute.STRINGSLICE:
		return listFrom(v.AsStringSlice(), func(s string) Value { return Value{Type: TypeString, Str: s} })
	}
	return Value{Type: TypeString, Str: v.String()}
}

func listFrom[T any](in []T, f func(T) Value) Value {
	v := Value{Type: TypeList, List: make([]Value, 0, len(in))}
	for _, e := range in {
		v.List = append(v.List, f(e))
	}
	return v
}
