package controller

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"

	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/telemetry"
)

const (
	retryFirst = 5 * time.Millisecond
	retryMost  = time.Minute
	// rewatch is the pause before a broken watch is set up again.
	rewatch = 200 * time.Millisecond
	// atOnce bounds how many actions of a plan are in flight.
	atOnce = 16
)

// loop runs one controller.
type loop struct {
	Controller
	reader  client.Client // reads everything, as upstream's shared informers do
	client  client.Client // writes as the controller's own account
	events  *events.Recorder
	tel     *telemetry.Component
	queue   workqueue.TypedRateLimitingInterface[client.Key]
	results *prometheus.CounterVec
	now     func() time.Time

	mu     sync.Mutex
	causes map[client.Key]string // traceparent of the change that queued a key; guarded by mu
}

func (l *loop) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	synced := &sync.WaitGroup{}
	for _, in := range l.Inputs {
		synced.Add(1)
		g.Go(func() error { return l.follow(ctx, in, sync.OnceFunc(synced.Done)) })
	}
	g.Go(func() error {
		<-ctx.Done()
		l.queue.ShutDown()
		return nil
	})
	for range max(l.Workers, 1) {
		g.Go(func() error {
			synced.Wait() // the first reconciliation sees every input
			for l.work(ctx) {
			}
			return nil
		})
	}
	return g.Wait()
}

