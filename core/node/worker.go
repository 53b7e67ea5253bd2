package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
	"binnacle.io/core/telemetry"
)

// worker owns one pod on the node. Its loop observes, decides, starts actions
// and writes the status; the actions run beside it and come back as results.
type worker struct {
	a   *Agent
	uid types.UID
	// wake tells the loop that something outside changed.
	wake chan struct{}
	// results carries what ended actions mean for the loop's state.
	results chan result
	tasks   sync.WaitGroup

	mu       sync.Mutex
	pod      *corev1.Pod       // desired; guarded by mu
	removed  bool              // guarded by mu
	admitted bool              // it holds resources of the node; guarded by mu
	rejected *podstate.Failure // guarded by mu
	observe  bool              // the runtime may have changed; guarded by mu
	refresh  bool              // volumes may be out of date; guarded by mu
	// retrySetup says that a source of the volumes changed; guarded by mu.
	retrySetup bool
	probes     map[string]podstate.Probes // guarded by mu
	view       view                       // guarded by mu
	images     map[string]runtime.Image   // by container, for its next start; guarded by mu

	// The rest is the loop's alone.
	mem        podstate.Memory
	busy       map[podstate.Task]*running
	boxes      []runtime.Sandbox
	containers []runtime.Container
	told       map[string]string // event keys already recorded, by subject
	status     statusWriter
	renewAt    time.Time // when volumes need new tokens
	prober     prober
	span       trace.Span
	spanCtx    context.Context
	firstSeen  time.Time
	wasReady   bool
}

// view is what others may see of a worker's pod.
type view struct {
	sandboxes  []runtime.Sandbox
	containers []runtime.Container
	status     corev1.PodStatus
	terminal   bool
}

// running is an action under way.
type running struct {
	cancel context.CancelFunc
	serial int
}

// result is an action's end: apply changes the loop's state.
type result struct {
	task   podstate.Task
	serial int
	apply  func(*worker)
}

// resultQueue bounds results not yet taken in; actions wait beyond it.
const resultQueue = 16

func (a *Agent) newWorker(pod *corev1.Pod, removed bool) *worker {
	return &worker{
		a: a, uid: pod.UID, pod: pod, removed: removed, admitted: pod.Status.StartTime != nil, observe: true,
		wake: make(chan struct{}, 1), results: make(chan result, resultQueue),
		busy: map[podstate.Task]*running{}, probes: map[string]podstate.Probes{},
		images: map[string]runtime.Image{}, told: map[string]string{}, firstSeen: time.Now(),
		mem: podstate.Memory{Containers: map[string]podstate.ContainerMemory{}, Kills: map[string]podstate.Kill{}, Stopped: map[string]bool{}},
	}
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// update changes the desired pod.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	if !maps.Equal(w.pod.Labels, pod.Labels) || !maps.Equal(w.pod.Annotations, pod.Annotations) {
		w.refresh = true // they may be in a volume
	}
	w.pod = pod
	w.mu.Unlock()
	w.poke()
}

// remove says that the API has no such pod any more. last is its last state,
// if known.
func (w *worker) remove(last *corev1.Pod) {
	w.mu.Lock()
	w.removed = true
	if last != nil {
		w.pod = last
	}
	w.mu.Unlock()
	w.poke()
}

// changed says that the runtime has news of the pod.
func (w *worker) changed() {
	w.mu.Lock()
	w.observe = true
	w.mu.Unlock()
	w.poke()
}

// stale says that what the pod's volumes are made from has changed.
func (w *worker) stale() {
	w.mu.Lock()
	w.refresh, w.retrySetup = true, true
	w.mu.Unlock()
	w.poke()
}

func (w *worker) desired() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (w *worker) snapshot() (*corev1.Pod, view) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod, w.view
}

// run is the worker's loop. It returns when nothing is left of the pod or ctx
// has ended; in the latter case the pod goes on.
func (w *worker) run(ctx context.Context) {
	defer w.tasks.Wait()
	defer w.prober.stop()
	defer w.a.objects.unwatch(w.uid)
	pod := w.desired()
	w.spanCtx, w.span = w.a.tel.Tracer.Start(telemetry.FromObject(ctx, pod), "pod sync", trace.WithAttributes(
		attribute.String("k8s.pod.name", pod.Name), attribute.String("k8s.namespace.name", pod.Namespace), attribute.String("k8s.pod.uid", string(pod.UID))))
	defer func() { w.span.End() }()
	w.begin(pod)
	op := "create"
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		began := time.Now()
		next, done := w.step(ctx)
		w.a.metrics.workers.WithLabelValues(op).Observe(time.Since(began).Seconds())
		op = "sync"
		if done || ctx.Err() != nil {
			return
		}
		if !timer.Stop() {
			select {
			case <-timer.C:
			default:
			}
		}
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), 0))
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case r := <-w.results:
			w.take(r)
		case <-timer.C:
		}
		for more := true; more; {
			select {
			case r := <-w.results:
				w.take(r)
			default:
				more = false
			}
		}
	}
}

