package dashboards

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// The expressions behind the page's figures. Containers are sampled every
// second, other sources about every 15 s.
const (
	exprPodCPU     = `sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{job="kubelet",container!=""}[10s]))`
	exprPodMemory  = `sum by (namespace, pod) (container_memory_working_set_bytes{job="kubelet",container!=""})`
	exprNodeCPU    = `sum by (node) (rate(node_cpu_seconds_total{mode!~"idle|iowait|steal"}[1m]))`
	exprNodeMemory = `sum by (node) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)`
	exprIngest     = `sum(rate(prometheus_tsdb_head_samples_appended_total[1m]))`
	exprNodesReady = `sum(kube_node_status_condition{condition="Ready",status="true"})`
	exprPods       = `sum(kube_pod_status_phase{phase="Running"})`
	exprAlerts     = `count(ALERTS{alertstate="firing"}) or vector(0)`
	exprReplicas   = `sum by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_current_replicas)`
	exprRequests   = `sum(rate(apiserver_request_total[1m]))`
)

// usageView is what is used at one moment: cores and bytes, null for unknown.
type usageView struct {
	At     int64             `json:"at"`
	Pods   map[string]*usage `json:"pods"`  // by namespace/name
	Nodes  map[string]*usage `json:"nodes"` // by name
	Ingest *float64          `json:"ingest"`
}

type usage struct {
	CPU    *float64 `json:"cpu"`
	Memory *float64 `json:"memory"`
}

// querier evaluates expressions; the page asks at the same moment for all.
type querier struct{ m Metrics }

func (q querier) instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	query, err := q.m.Engine().NewInstantQuery(ctx, q.m.Queryable(), nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("cannot parse %q: %w", expr, err)
	}
	defer query.Close()
	v, err := query.Exec(ctx).Vector()
	if err != nil {
		return nil, fmt.Errorf("cannot evaluate %q: %w", expr, err)
	}
	return append(promql.Vector(nil), v...), nil
}

// each hands f what an expression gives, but for infinities and NaN.
func (q querier) each(ctx context.Context, expr string, at time.Time, f func(labels.Labels, *float64)) error {
	vector, err := q.instant(ctx, expr, at)
	for _, s := range vector {
		if n := number(s.F); n != nil {
			f(s.Metric, n)
		}
	}
	return err
}

// use is what is used now. Parts that cannot be evaluated are missing from the
// result and in the error.
func (q querier) use(ctx context.Context, at time.Time) (*usageView, error) {
	v := &usageView{At: at.UnixMilli(), Pods: map[string]*usage{}, Nodes: map[string]*usage{}}
	entry := func(m map[string]*usage, key string) *usage {
		if m[key] == nil {
			m[key] = &usage{}
		}
		return m[key]
	}
	return v, errors.Join(
		q.each(ctx, exprPodCPU, at, func(l labels.Labels, n *float64) { entry(v.Pods, podKey(l)).CPU = n }),
		q.each(ctx, exprPodMemory, at, func(l labels.Labels, n *float64) { entry(v.Pods, podKey(l)).Memory = n }),
		q.each(ctx, exprNodeCPU, at, func(l labels.Labels, n *float64) { entry(v.Nodes, l.Get("node")).CPU = n }),
		q.each(ctx, exprNodeMemory, at, func(l labels.Labels, n *float64) { entry(v.Nodes, l.Get("node")).Memory = n }),
		q.each(ctx, exprIngest, at, func(_ labels.Labels, n *float64) { v.Ingest = n }),
	)
}

func podKey(l labels.Labels) string { return l.Get("namespace") + "/" + l.Get("pod") }

// number is a value as JSON can have it, with six significant digits: more are
// noise and cost bytes each second.
func number(f float64) *float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	if f != 0 {
		scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(f))))
		if !math.IsInf(scale, 0) && scale != 0 {
			f = math.Round(f*scale) / scale
		}
	}
	return &f
}

// The past that sparklines show.
const (
	historyLength = 5 * time.Minute
	historyStep   = 5 * time.Second
)

// historyView is the past of the figures. Each series has a value for every
// Step (milliseconds) from Start on, null where there was none.
type historyView struct {
	Start    int64                   `json:"start"`
	Step     int64                   `json:"step"`
	Points   int                     `json:"points"`
	Pods     map[string]*pastUse     `json:"pods"`
	Nodes    map[string]*pastUse     `json:"nodes"`
	Replicas map[string][]*float64   `json:"replicas"` // by namespace/name of the autoscaler
	Overview map[string]([]*float64) `json:"overview"`
}

type pastUse struct {
	CPU    []*float64 `json:"cpu"`
	Memory []*float64 `json:"memory"`
}

func (q querier) history(ctx context.Context, now time.Time) (*historyView, error) {
	end := now.Truncate(historyStep)
	start := end.Add(-historyLength)
	v := &historyView{
		Start: start.UnixMilli(), Step: historyStep.Milliseconds(), Points: int(historyLength/historyStep) + 1,
		Pods: map[string]*pastUse{}, Nodes: map[string]*pastUse{}, Replicas: map[string][]*float64{}, Overview: map[string][]*float64{},
	}
	each := func(expr string, f func(labels.Labels, []*float64)) error {
		query, err := q.m.Engine().NewRangeQuery(ctx, q.m.Queryable(), nil, expr, start, end, historyStep)
		if err != nil {
			return fmt.Errorf("cannot parse %q: %w", expr, err)
		}
		defer query.Close()
		matrix, err := query.Exec(ctx).Matrix()
		if err != nil {
			return fmt.Errorf("cannot evaluate %q: %w", expr, err)
		}
		for _, s := range matrix {
			points := make([]*float64, v.Points)
			for _, p := range s.Floats {
				if i := (p.T - v.Start) / v.Step; i >= 0 && i < int64(len(points)) {
					points[i] = number(p.F)
				}
			}
			f(s.Metric, points)
		}
		return nil
	}
	entry := func(m map[string]*pastUse, key string) *pastUse {
		if m[key] == nil {
			m[key] = &pastUse{CPU: []*float64{}, Memory: []*float64{}}
		}
		return m[key]
	}
	overview := func(name string) func(labels.Labels, []*float64) {
		return func(_ labels.Labels, p []*float64) { v.Overview[name] = p }
	}
	return v, errors.Join(
		each(exprPodCPU, func(l labels.Labels, p []*float64) { entry(v.Pods, podKey(l)).CPU = p }),
		each(exprPodMemory, func(l labels.Labels, p []*float64) { entry(v.Pods, podKey(l)).Memory = p }),
		each(exprNodeCPU, func(l labels.Labels, p []*float64) { entry(v.Nodes, l.Get("node")).CPU = p }),
		each(exprNodeMemory, func(l labels.Labels, p []*float64) { entry(v.Nodes, l.Get("node")).Memory = p }),
		each(exprReplicas, func(l labels.Labels, p []*float64) {
			v.Replicas[l.Get("namespace")+"/"+l.Get("horizontalpodautoscaler")] = p
		}),
		each(exprIngest, overview("ingest")),
		each(exprNodesReady, overview("nodes")),
		each(exprPods, overview("pods")),
		each(exprAlerts, overview("alerts")),
		each(exprRequests, overview("requests")),
	)
}
