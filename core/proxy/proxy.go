package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/network/watch"
	"binnacle.io/core/telemetry"
)

// Proxy programs this node's Services.
type Proxy struct {
	cfg     Config
	client  client.Client
	tel     *telemetry.Component
	metrics *metrics
	tracker *tracker

	mu    sync.Mutex // guards the following
	table *Table
	// broken: the kernel may not have what the table said before.
	broken bool
	// unflushed changes came with a transaction that failed; their stale
	// flows are still to be forgotten.
	unflushed []Change

	synced   atomic.Bool // at least once
	lastSync atomic.Int64
	ready    chan struct{}
}

// New checks the configuration and touches nothing yet.
func New(cfg Config, c client.Client, tel *telemetry.Component) (*Proxy, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := newMetrics(tel.Registry)
	return &Proxy{cfg: cfg, client: c, tel: tel, metrics: m, tracker: newTracker(m, time.Now), table: NewTable(), broken: true, ready: make(chan struct{})}, nil
}

// Ready is closed once the kernel has all Services for the first time.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Run programs the kernel until ctx ends and leaves the rules in place, so
// that connections go on while the process restarts.
func (p *Proxy) Run(ctx context.Context) error {
	ns, err := openNamespace(p.cfg.Namespace)
	if err != nil {
		return err
	}
	defer ns.close()
	backend := NewNFTables(ns.fd(), p.cfg.ClusterCIDRs)

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		watch.Follow(ctx, p.client, client.ReadOptions{}, p.tel, watch.Sink[*corev1.Service]{Replace: p.tracker.replaceServices, Apply: p.tracker.applyService})
	})
	wg.Go(func() {
		watch.Follow(ctx, p.client, client.ReadOptions{}, p.tel, watch.Sink[*discoveryv1.EndpointSlice]{Replace: p.tracker.replaceSlices, Apply: p.tracker.applySlice})
	})
	p.loop(ctx, backend, ns.handle)
	cancel()
	wg.Wait()
	return nil
}

// loop syncs when something changed, again after a failure, and audits.
func (p *Proxy) loop(ctx context.Context, backend Backend, conntrack *netlink.Handle) {
	const minRetry, maxRetry = 100 * time.Millisecond, 30 * time.Second
	audit := time.NewTicker(p.cfg.Audit)
	defer audit.Stop()
	var retry <-chan time.Time
	delay := minRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.tracker.wake:
		case <-retry:
		case <-audit.C:
			p.audit(ctx, backend)
			if !p.isBroken() {
				continue
			}
		}
		retry = nil
		if err := p.sync(ctx, backend, conntrack); err != nil {
			p.metrics.failures.Inc()
			p.tel.Log.ErrorContext(ctx, "cannot program services", "error", err, "retryIn", delay)
			retry = time.After(delay)
			delay = min(2*delay, maxRetry)
			continue
		}
		delay = minRetry
	}
}

func (p *Proxy) isBroken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// sync programs everything that changed since the last one.
func (p *Proxy) sync(ctx context.Context, backend Backend, conntrack *netlink.Handle) error {
	if !p.tracker.complete() {
		return nil
	}
	start := time.Now()
	w := p.tracker.take()
	spans := p.startSpans(ctx, w)
	changes, err := p.program(ctx, backend, w)
	for _, s := range spans {
		telemetry.End(s, err)
	}
	if err != nil {
		return err
	}
	end := time.Now()
	p.metrics.syncDuration.Observe(end.Sub(start).Seconds())
	p.metrics.lastSync.Set(stamp(end))
	p.metrics.servicesPending.Set(0)
	p.metrics.endpointsPending.Set(0)
	p.observeProgramming(w, end)
	p.lastSync.Store(end.UnixNano())
	if !p.synced.Swap(true) {
		close(p.ready)
		p.tel.Log.InfoContext(ctx, "services programmed", "ports", p.table.Len(), "took", end.Sub(start))
	}
	if flows := stale(changes); len(flows) > 0 {
		n, err := forget(conntrack, flows)
		p.metrics.conntrackDeleted.Add(float64(n))
		if err != nil {
			p.metrics.conntrackFailures.Inc()
			p.tel.Log.WarnContext(ctx, "cannot forget stale flows", "error", err)
		}
	}
	return nil
}

// program plans the changed Services and gives the kernel the difference.
func (p *Proxy) program(ctx context.Context, backend Backend, w work) ([]Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	node := Node{Name: p.cfg.Node, Local: p.cfg.Local}
	merged := map[PortName]Change{}
	for name, o := range w.services {
		var ports []*Port
		if o.svc != nil {
			ports, _ = PlanService(o.svc, o.slices, node)
		}
		for _, c := range p.table.Set(name, ports) {
			if before, ok := merged[c.Name]; ok {
				c.Old = before.Old
			}
			merged[c.Name] = c
		}
	}
	p.metrics.ports.Set(float64(p.table.Len()))
	changes := make([]Change, 0, len(merged))
	for _, c := range merged {
		changes = append(changes, c)
	}
	var err error
	switch {
	case p.broken:
		err = backend.Replace(ctx, p.table)
	case len(changes) > 0:
		err = backend.Apply(ctx, p.table, changes)
	}
	if p.broken = err != nil; p.broken {
		p.unflushed = append(p.unflushed, changes...)
		return nil, err
	}
	changes = append(p.unflushed, changes...)
	p.unflushed = nil
	return changes, nil
}

