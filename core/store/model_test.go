package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"binnacle.io/core/client"
)

// state is what the model knows of one pod.
type state struct {
	revision    int64
	node, color string
}

// change is one acknowledged write.
type change struct {
	key client.Key
	state
	deleted bool
}

// model holds a history of acknowledged writes.
type model struct {
	mu      sync.Mutex
	changes []change
}

func (m *model) add(e *Entry, deleted bool) {
	p := e.Object.(*corev1.Pod)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes = append(m.changes, change{e.Key, state{e.Revision, p.Spec.NodeName, p.Labels["color"]}, deleted})
}

// sorted returns the history in the order of revisions.
func (m *model) sorted() []change {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(slices.Values(m.changes), func(a, b change) int { return cmp.Compare(a.revision, b.revision) })
}

// at replays history through revision.
func at(history []change, revision int64) map[client.Key]state {
	now := map[client.Key]state{}
	for _, c := range history {
		if c.revision > revision {
			break
		}
		if c.deleted {
			delete(now, c.key)
		} else {
			now[c.key] = c.state
		}
	}
	return now
}

func contentOf(snap Snapshot) map[client.Key]state {
	out := map[client.Key]state{}
	for e := range snap.All("") {
		p := e.Object.(*corev1.Pod)
		out[e.Key] = state{e.Revision, p.Spec.NodeName, p.Labels["color"]}
	}
	return out
}

var (
	modelNodes  = []string{"", "n1", "n2"}
	modelColors = []string{"red", "green"}
)

func randomKey(r *rand.Rand) client.Key {
	return key(fmt.Sprintf("ns%d", r.IntN(3)), fmt.Sprintf("p%d", r.IntN(5)))
}

func randomPod(r *rand.Rand, k client.Key) *corev1.Pod {
	p := pod(k.Namespace, k.Name, modelNodes[r.IntN(len(modelNodes))])
	p.Labels = map[string]string{"color": modelColors[r.IntN(len(modelColors))], "n": strconv.FormatUint(r.Uint64(), 36)}
	return p
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestOperationsAgainstModel makes random operations one after the other and
// predicts each answer.
func TestOperationsAgainstModel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		r := seeded(t)
		s := open(t, cfg)
		now := map[client.Key]state{}
		var history []change
		record := func(e *Entry, deleted bool) {
			p := e.Object.(*corev1.Pod)
			st := state{e.Revision, p.Spec.NodeName, p.Labels["color"]}
			history = append(history, change{e.Key, st, deleted})
			if deleted {
				delete(now, e.Key)
			} else {
				now[e.Key] = st
			}
		}
		for i := range 1500 {
			k := randomKey(r)
			was, exists := now[k]
			pre := Preconditions{}
			stale := false
			switch r.IntN(4) {
			case 0:
				pre.Revision = was.revision + int64(r.IntN(2))
				stale = exists && pre.Revision != was.revision && pre.Revision != 0
			case 1:
				pre.UID = "uid-1"
			}
			check := func(what string, err error) {
				t.Helper()
				switch {
				case !exists && !apierrors.IsNotFound(err), exists && stale && !apierrors.IsConflict(err), exists && !stale && err != nil:
					t.Fatalf("operation %d: %s %s (exists %v, stale %v): %v", i, what, k, exists, stale, err)
				}
			}
			switch r.IntN(6) {
			case 0, 1:
				e, err := s.Create(ctx, pods, randomPod(r, k))
				if exists != apierrors.IsAlreadyExists(err) || !exists && err != nil {
					t.Fatalf("operation %d: create %s (exists %v): %v", i, k, exists, err)
				}
				if err == nil {
					record(e, false)
				}
			case 2, 3:
				e, err := s.Update(ctx, pods, k, pre, func(cur *Entry) (client.Object, error) {
					if cur.Revision != was.revision {
						t.Errorf("operation %d: update of %s sees revision %d, want %d", i, k, cur.Revision, was.revision)
					}
					return randomPod(r, k), nil
				})
				check("update", err)
				if err == nil {
					record(e, false)
				}
			case 4:
				e, err := s.Delete(ctx, pods, k, pre, nil)
				check("delete", err)
				if err == nil {
					record(e, true)
				}
			case 5:
				fresh := []Freshness{Latest(), Any(), NotOlderThan(s.Revision())}[r.IntN(3)]
				snap := must(s.Snapshot(ctx, pods, fresh))(t)
				if got := contentOf(snap); !maps.Equal(got, now) {
					t.Fatalf("operation %d: snapshot %v, want %v", i, got, now)
				}
				if len(history) > 0 && r.IntN(4) == 0 {
					past := history[r.IntN(len(history))].revision
					old := must(s.Snapshot(ctx, pods, Exact(past)))(t)
					if got, want := contentOf(old), at(history, past); !maps.Equal(got, want) {
						t.Fatalf("operation %d: snapshot of %d: %v, want %v", i, past, got, want)
					}
				}
			}
		}
	})
}

