package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// TraceAnnotation carries the W3C traceparent of the request that last changed
// an object's desired state. Whoever acts on the object continues that trace.
// The API server sets it; nobody else writes it, and it is never copied from
// one object to another.
const TraceAnnotation = "binnacle.io/traceparent"

var w3c propagation.TraceContext

// Traceparent renders the span in ctx as a W3C traceparent, or "" when there
// is none.
func Traceparent(ctx context.Context) string {
	c := propagation.MapCarrier{}
	w3c.Inject(ctx, c)
	return c["traceparent"]
}

// WithTraceparent returns ctx with the given W3C traceparent as remote parent.
// An empty or malformed value leaves ctx as it is.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return w3c.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Annotated is the part of an API object this package reads.
type Annotated interface{ GetAnnotations() map[string]string }

// FromObject returns ctx continuing the trace recorded on obj, if any.
func FromObject(ctx context.Context, obj Annotated) context.Context {
	return WithTraceparent(ctx, obj.GetAnnotations()[TraceAnnotation])
}

// FromRequest returns ctx continuing the trace of an incoming HTTP request.
func FromRequest(ctx context.Context, header http.Header) context.Context {
	return w3c.Extract(ctx, propagation.HeaderCarrier(header))
}

// Inject adds the trace of ctx to an outgoing HTTP request's header.
func Inject(ctx context.Context, header http.Header) {
	w3c.Inject(ctx, propagation.HeaderCarrier(header))
}

// End records err on the span, if there is one, and ends it.
func End(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
