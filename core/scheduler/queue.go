package scheduler

import (
	"cmp"
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
)

// Upstream's back-off of pods that could not be scheduled, and the longest one
// waits for an event that never comes.
const (
	backoffFirst = time.Second
	backoffMost  = 10 * time.Second
	forgetAfter  = 5 * time.Minute
)

// state of a queued pod.
type queueState int

const (
	active        queueState = iota // in the heap
	backingOff                      // until notBefore
	unschedulable                   // until something changes
)

type queued struct {
	pod       *corev1.Pod
	state     queueState
	attempts  int
	added     time.Time // first seen: the pod's latency counts from here
	since     time.Time // in this state
	notBefore time.Time // end of the back-off
	plugins   []string  // that refused it last
	index     int       // in the heap
}

// queue holds the pods without a node. It belongs to one goroutine.
type queue struct {
	all    map[types.UID]*queued
	active activeHeap
}

func newQueue() *queue { return &queue{all: map[types.UID]*queued{}} }

// put adds a pod or takes in its new state.
func (q *queue) put(p *corev1.Pod, now time.Time) {
	e := q.all[p.UID]
	if e == nil {
		e = &queued{added: now, since: now, index: -1}
		q.all[p.UID] = e
		e.pod = p
		q.activate(e, now)
		return
	}
	specChanged := e.pod.Generation != p.Generation || !equalLabels(e.pod.Labels, p.Labels)
	e.pod = p
	if specChanged && e.state == unschedulable {
		q.retry(e, now)
	} else if e.state == active {
		heap.Fix(&q.active, e.index)
	}
}

func equalLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func (q *queue) activate(e *queued, now time.Time) {
	e.state, e.since = active, now
	heap.Push(&q.active, e)
}

// retry makes a pod active, at once or when its back-off is over.
func (q *queue) retry(e *queued, now time.Time) {
	if now.Before(e.notBefore) {
		e.state, e.since = backingOff, now
		return
	}
	q.activate(e, now)
}

// take removes a pod from the queue.
func (q *queue) take(uid types.UID) *queued {
	e := q.all[uid]
	if e == nil {
		return nil
	}
	if e.state == active && e.index >= 0 {
		heap.Remove(&q.active, e.index)
	}
	delete(q.all, uid)
	return e
}

// pop returns the most urgent active pod, or nil.
func (q *queue) pop() *queued {
	if len(q.active) == 0 {
		return nil
	}
	e := heap.Pop(&q.active).(*queued)
	delete(q.all, e.pod.UID)
	e.attempts++
	return e
}

// putBack returns a pod that could not be scheduled: it waits for a change, or
// with again only for its back-off.
func (q *queue) putBack(e *queued, again bool, now time.Time) {
	wait := min(backoffFirst<<min(e.attempts-1, 10), backoffMost)
	e.notBefore = now.Add(wait)
	e.since, e.state, e.index = now, unschedulable, -1
	if again {
		e.state = backingOff
	}
	q.all[e.pod.UID] = e
}

// changed tells that the cluster changed so that pods may fit now.
func (q *queue) changed(now time.Time) {
	for _, e := range q.all {
		if e.state == unschedulable {
			q.retry(e, now)
		}
	}
}

// tick activates what has waited long enough and returns when to call it next,
// or 0 when nothing waits.
func (q *queue) tick(now time.Time) time.Duration {
	next := time.Duration(0)
	for _, e := range q.all {
		var due time.Time
		switch e.state {
		case active:
			continue
		case backingOff:
			due = e.notBefore
		case unschedulable:
			due = e.since.Add(forgetAfter)
		}
		left := due.Sub(now)
		if left <= 0 {
			q.activate(e, now)
		} else if next == 0 || left < next {
			next = left
		}
	}
	return next
}

func (q *queue) counts() (n [3]int) {
	for _, e := range q.all {
		n[e.state]++
	}
	return n
}

// activeHeap orders by priority, then by age.
type activeHeap []*queued

func (h activeHeap) Len() int { return len(h) }
func (h activeHeap) Less(i, j int) bool {
	if c := cmp.Compare(corev1helpers.PodPriority(h[j].pod), corev1helpers.PodPriority(h[i].pod)); c != 0 {
		return c < 0
	}
	return h[i].since.Before(h[j].since)
}
func (h activeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *activeHeap) Push(x any) {
	e := x.(*queued)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *activeHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