// seen is an event as the model predicts it.
type seen struct {
	typ      client.EventType
	key      client.Key
	revision int64
}

// project predicts what a cursor with a filter sees of a history after from.
func project(history []change, from int64, match func(client.Key, state) bool) []seen {
	var out []seen
	now := map[client.Key]state{}
	for _, c := range history {
		prev, existed := now[c.key]
		was := existed && match(c.key, prev)
		is := !c.deleted && match(c.key, c.state)
		if c.deleted {
			delete(now, c.key)
		} else {
			now[c.key] = c.state
		}
		if c.revision <= from {
			continue
		}
		switch {
		case is && was:
			out = append(out, seen{client.Modified, c.key, c.revision})
		case is:
			out = append(out, seen{client.Added, c.key, c.revision})
		case was:
			out = append(out, seen{client.Deleted, c.key, c.revision})
		}
	}
	return out
}

// TestConcurrentHistory lets writers race while cursors come and go, and
// compares all that was seen with the history of acknowledged writes.
func TestConcurrentHistory(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		r := seeded(t)
		s := open(t, cfg)
		m := &model{}
		type watching struct {
			name  string
			f     Filter
			match func(client.Key, state) bool
			from  int64
			got   []seen
		}
		filters := []watching{
			{name: "all", match: func(client.Key, state) bool { return true }},
			{name: "namespace", f: Filter{Namespace: "ns1"}, match: func(k client.Key, _ state) bool { return k.Namespace == "ns1" }},
			{name: "name", f: Filter{Namespace: "ns1", Name: "p1"}, match: func(k client.Key, _ state) bool { return k == key("ns1", "p1") }},
			{name: "name field", f: Filter{Fields: fields.OneTermEqualSelector("metadata.name", "p2")}, match: func(k client.Key, _ state) bool { return k.Name == "p2" }},
			{name: "node", f: Filter{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, match: func(_ client.Key, st state) bool { return st.node == "n1" }},
			{name: "unbound", f: Filter{Fields: fields.OneTermEqualSelector("spec.nodeName", "")}, match: func(_ client.Key, st state) bool { return st.node == "" }},
			{name: "label", f: Filter{Labels: labels.SelectorFromSet(labels.Set{"color": "red"})}, match: func(_ client.Key, st state) bool { return st.color == "red" }},
			{name: "contradiction", f: Filter{Name: "p1", Fields: fields.OneTermEqualSelector("metadata.name", "p2")}, match: func(client.Key, state) bool { return false }},
		}
		watchCtx, stopWatching := context.WithCancel(t.Context())
		defer stopWatching()
		var watchers, writers sync.WaitGroup
		var all []*watching
		start := func(from int64) {
			for _, w := range filters {
				w.from = from
				c := must(s.Watch(watchCtx, pods, from, w.f))(t)
				all = append(all, &w)
				watchers.Go(func() {
					defer c.Close()
					for {
						ev, err := c.Next(watchCtx)
						if errors.Is(err, context.Canceled) {
							// What is left without waiting belongs to it too.
							for ok := true; ok; {
								if ev, ok, err = c.TryNext(); ok {
									w.got = append(w.got, seen{ev.Type, ev.Entry.Key, ev.Revision})
								}
							}
							return
						}
						if err != nil {
							t.Errorf("%s: %v", w.name, err)
							return
						}
						if rv := ev.Entry.Object.GetResourceVersion(); rv != strconv.FormatInt(ev.Revision, 10) || ev.Entry.Revision != ev.Revision {
							t.Errorf("%s: event at %d holds entry at %d, object at %s", w.name, ev.Revision, ev.Entry.Revision, rv)
						}
						w.got = append(w.got, seen{ev.Type, ev.Entry.Key, ev.Revision})
					}
				})
			}
		}
		start(s.Revision())
		first := s.Revision()

		type view struct {
			revision int64
			content  map[client.Key]state
		}
		var views []view
		for round := range 4 {
			for range 8 {
				wr := rand.New(rand.NewPCG(r.Uint64(), 1))
				writers.Go(func() {
					for range 40 {
						k := randomKey(wr)
						var e *Entry
						var err error
						deleted := false
						switch wr.IntN(4) {
						case 0:
							e, err = s.Create(t.Context(), pods, randomPod(wr, k))
						case 1:
							e, err = s.Delete(t.Context(), pods, k, Preconditions{}, nil)
							deleted = true
						default:
							e, err = s.Update(t.Context(), pods, k, Preconditions{}, func(*Entry) (client.Object, error) { return randomPod(wr, k), nil })
						}
						if err != nil {
							if !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
								t.Error(err)
							}
							continue
						}
						m.add(e, deleted)
						// Read your own write.
						if s.Revision() < e.Revision {
							t.Errorf("wrote %d, cache is at %d", e.Revision, s.Revision())
						}
					}
				})
			}
			for range 20 {
				snap := must(s.Snapshot(t.Context(), pods, Latest()))(t)
				views = append(views, view{snap.Revision(), contentOf(snap)})
			}
			if round%2 == 0 {
				start(s.Revision())
				start(first)
			}
			writers.Wait()
		}
		start(first)
		last := must(s.Snapshot(t.Context(), pods, Latest()))(t)
		stopWatching()
		watchers.Wait()

		history := m.sorted()
		for i, c := range history[1:] {
			if c.revision == history[i].revision {
				t.Fatalf("two writes have revision %d", c.revision)
			}
		}
		views = append(views, view{last.Revision(), contentOf(last)})
		for _, v := range views {
			if want := at(history, v.revision); !maps.Equal(v.content, want) {
				t.Errorf("snapshot of %d: %v, want %v", v.revision, v.content, want)
			}
		}
		for _, w := range all {
			if want := project(history, w.from, w.match); !slices.Equal(w.got, want) {
				t.Errorf("%s from %d saw %d events, want %d:\n%v\n%v", w.name, w.from, len(w.got), len(want), w.got, want)
			}
		}
		t.Logf("%d writes, %d cursors, %d views", len(history), len(all), len(views))
	})
}

