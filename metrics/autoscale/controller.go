package autoscale

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/telemetry"
	"binnacle.io/exporters/cgroup"
)

// Config has the controller's parameters. Zero values mean the defaults named.
type Config struct {
	// Interval is how often each autoscaler is looked at; 1 s.
	Interval time.Duration
	// Window is the span over which CPU is measured; 5 s: long enough for
	// five samples, short enough to see a step of load at once.
	Window time.Duration
	// Tolerance is the deviation of usage from target that is left alone;
	// 0.1.
	Tolerance float64
	// CPUInitialization is how long after its start a pod's CPU is not
	// trusted unless it is ready; 5 min. InitialReadinessDelay is how long
	// after its start a change to not ready is taken as the first; 30 s.
	CPUInitialization, InitialReadinessDelay time.Duration
	// DownscaleStabilization is the window where an autoscaler has none of
	// its own; 5 min.
	DownscaleStabilization time.Duration
	// Kept is how many decisions are recorded per autoscaler; 300.
	Kept int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Interval, time.Second)
	def(&c.Window, 5*time.Second)
	def(&c.CPUInitialization, 5*time.Minute)
	def(&c.InitialReadinessDelay, 30*time.Second)
	def(&c.DownscaleStabilization, 5*time.Minute)
	if c.Tolerance == 0 {
		c.Tolerance = 0.1
	}
	if c.Kept == 0 {
		c.Kept = 300
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Usage gives containers' CPU and memory; cgroup.History does.
type Usage interface {
	Containers(dst []cgroup.Rate, window time.Duration) []cgroup.Rate
}

// Querier evaluates PromQL; metrics.Metrics does.
type Querier interface {
	Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
}

// Controller looks at every autoscaler once an interval.
type Controller struct {
	cfg    Config
	client client.Client
	usage  Usage
	query  Querier
	events *events.Recorder
	tel    *telemetry.Component
	m      controllerMetrics
	log    *journal

	known map[client.Key]*autoscaler // Run's goroutine only
	rates []cgroup.Rate              // Run's goroutine only
}

// autoscaler is what is remembered about one.
type autoscaler struct {
	uid         types.UID
	memory      Memory
	wroteStatus time.Time
	warned      map[Warning]time.Time
}

// New returns a controller. query may be nil: then only resource metrics work.
func New(cfg Config, c client.Client, usage Usage, query Querier, rec *events.Recorder, tel *telemetry.Component) *Controller {
	cfg = cfg.withDefaults()
	return &Controller{
		cfg: cfg, client: c, usage: usage, query: query, events: rec, tel: tel,
		m: newControllerMetrics(tel.Registry), log: newJournal(cfg.Kept), known: map[client.Key]*autoscaler{},
	}
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Interval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := c.round(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			c.tel.Log.Warn("cannot read autoscalers", "err", err)
		}
		failing = err != nil
	}
}

// round looks at each autoscaler once.
func (c *Controller) round(ctx context.Context) error {
	list, _, err := client.ListOf[*autoscalingv2.HorizontalPodAutoscaler](ctx, c.client, client.ReadOptions{FromCache: true})
	if err != nil {
		return err
	}
	present := make(map[client.Key]bool, len(list))
	if len(list) > 0 {
		c.rates = c.usage.Containers(c.rates[:0], c.cfg.Window)
	}
	for _, h := range list {
		key := client.KeyOf(h)
		present[key] = true
		if h.DeletionTimestamp != nil {
			continue
		}
		c.reconcile(ctx, key, h)
	}
	for key := range c.known {
		if !present[key] {
			delete(c.known, key)
			c.log.forget(key)
			c.m.forget(key)
		}
	}
	return nil
}

