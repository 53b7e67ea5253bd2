package store

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

type index uint8

const (
	byName index = iota + 1 // value is an entry's path
	byNode                  // value is a pod's spec.nodeName
)

type indexKey struct {
	by    index
	value string
}

// bucket numbers the events that concern cursors with one index value, so that
// no other event wakes them. It exists while such a cursor does. Its table's
// mu guards it.
type bucket struct {
	cursors int
	seqs    []uint64 // ascending
	// trimmed is the end of the numbers dropped from seqs because the ring
	// dropped the events: a cursor before it has lost something.
	trimmed uint64
	changed chan struct{}
}

func (b *bucket) add(seq, first uint64) {
	if b == nil {
		return
	}
	if old, _ := slices.BinarySearch(b.seqs, first); old > 0 {
		b.trimmed = b.seqs[old-1] + 1
		b.seqs = slices.Delete(b.seqs, 0, old)
	}
	b.seqs = append(b.seqs, seq)
	b.wake()
}

func (b *bucket) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *bucket) reset() {
	b.seqs, b.trimmed = nil, 0
}

// join returns the bucket for k, made from the ring if need be. mu is held.
func (t *table) join(k indexKey) *bucket {
	b := t.buckets[k]
	if b == nil {
		b = &bucket{changed: make(chan struct{}), trimmed: t.first}
		for s := t.first; s < t.next; s++ {
			if t.event(s).concerns(k) {
				b.seqs = append(b.seqs, s)
			}
		}
		t.buckets[k] = b
	}
	b.cursors++
	return b
}

func (t *table) leave(k indexKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.buckets[k]; b != nil {
		if b.cursors--; b.cursors == 0 {
			delete(t.buckets, k)
		}
	}
}

func (ev *event) concerns(k indexKey) bool {
	if k.by == byName {
		return ev.entry.path == k.value
	}
	return nodeOf(ev.entry) == k.value || ev.prev != nil && nodeOf(ev.prev) == k.value
}

func nodeOf(e *Entry) string {
	if pod, ok := e.Object.(*corev1.Pod); ok {
		return pod.Spec.NodeName
	}
	return ""
}
