package dashboards

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/rules"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// The sections of the state, in the order in which they are sent.
var sectionNames = [...]string{"nodes", "pods", "workloads", "hpas", "alerts", "events", "traces", "usage", "api", "problems"}

// section is one part of the state as JSON. Version grows when it changes.
type section struct {
	version uint64
	json    []byte
}

// snapshot is the whole state at one moment; immutable.
type snapshot struct {
	sections map[string]section
	// superseded is closed when there is a newer one.
	superseded chan struct{}
}

// feed keeps the state while at least one viewer holds it.
type feed struct {
	deps    Deps
	metrics *metrics

	mu     sync.Mutex // held while starting and stopping
	users  int        // guarded by mu
	run    *running   // nil without users; guarded by mu
	shared historyCache
}

// running is the state's machinery during one period with viewers.
type running struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	first  chan struct{} // closed when current is there

	mu      sync.Mutex
	current *snapshot // guarded by mu

	nodes       *table[*corev1.Node]
	pods        *table[*corev1.Pod]
	deployments *table[*appsv1.Deployment]
	sets        *table[*appsv1.ReplicaSet]
	scalers     *table[*autoscalingv2.HorizontalPodAutoscaler]
	events      *table[*corev1.Event]
}

// acquire makes sure that the state is kept until release is called.
func (f *feed) acquire() (r *running, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users++
	if f.run == nil {
		f.run = f.start()
	}
	return f.run, sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.users--; f.users == 0 {
			f.run.cancel()
			f.run.wg.Wait()
			f.run = nil
		}
	})
}

// start begins to follow the cluster. The goroutines are ended by the release
// of the last viewer, which no single request's context knows.
func (f *feed) start() *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{
		cancel: cancel, first: make(chan struct{}),
		nodes: newTable[*corev1.Node](), pods: newTable[*corev1.Pod](), deployments: newTable[*appsv1.Deployment](),
		sets: newTable[*appsv1.ReplicaSet](), scalers: newTable[*autoscalingv2.HorizontalPodAutoscaler](), events: newTable[*corev1.Event](),
	}
	c := f.deps.Client
	r.wg.Go(func() { r.nodes.run(ctx, c) })
	r.wg.Go(func() { r.pods.run(ctx, c) })
	r.wg.Go(func() { r.deployments.run(ctx, c) })
	r.wg.Go(func() { r.sets.run(ctx, c) })
	r.wg.Go(func() { r.scalers.run(ctx, c) })
	r.wg.Go(func() { r.events.run(ctx, c) })
	r.wg.Go(func() { f.keep(ctx, r) })
	return r
}

