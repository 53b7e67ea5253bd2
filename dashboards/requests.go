package dashboards

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// The expressions behind the figures of the API server and its store. Those of
// latency leave long-running requests out.
const (
	exprVerbRate    = `sum by (verb) (rate(apiserver_request_total[1m]))`
	exprVerbErrors  = `sum by (verb) (rate(apiserver_request_total{code=~"5.."}[1m]))`
	exprVerbOpen    = `sum by (verb) (apiserver_longrunning_requests)`
	exprVerbMedian  = `histogram_quantile(0.5, sum by (verb, le) (rate(apiserver_request_sli_duration_seconds_bucket[1m])))`
	exprVerbP99     = `histogram_quantile(0.99, sum by (verb, le) (rate(apiserver_request_sli_duration_seconds_bucket[1m])))`
	exprLevelSeats  = `sum by (priority_level) (apiserver_flowcontrol_current_limit_seats)`
	exprLevelUsed   = `sum by (priority_level) (apiserver_flowcontrol_current_executing_seats)`
	exprLevelPeak   = `sum by (priority_level) (apiserver_flowcontrol_demand_seats_high_watermark)`
	exprLevelQueued = `sum by (priority_level) (apiserver_flowcontrol_current_inqueue_seats)`
	exprLevelRefuse = `sum by (priority_level) (rate(apiserver_flowcontrol_rejected_requests_total[1m]))`
	exprSlow        = `topk(5, sum by (verb, resource) (increase(apiserver_request_sli_duration_seconds_count[5m]))
		- sum by (verb, resource) (increase(apiserver_request_sli_duration_seconds_bucket{le=~"1|1.0"}[5m])) >= 0.5)`
	exprAuditErrors = `sum(increase(apiserver_audit_error_total[5m]))`
	exprStoreInUse  = `max(etcd_mvcc_db_total_size_in_use_in_bytes)`
	exprStoreFile   = `max(etcd_mvcc_db_total_size_in_bytes)`
	exprStoreQuota  = `min(binnacle_store_quota_bytes)`
	exprStoreFull   = `max by (reason) (binnacle_store_full) == 1`
)

// apiView is what the API server does; null is unknown.
type apiView struct {
	Rate        *float64     `json:"rate"`        // requests a second
	AuditErrors *float64     `json:"auditErrors"` // events not written in five minutes
	Verbs       []*verbView  `json:"verbs"`       // by name
	Levels      []*levelView `json:"levels"`      // by name
	Slow        []slowView   `json:"slow"`        // most first
	Store       storeView    `json:"store"`
}

// verbView has requests and errors of the server's own a second, long-running
// requests under way, and seconds that half and 99 % of the others took at most.
type verbView struct {
	Verb   string   `json:"verb"`
	Rate   *float64 `json:"rate"`
	Errors *float64 `json:"errors"`
	Open   *float64 `json:"open"`
	Median *float64 `json:"median"`
	P99    *float64 `json:"p99"`
}

// levelView is a priority level: its seats, those in use, the most that were
// wanted in the last ten seconds, those that queued requests wait for, and
// requests refused a second. The exempt level has no bound on its seats.
type levelView struct {
	Name    string   `json:"name"`
	Seats   *float64 `json:"seats"`
	Used    *float64 `json:"used"`
	Peak    *float64 `json:"peak"`
	Queued  *float64 `json:"queued"`
	Refused *float64 `json:"refused"`
}

// slowView counts requests of the last five minutes that took over a second.
type slowView struct {
	Verb     string   `json:"verb"`
	Resource string   `json:"resource"`
	Count    *float64 `json:"count"`
}

// storeView is etcd's database in bytes. Full says what has no room, disk or
// quota; empty when there is room.
type storeView struct {
	InUse *float64 `json:"inUse"`
	File  *float64 `json:"file"`
	Quota *float64 `json:"quota"`
	Full  string   `json:"full"`
}

// api is what the API server does now. Parts that cannot be evaluated are
// missing from the result and in the error.
func (q querier) api(ctx context.Context, at time.Time) (*apiView, error) {
	v := &apiView{Verbs: []*verbView{}, Levels: []*levelView{}, Slow: []slowView{}}
	verbs, levels := map[string]*verbView{}, map[string]*levelView{}
	one := func(expr string, to **float64) error {
		return q.each(ctx, expr, at, func(_ labels.Labels, n *float64) { *to = n })
	}
	perVerb := func(expr string, set func(*verbView, *float64)) error {
		return q.each(ctx, expr, at, func(l labels.Labels, n *float64) {
			name := l.Get("verb")
			if verbs[name] == nil {
				verbs[name] = &verbView{Verb: name}
			}
			set(verbs[name], n)
		})
	}
	perLevel := func(expr string, set func(*levelView, *float64)) error {
		return q.each(ctx, expr, at, func(l labels.Labels, n *float64) {
			name := l.Get("priority_level")
			if levels[name] == nil {
				levels[name] = &levelView{Name: name}
			}
			set(levels[name], n)
		})
	}
	err := errors.Join(
		one(exprRequests, &v.Rate),
		one(exprAuditErrors, &v.AuditErrors),
		perVerb(exprVerbRate, func(v *verbView, n *float64) { v.Rate = n }),
		perVerb(exprVerbErrors, func(v *verbView, n *float64) { v.Errors = n }),
		perVerb(exprVerbOpen, func(v *verbView, n *float64) { v.Open = n }),
		perVerb(exprVerbMedian, func(v *verbView, n *float64) { v.Median = n }),
		perVerb(exprVerbP99, func(v *verbView, n *float64) { v.P99 = n }),
		perLevel(exprLevelSeats, func(v *levelView, n *float64) { v.Seats = n }),
		perLevel(exprLevelUsed, func(v *levelView, n *float64) { v.Used = n }),
		perLevel(exprLevelPeak, func(v *levelView, n *float64) { v.Peak = n }),
		perLevel(exprLevelQueued, func(v *levelView, n *float64) { v.Queued = n }),
		perLevel(exprLevelRefuse, func(v *levelView, n *float64) { v.Refused = n }),
		q.each(ctx, exprSlow, at, func(l labels.Labels, n *float64) {
			v.Slow = append(v.Slow, slowView{Verb: l.Get("verb"), Resource: l.Get("resource"), Count: n})
		}),
		one(exprStoreInUse, &v.Store.InUse),
		one(exprStoreFile, &v.Store.File),
		one(exprStoreQuota, &v.Store.Quota),
		q.each(ctx, exprStoreFull, at, func(l labels.Labels, _ *float64) { v.Store.Full = l.Get("reason") }),
	)
	for _, name := range slices.Sorted(maps.Keys(verbs)) {
		v.Verbs = append(v.Verbs, verbs[name])
	}
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		v.Levels = append(v.Levels, levels[name])
	}
	slices.SortFunc(v.Slow, func(a, b slowView) int {
		return cmp.Or(cmp.Compare(*b.Count, *a.Count), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Verb, b.Verb))
	})
	return v, err
}
