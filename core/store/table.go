package store

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// treeDegree gives nodes of up to 63 entries: a write copies three of them in
// a table of 150,000.
const treeDegree = 32

type tree = btree.BTreeG[item]

// item holds the path beside the entry so that a search touches no entry and
// needs none to search for, and the marks of its labels so that a selection
// touches few.
type item struct {
	path  string
	entry *Entry
	marks uint64
}

func (e *Entry) item() item { return item{e.path, e, e.marks} }

func newTree() *tree {
	return btree.NewG(treeDegree, func(a, b item) bool { return a.path < b.path })
}

// version is the immutable state of a table as of its last change.
type version struct {
	revision int64
	entries  *tree
	at       time.Time
	replaced int64 // table.replaced when it was kept

	cloning sync.Mutex // tree.Clone touches the original's ownership mark
}

func (v *version) clone() *tree {
	v.cloning.Lock()
	defer v.cloning.Unlock()
	return v.entries.Clone()
}

// table holds the entries and the recent events of one kind. All its writes
// are made by the feed goroutine.
type table struct {
	kind     *kind.Kind
	resource client.Resource
	prefix   string // "/registry/pods/"
	ttl      time.Duration
	metrics  tableMetrics

	current atomic.Pointer[version]

	// For the feed goroutine only.
	live *tree
	// loaded is the revision the content was read at; the watch may still
	// bring changes up to it.
	loaded int64
	staged []*event
	bytes  atomic.Int64 // sum of value sizes

	mu sync.RWMutex // guards what follows; held for short copies only
	// buf holds the events with sequence numbers in [first, next) at index
	// number%len(buf).
	buf         []*event
	first, next uint64
	held        int64 // sum of the events' value sizes, bytes
	// floor is the revision up to which events may be missing.
	floor int64
	// epoch counts reloads: cursors of an earlier one have a gap.
	epoch uint64
	// changed is closed and replaced when an event is appended.
	changed  chan struct{}
	buckets  map[indexKey]*bucket
	kept     []*version // by when they were kept
	replaced int64      // sum of the sizes of all values replaced or deleted, bytes
	removed  bool
	corrupt  map[string]error // by path: values that cannot be decoded

	maxRing int
	ringAge time.Duration
	keepFor time.Duration
	now     func() time.Time
}

// event is one change of one object.
type event struct {
	revision int64
	entry    *Entry // the new state; of a deletion the last, at its revision
	prev     *Entry // nil for a creation
	deleted  bool
	at       time.Time

	// gone is prev at the event's revision, for those whose selector it
	// left; made on first use.
	gone atomic.Pointer[Entry]
}

// load replaces the table's content, as of revision. Existing cursors expire.
func (t *table) load(entries []*Entry, corrupt map[string]error, revision int64) {
	live := newTree()
	var bytes int64
	for _, e := range entries {
		live.ReplaceOrInsert(e.item())
		bytes += int64(e.size)
	}
	t.live = live
	t.loaded = revision
	t.staged = nil
	t.bytes.Store(bytes)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.corrupt = corrupt
	t.buf = make([]*event, minRing)
	t.first, t.next, t.held = 0, 0, 0
	t.floor = revision
	t.epoch++
	for k := range t.buckets {
		t.buckets[k].reset()
	}
	t.kept = nil
	t.current.Store(&version{revision: revision, entries: live.Clone(), at: t.now()})
	t.wakeAll()
	t.metrics.capacity.Set(float64(len(t.buf)))
}

// remove ends all cursors of a kind that is no longer served.
func (t *table) remove() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removed = true
	t.epoch++
	t.wakeAll()
}

// wakeAll wakes every waiting cursor. mu is held.
func (t *table) wakeAll() {
	close(t.changed)
	t.changed = make(chan struct{})
	for _, b := range t.buckets {
		b.wake()
	}
}

// put stages a new version of an object; nothing is visible before publish.
func (t *table) put(e *Entry) {
	prev, _ := t.live.ReplaceOrInsert(e.item())
	t.bytes.Add(int64(e.size))
	if prev.entry != nil {
		t.bytes.Add(-int64(prev.entry.size))
	}
	t.staged = append(t.staged, &event{revision: e.Revision, entry: e, prev: prev.entry, at: t.now()})
}

// del stages a deletion.
func (t *table) del(path string, revision int64) {
	old, ok := t.live.Delete(item{path: path})
	if !ok {
		return
	}
	prev := old.entry
	t.bytes.Add(-int64(prev.size))
	t.staged = append(t.staged, &event{revision: revision, entry: prev.as(revision), prev: prev, deleted: true, at: t.now()})
}

// publish makes the staged changes visible at once: to readers as a new
// version, to cursors as events.
func (t *table) publish() {
	if len(t.staged) == 0 {
		return
	}
	last := t.staged[len(t.staged)-1]
	v := &version{revision: last.revision, entries: t.live.Clone(), at: last.at}
	t.mu.Lock()
	for _, ev := range t.staged {
		t.append(ev)
	}
	if len(t.kept) > 0 {
		t.dropKept(last.at)
	}
	t.current.Store(v)
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()
	t.metrics.received.Add(float64(len(t.staged)))
	t.metrics.revision.Set(float64(last.revision))
	clear(t.staged)
	t.staged = t.staged[:0]
}