// keep renews the snapshot until ctx ends.
func (f *feed) keep(ctx context.Context, r *running) {
	for _, tried := range []chan struct{}{r.nodes.tried, r.pods.tried, r.deployments.tried, r.sets.tried, r.scalers.tried, r.events.tried} {
		select {
		case <-tried:
		case <-ctx.Done():
			return
		}
	}
	b := builder{deps: f.deps, run: r, known: map[string]uint64{}}
	tick := time.NewTicker(f.deps.Interval)
	defer tick.Stop()
	for {
		begin := time.Now()
		next := b.build(ctx, r.current)
		f.metrics.build.Observe(time.Since(begin).Seconds())
		if next != nil {
			r.publish(next)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *running) publish(next *snapshot) {
	r.mu.Lock()
	before := r.current
	r.current = next
	r.mu.Unlock()
	if before == nil {
		close(r.first)
	} else {
		close(before.superseded)
	}
}

// snapshot waits for and returns the latest state.
func (r *running) snapshot(ctx context.Context) (*snapshot, error) {
	select {
	case <-r.first:
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot read the cluster's state: %w", context.Cause(ctx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current, nil
}

// builder makes snapshots. It belongs to one goroutine.
type builder struct {
	deps  Deps
	run   *running
	known map[string]uint64 // versions of tables at the last building, by section
	asked time.Time         // when the API server's figures were queried
	api   error             // what was wrong with them
}

// build makes the next snapshot, or nil when nothing has changed.
func (b *builder) build(ctx context.Context, before *snapshot) *snapshot {
	ctx, cancel := bounded(ctx)
	defer cancel()
	next := &snapshot{sections: map[string]section{}, superseded: make(chan struct{})}
	if before != nil {
		for name, s := range before.sections {
			next.sections[name] = s
		}
	}
	changed := false
	problems := map[string]string{}
	put := func(name string, view any, err error) {
		if err != nil {
			problems[name] = err.Error()
		}
		if view == nil {
			return
		}
		text, err := json.Marshal(view)
		if err != nil {
			problems[name] = err.Error()
			return
		}
		if s := next.sections[name]; !bytes.Equal(s.json, text) {
			next.sections[name] = section{s.version + 1, text}
			changed = true
		}
	}
	b.cluster(put)
	b.scaling(put)
	if b.deps.Rules != nil || b.deps.Alertmanager != nil {
		view, err := b.alerts(ctx)
		put("alerts", view, err)
	} else {
		put("alerts", nil, fmt.Errorf("alerting is not running"))
	}
	if b.deps.Traces != nil {
		put("traces", viewTraces(b.deps.Traces), nil)
	} else {
		put("traces", nil, fmt.Errorf("tracing is not running"))
	}
	if b.deps.Metrics != nil {
		view, err := querier{b.deps.Metrics}.use(ctx, time.Now())
		put("usage", view, err)
		b.server(ctx, put)
	} else {
		put("usage", nil, fmt.Errorf("the metrics database is not running"))
		put("api", nil, fmt.Errorf("the metrics database is not running"))
	}
	if ctx.Err() != nil {
		return nil // stopping, or a source took too long: try again
	}
	put("problems", problems, nil)
	if !changed {
		return nil
	}
	return next
}

type putFunc func(name string, view any, err error)

// stale tells whether a section has to be built again for these versions of
// its tables.
func (b *builder) stale(name string, versions ...uint64) bool {
	sum := uint64(1)
	for _, v := range versions {
		sum += v // each only grows
	}
	if b.known[name] == sum {
		return false
	}
	b.known[name] = sum
	return true
}

// cluster builds what is read from the API alone.
func (b *builder) cluster(put putFunc) {
	r := b.run
	pods, podsVersion, podsErr := r.pods.all()
	_, setsVersion, setsErr := r.sets.all()
	put("pods", nil, firstError(podsErr, setsErr))
	if b.stale("pods", podsVersion, setsVersion) {
		slices.SortFunc(pods, func(a, b *corev1.Pod) int { return byNamespaceName(a, b) })
		owner, view := resolver(r.sets), make([]podView, 0, len(pods))
		for _, p := range pods {
			view = append(view, viewPod(p, owner))
		}
		put("pods", view, nil)
	}
	nodes, nodesVersion, nodesErr := r.nodes.all()
	put("nodes", nil, nodesErr)
	if b.stale("nodes", nodesVersion, podsVersion) {
		slices.SortFunc(nodes, func(a, b *corev1.Node) int { return byNamespaceName(a, b) })
		view := make([]nodeView, 0, len(nodes))
		for _, n := range nodes {
			view = append(view, viewNode(n, pods))
		}
		put("nodes", view, nil)
	}
	deployments, version, err := r.deployments.all()
	put("workloads", nil, err)
	if b.stale("workloads", version) {
		slices.SortFunc(deployments, func(a, b *appsv1.Deployment) int { return byNamespaceName(a, b) })
		view := make([]workloadView, 0, len(deployments))
		for _, d := range deployments {
			view = append(view, viewDeployment(d))
		}
		put("workloads", view, nil)
	}
	events, version, err := r.events.all()
	put("events", nil, err)
	if b.stale("events", version) {
		put("events", viewEvents(events, func(e *corev1.Event) bool { return e.Type == corev1.EventTypeWarning }), nil)
	}
}

// scaling is built each time: decisions are made every second.
func (b *builder) scaling(put putFunc) {
	scalers, _, err := b.run.scalers.all()
	slices.SortFunc(scalers, func(a, b *autoscalingv2.HorizontalPodAutoscaler) int { return byNamespaceName(a, b) })
	view := make([]hpaView, 0, len(scalers))
	for _, h := range scalers {
		view = append(view, viewHPA(h, b.deps.Decisions))
	}
	put("hpas", view, err)
}

// apiInterval is the shortest time between two queries for the API server's
// figures, which are sampled no more often.
const apiInterval = 5 * time.Second

// server builds what the API server's metrics say.
func (b *builder) server(ctx context.Context, put putFunc) {
	now := time.Now()
	if now.Sub(b.asked) < min(apiInterval, 5*b.deps.Interval) {
		put("api", nil, b.api)
		return
	}
	view, err := querier{b.deps.Metrics}.api(ctx, now)
	b.asked, b.api = now, err
	put("api", view, err)
}

func (b *builder) alerts(ctx context.Context) ([]alertView, error) {
	var found []*rules.AlertingRule
	if b.deps.Rules != nil {
		found = b.deps.Rules.AlertingRules()
	}
	var known []routed
	var err error
	if b.deps.Alertmanager != nil {
		known, err = fromAlertmanager(ctx, b.deps.Alertmanager)
	}
	return viewAlerts(found, known), err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// historyCache lets viewers that come together share one evaluation.
type historyCache struct {
	mu   sync.Mutex // held while evaluating: the others wait for the result
	at   time.Time
	view *historyView
}

func (c *historyCache) get(ctx context.Context, m Metrics, now time.Time) (*historyView, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := now.Truncate(historyStep)
	if c.view != nil && c.at.Equal(at) {
		return c.view, nil
	}
	view, err := querier{m}.history(ctx, now)
	if err != nil {
		return nil, err
	}
	c.at, c.view = at, view
	return view, nil
}