// startSpans continues the trace of each object whose change is programmed.
func (p *Proxy) startSpans(ctx context.Context, w work) []trace.Span {
	var spans []trace.Span
	start := func(o telemetry.Annotated, namespace, service, kind, name string) {
		if o.GetAnnotations()[telemetry.TraceAnnotation] == "" {
			return
		}
		_, s := p.tel.Tracer.Start(telemetry.FromObject(ctx, o), "program service", trace.WithAttributes(
			attribute.String("k8s.namespace.name", namespace), attribute.String("k8s.service.name", service),
			attribute.String("binnacle.cause.kind", kind), attribute.String("binnacle.cause.name", name),
		))
		spans = append(spans, s)
	}
	for _, s := range w.changedSlices {
		start(s, s.Namespace, serviceOf(s).Name, "EndpointSlice", s.Name)
	}
	for _, s := range w.changedSvcs {
		start(s, s.Namespace, s.Name, "Service", s.Name)
	}
	return spans
}

// observeProgramming measures from the change that the endpoints controller
// noted on the slice.
func (p *Proxy) observeProgramming(w work, end time.Time) {
	for _, s := range w.changedSlices {
		if t, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil && end.After(t) {
			p.metrics.programming.Observe(end.Sub(t).Seconds())
		}
	}
}

// audit looks for what others changed; the next sync repairs it.
func (p *Proxy) audit(ctx context.Context, backend Backend) {
	if !p.synced.Load() || p.isBroken() {
		return
	}
	drift, err := backend.Audit(ctx)
	if err != nil {
		p.tel.Log.WarnContext(ctx, "cannot audit service rules", "error", err)
		return
	}
	if len(drift) == 0 {
		return
	}
	p.metrics.drift.Add(float64(len(drift)))
	p.tel.Log.WarnContext(ctx, "service rules were changed by someone else; repairing", "differences", len(drift), "first", drift[0])
	p.mu.Lock()
	p.broken = true
	p.mu.Unlock()
}

// Explain says what became of a Service: each port, address and endpoint,
// whether it is used, and why or why not.
func (p *Proxy) Explain(service types.NamespacedName) []Decision {
	o := p.tracker.objects(service)
	if o.svc == nil {
		return []Decision{{Subject: service.String(), Reason: "no such Service"}}
	}
	ports, why := PlanService(o.svc, o.slices, Node{Name: p.cfg.Node, Local: p.cfg.Local})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, port := range ports {
		for _, f := range port.Frontends {
			if t := p.table.Port(port.PortName); t != nil && !p.table.Owns(t, f) {
				why = append(why, Decision{Subject: fmt.Sprintf("%s:%d", f.Addr, f.Port), Reason: fmt.Sprintf("%s is also claimed by a Service that comes first by name", f.Kind)})
			}
		}
	}
	return why
}

// Down removes all rules from the kernel. Run must have ended.
func Down(ctx context.Context, cfg Config) error {
	ns, err := openNamespace(cfg.Namespace)
	if err != nil {
		return err
	}
	defer ns.close()
	return NewNFTables(ns.fd(), nil).Remove(ctx)
}

// namespace is the network namespace that plays the node.
type namespace struct {
	ns     netns.NsHandle
	handle *netlink.Handle
}

func openNamespace(path string) (*namespace, error) {
	n := &namespace{ns: netns.None()}
	var err error
	if path == "" {
		n.handle, err = netlink.NewHandle(unix.NETLINK_NETFILTER)
	} else if n.ns, err = netns.GetFromPath(path); err == nil {
		n.handle, err = netlink.NewHandleAt(n.ns, unix.NETLINK_NETFILTER)
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("cannot open netfilter in network namespace %q: %w", path, err)
	}
	return n, nil
}

// fd is the namespace's descriptor, 0 for the process' own.
func (n *namespace) fd() int {
	if n.ns.IsOpen() {
		return int(n.ns)
	}
	return 0
}

func (n *namespace) close() {
	if n.handle != nil {
		n.handle.Close()
	}
	if n.ns.IsOpen() {
		n.ns.Close()
	}
}

// Healthy returns why the proxy is not healthy: it never synced, or a change
// waits for too long.
func (p *Proxy) Healthy() error {
	const patience = time.Minute
	if !p.synced.Load() {
		return errors.New("services are not programmed yet")
	}
	if w := p.tracker.waiting(); !w.IsZero() && time.Since(w) > patience || p.isBroken() {
		return errors.New("the kernel does not take the rules")
	}
	return nil
}