// append adds an event to the ring and to the buckets it concerns. mu is held.
func (t *table) append(ev *event) {
	oldest := ev.at.Add(-t.ringAge)
	if t.next-t.first == uint64(len(t.buf)) && len(t.buf) < t.maxRing && t.event(t.first).at.After(oldest) {
		t.grow()
	}
	if t.next-t.first == uint64(len(t.buf)) {
		t.forget()
	}
	t.trim(oldest)
	t.held += int64(ev.entry.size)
	if ev.prev != nil {
		t.replaced += int64(ev.prev.size)
	}
	seq := t.next
	t.buf[seq%uint64(len(t.buf))] = ev
	t.next++
	if len(t.buckets) == 0 {
		return
	}
	t.buckets[indexKey{byName, ev.entry.path}].add(seq, t.first)
	node := nodeOf(ev.entry)
	if node != "" {
		t.buckets[indexKey{byNode, node}].add(seq, t.first)
	}
	if ev.prev != nil {
		if before := nodeOf(ev.prev); before != "" && before != node {
			t.buckets[indexKey{byNode, before}].add(seq, t.first)
		}
	}
}

// trim forgets the events before oldest, and more where they hold too much,
// but for the last few. mu is held.
func (t *table) trim(oldest time.Time) {
	for t.next-t.first > minRing && (t.held > maxRingBytes || t.event(t.first).at.Before(oldest)) {
		t.forget()
	}
}

// forget drops the oldest event. mu is held.
func (t *table) forget() {
	slot := &t.buf[t.first%uint64(len(t.buf))]
	t.floor = (*slot).revision
	t.held -= int64((*slot).entry.size)
	*slot = nil
	t.first++
}

// age forgets what a table without new events would hold on to: two versions
// of all that was written last. It returns the bytes of the values forgotten.
func (t *table) age() int64 {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.held
	t.trim(now.Add(-t.ringAge))
	return before + t.dropKept(now) - t.held
}

// grow doubles the ring. mu is held.
func (t *table) grow() {
	bigger := make([]*event, min(2*len(t.buf), t.maxRing))
	for s := t.first; s < t.next; s++ {
		bigger[s%uint64(len(bigger))] = t.buf[s%uint64(len(t.buf))]
	}
	t.buf = bigger
	t.metrics.capacity.Set(float64(len(bigger)))
	t.metrics.grown.Inc()
}

// event returns the event numbered seq. mu is held, seq is in [first, next).
func (t *table) event(seq uint64) *event { return t.buf[seq%uint64(len(t.buf))] }

// after returns the number of the first event later than revision. mu is held.
func (t *table) after(revision int64) uint64 {
	lo, hi := t.first, t.next
	for lo < hi {
		mid := lo + (hi-lo)/2
		if t.event(mid).revision > revision {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// written finds the event by which revision changed path, if still in the ring.
func (t *table) written(path string, revision int64) *Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for s := t.after(revision - 1); s < t.next; s++ {
		ev := t.event(s)
		if ev.revision != revision {
			return nil
		}
		if ev.entry.path == path {
			return ev.entry
		}
	}
	return nil
}

// at returns the table's state as of revision: a kept one, or the present one
// with the events since undone. It reports false when the ring no longer
// reaches back that far.
func (t *table) at(revision int64) (*tree, bool) {
	t.mu.RLock()
	v := t.current.Load()
	if revision >= v.revision {
		t.mu.RUnlock()
		return v.entries, true
	}
	if i := slices.IndexFunc(t.kept, func(k *version) bool { return k.revision == revision }); i >= 0 && t.now().Sub(t.kept[i].at) < t.keepFor {
		k := t.kept[i]
		t.mu.RUnlock()
		return k.entries, true
	}
	if revision < t.floor {
		t.mu.RUnlock()
		return nil, false
	}
	var undo []*event
	for s := t.after(revision); s < t.next; s++ {
		undo = append(undo, t.event(s))
	}
	t.mu.RUnlock()
	past := v.clone()
	for _, ev := range slices.Backward(undo) {
		if ev.prev != nil {
			past.ReplaceOrInsert(ev.prev.item())
		} else {
			past.Delete(ev.entry.item())
		}
	}
	return past, true
}

const (
	// maxKept bounds the snapshots kept per kind for continue tokens, and
	// maxKeptBytes the stored size of what has been replaced since the oldest
	// of them: no more than that is held for their sake.
	maxKept      = 64
	maxKeptBytes = 64 << 20
)

// keep makes a snapshot readable for keepFor from the first time it is kept:
// the pages of a list do not prolong each other's life.
func (t *table) keep(revision int64, entries *tree) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropKept(now)
	if slices.ContainsFunc(t.kept, func(k *version) bool { return k.revision == revision }) {
		return
	}
	if len(t.kept) >= maxKept {
		t.kept = slices.Delete(t.kept, 0, len(t.kept)-maxKept+1)
	}
	t.kept = append(t.kept, &version{revision: revision, entries: entries, at: now, replaced: t.replaced})
}

// dropKept forgets the snapshots that are too old or hold too much, and returns
// the bytes that only they held, at most. mu is held.
func (t *table) dropKept(now time.Time) (dropped int64) {
	t.kept = slices.DeleteFunc(t.kept, func(k *version) bool {
		held := t.replaced - k.replaced
		if held <= maxKeptBytes && now.Sub(k.at) < t.keepFor {
			return false
		}
		dropped = max(dropped, held)
		return true
	})
	return dropped
}

func (t *table) get(path string) (*Entry, bool) {
	it, ok := t.current.Load().entries.Get(item{path: path})
	return it.entry, ok
}

func (t *table) corruption(path string) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.corrupt[path]
}

func (t *table) setCorrupt(path string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.corrupt, path)
		return
	}
	if t.corrupt == nil {
		t.corrupt = map[string]error{}
	}
	t.corrupt[path] = err
}

func (t *table) corruptCount() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.corrupt)
}
