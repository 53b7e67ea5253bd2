package store

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"binnacle.io/core/client"
)

// Event is one change as a cursor's filter sees it: an object that comes to
// match is ADDED, one that ceases to match is DELETED.
type Event struct {
	Type client.EventType
	// Entry is the new state. Of a DELETED event it is the last state that
	// matched, at the revision of the change.
	Entry *Entry
	// Prev is the state before, nil for a newly created object.
	Prev *Entry
	// Revision is the revision of the change.
	Revision int64
}

// Cursor follows the changes of one kind. Next, Await, TryNext and Bookmark are
// for one goroutine at a time; Close may be called by any.
type Cursor struct {
	store  *Store
	table  *table
	filter Filter
	none   bool // the filter contradicts itself
	from   int64

	bucket *bucket // nil: all events of the table
	key    indexKey

	pos     uint64 // number of the next event to look at
	epoch   uint64
	through int64    // revision of what was returned last, or later
	buf     []*event // reused by fetch
	batch   []*event // the part of buf not yet returned

	closed chan struct{}
	close  sync.Once
}

// readAhead is how many events a cursor takes from the ring at once.
const readAhead = 64

// Watch returns a cursor on the changes after revision from that f selects.
// It fails with 410 Expired when changes since from are no longer known. A
// from of 0 means from now on; one in the future skips what comes before it.
func (s *Store) Watch(_ context.Context, gr client.Resource, from int64, f Filter) (*Cursor, error) {
	t, err := s.table(gr)
	if err != nil {
		return nil, err
	}
	f, none := f.normal()
	c := &Cursor{store: s, table: t, filter: f, none: none, closed: make(chan struct{})}
	applied := s.applied.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.removed {
		return nil, notServed(gr)
	}
	if from <= 0 {
		from = max(applied, t.current.Load().revision)
	}
	if from < t.floor {
		return nil, tooOld(from, t.floor)
	}
	c.from, c.through = from, from
	c.pos = t.after(from)
	c.epoch = t.epoch
	if key, ok := f.index(t.kind); ok {
		c.key = key
		c.bucket = t.join(key)
	}
	t.metrics.watchers.Inc()
	return c, nil
}

var errNothingYet = errors.New("no event yet")

// Next waits for and returns the next event. It ends with ctx's error, io.EOF
// after Close, or 410 Expired when the cursor fell too far behind.
func (c *Cursor) Next(ctx context.Context) (Event, error) {
	return c.Await(ctx, func() {})
}

// Await is Next that calls idle each time before it waits.
func (c *Cursor) Await(ctx context.Context, idle func()) (Event, error) {
	for {
		ev, changed, err := c.take()
		if err != errNothingYet {
			return ev, err
		}
		idle()
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-c.closed:
			return Event{}, io.EOF
		case <-c.store.done:
			return Event{}, errClosing()
		}
	}
}

// TryNext is Next without waiting: it reports false when there is nothing to
// return yet.
func (c *Cursor) TryNext() (Event, bool, error) {
	ev, _, err := c.take()
	if err == errNothingYet {
		return Event{}, false, nil
	}
	return ev, err == nil, err
}

// take returns the next event, or errNothingYet and what to wait for.
func (c *Cursor) take() (Event, <-chan struct{}, error) {
	select {
	case <-c.closed:
		return Event{}, nil, io.EOF
	default:
	}
	for {
		for len(c.batch) > 0 {
			ev := c.batch[0]
			c.batch[0] = nil
			c.batch = c.batch[1:]
			c.through = ev.revision
			if out, ok := c.see(ev); ok {
				c.table.metrics.dispatched.Inc()
				return out, nil, nil
			}
		}
		changed, err := c.fetch()
		if err != nil {
			if err != errNothingYet {
				c.table.metrics.terminated.Inc()
			}
			return Event{}, changed, err
		}
	}
}

// fetch fills the batch from the ring.
func (c *Cursor) fetch() (<-chan struct{}, error) {
	// Before looking: all events up to here are in the ring by now.
	applied := c.store.applied.Load()
	t := c.table
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.removed || c.epoch != t.epoch {
		return nil, tooOld(c.through, t.floor)
	}
	batch := c.buf[:0]
	if b := c.bucket; b != nil {
		if c.pos < b.trimmed {
			return nil, tooOld(c.through, t.floor)
		}
		i, _ := slices.BinarySearch(b.seqs, c.pos)
		for ; i < len(b.seqs) && len(batch) < readAhead; i++ {
			if b.seqs[i] < t.first {
				return nil, tooOld(c.through, t.floor)
			}
			batch = append(batch, t.event(b.seqs[i]))
			c.pos = b.seqs[i] + 1
		}
		c.buf, c.batch = batch, batch
		if len(batch) > 0 {
			return nil, nil
		}
		c.pos = max(c.pos, t.next)
		c.through = max(c.through, applied)
		return b.changed, errNothingYet
	}
	if c.pos < t.first {
		return nil, tooOld(c.through, t.floor)
	}
	for ; c.pos < t.next && len(batch) < readAhead; c.pos++ {
		batch = append(batch, t.event(c.pos))
	}
	c.buf, c.batch = batch, batch
	if len(batch) > 0 {
		return nil, nil
	}
	c.through = max(c.through, applied)
	return t.changed, errNothingYet
}

// see applies the filter to a change.
func (c *Cursor) see(ev *event) (Event, bool) {
	if c.none || ev.revision <= c.from {
		return Event{}, false
	}
	k := c.table.kind
	is := !ev.deleted && c.filter.matches(k, ev.entry)
	was := ev.prev != nil && c.filter.matches(k, ev.prev)
	out := Event{Entry: ev.entry, Prev: ev.prev, Revision: ev.revision}
	switch {
	case is && was:
		out.Type = client.Modified
	case is:
		out.Type = client.Added
	case was && ev.deleted:
		out.Type = client.Deleted
	case was:
		out.Type = client.Deleted
		out.Entry = ev.last()
	default:
		return Event{}, false
	}
	return out, true
}

// last is the state before the event at the event's revision, made once for
// all cursors that lose the object by it.
func (ev *event) last() *Entry {
	if e := ev.gone.Load(); e != nil {
		return e
	}
	ev.gone.CompareAndSwap(nil, ev.prev.as(ev.revision))
	return ev.gone.Load()
}

// Bookmark is the revision through which Next has returned everything: a new
// cursor from there misses nothing. It advances with the store even when no
// event concerns this cursor.
func (c *Cursor) Bookmark() int64 {
	if len(c.batch) == 0 {
		// Looks for events and, finding none, moves through forward. An
		// error is found again by Next.
		_, _ = c.fetch()
	}
	if len(c.batch) > 0 && c.batch[0].revision == c.through {
		// One transaction changed several objects and some are left.
		return c.through - 1
	}
	return c.through
}

// Close releases the cursor. It is safe twice and while Next waits.
func (c *Cursor) Close() {
	c.close.Do(func() {
		close(c.closed)
		if c.bucket != nil {
			c.table.leave(c.key)
		}
		c.table.metrics.watchers.Dec()
	})
}
