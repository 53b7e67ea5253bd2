package node

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/node/runtime"
)

const (
	apiRetryBase = 200 * time.Millisecond
	apiRetryMax  = 10 * time.Second
	// relistBlind is how often the runtime is looked at without its events.
	relistBlind = time.Second
)

// followPods keeps a worker for every pod of this node. While the API is away
// the workers go on with what they know.
func (a *Agent) followPods(ctx context.Context) error {
	delay := apiRetryBase
	first := true
	for ctx.Err() == nil {
		err := a.watchPods(ctx, first, func() { delay, first = apiRetryBase, false })
		if ctx.Err() != nil {
			return nil
		}
		a.tel.Log.Info("watching pods anew", "cause", err, "delay", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, apiRetryMax)
	}
	return nil
}

// watchPods lists this node's pods and follows them until the watch ends.
func (a *Agent) watchPods(ctx context.Context, first bool, listed func()) error {
	mine := client.ReadOptions{Fields: fields.OneTermEqualSelector("spec.nodeName", a.cfg.Name)}
	pods, from, err := client.ListOf[*corev1.Pod](ctx, a.client, mine)
	if err != nil {
		return err
	}
	desired := map[types.UID]bool{}
	// No pod is admitted before all those that hold resources already have
	// their workers.
	a.admission.Lock()
	for _, p := range pods {
		desired[p.UID] = true
		a.assign(ctx, p)
	}
	a.admission.Unlock()
	if first {
		if err := a.adoptOrphans(ctx, desired); err != nil {
			return err
		}
		a.listed.Store(true)
		a.sweep()
	}
	for _, w := range a.allWorkers() {
		if !desired[w.uid] {
			w.remove(nil)
		}
	}
	listed()
	w, err := client.WatchOf[*corev1.Pod](ctx, a.client, from, mine)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		pod, ok := ev.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		if ev.Type == client.Deleted {
			if wk := a.worker(pod.UID); wk != nil {
				wk.remove(pod)
			}
			continue
		}
		a.assign(ctx, pod)
	}
}

// assign hands a pod to its worker.
func (a *Agent) assign(ctx context.Context, pod *corev1.Pod) {
	if w, fresh := a.ensureWorker(ctx, pod, false); !fresh {
		w.update(pod)
	}
}

// adoptOrphans makes workers for pods that the runtime has and the API has
// not, so that they are taken down.
func (a *Agent) adoptOrphans(ctx context.Context, desired map[types.UID]bool) error {
	boxes, containers, err := a.runtime.Observe(ctx, "")
	if err != nil {
		return err
	}
	orphan := func(id runtime.PodID) {
		if id.UID == "" || desired[id.UID] {
			return
		}
		grace := int64(2)
		a.ensureWorker(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: id.Namespace, Name: id.Name, UID: id.UID, DeletionGracePeriodSeconds: &grace},
		}, true)
	}
	for _, b := range boxes {
		orphan(b.Pod)
	}
	for _, c := range containers {
		orphan(c.Pod)
	}
	return nil
}

// followRuntime wakes workers whose pods changed in the runtime. Looking at
// everything from time to time makes up for lost events.
func (a *Agent) followRuntime(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := a.runtime.Events(ctx, func() { a.health.setEvents(true); a.relist(ctx) }, func(id runtime.PodID) {
				if w := a.worker(id.UID); w != nil {
					w.changed()
				}
			})
			a.health.setEvents(false)
			if ctx.Err() == nil {
				a.tel.Log.Warn("lost the runtime's events", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(apiRetryBase):
			}
		}
	}()
	tick := time.NewTicker(min(a.cfg.Relist, relistBlind))
	defer tick.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			<-done
			return nil
		case <-sweep.C:
			a.sweep()
		case <-tick.C:
			if a.health.seesEvents() && time.Since(last) < a.cfg.Relist {
				continue
			}
			a.metrics.relistInterval.Observe(time.Since(last).Seconds())
			last = time.Now()
			a.relist(ctx)
		}
	}
}

// relist compares the runtime with what the workers know and wakes those that
// are behind.
func (a *Agent) relist(ctx context.Context) {
	began := time.Now()
	boxes, containers, err := a.runtime.Observe(ctx, "")
	if err != nil {
		if ctx.Err() == nil {
			a.tel.Log.Warn("cannot look at the runtime", "error", err)
			a.health.setRelist(err)
		}
		return
	}
	a.metrics.relist.Observe(time.Since(began).Seconds())
	a.health.setRelist(nil)
	now := map[types.UID]map[string]string{}
	note := func(uid types.UID, id, state string) {
		if now[uid] == nil {
			now[uid] = map[string]string{}
		}
		now[uid][id] = state
	}
	for _, b := range boxes {
		note(b.Pod.UID, b.ID, readyState(b.Ready))
	}
	for _, c := range containers {
		note(c.Pod.UID, c.ID, c.State.String())
	}
	for _, w := range a.allWorkers() {
		_, v := w.snapshot()
		known := 0
		same := true
		for _, b := range v.sandboxes {
			known++
			same = same && now[w.uid][b.ID] == readyState(b.Ready)
		}
		for _, c := range v.containers {
			known++
			same = same && now[w.uid][c.ID] == c.State.String()
		}
		if !same || known != len(now[w.uid]) {
			w.changed()
		}
	}
}

func readyState(ready bool) string {
	if ready {
		return "ready"
	}
	return "notready"
}
