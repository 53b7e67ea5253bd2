package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Item is one notification for one destination.
type Item struct {
	// Group is what order is kept within.
	Group string `json:"group"`
	// Critical lets the item's group go before groups without critical items.
	Critical bool      `json:"critical,omitempty"`
	Enqueued time.Time `json:"enqueued"`
	Body     []byte    `json:"body"`
}

// Entry is an item with its place in the queue.
type Entry struct {
	ID uint64
	Item
}

// Limits bound each destination's queue.
type Limits struct {
	Items int
	Bytes int64
	Age   time.Duration
}

// Why an item was let go before it was delivered.
const (
	ReasonFull    = "queue_full"
	ReasonExpired = "expired"
	ReasonDamaged = "damaged"
)

// Store is the file with all queues. It is safe for concurrent use.
type Store struct {
	limits  Limits
	now     func() time.Time
	dropped func(destination, reason string, n int)
	db      *bbolt.DB

	mu     sync.Mutex
	queues map[string]*queue
}

type queue struct {
	entries []header // by ID
	bytes   int64
	changed chan struct{} // closed and replaced by each Put
}

type header struct {
	id       uint64
	group    string
	critical bool
	enqueued time.Time
	size     int64
}

// Open opens or creates the file. dropped is told of every item let go.
func Open(path string, limits Limits, now func() time.Time, dropped func(destination, reason string, n int)) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot create folder of notification queue: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("cannot open notification queue %q: another process has it open", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open notification queue %q: %w", path, err)
	}
	s := &Store{limits: limits, now: now, dropped: dropped, db: db, queues: map[string]*queue{}}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *Store) load() error {
	damaged := map[string][][]byte{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			q := s.queue(string(name))
			return b.ForEach(func(k, v []byte) error {
				var it Item
				if err := json.Unmarshal(v, &it); err != nil || len(k) != 8 {
					damaged[string(name)] = append(damaged[string(name)], slices.Clone(k))
					return nil
				}
				q.push(headerOf(binary.BigEndian.Uint64(k), &it, len(v)))
				return nil
			})
		})
	})
	if err != nil {
		return fmt.Errorf("cannot read notification queue: %w", err)
	}
	for name, keys := range damaged {
		if err := s.delete(name, keys...); err != nil {
			return err
		}
		s.dropped(name, ReasonDamaged, len(keys))
	}
	return s.Expire()
}

// Close closes the file. Items stay in it.
func (s *Store) Close() error { return s.db.Close() }

// queue returns the destination's queue, making it when need be. The lock is
// held, or the store not yet shared.
func (s *Store) queue(destination string) *queue {
	q, ok := s.queues[destination]
	if !ok {
		q = &queue{changed: make(chan struct{})}
		s.queues[destination] = q
	}
	return q
}

func headerOf(id uint64, it *Item, size int) header {
	return header{id: id, group: it.Group, critical: it.Critical, enqueued: it.Enqueued, size: int64(size)}
}

func (q *queue) push(h header) {
	q.entries = append(q.entries, h)
	q.bytes += h.size
}

func (q *queue) remove(i int) header {
	h := q.entries[i]
	q.entries = slices.Delete(q.entries, i, i+1)
	q.bytes -= h.size
	return h
}

// next is the place of the item to hand out: the first of its group, where groups
// go by rank, then those with a critical item, then by age. Rank nil is 0 for all.
func (q *queue) next(rank func(group string) int64) int {
	type group struct {
		first  int
		rank   int64
		urgent bool
	}
	groups := map[string]*group{}
	for i, h := range q.entries {
		g, ok := groups[h.group]
		if !ok {
			g = &group{first: i}
			if rank != nil {
				g.rank = rank(h.group)
			}
			groups[h.group] = g
		}
		g.urgent = g.urgent || h.critical
	}
	var best *group
	for _, g := range groups {
		if best == nil || before(g.rank, best.rank, g.urgent, best.urgent, g.first < best.first) {
			best = g
		}
	}
	return best.first
}

func before(rank, otherRank int64, urgent, otherUrgent, older bool) bool {
	switch {
	case rank != otherRank:
		return rank < otherRank
	case urgent != otherUrgent:
		return urgent
	}
	return older
}

// victim is the place of the item to let go when the queue is full: the oldest
// that is not critical, else the oldest.
func (q *queue) victim() int {
	return max(0, slices.IndexFunc(q.entries, func(h header) bool { return !h.critical }))
}

