package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

// root is the prefix of all keys, upstream's default.
const root = "/registry/"

// Catalogue tells the kinds to store. Virtual ones are left out.
type Catalogue interface{ All() []*kind.Kind }

// Store is an open store. It is safe for concurrent use.
type Store struct {
	cfg       Config
	tel       *telemetry.Component
	metrics   *metrics
	server    *server // nil with external endpoints
	etcd      *clientv3.Client
	encodings *encodings
	seed      maphash.Seed // of Entry.sum
	owners    owners
	keys      *keys
	leases    leases
	space     *space

	routes   atomic.Pointer[routes]
	routesMu sync.Mutex // held by those who replace routes

	// applied is the revision through which every change is in the tables
	// and rings.
	applied atomic.Int64
	// compacted is the revision before which there is no history.
	compacted atomic.Int64
	waiters   waiters
	checks    checks
	adds      chan addRequest
	nudge     chan struct{}
	feedErr   atomic.Pointer[error]

	control *control
	cancel  context.CancelFunc
	owned   sync.WaitGroup
	done    chan struct{}
	close   sync.Once
}

// routes finds tables.
type routes struct {
	byResource map[client.Resource]*table
	byPrefix   map[string]*table // "pods", "services/specs"
}

// Open starts or connects to etcd, reads everything, and follows it until
// Close. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config, cat Catalogue, tel *telemetry.Component) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	keys, keysMade, err := openKeys(cfg.Encryption)
	if err != nil {
		return nil, fmt.Errorf("cannot open store: %w", err)
	}
	s := &Store{
		cfg:       cfg,
		keys:      keys,
		tel:       tel,
		encodings: &encodings{max: cfg.EncodedBytes},
		seed:      maphash.MakeSeed(),
		owners:    owners{seed: maphash.MakeSeed()},
		adds:      make(chan addRequest),
		nudge:     make(chan struct{}, 1),
		done:      make(chan struct{}),
	}
	s.checks.init()
	// Metrics come first since tables hold handles of theirs, and are
	// registered last since a store that did not open has none.
	s.metrics = newMetrics()
	r := &routes{byResource: map[client.Resource]*table{}, byPrefix: map[string]*table{}}
	for _, k := range cat.All() {
		if k.Virtual {
			continue
		}
		if err := r.add(s.newTable(k)); err != nil {
			return nil, err
		}
	}
	s.routes.Store(r)

	if len(cfg.Endpoints) > 0 {
		if s.etcd, err = dial(ctx, cfg, tel); err != nil {
			return nil, err
		}
	} else {
		if s.server, err = startServer(ctx, cfg, tel); err != nil {
			return nil, err
		}
		s.etcd = s.server.client()
	}
	s.space = newSpace(cfg, s.server, s.etcd)
	if err := s.reload(ctx); err != nil {
		s.disconnect()
		return nil, fmt.Errorf("cannot open store: %w", err)
	}
	if n := keys.unknown.Load(); n > 0 && keysMade {
		s.disconnect()
		if err := keys.forgetFile(); err != nil {
			return nil, fmt.Errorf("cannot open store: %w", err)
		}
		return nil, fmt.Errorf("cannot open store: %d values are encrypted with keys that %s should hold, and it is missing: restore it", n, cfg.Encryption.File)
	}
	if s.control, err = startControl(s); err != nil {
		s.disconnect()
		return nil, fmt.Errorf("cannot open store: %w", err)
	}
	if err := s.metrics.register(tel.Registry, append(s.space.collectors(), newCollector(s), keys.metrics.duration, keys.metrics.operations)...); err != nil {
		_ = s.control.close()
		s.disconnect()
		return nil, fmt.Errorf("cannot open store: %w", err)
	}

	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.owned.Go(func() { s.feed(run) })
	s.owned.Go(func() { s.check(run) })
	s.owned.Go(func() { s.askProgress(run) })
	s.owned.Go(func() { s.age(run) })
	s.owned.Go(func() { s.resealStale(run) })
	s.owned.Go(func() { s.keepSpace(run) })
	s.owned.Go(func() { s.compact(run) })
	return s, nil
}

// Wait returns when ctx ends, or with an error when the embedded etcd cannot go
// on: a disk that fails to write, say. Writes are then refused or remain
// without an answer, and the process must end and start again. What has been
// acknowledged is safe.
func (s *Store) Wait(ctx context.Context) error {
	var failed <-chan struct{}
	if s.server != nil {
		failed = s.server.failed.ended
	}
	select {
	case <-failed:
		return s.server.failed.err()
	case <-ctx.Done():
		return nil
	}
}

// Close ends all cursors, stops following etcd, and stops the embedded one. It
// is safe twice.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		close(s.done)
		s.cancel()
		err = s.control.close()
		if s.server == nil || s.server.failed.err() == nil {
			s.owned.Wait() // a failed etcd may never answer them
		}
		err = errors.Join(err, s.disconnect())
	})
	return err
}

