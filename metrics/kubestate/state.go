package kubestate

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// State is the present series of all objects. It is safe for concurrent use.
type State struct {
	client   client.Client
	tel      *telemetry.Component
	constant []string
	lists    *prometheus.CounterVec
	watches  *prometheus.CounterVec

	mu      sync.Mutex
	objects map[objectKey]*object // guarded by mu
	dirty   map[*object]struct{}  // changed since the last flush, guarded by mu
	gone    []Series              // left since the last flush, guarded by mu
	series  int                   // guarded by mu
	emitter emitter               // guarded by mu
	hashes  map[uint64]struct{}   // guarded by mu
	changed chan struct{}         // holds one token while dirty or gone is not empty
}

type objectKey struct {
	resource client.Resource
	key      client.Key
}

type object struct {
	series []Series
	epoch  int
}

// New returns a state without objects. constant are labels put on every
// series (job, instance) as name, value, …; WriteText leaves them out.
func New(c client.Client, tel *telemetry.Component, constant ...string) *State {
	s := &State{
		client: c, tel: tel, constant: constant,
		objects: map[objectKey]*object{}, dirty: map[*object]struct{}{}, hashes: map[uint64]struct{}{}, changed: make(chan struct{}, 1),
		lists: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_state_metrics_list_total", Help: "Number of total resource list calls in kube-state-metrics",
		}, []string{"resource", "result"}),
		watches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_state_metrics_watch_total", Help: "Number of total resource watch calls in kube-state-metrics",
		}, []string{"resource", "result"}),
	}
	s.emitter.constant = constant
	shards := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kube_state_metrics_total_shards", Help: "Number of total shards this instance is aware of"})
	shards.Set(1)
	ordinal := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kube_state_metrics_shard_ordinal", Help: "Current sharding ordinal/index of this instance"}, []string{"shard_ordinal"})
	ordinal.WithLabelValues("0").Set(0)
	tel.Registry.MustRegister(s.lists, s.watches, shards, ordinal, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "binnacle_kubestate_series", Help: "Number of series kept for API objects.",
	}, func() float64 { return float64(s.Len()) }))
	return s
}

// Len is the number of series.
func (s *State) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.series
}

// Changed has a token when Flush(false) has something to say.
func (s *State) Changed() <-chan struct{} { return s.changed }

// Run follows all kinds until ctx ends.
func (s *State) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, k := range kinds() {
		wg.Go(func() { s.follow(ctx, k) })
	}
	wg.Wait()
	return nil
}

// follow watches one kind and, when the watch ends, watches again.
func (s *State) follow(ctx context.Context, k kind) {
	const first, longest = 100 * time.Millisecond, 30 * time.Second
	delay := first
	for epoch := 1; ctx.Err() == nil; epoch++ {
		seen, err := s.watch(ctx, k, epoch)
		if ctx.Err() != nil {
			return
		}
		if seen {
			delay = first
		}
		if err != nil && !errors.Is(err, io.EOF) && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			s.tel.Log.Warn("watch ended", "resource", k.resource.String(), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay/2 + rand.N(delay)):
		}
		delay = min(2*delay, longest)
	}
}

// watch applies events until the watch ends; seen tells that the present
// state had arrived.
func (s *State) watch(ctx context.Context, k kind, epoch int) (seen bool, err error) {
	result := func(err error) string {
		if err != nil {
			return "error"
		}
		return "success"
	}
	w, err := s.client.Watch(ctx, k.resource, "", client.ReadOptions{FromCache: true})
	s.watches.WithLabelValues(k.resource.Resource, result(err)).Inc()
	if err != nil {
		s.lists.WithLabelValues(k.resource.Resource, "error").Inc()
		return false, err
	}
	defer w.Close()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return seen, err
		}
		switch ev.Type {
		case client.Added, client.Modified:
			s.set(k, ev.Object, epoch)
		case client.Deleted:
			s.remove(objectKey{k.resource, client.KeyOf(ev.Object)})
		case client.Bookmark:
			if !seen {
				seen = true
				s.lists.WithLabelValues(k.resource.Resource, "success").Inc()
				s.removeBefore(k.resource, epoch)
			}
		}
	}
}

func (s *State) set(k kind, o client.Object, epoch int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emitter.base, s.emitter.out = nil, nil
	k.emit(&s.emitter, o)
	key := objectKey{k.resource, client.KeyOf(o)}
	old := s.objects[key]
	if old == nil {
		old = &object{}
		s.objects[key] = old
	}
	old.epoch = epoch
	next, gone, changed := merge(old.series, s.unique(s.emitter.out))
	s.series += len(next) - len(old.series)
	old.series = next
	if changed {
		s.dirty[old] = struct{}{}
	}
	s.gone = append(s.gone, gone...)
	if changed || len(gone) > 0 {
		s.signal()
	}
}

// unique drops repetitions: an object may say a thing twice (two equal
// tolerations), a series may not. It needs mu.
func (s *State) unique(list []Series) []Series {
	clear(s.hashes)
	return slices.DeleteFunc(list, func(v Series) bool {
		h := v.Labels.Hash()
		_, repeated := s.hashes[h]
		s.hashes[h] = struct{}{}
		return repeated
	})
}

// merge carries the storage references of old over to next and finds what
// left. Most updates change values only, so order usually agrees.
func merge(old, next []Series) (merged, gone []Series, changed bool) {
	var index map[uint64]int
	used := make([]bool, len(old))
	for i := range next {
		j := i
		if j >= len(old) || used[j] || !labels.Equal(old[j].Labels, next[i].Labels) {
			if index == nil {
				index = make(map[uint64]int, len(old))
				for n := range old {
					index[old[n].Labels.Hash()] = n
				}
			}
			var ok bool
			if j, ok = index[next[i].Labels.Hash()]; !ok || used[j] || !labels.Equal(old[j].Labels, next[i].Labels) {
				changed = true
				continue
			}
		}
		used[j] = true
		next[i].Ref, next[i].Labels = old[j].Ref, old[j].Labels
		changed = changed || next[i].Value != old[j].Value
	}
	for j := range old {
		if !used[j] {
			gone = append(gone, old[j])
		}
	}
	return next, gone, changed
}

func (s *State) remove(key objectKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(key)
}

// drop needs mu.
func (s *State) drop(key objectKey) {
	o := s.objects[key]
	if o == nil {
		return
	}
	delete(s.objects, key)
	delete(s.dirty, o)
	s.series -= len(o.series)
	s.gone = append(s.gone, o.series...)
	s.signal()
}

// removeBefore drops objects that a fresh watch did not mention.
func (s *State) removeBefore(r client.Resource, epoch int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		if key.resource == r && o.epoch < epoch {
			s.drop(key)
		}
	}
}

func (s *State) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Flush hands out, with all, every series, else those of objects that changed
// since the last Flush, and then the series that left. A series that left and
// came back is in both. put may set Ref. It holds the state's lock: put and
// gone must not call back.
func (s *State) Flush(all bool, put func(*Series), gone func(*Series)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		for _, o := range s.objects {
			for i := range o.series {
				put(&o.series[i])
			}
		}
	} else {
		for o := range s.dirty {
			for i := range o.series {
				put(&o.series[i])
			}
		}
	}
	clear(s.dirty)
	for i := range s.gone {
		gone(&s.gone[i])
	}
	s.gone = nil
}
