package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
)

// addRequest asks the feed goroutine for another table.
type addRequest struct {
	table *table
	done  chan error
}

// age makes idle tables forget, until ctx ends. What much is forgotten after a
// burst is given back to the system at once: at rest the next collection may
// be minutes away.
func (s *Store) age(ctx context.Context) {
	ticker := time.NewTicker(max(s.cfg.RingAge/4, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			var forgotten int64
			for _, t := range s.tables() {
				forgotten += t.age()
			}
			if forgotten > muchForgotten {
				debug.FreeOSMemory()
			}
		case <-ctx.Done():
			return
		}
	}
}

const (
	pageKeys   = 2000 // keys per range request
	retryAfter = 200 * time.Millisecond
	retryMax   = 10 * time.Second
)

var errWatchEnded = errors.New("etcd's watch ended")

// feed keeps the tables up with etcd until ctx ends. It is their only writer.
func (s *Store) feed(ctx context.Context) {
	wait := retryAfter
	for {
		before := s.applied.Load()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev) {
			// History is lost: start from the present. Cursors expire.
			s.tel.Log.Warn("etcd's history was compacted before it was seen, reading everything anew", "revision", before)
			s.metrics.reloads.Inc()
			if err = s.reload(ctx); err == nil {
				wait = retryAfter
				continue
			}
		}
		if s.applied.Load() > before {
			wait = retryAfter
		}
		err = fmt.Errorf("cannot follow etcd: %w", err)
		s.feedErr.Store(&err)
		s.tel.Log.Error("cannot follow etcd", "error", err, "retry", wait)
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, retryMax)
	}
}

// follow applies etcd's watch from where the tables are until it fails.
func (s *Store) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(s.watchContext(ctx))
	defer cancel()
	responses := s.etcd.Watch(ctx, root,
		clientv3.WithPrefix(), clientv3.WithRev(s.applied.Load()+1),
		clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	for {
		select {
		case resp, ok := <-responses:
			if !ok {
				return errWatchEnded
			}
			if err := resp.Err(); err != nil {
				return err
			}
			if resp.Created {
				s.feedErr.Store(nil)
				continue
			}
			s.apply(resp)
		case req := <-s.adds:
			req.done <- s.fill(ctx, req.table)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply makes one response of the watch visible. It holds whole revisions.
func (s *Store) apply(resp clientv3.WatchResponse) {
	if resp.IsProgressNotify() {
		s.metrics.progress.Inc()
		s.advance(resp.Header.Revision)
		return
	}
	routes := s.routes.Load()
	var touched []*table
	var last int64
	for _, ev := range resp.Events {
		last = max(last, ev.Kv.ModRevision)
		t, path := routes.find(string(ev.Kv.Key))
		if t == nil || ev.Kv.ModRevision <= t.loaded {
			continue
		}
		t.metrics.storage.Inc()
		if ev.Type == clientv3.EventTypeDelete {
			t.setCorrupt(path, nil)
			t.del(path, ev.Kv.ModRevision)
		} else if e, err := s.entry(t, path, ev.Kv); err != nil {
			// What cannot be read is gone for readers, and says so.
			t.setCorrupt(path, err)
			t.del(path, ev.Kv.ModRevision)
		} else {
			t.setCorrupt(path, nil)
			t.put(e)
		}
		if !slices.Contains(touched, t) {
			touched = append(touched, t)
		}
	}
	for _, t := range touched {
		t.publish()
	}
	s.advance(last)
}

func (s *Store) entry(t *table, path string, kv *mvccpb.KeyValue) (*Entry, error) {
	value, stale, err := s.keys.open(t.resource, t.prefix+path, kv.Value)
	var obj client.Object
	if err == nil {
		obj, err = decode(t.kind, value, kv.ModRevision)
	}
	if err == nil {
		s.owners.share(obj)
	}
	if err != nil {
		s.metrics.decode.WithLabelValues(t.resource.Group, t.resource.Resource).Inc()
		err = fmt.Errorf("cannot read %q of revision %d: %w", kv.Key, kv.ModRevision, err)
		s.tel.Log.Error("cannot decode stored value", "error", err)
		return nil, err
	}
	e := s.newEntry(path, kv.ModRevision, obj, value)
	e.stale = stale
	return e, nil
}

func (s *Store) newEntry(path string, revision int64, obj client.Object, value []byte) *Entry {
	return &Entry{
		Key: keyOfPath(path), Revision: revision, Object: obj,
		path: path, size: len(value), sum: maphash.Bytes(s.seed, value), cache: s.encodings,
		marks: labelMarks(obj.GetLabels()),
	}
}

// contents is what a range found of one table.
type contents struct {
	entries []*Entry
	corrupt map[string]error
}

// reload replaces the content of all tables by what etcd holds now.
func (s *Store) reload(ctx context.Context) error {
	if s.server == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readyTimeout)
		defer cancel()
	}
	found, revision, err := s.readAll(ctx, s.routes.Load(), root)
	if err != nil {
		return err
	}
	for _, t := range s.tables() {
		c := found[t]
		t.load(c.entries, c.corrupt, revision)
		t.metrics.inits.Inc()
		t.metrics.revision.Set(float64(revision))
	}
	s.advance(revision)
	return nil
}

// fill reads a new table and adds it. It may then be ahead of the others until
// the watch has come as far.
func (s *Store) fill(ctx context.Context, t *table) error {
	only := &routes{byPrefix: map[string]*table{t.kind.Prefix: t}}
	found, revision, err := s.readAll(ctx, only, t.prefix)
	if err != nil {
		return fmt.Errorf("cannot add kind %s: %w", t.kind.Hub, err)
	}
	t.load(found[t].entries, found[t].corrupt, revision)
	t.metrics.inits.Inc()
	return s.addRoute(t)
}

// readAll reads all keys below prefix and returns the revision they are of.
func (s *Store) readAll(ctx context.Context, r *routes, prefix string) (map[*table]contents, int64, error) {
	found := map[*table]contents{}
	var revision int64
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageKeys)}
		if revision > 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		op := s.begin(ctx, "etcd.range", "list", client.Resource{})
		resp, err := s.etcd.Get(op.ctx, from, opts...)
		op.end(err)
		if err != nil {
			return nil, 0, s.translate(ctx, err, "list "+prefix)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		s.decodePage(r, resp.Kvs, found)
		if !resp.More || len(resp.Kvs) == 0 {
			return found, revision, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// decodePage decodes on all processors and adds the results to found.
func (s *Store) decodePage(r *routes, kvs []*mvccpb.KeyValue, found map[*table]contents) {
	type result struct {
		table *table
		path  string
		entry *Entry
		err   error
	}
	results := make([]result, len(kvs))
	var wg sync.WaitGroup
	per := max(64, (len(kvs)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for start := 0; start < len(kvs); start += per {
		wg.Go(func() {
			for i := start; i < min(start+per, len(kvs)); i++ {
				if t, path := r.find(string(kvs[i].Key)); t != nil {
					e, err := s.entry(t, path, kvs[i])
					results[i] = result{t, path, e, err}
				}
			}
		})
	}
	wg.Wait()
	for _, res := range results {
		if res.table == nil {
			continue
		}
		c := found[res.table]
		if res.err != nil {
			if c.corrupt == nil {
				c.corrupt = map[string]error{}
			}
			c.corrupt[res.path] = res.err
		} else {
			c.entries = append(c.entries, res.entry)
		}
		found[res.table] = c
	}
}
