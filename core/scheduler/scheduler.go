package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/events"
	"binnacle.io/core/telemetry"
)

const (
	// bindsAtOnce bounds the bindings in flight.
	bindsAtOnce = 64
	inbox       = 1024
	rewatch     = 200 * time.Millisecond
)

// Config of the scheduler.
type Config struct {
	// Name is the spec.schedulerName it answers to; empty means
	// default-scheduler.
	Name string
	// Profile is how it decides; the zero value means DefaultProfile.
	Profile Profile
	// Now and Pick are time and chance; nil means the real ones.
	Now  func() time.Time
	Pick func(n int) int
}

// Scheduler assigns pods to nodes.
type Scheduler struct {
	cfg    Config
	client client.Client
	tel    *telemetry.Component
	events *events.Recorder
	m      *metrics
	in     chan message

	// Below belongs to Run's goroutine.
	picture *Picture
	queue   *queue
	assumed map[types.UID]bool
	gated   map[types.UID]bool
	synced  int // watches whose present state has arrived
	binding int // bindings in flight

	mu   sync.Mutex
	last map[types.UID]Decision // latest decision without a node; guarded by mu
}

// message is what reaches Run's goroutine: a change, or the end of a binding.
type message struct {
	event client.Event
	bound *binding
	ready bool
}

type binding struct {
	e    *queued
	node string
	err  error
	took time.Duration
}

// New returns a scheduler that reads and writes through c.
func New(cfg Config, c client.Client, tel *telemetry.Component) *Scheduler {
	if cfg.Name == "" {
		cfg.Name = profileName
	}
	if cfg.Profile.Filters == nil {
		cfg.Profile = DefaultProfile()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Pick == nil {
		cfg.Pick = rand.IntN
	}
	return &Scheduler{
		cfg: cfg, client: c, tel: tel, m: newMetrics(tel.Registry),
		events:  events.NewRecorder(events.Config{Component: cfg.Name, Now: cfg.Now}, c, tel),
		in:      make(chan message, inbox),
		picture: NewPicture(), queue: newQueue(), assumed: map[types.UID]bool{}, gated: map[types.UID]bool{},
		last: map[types.UID]Decision{},
	}
}

// Explain returns the latest decision about a pod that has no node.
func (s *Scheduler) Explain(uid types.UID) (Decision, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.last[uid]
	return d, ok
}

// Run schedules until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	followed := []string{"nodes", "pods", "namespaces"}
	for _, r := range followed {
		g.Go(func() error { return s.follow(ctx, client.Resource{Resource: r}) })
	}
	g.Go(func() error { return s.events.Run(ctx) })
	g.Go(func() error {
		binds := &errgroup.Group{}
		err := s.loop(ctx, len(followed), binds)
		return errors.Join(err, binds.Wait())
	})
	return g.Wait()
}

// loop takes changes in first, then decides about one pod, and so on.
func (s *Scheduler) loop(ctx context.Context, watches int, binds *errgroup.Group) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.in:
			s.take(m)
			continue
		default:
		}
		if s.synced >= watches {
			wait := s.queue.tick(s.cfg.Now())
			if s.binding < bindsAtOnce { // else a binding must end first, which is a message
				if e := s.queue.pop(); e != nil {
					s.schedule(ctx, e, binds)
					continue
				}
			}
			s.observe()
			if wait > 0 {
				timer.Reset(wait)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.in:
			s.take(m)
		case <-timer.C:
		}
	}
}

func (s *Scheduler) follow(ctx context.Context, r client.Resource) error {
	known := map[client.Key]client.Object{}
	ready := sync.OnceFunc(func() { s.send(ctx, message{ready: true}) })
	for ctx.Err() == nil {
		if err := s.watch(ctx, r, known, ready); ctx.Err() == nil {
			s.tel.Log.Info("watch ended, starting anew", "resource", r.String(), "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(rewatch):
			}
		}
	}
	return nil
}

func (s *Scheduler) watch(ctx context.Context, r client.Resource, known map[client.Key]client.Object, ready func()) error {
	w, err := s.client.Watch(ctx, r, "", client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	missing := map[client.Key]client.Object{}
	for k, o := range known {
		missing[k] = o
	}
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		switch ev.Type {
		case client.Bookmark:
			for k, o := range missing { // deleted while nobody watched
				delete(known, k)
				s.send(ctx, message{event: client.Event{Type: client.Deleted, Object: o}})
			}
			missing = nil
			ready()
			continue
		case client.Deleted:
			delete(known, client.KeyOf(ev.Object))
		default:
			known[client.KeyOf(ev.Object)] = ev.Object
		}
		delete(missing, client.KeyOf(ev.Object))
		s.send(ctx, message{event: ev})
	}
}

