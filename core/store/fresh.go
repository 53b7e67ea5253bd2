package store

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
)

// waiters are those who wait for the cache to have seen a revision.
type waiters struct {
	mu   sync.Mutex
	heap waiterHeap // guarded by mu
}

type waiter struct {
	revision int64
	since    time.Time
	reached  chan struct{}
}

type waiterHeap []waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].revision < h[j].revision }
func (h waiterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *waiterHeap) Push(x any)        { *h = append(*h, x.(waiter)) }
func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = waiter{}
	*h = old[:len(old)-1]
	return w
}

// waitFor returns once the cache has seen revision.
func (s *Store) waitFor(ctx context.Context, revision int64) error {
	if s.applied.Load() >= revision {
		return nil
	}
	w := waiter{revision, time.Now(), make(chan struct{})}
	s.waiters.mu.Lock()
	// advance stores applied before it takes mu, so either this load or
	// that advance sees the other.
	if s.applied.Load() >= revision {
		s.waiters.mu.Unlock()
		return nil
	}
	heap.Push(&s.waiters.heap, w)
	s.waiters.mu.Unlock()
	select {
	case s.nudge <- struct{}{}:
	default:
	}
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for revision %d: %w", revision, ctx.Err())
	case <-s.done:
		return errClosing()
	}
}

// advance announces that every change through revision is visible.
func (s *Store) advance(revision int64) {
	if revision <= s.applied.Load() {
		return
	}
	s.applied.Store(revision)
	s.waiters.mu.Lock()
	defer s.waiters.mu.Unlock()
	for len(s.waiters.heap) > 0 && s.waiters.heap[0].revision <= revision {
		close(heap.Pop(&s.waiters.heap).(waiter).reached)
	}
}

// longest returns since when the one with the lowest revision waits.
func (w *waiters) longest() (since time.Time, any bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heap) == 0 {
		return time.Time{}, false
	}
	return w.heap[0].since, true
}

// Revisions without a change below /registry/ (someone else's keys) reach the
// watch only as progress notifications. They are asked for when a reader has
// waited this long, and again while it waits.
const (
	progressAfter = 10 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

func (s *Store) askProgress(ctx context.Context) {
	ticker := time.NewTicker(progressAfter)
	ticker.Stop()
	defer ticker.Stop()
	var asked time.Time
	for {
		select {
		case <-s.nudge:
		case <-ctx.Done():
			return
		}
		ticker.Reset(progressAfter)
		for since, any := s.waiters.longest(); any; since, any = s.waiters.longest() {
			select {
			case now := <-ticker.C:
				if now.Sub(since) < progressAfter || asked.After(since) && now.Sub(asked) < progressEvery {
					continue
				}
				asked = now
			case <-ctx.Done():
				return
			}
			// A failure shows as one of the watch itself, which feed
			// handles; the next round asks again.
			ask, cancel := context.WithTimeout(s.watchContext(ctx), progressEvery)
			_ = s.etcd.RequestProgress(ask)
			cancel()
		}
		ticker.Stop()
	}
}

// watchContext marks the one watch. RequestProgress finds its stream by it.
func (s *Store) watchContext(ctx context.Context) context.Context {
	if s.server != nil {
		return ctx
	}
	return clientv3.WithRequireLeader(ctx)
}

// checks asks etcd for its current revision on behalf of all who want to know.
// A reader may use only an answer asked for after it came: those who come
// while one is under way share the next.
type checks struct {
	mu     sync.Mutex
	next   *check // guarded by mu
	wanted chan struct{}
}

type check struct {
	first    context.Context // of the first who asked: the span's parent
	done     chan struct{}
	revision int64 // set before done is closed
	err      error
}

func (c *checks) init() { c.wanted = make(chan struct{}, 1) }

func (c *checks) latest(ctx context.Context) (int64, error) {
	c.mu.Lock()
	if c.next == nil {
		c.next = &check{first: ctx, done: make(chan struct{})}
		c.wanted <- struct{}{} // has room: there is one next at a time
	}
	mine := c.next
	c.mu.Unlock()
	select {
	case <-mine.done:
		return mine.revision, mine.err
	case <-ctx.Done():
		return 0, fmt.Errorf("cannot read etcd's revision: %w", ctx.Err())
	}
}

func (c *checks) take() *check {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.next
	c.next = nil
	return taken
}

// check answers them until ctx ends, and then those left with an error.
func (s *Store) check(ctx context.Context) {
	c := &s.checks
	for {
		select {
		case <-c.wanted:
		case <-ctx.Done():
			// Later askers keep the slot filled and end with their
			// own context or by the store's closing.
			select {
			case <-c.wanted:
				one := c.take()
				one.err = errClosing()
				close(one.done)
			default:
			}
			return
		}
		one := c.take()
		one.revision, one.err = s.askRevision(ctx, one.first)
		close(one.done)
	}
}

func (s *Store) askRevision(ctx, first context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	op := s.begin(withSpanOf(ctx, first), "etcd.range", "getCurrentRevision", client.Resource{})
	resp, err := s.etcd.Get(op.ctx, root+"health", clientv3.WithKeysOnly())
	op.end(err)
	if err != nil {
		return 0, s.translate(ctx, err, "read etcd's revision")
	}
	return resp.Header.Revision, nil
}