// take applies an action's result. A result of an action that was replaced
// meanwhile (a kill by a quicker one) frees nothing.
func (w *worker) take(r result) {
	if b := w.busy[r.task]; b != nil && b.serial == r.serial {
		delete(w.busy, r.task)
	}
	if r.apply != nil {
		r.apply(w)
	}
}

// begin finds out what is there already.
func (w *worker) begin(pod *corev1.Pod) {
	if t := pod.Status.StartTime; t != nil {
		w.mem.StartTime = t.Time
		if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodPending {
			if err := w.a.qos.adopt(pod); err != nil {
				w.a.tel.Log.Warn("cannot weigh pod", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
			}
		}
		return
	}
	w.mem.StartTime = time.Now()
	w.mu.Lock()
	removed := w.removed
	w.mu.Unlock()
	if removed {
		return
	}
	if f := w.a.admit(w, pod); f != nil {
		w.event(pod, nil, corev1.EventTypeWarning, f.Reason, "%s", f.Message)
		return
	}
	if names := podspec.Unconfined(pod, w.a.spec); len(names) > 0 {
		w.event(pod, nil, corev1.EventTypeWarning, "SeccompUnavailable",
			"seccompProfile RuntimeDefault has no effect on containers [%s]: the container runtime of this node is built without seccomp", strings.Join(names, " "))
	}
}

// retryObserve is the pause after the runtime could not be asked.
const retryObserve = time.Second

// step is one turn: observe, decide, act, report.
func (w *worker) step(ctx context.Context) (next time.Time, done bool) {
	w.mu.Lock()
	look := w.observe
	w.observe = false
	w.mu.Unlock()
	if look {
		boxes, cs, err := w.a.runtime.Observe(ctx, w.uid)
		if err != nil {
			if ctx.Err() == nil {
				w.a.tel.Log.Warn("cannot observe pod", "uid", w.uid, "error", err)
			}
			w.mu.Lock()
			w.observe = true
			w.mu.Unlock()
			return time.Now().Add(retryObserve), false
		}
		w.boxes, w.containers = boxes, cs
		w.forgetGone()
	}
	w.mu.Lock()
	if w.retrySetup && !w.mem.Setup.Done {
		w.mem.Setup.RetryAt = time.Time{} // what was missing may be there now
	}
	w.retrySetup = false
	w.mu.Unlock()
	in := w.input()
	w.syncProbes(ctx, &in)
	plan := podstate.Decide(in)
	if plan.Done {
		w.forget(in.Pod)
		return time.Time{}, true
	}
	ending := plan.Terminal || in.Removed || in.Rejected != nil || in.Pod.DeletionTimestamp != nil
	if ending {
		w.cancelPulls(in.Pod)
	}
	for _, e := range plan.Events {
		w.tell(in.Pod, e)
	}
	status := podstate.Status(in)
	w.publish(ctx, &in, status, plan.Terminal)
	for _, act := range plan.Actions {
		if act.Kind == podstate.DeleteObject && !w.status.settled() {
			continue // the last status first
		}
		w.start(ctx, in.Pod, act)
	}
	w.refreshVolumes(ctx, &in, ending)
	w.collect(ctx, in)
	next = earliest(plan.Wake, w.status.retryAt)
	if !ending {
		next = earliest(next, w.renewAt)
	}
	return next, false
}

// forgetGone drops what is remembered of containers and sandboxes that are no
// more.
func (w *worker) forgetGone() {
	there := make(map[string]bool, len(w.containers)+len(w.boxes))
	for i := range w.boxes {
		there[w.boxes[i].ID] = true
	}
	for i := range w.containers {
		there[w.containers[i].ID] = true
	}
	gone := func(id string) bool { return !there[id] }
	maps.DeleteFunc(w.mem.Stopped, func(id string, _ bool) bool { return gone(id) })
	maps.DeleteFunc(w.mem.Kills, func(id string, _ podstate.Kill) bool { return gone(id) })
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.probes, func(id string, _ podstate.Probes) bool { return gone(id) })
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (w *worker) input() podstate.Input {
	w.mu.Lock()
	defer w.mu.Unlock()
	busy := make(map[podstate.Task]bool, len(w.busy))
	for t := range w.busy {
		busy[t] = true
	}
	w.mem.Probes = w.probes
	mem := w.mem
	mem.Probes = make(map[string]podstate.Probes, len(w.probes))
	for id, p := range w.probes {
		mem.Probes[id] = p
	}
	return podstate.Input{
		Now: time.Now(), Pod: w.status.latest(w.pod), Removed: w.removed, Rejected: w.rejected,
		Sandboxes: w.boxes, Containers: w.containers, Memory: mem, Busy: busy, HostIPs: w.a.cfg.NodeIPs,
	}
}

// start runs an action beside the loop.
func (w *worker) start(ctx context.Context, pod *corev1.Pod, act podstate.Action) {
	parent := ctx
	if w.spanCtx != nil {
		parent = w.spanCtx
	}
	tctx, cancel := context.WithCancel(parent)
	serial := 0
	if old := w.busy[act.Task]; old != nil { // a kill that must be quicker
		old.cancel()
		serial = old.serial + 1
	}
	if act.Kind == podstate.KillContainer {
		w.mem.Kills[act.Name] = podstate.Kill{Deadline: act.Deadline, Ending: act.Ending}
	}
	w.busy[act.Task] = &running{cancel, serial}
	w.tasks.Go(func() {
		defer cancel()
		began := time.Now()
		apply, err := w.execute(tctx, pod, act)
		outcome := "success"
		if err != nil {
			outcome = "error"
			if tctx.Err() == nil {
				w.a.tel.Log.Warn("pod action failed", "action", act.Kind.String(), "subject", act.Name,
					"namespace", pod.Namespace, "pod", pod.Name, "error", err)
			}
		}
		w.a.metrics.workerStart.WithLabelValues(act.Kind.String(), outcome).Observe(time.Since(began).Seconds())
		select {
		case w.results <- result{act.Task, serial, apply}:
		case <-ctx.Done():
		}
	})
}

// cancelPulls gives up what a pod that ends does not need: pulls, volumes, and
// the hooks of containers that have started.
func (w *worker) cancelPulls(pod *corev1.Pod) {
	for t, b := range w.busy {
		if t.Kind == podstate.PullImage || t.Kind == podstate.Setup || t.Kind == podstate.StartContainer && w.inHook(pod, t.Name) {
			b.cancel()
		}
	}
}

// inHook reports whether a container runs, so that of its start only the
// postStart hook is left.
func (w *worker) inHook(pod *corev1.Pod, container string) bool {
	spec := findContainer(pod, container)
	if spec == nil || spec.Lifecycle == nil || spec.Lifecycle.PostStart == nil {
		return false
	}
	return slices.ContainsFunc(w.containers, func(c runtime.Container) bool { return c.Name == container && c.State == runtime.Running })
}

// tell records an event once for as long as it stays the same.
func (w *worker) tell(pod *corev1.Pod, e podstate.Event) {
	subject := e.Reason + "/" + e.Type + "/" + e.Container
	if w.told[subject] == e.Key {
		return
	}
	w.told[subject] = e.Key
	var c *corev1.Container
	if e.Container != "" {
		c = findContainer(pod, e.Container)
	}
	w.event(pod, c, e.Type, e.Reason, "%s", e.Message)
}

// refreshVolumes brings mounted API objects up to date.
func (w *worker) refreshVolumes(ctx context.Context, in *podstate.Input, ending bool) {
	w.mu.Lock()
	due := w.refresh || !w.renewAt.IsZero() && !in.Now.Before(w.renewAt)
	task := podstate.Task{Kind: podstate.Setup}
	due = due && !ending && in.Memory.Setup.Done && w.busy[task] == nil
	if due {
		w.refresh = false
	}
	w.mu.Unlock()
	if !due {
		return
	}
	pod := in.Pod
	rctx, cancel := context.WithCancel(ctx)
	// It counts as a setup, so that nothing is torn down meanwhile and a pod
	// that ends cancels it.
	w.busy[task] = &running{cancel: cancel}
	w.tasks.Go(func() {
		defer cancel()
		next, err := w.setUpVolumes(rctx, pod)
		apply := func(w *worker) {
			if err == nil {
				w.renewAt = next
			} else {
				w.renewAt = time.Now().Add(retryRefresh)
			}
		}
		if err != nil && rctx.Err() == nil && !errors.Is(err, context.Canceled) {
			w.event(pod, nil, corev1.EventTypeWarning, "FailedMount", "%s", err.Error())
		}
		select {
		case w.results <- result{task: task, apply: apply}:
		case <-ctx.Done():
		}
	})
}

const retryRefresh = 30 * time.Second

// findContainer returns a container of any of the pod's lists.
func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}
