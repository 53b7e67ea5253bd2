package proxy

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// tracker holds the objects the plan is made of and which Services changed
// since the last sync. Both are maps, so that any burst is bounded by the
// number of objects.
type tracker struct {
	now  func() time.Time
	wake chan struct{} // holds one token when there is something to sync

	mu             sync.Mutex
	services       map[types.NamespacedName]*corev1.Service                                     // guarded by mu
	slices         map[types.NamespacedName]map[types.NamespacedName]*discoveryv1.EndpointSlice // by Service; guarded by mu
	owner          map[types.NamespacedName]types.NamespacedName                                // slice → Service; guarded by mu
	dirty          map[types.NamespacedName]bool                                                // guarded by mu
	changedSvcs    map[types.NamespacedName]*corev1.Service                                     // guarded by mu
	changedSlices  map[types.NamespacedName]*discoveryv1.EndpointSlice                          // guarded by mu
	oldest         time.Time                                                                    // of the unsynced changes; guarded by mu
	sawSvc, sawEPs bool                                                                         // the whole state was seen; guarded by mu
	metrics        *metrics
}

func newTracker(m *metrics, now func() time.Time) *tracker {
	return &tracker{
		now: now, wake: make(chan struct{}, 1), metrics: m,
		services:      map[types.NamespacedName]*corev1.Service{},
		slices:        map[types.NamespacedName]map[types.NamespacedName]*discoveryv1.EndpointSlice{},
		owner:         map[types.NamespacedName]types.NamespacedName{},
		dirty:         map[types.NamespacedName]bool{},
		changedSvcs:   map[types.NamespacedName]*corev1.Service{},
		changedSlices: map[types.NamespacedName]*discoveryv1.EndpointSlice{},
	}
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// touch marks a Service for the next sync. The caller holds mu.
func (t *tracker) touch(svc types.NamespacedName) {
	now := t.now()
	if len(t.dirty) == 0 {
		t.oldest = now
	}
	t.dirty[svc] = true
	t.metrics.lastQueued.Set(stamp(now))
	t.metrics.servicesPending.Set(float64(len(t.changedSvcs)))
	t.metrics.endpointsPending.Set(float64(len(t.changedSlices)))
	t.signal()
}

func (t *tracker) signal() {
	if !t.sawSvc || !t.sawEPs {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tracker) replaceServices(items []*corev1.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[types.NamespacedName]*corev1.Service{}
	for _, s := range items {
		next[nameOf(s)] = s
	}
	for n := range t.services {
		if next[n] == nil {
			t.touch(n)
		}
	}
	for n, s := range next {
		if old := t.services[n]; old == nil || old.ResourceVersion != s.ResourceVersion {
			t.touch(n)
		}
	}
	t.services, t.sawSvc = next, true
	t.signal()
}

func (t *tracker) applyService(e client.EventType, s *corev1.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := nameOf(s)
	if e == client.Deleted {
		delete(t.services, n)
		delete(t.changedSvcs, n)
	} else {
		t.services[n], t.changedSvcs[n] = s, s
	}
	t.metrics.serviceChanges.Inc()
	t.touch(n)
}

func (t *tracker) replaceSlices(items []*discoveryv1.EndpointSlice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	present := map[types.NamespacedName]bool{}
	for _, s := range items {
		present[nameOf(s)] = true
		if old := t.slices[t.owner[nameOf(s)]][nameOf(s)]; old == nil || old.ResourceVersion != s.ResourceVersion {
			t.putSlice(s)
		}
	}
	for n := range t.owner {
		if !present[n] {
			t.dropSlice(n)
		}
	}
	t.sawEPs = true
	t.signal()
}

func (t *tracker) applySlice(e client.EventType, s *discoveryv1.EndpointSlice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.endpointChanges.Inc()
	if e == client.Deleted {
		t.dropSlice(nameOf(s))
		return
	}
	t.changedSlices[nameOf(s)] = s
	t.putSlice(s)
}

// putSlice stores a slice under its Service. The caller holds mu.
func (t *tracker) putSlice(s *discoveryv1.EndpointSlice) {
	n, svc := nameOf(s), serviceOf(s)
	if old, ok := t.owner[n]; ok && old != svc {
		t.dropSlice(n)
	}
	if svc.Name == "" {
		return
	}
	if t.slices[svc] == nil {
		t.slices[svc] = map[types.NamespacedName]*discoveryv1.EndpointSlice{}
	}
	t.slices[svc][n], t.owner[n] = s, svc
	t.touch(svc)
}

func (t *tracker) dropSlice(n types.NamespacedName) {
	svc, ok := t.owner[n]
	if !ok {
		return
	}
	delete(t.owner, n)
	delete(t.changedSlices, n)
	if delete(t.slices[svc], n); len(t.slices[svc]) == 0 {
		delete(t.slices, svc)
	}
	t.touch(svc)
}

// work is what one sync has to do.
type work struct {
	services map[types.NamespacedName]serviceObjects
	// causes are the objects whose change is being programmed.
	changedSvcs   []*corev1.Service
	changedSlices []*discoveryv1.EndpointSlice
}

type serviceObjects struct {
	svc    *corev1.Service // nil: gone
	slices []*discoveryv1.EndpointSlice
}

// take hands out all dirty Services, or with all set every Service.
func (t *tracker) take() work {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := work{services: map[types.NamespacedName]serviceObjects{}, changedSvcs: slices.Collect(maps.Values(t.changedSvcs)), changedSlices: slices.Collect(maps.Values(t.changedSlices))}
	for n := range t.dirty {
		w.services[n] = serviceObjects{t.services[n], slices.Collect(maps.Values(t.slices[n]))}
	}
	clear(t.dirty)
	clear(t.changedSvcs)
	clear(t.changedSlices)
	t.oldest = time.Time{}
	return w
}

// objects returns one Service with its slices.
func (t *tracker) objects(n types.NamespacedName) serviceObjects {
	t.mu.Lock()
	defer t.mu.Unlock()
	return serviceObjects{t.services[n], slices.Collect(maps.Values(t.slices[n]))}
}

// waiting is when the oldest unsynced change came; zero when there is none.
func (t *tracker) waiting() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.oldest
}

// complete tells whether both kinds were seen whole.
func (t *tracker) complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sawSvc && t.sawEPs
}
