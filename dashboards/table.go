package dashboards

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"binnacle.io/core/client"
)

// table follows all objects of one kind.
type table[T client.Object] struct {
	mu      sync.Mutex
	items   map[client.Key]T // guarded by mu
	version uint64           // grows with every change; guarded by mu
	err     error            // why items may be old; guarded by mu
	tried   chan struct{}    // closed after the first list, failed or not
	once    sync.Once
}

func newTable[T client.Object]() *table[T] {
	return &table[T]{items: map[client.Key]T{}, tried: make(chan struct{})}
}

// run follows the kind until ctx ends.
func (t *table[T]) run(ctx context.Context, c client.Client) {
	for ctx.Err() == nil {
		err := t.follow(ctx, c)
		if ctx.Err() != nil {
			return
		}
		t.mu.Lock()
		t.err = err
		t.version++
		t.mu.Unlock()
		t.once.Do(func() { close(t.tried) })
		select {
		case <-ctx.Done():
		case <-time.After(500*time.Millisecond + rand.N(time.Second)):
		}
	}
}

// follow lists and watches until that fails.
func (t *table[T]) follow(ctx context.Context, c client.Client) error {
	list, revision, err := client.ListOf[T](ctx, c, client.ReadOptions{FromCache: true})
	if err != nil {
		return err
	}
	items := make(map[client.Key]T, len(list))
	for _, o := range list {
		items[client.KeyOf(o)] = o
	}
	w, err := client.WatchOf[T](ctx, c, revision, client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	t.mu.Lock()
	t.items, t.err = items, nil
	t.version++
	t.mu.Unlock()
	t.once.Do(func() { close(t.tried) })
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if e.Type == client.Bookmark {
			continue
		}
		o, ok := e.Object.(T)
		if !ok {
			return fmt.Errorf("cannot use %T as %T", e.Object, o)
		}
		t.mu.Lock()
		if e.Type == client.Deleted {
			delete(t.items, client.KeyOf(o))
		} else {
			t.items[client.KeyOf(o)] = o
		}
		t.version++
		t.mu.Unlock()
	}
}

// all returns the objects, in no order, and their version.
func (t *table[T]) all() ([]T, uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]T, 0, len(t.items))
	for _, o := range t.items {
		out = append(out, o)
	}
	return out, t.version, t.err
}

func (t *table[T]) get(namespace, name string) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.items[client.Key{Namespace: namespace, Name: name}]
	return o, ok
}
