package dashboards

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
	"binnacle.io/metrics/autoscale"
	"binnacle.io/tracing"
)

// Deps is where the page's contents come from. Only Client and Telemetry are
// required; without one of the others its part of the page says that it is not
// there.
type Deps struct {
	// Client reads the cluster.
	Client client.Client
	// Metrics answers PromQL; metrics.Metrics does.
	Metrics Metrics
	// Traces answers for spans; tracing.Tracing does.
	Traces Traces
	// Rules are the alerting rules; alerting.Alerting has them.
	Rules Rules
	// Alertmanager serves Alertmanager's API under /alertmanager/api/v2/, from
	// which silences and inhibitions are read.
	Alertmanager http.Handler
	// Decisions are what autoscalers decided; autoscale.Controller has them.
	Decisions Decisions
	// Telemetry takes the handler's metrics and logs.
	Telemetry *telemetry.Component
	// Interval is the shortest time between two updates of a section; 1 s.
	Interval time.Duration
	// MaxStreams bounds the pages open at once; 64.
	MaxStreams int
}

// Metrics is a database and the engine to query it with.
type Metrics interface {
	Engine() *promql.Engine
	Queryable() storage.Queryable
}

// Traces is a store of spans.
type Traces interface {
	// LatestFunc returns the most recently active traces that keep accepts.
	LatestFunc(limit int, keep func(tracing.Summary) bool) []tracing.Summary
	Trace(id tracing.TraceID) ([]*tracing.Span, error)
}

// Rules gives the alerting rules that are being evaluated.
type Rules interface {
	AlertingRules() []*rules.AlertingRule
}

// Decisions gives an autoscaler's recorded decisions, newest first.
type Decisions interface {
	Decisions(namespace, name string) []autoscale.Record
}

func (d Deps) withDefaults() Deps {
	if d.Interval == 0 {
		d.Interval = time.Second
	}
	if d.MaxStreams == 0 {
		d.MaxStreams = 64
	}
	return d
}

// queryTimeout bounds each reading of one source for the page.
const queryTimeout = 5 * time.Second

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, queryTimeout)
}