// TestTwoStoresCount lets two stores with a cache each change the same objects:
// no increment may be lost.
func TestTwoStoresCount(t *testing.T) {
	t.Parallel()
	endpoint := externalEtcd(t)
	stores := []*Store{open(t, Config{Endpoints: []string{endpoint}}), open(t, Config{Endpoints: []string{endpoint}})}
	const objects, writers, each = 3, 8, 25
	name := func(i int) client.Key { return key("ns", fmt.Sprintf("counter-%d", i%objects)) }
	for i := range objects {
		must(stores[0].Create(t.Context(), configMaps, configMap("ns", name(i).Name, "0")))(t)
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if _, err := stores[w%2].Update(t.Context(), configMaps, name(i), Preconditions{}, func(cur *Entry) (client.Object, error) {
					cm := cur.Object.DeepCopyObject().(*corev1.ConfigMap)
					n, err := strconv.Atoi(cm.Data["v"])
					cm.Data["v"] = strconv.Itoa(n + 1)
					return cm, err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, s := range stores {
		sum := 0
		for e := range must(s.Snapshot(t.Context(), configMaps, Latest()))(t).All("") {
			n, _ := strconv.Atoi(e.Object.(*corev1.ConfigMap).Data["v"])
			sum += n
		}
		if sum != writers*each {
			t.Errorf("counted %d, want %d", sum, writers*each)
		}
	}
}
