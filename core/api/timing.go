package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"binnacle.io/core/telemetry"
)

// timing is where the time of a request went. What is not named is decoding,
// defaulting, validation and encoding.
type timing struct {
	authentication, authorization time.Duration
	parts                         telemetry.Breakdown
}

// spanFrom is the time from which a step of a read is worth a span of its own.
// Writes always have them: there are a thousand times as many cached reads.
const spanFrom = time.Millisecond

// took notes how long a step took that began at start.
func (s *Server) took(c *call, step string, start time.Time, into *time.Duration, observe prometheus.Observer) {
	end := time.Now()
	*into = end.Sub(start)
	observe.Observe(into.Seconds())
	if *into < spanFrom && !c.route.mutating() {
		return
	}
	_, span := s.tel.Tracer.Start(c.r.Context(), step, trace.WithTimestamp(start))
	span.End(trace.WithTimestamp(end))
}

// encoded is the span of making and sending one object, under the same rule.
func (s *Server) encoded(c *call, start time.Time, err error) {
	end := time.Now()
	if err == nil && end.Sub(start) < spanFrom && !c.route.mutating() {
		return
	}
	_, span := s.tel.Tracer.Start(c.r.Context(), "encode", trace.WithTimestamp(start))
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End(trace.WithTimestamp(end))
}

// waited is the time in a queue of priority and fairness.
func (c *call) waited() time.Duration {
	if c.ticket == nil {
		return 0
	}
	return c.ticket.Waited
}

// logSlow writes one line about a request that took long, with where the time
// went.
func (s *Server) logSlow(c *call, o *observation) {
	if o.took < slowRequest || o.long {
		return
	}
	t, user := &c.took, ""
	if c.user != nil {
		user = c.user.Name
	}
	rest := o.took - t.authentication - t.authorization - c.waited() - t.parts.Of(telemetry.InAdmission) - t.parts.Of(telemetry.InStorage) - c.w.wrote
	s.tel.Log.Warn("slow request", "verb", o.verb, "path", c.route.path, "user", user, "code", o.code, "auditID", c.auditID,
		"traceID", trace.SpanContextFromContext(c.r.Context()).TraceID().String(), "took", o.took,
		"authentication", t.authentication, "authorization", t.authorization, "queued", c.waited(),
		"admission", t.parts.Of(telemetry.InAdmission), "storage", t.parts.Of(telemetry.InStorage), "write", c.w.wrote, "rest", rest)
}