func (s *Scheduler) send(ctx context.Context, m message) {
	select {
	case s.in <- m:
	case <-ctx.Done():
	}
}

// take brings picture and queue up to date with one message.
func (s *Scheduler) take(m message) {
	switch {
	case m.ready:
		s.synced++
	case m.bound != nil:
		s.finish(m.bound)
	default:
		switch o := m.event.Object.(type) {
		case *corev1.Node:
			if m.event.Type == client.Deleted {
				s.picture.RemoveNode(o.Name)
				return
			}
			s.picture.SetNode(o)
			s.queue.changed(s.cfg.Now())
		case *corev1.Namespace:
			if m.event.Type == client.Deleted {
				s.picture.SetNamespace(o.Name, nil)
				return
			}
			labels := o.Labels
			if labels == nil {
				labels = map[string]string{}
			}
			s.picture.SetNamespace(o.Name, labels)
		case *corev1.Pod:
			s.takePod(m.event.Type, o)
		}
	}
}

func (s *Scheduler) takePod(t client.EventType, p *corev1.Pod) {
	now := s.cfg.Now()
	finished := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	switch {
	case t == client.Deleted || finished:
		s.forget(p.UID)
		if _, counted := s.picture.Assigned(p.UID); counted {
			s.picture.RemovePod(p.UID)
			s.queue.changed(now) // there is room now
		}
	case p.Spec.NodeName != "":
		s.forget(p.UID)
		_, counted := s.picture.Assigned(p.UID)
		s.picture.SetPod(p)
		if !counted {
			s.queue.changed(now) // others may have waited to be near it
		}
	case s.assumed[p.UID] || p.Spec.SchedulerName != s.cfg.Name:
	case p.DeletionTimestamp != nil:
		s.forget(p.UID)
	case len(p.Spec.SchedulingGates) > 0:
		s.gated[p.UID] = true
	default:
		delete(s.gated, p.UID)
		if s.queue.all[p.UID] == nil {
			s.m.incoming.WithLabelValues("active", "PodAdd").Inc()
		}
		s.queue.put(p, now)
	}
}

func (s *Scheduler) forget(uid types.UID) {
	s.queue.take(uid)
	delete(s.assumed, uid)
	delete(s.gated, uid)
	s.mu.Lock()
	delete(s.last, uid)
	s.mu.Unlock()
}

// schedule decides about one pod and starts its binding.
func (s *Scheduler) schedule(ctx context.Context, e *queued, binds *errgroup.Group) {
	start := s.cfg.Now()
	ctx, span := s.tel.Tracer.Start(telemetry.FromObject(ctx, e.pod), "schedule pod", trace.WithAttributes(
		attribute.String("k8s.namespace.name", e.pod.Namespace), attribute.String("k8s.pod.name", e.pod.Name),
		attribute.Int("binnacle.scheduler.attempt", e.attempts)))
	d := s.cfg.Profile.Decide(e.pod, s.picture, s.cfg.Pick)
	s.m.algorithm.Observe(s.cfg.Now().Sub(start).Seconds())
	span.SetAttributes(attribute.Int("binnacle.scheduler.nodes", d.Nodes), attribute.Int("binnacle.scheduler.feasible", d.Feasible),
		attribute.String("k8s.node.name", d.Node))
	if d.Node == "" {
		s.refuse(ctx, e, d, start)
		span.SetAttributes(attribute.String("binnacle.scheduler.message", d.Message()))
		span.End()
		return
	}
	assumed := e.pod.DeepCopy()
	assumed.Spec.NodeName = d.Node
	s.picture.SetPod(assumed)
	s.assumed[e.pod.UID] = true
	s.binding++
	binds.Go(func() error {
		begun := s.cfg.Now()
		err := s.bind(ctx, e.pod, d.Node)
		telemetry.End(span, err)
		status := "Success"
		if err != nil {
			status = "Error"
		}
		s.m.bindings.WithLabelValues("Bind", status, s.cfg.Name).Observe(s.cfg.Now().Sub(begun).Seconds())
		s.send(ctx, message{bound: &binding{e, d.Node, err, s.cfg.Now().Sub(start)}})
		return nil
	})
}