func (s *Store) disconnect() error {
	err := s.etcd.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if s.server != nil {
		s.server.close()
	}
	return err
}

func (s *Store) newTable(k *kind.Kind) *table {
	gr := k.GroupResource()
	t := &table{
		kind:     k,
		resource: gr,
		prefix:   root + k.Prefix + "/",
		ttl:      s.cfg.TTL[gr],
		metrics:  s.metrics.table(gr),
		changed:  make(chan struct{}),
		buckets:  map[indexKey]*bucket{},
		maxRing:  max(s.cfg.RingEvents, minRing),
		ringAge:  s.cfg.RingAge,
		keepFor:  s.cfg.KeepFor,
		now:      time.Now,
	}
	t.load(nil, nil, 0)
	return t
}

func (r *routes) add(t *table) error {
	prefix := t.kind.Prefix
	if prefix == "" || strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("cannot store %s: invalid etcd prefix %q", t.resource, prefix)
	}
	if r.byResource[t.resource] != nil {
		return fmt.Errorf("cannot store %s: it is already stored", t.resource)
	}
	if other := r.byPrefix[prefix]; other != nil {
		return fmt.Errorf("cannot store %s: %s has the etcd prefix %q already", t.resource, other.resource, prefix)
	}
	r.byResource[t.resource] = t
	r.byPrefix[prefix] = t
	return nil
}

func (r *routes) clone() *routes {
	return &routes{byResource: maps.Clone(r.byResource), byPrefix: maps.Clone(r.byPrefix)}
}

// find returns the table of an etcd key and the path below its prefix.
func (r *routes) find(key string) (*table, string) {
	rest, ok := strings.CutPrefix(key, root)
	if !ok {
		return nil, ""
	}
	for end := 0; ; {
		i := strings.IndexByte(rest[end:], '/')
		if i < 0 {
			return nil, ""
		}
		if t := r.byPrefix[rest[:end+i]]; t != nil {
			return t, rest[end+i+1:]
		}
		end += i + 1
	}
}

// AddKind begins to store another kind, with what etcd already holds of it.
func (s *Store) AddKind(ctx context.Context, k *kind.Kind) error {
	if k.Virtual {
		return nil
	}
	req := addRequest{table: s.newTable(k), done: make(chan error, 1)}
	select {
	case s.adds <- req:
	case <-ctx.Done():
		return fmt.Errorf("cannot add kind %s: %w", k.Hub, ctx.Err())
	case <-s.done:
		return errClosing()
	}
	select {
	case err := <-req.done:
		return err
	case <-s.done:
		return errClosing()
	}
}

// RemoveKind ceases to serve a kind: its cursors expire. What etcd holds of it
// stays there.
func (s *Store) RemoveKind(gr client.Resource) {
	s.routesMu.Lock()
	defer s.routesMu.Unlock()
	t := s.routes.Load().byResource[gr]
	if t == nil {
		return
	}
	r := s.routes.Load().clone()
	delete(r.byResource, gr)
	delete(r.byPrefix, t.kind.Prefix)
	s.routes.Store(r)
	t.remove()
	s.metrics.forget(gr)
}

func (s *Store) addRoute(t *table) error {
	s.routesMu.Lock()
	defer s.routesMu.Unlock()
	r := s.routes.Load().clone()
	if err := r.add(t); err != nil {
		return err
	}
	s.routes.Store(r)
	return nil
}

func (s *Store) table(gr client.Resource) (*table, error) {
	if t := s.routes.Load().byResource[gr]; t != nil {
		return t, nil
	}
	return nil, notServed(gr)
}

// tables returns all tables in the order of their resources.
func (s *Store) tables() []*table {
	return slices.SortedFunc(maps.Values(s.routes.Load().byResource), func(a, b *table) int {
		return strings.Compare(a.prefix, b.prefix)
	})
}

// Revision is the revision through which the cache has seen everything.
func (s *Store) Revision() int64 { return s.applied.Load() }

// Healthy reports whether etcd answers and the cache follows it.
func (s *Store) Healthy(ctx context.Context) error {
	if s.server != nil && s.server.failed.err() != nil {
		return s.server.failed.err()
	}
	if err := s.feedErr.Load(); err != nil {
		return *err
	}
	rev, err := s.checks.latest(ctx)
	if err != nil {
		return err
	}
	return s.waitFor(ctx, rev)
}

func (s *Store) databaseSize(ctx context.Context) (int64, error) {
	if s.server != nil {
		return s.server.etcd.Server.Backend().Size(), nil
	}
	var size int64
	for _, ep := range s.cfg.Endpoints {
		st, err := s.etcd.Status(ctx, ep)
		if err != nil {
			return 0, fmt.Errorf("cannot ask etcd %s for its size: %w", ep, err)
		}
		size = max(size, st.DbSize)
	}
	return size, nil
}