// reconcile decides about one autoscaler and acts.
func (c *Controller) reconcile(ctx context.Context, key client.Key, h *autoscalingv2.HorizontalPodAutoscaler) {
	begin := time.Now()
	a := c.known[key]
	if a == nil || a.uid != h.UID {
		a = &autoscaler{uid: h.UID, warned: map[Warning]time.Time{}}
		c.known[key] = a
	}
	now := c.cfg.Now()
	target, err := c.target(ctx, h)
	if err != nil {
		d := Decision{Err: err, Desired: h.Status.DesiredReplicas, Memory: a.memory}
		d.set(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
		d.warn("FailedGetScale", err.Error())
		c.finish(ctx, key, h, a, nil, d, now, begin)
		return
	}
	s := State{
		Now: now, Spec: h.Spec, Memory: a.memory,
		Tuning:   Tuning{c.cfg.Tolerance, c.cfg.CPUInitialization, c.cfg.InitialReadinessDelay, c.cfg.DownscaleStabilization},
		Replicas: target.replicas, Observed: target.observed, SelectorMissing: target.selector == nil,
	}
	if target.selector != nil && s.Replicas > 0 {
		if s.Pods, err = c.pods(ctx, h.Namespace, target.selector); err != nil {
			c.tel.Log.Warn("cannot list an autoscaler's pods", "namespace", key.Namespace, "name", key.Name, "err", err)
			return
		}
		s.Readings = c.read(ctx, h, s.Pods, now)
	}
	d := Decide(s)
	a.memory = d.Memory
	if d.Rescale {
		c.rescale(ctx, h, target, &d)
		if d.Err != nil { // the change was not made: do not count it
			a.memory = s.Memory
			a.memory.Recommendations = d.Memory.Recommendations
		}
	}
	c.finish(ctx, key, h, a, &s, d, now, begin)
}

// rescale writes the target's scale and says so.
func (c *Controller) rescale(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler, t scaleTarget, d *Decision) {
	ctx, span := c.tel.Tracer.Start(telemetry.FromObject(ctx, h), "autoscale.rescale", trace.WithAttributes(
		attribute.String("k8s.namespace.name", h.Namespace), attribute.String("k8s.hpa.name", h.Name),
		attribute.Int("binnacle.replicas.from", int(t.replicas)), attribute.Int("binnacle.replicas.to", int(d.Desired)),
	))
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.Namespace, Name: t.key.Name, ResourceVersion: t.revision},
		Spec:       autoscalingv1.ScaleSpec{Replicas: d.Desired},
	}
	_, err := c.client.Update(ctx, t.resource, scale, client.WriteOptions{Subresource: "scale", FieldManager: "horizontal-pod-autoscaler"})
	telemetry.End(span, err)
	if err != nil {
		if !apierrors.IsConflict(err) { // someone wrote it: the next tick looks again
			c.events.Event(h, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", d.Desired, d.Reason, err)
			d.set(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err))
		}
		d.Err, d.Rescale, d.Desired = fmt.Errorf("cannot scale %s %q to %d: %w", t.resource, t.key, d.Desired, err), false, t.replicas
		return
	}
	d.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", d.Desired))
	c.events.Event(h, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", d.Desired, d.Reason)
	c.tel.Log.Info("rescaled", "namespace", h.Namespace, "name", h.Name, "from", t.replicas, "to", d.Desired, "reason", d.Reason)
}

// finish records the decision and brings the autoscaler's status up to date.
func (c *Controller) finish(ctx context.Context, key client.Key, h *autoscalingv2.HorizontalPodAutoscaler, a *autoscaler, s *State, d Decision, now, begin time.Time) {
	for _, w := range d.Warnings {
		// Once a minute is enough for what repeats each second.
		if now.Sub(a.warned[w]) >= time.Minute {
			a.warned[w] = now
			c.events.Event(h, corev1.EventTypeWarning, w.Reason, "%s", w.Message)
		}
	}
	for w, at := range a.warned {
		if now.Sub(at) > 10*time.Minute {
			delete(a.warned, w)
		}
	}
	c.log.add(key, record(now, h, s, &d))
	c.m.observe(key, s, &d, time.Since(begin))
	if err := c.writeStatus(ctx, h, a, s, d, now); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		c.tel.Log.Warn("cannot write an autoscaler's status", "namespace", key.Namespace, "name", key.Name, "err", err)
	}
}

// statusEvery bounds how often measured values alone are written.
const statusEvery = 5 * time.Second

func (c *Controller) writeStatus(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler, a *autoscaler, s *State, d Decision, now time.Time) error {
	next := statusOf(h, s, &d, now)
	was := h.Status
	if equality.Semantic.DeepEqual(&was, next) {
		return nil
	}
	withoutMetrics := next.DeepCopy()
	withoutMetrics.CurrentMetrics = was.CurrentMetrics
	if equality.Semantic.DeepEqual(&was, withoutMetrics) && now.Sub(a.wroteStatus) < statusEvery {
		return nil
	}
	a.wroteStatus = now
	out := h.DeepCopy()
	out.Status = *next
	_, err := client.UpdateStatus(ctx, c.client, out)
	return err
}

// statusOf is the status after a decision. Transition times change only with
// the condition's status.
func statusOf(h *autoscalingv2.HorizontalPodAutoscaler, s *State, d *Decision, now time.Time) *autoscalingv2.HorizontalPodAutoscalerStatus {
	st := h.Status.DeepCopy()
	generation := h.Generation
	st.ObservedGeneration = &generation
	st.DesiredReplicas = d.Desired
	if s != nil {
		st.CurrentReplicas = s.Replicas
	}
	if d.Rescale {
		t := metav1.NewTime(now.Truncate(time.Second))
		st.LastScaleTime = &t
	}
	if len(d.Proposals) > 0 {
		st.CurrentMetrics = nil
		for _, p := range d.Proposals {
			if p.Error == "" {
				st.CurrentMetrics = append(st.CurrentMetrics, p.Status)
			}
		}
	}
	for _, c := range d.Conditions {
		setCondition(st, c, now)
	}
	return st
}

func setCondition(st *autoscalingv2.HorizontalPodAutoscalerStatus, c Condition, now time.Time) {
	for i := range st.Conditions {
		have := &st.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status != c.Status {
			have.Status, have.LastTransitionTime = c.Status, metav1.NewTime(now.Truncate(time.Second))
		}
		have.Reason, have.Message = c.Reason, c.Message
		return
	}
	st.Conditions = append(st.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
}