func (s *Scheduler) bind(ctx context.Context, p *corev1.Pod, node string) error {
	_, err := s.client.Create(ctx, client.Resource{Resource: "pods"}, client.KeyOf(p), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, client.WriteOptions{Subresource: "binding"})
	if err != nil {
		return fmt.Errorf("cannot bind pod %q to node %q: %w", client.KeyOf(p), node, err)
	}
	return nil
}

// finish takes in how a binding went.
func (s *Scheduler) finish(b *binding) {
	s.binding--
	p := b.e.pod
	if b.err == nil {
		s.m.attempts.WithLabelValues("scheduled", s.cfg.Name).Inc()
		s.m.attempt.WithLabelValues("scheduled", s.cfg.Name).Observe(b.took.Seconds())
		s.m.sli.WithLabelValues(strconv.Itoa(min(b.e.attempts, 15))).Observe(s.cfg.Now().Sub(b.e.added).Seconds())
		s.m.tries.Observe(float64(b.e.attempts))
		s.events.Event(p, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", p.Namespace, p.Name, b.node)
		return
	}
	s.m.attempts.WithLabelValues("error", s.cfg.Name).Inc()
	s.m.attempt.WithLabelValues("error", s.cfg.Name).Observe(b.took.Seconds())
	if !s.assumed[p.UID] {
		return // its deletion or its assignment has been seen meanwhile
	}
	delete(s.assumed, p.UID)
	s.picture.RemovePod(p.UID)
	if apierrors.IsNotFound(b.err) {
		return
	}
	s.tel.Log.Warn("cannot bind", "namespace", p.Namespace, "pod", p.Name, "node", b.node, "err", b.err)
	s.events.Event(p, corev1.EventTypeWarning, "FailedScheduling", "%v", b.err)
	s.queue.putBack(b.e, true, s.cfg.Now())
}

// refuse records that a pod has no node, and why.
func (s *Scheduler) refuse(ctx context.Context, e *queued, d Decision, start time.Time) {
	s.m.attempts.WithLabelValues("unschedulable", s.cfg.Name).Inc()
	s.m.attempt.WithLabelValues("unschedulable", s.cfg.Name).Observe(s.cfg.Now().Sub(start).Seconds())
	e.plugins = d.Plugins
	s.queue.putBack(e, false, s.cfg.Now())
	s.mu.Lock()
	s.last[e.pod.UID] = d
	s.mu.Unlock()
	s.events.Event(e.pod, corev1.EventTypeWarning, "FailedScheduling", "%s", d.Message())
	if err := s.setCondition(ctx, e.pod, d.Message()); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		s.tel.Log.Warn("cannot write condition PodScheduled", "namespace", e.pod.Namespace, "pod", e.pod.Name, "err", err)
	}
}

func (s *Scheduler) setCondition(ctx context.Context, p *corev1.Pod, message string) error {
	if c := controller.PodCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse && c.Message == message {
		return nil
	}
	c := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		LastTransitionTime: metav1.NewTime(s.cfg.Now().Truncate(time.Second)), ObservedGeneration: p.Generation,
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": map[string]any{"conditions": []corev1.PodCondition{c}}})
	if err != nil {
		return err
	}
	_, err = client.Patch[*corev1.Pod](ctx, s.client, p.Namespace, p.Name, types.StrategicMergePatchType, body, client.WriteOptions{Subresource: "status"})
	return err
}

// observe brings the gauges up to date; called when there is nothing to do.
func (s *Scheduler) observe() {
	n := s.queue.counts()
	s.m.pending.WithLabelValues("active").Set(float64(n[active]))
	s.m.pending.WithLabelValues("backoff").Set(float64(n[backingOff]))
	s.m.pending.WithLabelValues("unschedulable").Set(float64(n[unschedulable]))
	s.m.pending.WithLabelValues("gated").Set(float64(len(s.gated)))
	s.m.cacheSize.WithLabelValues("nodes").Set(float64(len(s.picture.list)))
	s.m.cacheSize.WithLabelValues("pods").Set(float64(len(s.picture.where)))
	s.m.cacheSize.WithLabelValues("assumed_pods").Set(float64(len(s.assumed)))
	s.m.refused.Reset()
	for _, e := range s.queue.all {
		if e.state != active {
			for _, plugin := range e.plugins {
				s.m.refused.WithLabelValues(plugin, s.cfg.Name).Inc()
			}
		}
	}
}