func key(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// Put appends an item to the destination's queue and syncs it to disk. When the
// queue is full, older items are let go.
func (s *Store) Put(destination string, it Item) error {
	v, err := json.Marshal(it)
	if err != nil {
		return fmt.Errorf("cannot encode notification for %q: %w", destination, err)
	}
	if int64(len(v)) > s.limits.Bytes {
		s.dropped(destination, ReasonFull, 1)
		return fmt.Errorf("cannot queue notification for %q: its %d bytes exceed the bound of %d", destination, len(v), s.limits.Bytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(destination)
	// What must go is chosen first, so that one transaction does both.
	rest := &queue{entries: slices.Clone(q.entries), bytes: q.bytes}
	var gone []uint64
	for len(rest.entries) > 0 && (len(rest.entries) >= s.limits.Items || rest.bytes+int64(len(v)) > s.limits.Bytes) {
		gone = append(gone, rest.remove(rest.victim()).id)
	}
	var id uint64
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(destination))
		if err != nil {
			return err
		}
		for _, id := range gone {
			if err := b.Delete(key(id)); err != nil {
				return err
			}
		}
		if id, err = b.NextSequence(); err != nil {
			return err
		}
		return b.Put(key(id), v)
	})
	if err != nil {
		return fmt.Errorf("cannot queue notification for %q: %w", destination, err)
	}
	rest.push(headerOf(id, &it, len(v)))
	q.entries, q.bytes = rest.entries, rest.bytes
	close(q.changed)
	q.changed = make(chan struct{})
	if len(gone) > 0 {
		s.dropped(destination, ReasonFull, len(gone))
	}
	return nil
}

// Next returns the item to deliver next without taking it. Groups of lower rank
// go first, so that one whose item is refused again and again does not hold up
// the others. changed is closed by the next Put; ok is false when there is no item.
func (s *Store) Next(destination string, rank func(group string) int64) (e Entry, changed <-chan struct{}, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(destination)
	if len(q.entries) == 0 {
		return e, q.changed, false, nil
	}
	e.ID = q.entries[q.next(rank)].id
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(destination))
		if b == nil {
			return errors.New("queue is gone from the file")
		}
		return json.Unmarshal(b.Get(key(e.ID)), &e.Item)
	})
	if err != nil {
		return e, nil, false, fmt.Errorf("cannot read notification %d for %q: %w", e.ID, destination, err)
	}
	return e, q.changed, true, nil
}

// Done removes an item that was delivered or given up.
func (s *Store) Done(destination string, id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(destination)
	i := slices.IndexFunc(q.entries, func(h header) bool { return h.id == id })
	if i < 0 { // let go meanwhile
		return nil
	}
	if err := s.delete(destination, key(id)); err != nil {
		return err
	}
	q.remove(i)
	return nil
}

// delete removes keys from the file.
func (s *Store) delete(destination string, keys ...[]byte) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(destination))
		if b == nil {
			return nil
		}
		for _, k := range keys {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot remove notifications for %q: %w", destination, err)
	}
	return nil
}

// Expire lets go of items older than the age limit, in all queues.
func (s *Store) Expire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.now().Add(-s.limits.Age)
	var errs []error
	for name, q := range s.queues {
		var keys [][]byte
		var keep []header
		var bytes int64
		for _, h := range q.entries {
			if h.enqueued.Before(oldest) {
				keys = append(keys, key(h.id))
				continue
			}
			keep, bytes = append(keep, h), bytes+h.size
		}
		if len(keys) == 0 {
			continue
		}
		if err := s.delete(name, keys...); err != nil {
			errs = append(errs, err)
			continue
		}
		q.entries, q.bytes = keep, bytes
		s.dropped(name, ReasonExpired, len(keys))
	}
	return errors.Join(errs...)
}

// Stats is the state of one destination's queue.
type Stats struct {
	Items  int
	Bytes  int64
	Oldest time.Time // zero when empty
}

// Stats returns the state of every queue that exists.
func (s *Store) Stats() map[string]Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]Stats, len(s.queues))
	for name, q := range s.queues {
		st := Stats{Items: len(q.entries), Bytes: q.bytes}
		if st.Items > 0 {
			st.Oldest = q.entries[0].enqueued
		}
		out[name] = st
	}
	return out
}