// follow keeps a watch on one input and queues what its changes concern, until
// ctx ends. ready is called when the present state has been seen, or at the end.
func (l *loop) follow(ctx context.Context, in Input, ready func()) error {
	defer ready()
	known := map[client.Key]client.Object{}
	for ctx.Err() == nil {
		err := l.watch(ctx, in, known, ready)
		if ctx.Err() != nil {
			return nil
		}
		l.tel.Log.Info("watch ended, starting anew", "controller", l.Name, "resource", in.Resource.String(), "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
	return nil
}

func (l *loop) watch(ctx context.Context, in Input, known map[client.Key]client.Object, ready func()) error {
	w, err := l.reader.Watch(ctx, in.Resource, "", in.Read)
	if err != nil {
		return err
	}
	defer w.Close()
	// Until the first bookmark the present state arrives; what was known
	// and does not arrive has gone meanwhile.
	unseen := map[client.Key]client.Object{}
	for k, o := range known {
		unseen[k] = o
	}
	initial := true
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if ev.Type == client.Bookmark {
			if initial {
				for k, o := range unseen {
					delete(known, k)
					l.enqueue(in, o, "")
				}
				initial = false
				ready()
			}
			continue
		}
		key, cause := client.KeyOf(ev.Object), ev.Object.GetAnnotations()[telemetry.TraceAnnotation]
		delete(unseen, key)
		if old := known[key]; old != nil && ev.Type != client.Deleted {
			l.enqueue(in, old, cause)
		}
		if ev.Type == client.Deleted {
			delete(known, key)
		} else {
			known[key] = ev.Object
		}
		l.enqueue(in, ev.Object, cause)
	}
}

func (l *loop) enqueue(in Input, obj client.Object, cause string) {
	for _, key := range in.Keys(l.state(context.Background()), obj) {
		if cause != "" {
			l.mu.Lock()
			l.causes[key] = cause
			l.mu.Unlock()
		}
		l.queue.Add(key)
	}
}

func (l *loop) work(ctx context.Context) bool {
	key, quit := l.queue.Get()
	if quit {
		return false
	}
	defer l.queue.Done(key)
	l.mu.Lock()
	cause := l.causes[key]
	delete(l.causes, key)
	l.mu.Unlock()

	plan, err := l.reconcile(telemetry.WithTraceparent(ctx, cause), key)
	if err != nil && cause != "" {
		l.mu.Lock()
		if l.causes[key] == "" { // the next try is still for the same reason
			l.causes[key] = cause
		}
		l.mu.Unlock()
	}
	switch {
	case err == nil:
		l.results.WithLabelValues(l.Name, "success").Inc()
		l.queue.Forget(key)
		if plan.After > 0 {
			l.queue.AddAfter(key, plan.After)
		}
	case ctx.Err() != nil:
	case apierrors.IsConflict(err):
		l.results.WithLabelValues(l.Name, "conflict").Inc()
		l.queue.AddRateLimited(key)
	default:
		l.results.WithLabelValues(l.Name, "error").Inc()
		l.tel.Log.Warn("cannot reconcile", "controller", l.Name, "key", key.String(), "retries", l.queue.NumRequeues(key), "err", err)
		l.queue.AddRateLimited(key)
	}
	return true
}

// reconcile decides and acts. Only a plan that does something has a span, and
// only then does the trace that caused it continue.
func (l *loop) reconcile(ctx context.Context, key client.Key) (plan Plan, err error) {
	start := l.now()
	s := l.state(ctx)
	plan, err = l.Reconcile(ctx, s, key)
	if err = errors.Join(err, s.err); err != nil {
		return plan, err
	}
	var done []Action
	if plan.Report != nil {
		defer func() { plan.Report(Outcome{Took: l.now().Sub(start), Done: done, Err: err}) }()
	}
	if len(plan.Actions) == 0 {
		return plan, nil
	}
	ctx, span := l.tel.Tracer.Start(ctx, "reconcile "+l.Name, trace.WithTimestamp(start), trace.WithAttributes(
		attribute.String("k8s.namespace.name", key.Namespace),
		attribute.String("binnacle.object.name", key.Name),
		attribute.Int("binnacle.plan.actions", len(plan.Actions)),
	))
	done, err = l.execute(ctx, plan.Actions)
	var failed *actionError
	if plan.Failed != nil && errors.As(err, &failed) && ctx.Err() == nil {
		more, also := l.execute(ctx, plan.Failed(failed.action, failed.error))
		done, err = append(done, more...), errors.Join(err, also)
	}
	telemetry.End(span, err)
	return plan, err
}

// actionError is the error that ended a plan.
type actionError struct {
	action Action
	error
}

func (e *actionError) Unwrap() error { return e.error }

// execute carries actions out until one fails, and returns those that did not.
func (l *loop) execute(ctx context.Context, rest []Action) (done []Action, err error) {
	var mu sync.Mutex // guards done
	for len(rest) > 0 {
		n := 1
		for n < len(rest) && rest[n].Op == rest[0].Op && sameType(rest[n].Object, rest[0].Object) {
			n++
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for _, a := range rest[:n] {
			g.Go(func() error {
				if err := l.do(gctx, a); err != nil {
					return &actionError{a, err}
				}
				mu.Lock()
				done = append(done, a)
				mu.Unlock()
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return done, err
		}
		rest = rest[n:]
	}
	return done, nil
}

func (l *loop) do(ctx context.Context, a Action) error {
	if a.Op == OpEvent {
		l.events.Event(a.Object, a.EventType, a.Reason, "%s", a.Message)
		return nil
	}
	r, err := l.client.ResourceOf(a.Object)
	if err != nil {
		return err
	}
	key := client.KeyOf(a.Object)
	opts := client.WriteOptions{Subresource: a.Sub}
	switch a.Op {
	case OpCreate:
		var made client.Object
		made, err = l.client.Create(ctx, r, key, a.Object, opts)
		if err == nil {
			key = client.KeyOf(made)
		}
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // what would hold it is going, and the key's work with it
		}
	case OpUpdate, OpStatus:
		_, err = l.client.Update(ctx, r, a.Object, opts)
	case OpPatch:
		_, err = l.client.Patch(ctx, r, key, a.PatchType, a.Body, opts)
	case OpDelete:
		err = l.client.Delete(ctx, r, key, client.DeleteOptions{UID: a.Object.GetUID(), Propagation: a.Propagation})
	default:
		panic("controller: unknown operation " + string(a.Op))
	}
	if apierrors.IsNotFound(err) && a.Op != OpCreate {
		err = nil // gone meanwhile, of which its own event tells
	}
	l.tell(a, key, err)
	if err != nil {
		return fmt.Errorf("cannot %s %s %q: %w", a.Op, r, key, err)
	}
	return nil
}

// tell records on the owner how a create or delete of its dependent went, in
// upstream's words.
func (l *loop) tell(a Action, key client.Key, err error) {
	if a.Owner == nil {
		return
	}
	kind := strings.ToLower(reflect.TypeOf(a.Object).Elem().Name())
	switch {
	case a.Op == OpCreate && err == nil:
		l.events.Event(a.Owner, corev1.EventTypeNormal, "SuccessfulCreate", "Created %s: %s", kind, key.Name)
	case a.Op == OpCreate:
		l.events.Event(a.Owner, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
	case a.Op == OpDelete && err == nil:
		l.events.Event(a.Owner, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted %s: %s", kind, key.Name)
	case a.Op == OpDelete:
		l.events.Event(a.Owner, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
	}
}

func sameType(a, b client.Object) bool { return fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b) }

// cached is the State of one reconciliation: cached reads through the client.
// The first failed read is kept in err; the plan made with it is thrown away.
type cached struct {
	ctx    context.Context
	client client.Client
	now    time.Time
	err    error
}

func (l *loop) state(ctx context.Context) *cached {
	return &cached{ctx: ctx, client: l.reader, now: l.now()}
}

func (s *cached) Now() time.Time { return s.now }

func (s *cached) ResourceOf(obj runtime.Object) (client.Resource, error) {
	return s.client.ResourceOf(obj)
}

func (s *cached) Get(r client.Resource, key client.Key) (client.Object, bool) {
	o, err := s.client.Get(s.ctx, r, key, client.ReadOptions{FromCache: true})
	if err != nil {
		if !apierrors.IsNotFound(err) {
			s.err = errors.Join(s.err, err)
		}
		return nil, false
	}
	return o, true
}

func (s *cached) List(r client.Resource, namespace string) []client.Object {
	list, err := s.client.List(s.ctx, r, client.ReadOptions{Namespace: namespace, FromCache: true})
	if err != nil {
		s.err = errors.Join(s.err, err)
		return nil
	}
	return list.Items
}
