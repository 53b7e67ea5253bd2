package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/sys/unix"

	"binnacle.io/core/client"
)

// What is kept free so that an embedded etcd never meets a full disk, which it
// would not survive: the write-ahead log takes a segment at once, and the
// database file grows at any commit.
const (
	fileReserve  = 32 << 20 // blocks allocated behind the database's end
	diskReserve  = 32 << 20 // free on the disk besides the next segment
	diskMargin   = 32 << 20 // more of it before writes are taken again
	looksEvery   = time.Second
	compactsFull = 5 * time.Second // between compactions while there is no room
	// Written while the disk is full, from what has been allocated before:
	// objects that do not grow up to the first, deletions up to the second.
	renewBudget  = 8 << 20
	deleteBudget = 32 << 20
	entryBytes   = 512 // of the log for one operation, besides key and value

	defragMax    = 256 << 20 // data a routine defragmentation copies: 1 or 2 seconds without answers
	defragPause  = time.Hour // between two of them
	defragMargin = 64 << 20
)

// hardQuota is where etcd itself refuses to write. What lies between leaves
// room for deletions and renewals once the store refuses to grow.
func hardQuota(quota int64) int64 { return quota + max(quota/8, 16<<20) }

// want of room.
type want int32

const (
	nothing want = iota
	quotaRoom
	diskRoom
)

func (w want) String() string { return [...]string{"", "quota", "disk"}[w] }

// space keeps an embedded etcd within its quota and its disk. With an external
// one it does nothing.
type space struct {
	server *server
	etcd   *clientv3.Client
	dir    string
	quota  int64

	short   atomic.Int32 // a want
	spent   atomic.Int64 // bytes written while the disk is full
	counted atomic.Int64 // bytes in use, as etcd counted when it last committed
	since   atomic.Int64 // bytes admitted since then
	nudged  chan struct{}
	refused prometheus.Counter
	defrags prometheus.Counter
	full    *prometheus.GaugeVec
}

func newSpace(cfg Config, srv *server, etcd *clientv3.Client) *space {
	return &space{
		server: srv, etcd: etcd, dir: filepath.Join(cfg.Dir, "etcd"), quota: cfg.QuotaBytes, nudged: make(chan struct{}, 1),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_store_refused_writes_total", Help: "Writes refused because quota or disk have no room.",
		}),
		defrags: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_store_defragmentations_total", Help: "Defragmentations the store decided on.",
		}),
		full: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "binnacle_store_full", Help: "Whether the store refuses to grow, by what has no room.",
		}, []string{"reason"}),
	}
}

func (p *space) collectors() []prometheus.Collector {
	if p.server == nil {
		return nil
	}
	limit := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "binnacle_store_quota_bytes", Help: "Size of the data in use at which the store refuses to grow.",
	}, func() float64 { return float64(p.quota) })
	return []prometheus.Collector{p.refused, p.defrags, p.full, limit}
}

// nudge has the keeper look at once.
func (p *space) nudge() {
	select {
	case p.nudged <- struct{}{}:
	default:
	}
}

// missing is what there is no room for now, if size bytes are to be written.
func (p *space) missing(size int) want {
	if p.server == nil {
		return nothing
	}
	if w := want(p.short.Load()); w != nothing {
		return w
	}
	// etcd counts every 100 ms, in which a disk may take many writes.
	inUse := p.server.etcd.Server.Backend().SizeInUse()
	if p.counted.Swap(inUse) != inUse {
		p.since.Store(0)
	}
	if inUse+p.since.Add(int64(size)) >= p.quota {
		p.since.Add(-int64(size)) // it is not written
		p.nudge()
		return quotaRoom
	}
	return nothing
}

// alwaysWritten are small objects on which the life of others depends.
func alwaysWritten(gr client.Resource) bool {
	return gr == client.Resource{Group: "coordination.k8s.io", Resource: "leases"}
}

// admitCreate refuses a new object when there is no room.
func (p *space) admitCreate(gr client.Resource, path string, size int) error {
	w := p.missing(size)
	if w == nothing || alwaysWritten(gr) && p.spend(w, size, renewBudget) {
		return nil
	}
	return p.refuse(w, "create", gr, path)
}

// admitUpdate refuses an object that grows when there is no room, unless it
// does so on its way out.
func (p *space) admitUpdate(gr client.Resource, cur *Entry, next client.Object, size int) error {
	w := p.missing(size)
	if w == nothing {
		return nil
	}
	leaving := next.GetDeletionTimestamp() != nil
	if leaving && p.spend(w, size, deleteBudget) || (size <= cur.size || alwaysWritten(gr)) && p.spend(w, size, renewBudget) {
		return nil
	}
	return p.refuse(w, "update", gr, cur.path)
}

// admitDelete refuses a deletion only when not even that fits on the disk.
func (p *space) admitDelete(gr client.Resource, path string) error {
	if w := p.missing(0); w != nothing && !p.spend(w, 0, deleteBudget) {
		return p.refuse(w, "delete", gr, path)
	}
	return nil
}

// spend takes from what is left of the blocks allocated before the disk was
// full.
func (p *space) spend(w want, size int, budget int64) bool {
	return w != diskRoom || p.spent.Add(int64(size)+entryBytes) <= budget
}

func (p *space) refuse(w want, verb string, gr client.Resource, path string) error {
	p.refused.Inc()
	doing := verb + " " + gr.String() + " " + path
	if w == diskRoom {
		return insufficientStorage(fmt.Sprintf("cannot %s: the disk of %s is full; make room on it, or delete objects", doing, p.dir))
	}
	return insufficientStorage(fmt.Sprintf("cannot %s: %s", doing, overQuota(p.quota)))
}

// observed is what the keeper sees.
type observed struct {
	size, inUse, quota int64
	reserved           bool  // blocks behind the database's end
	diskFree           int64 // bytes
	alarm              bool  // etcd refuses to write
	revision           int64
}

// remembered is what it did before.
type remembered struct {
	short               want
	compacted           int64 // revision
	compactedAt, defrag time.Time
	settledAt           time.Time
}

// measures are what it does.
type measures struct {
	short                           want
	compact, settle, defrag, disarm bool
}

// decide says what to do about what is seen.
func decide(o observed, r remembered, now time.Time) (m measures) {
	needed := int64(wal.SegmentSizeBytes) + diskReserve
	if r.short == diskRoom {
		needed += diskMargin
	}
	limit := o.quota
	if r.short == quotaRoom {
		limit -= o.quota / 20 // not full again at once
	}
	switch {
	case !o.reserved || o.diskFree < needed:
		m.short = diskRoom
	case o.inUse >= limit || o.alarm:
		m.short = quotaRoom
	}
	free := o.size - o.inUse
	m.compact = m.short == quotaRoom && o.revision > r.compacted && now.Sub(r.compactedAt) >= compactsFull
	// Who was still reading may have kept freed pages from being counted, and
	// nobody else may write who would have them counted.
	m.settle = m.short == quotaRoom && !o.alarm && !m.compact && r.compacted > 0 && now.Sub(r.settledAt) >= compactsFull
	canCopy := o.diskFree >= o.inUse+o.inUse/4+defragMargin+needed
	switch {
	case !canCopy || m.compact: // frees more first
	case o.alarm || o.size >= hardQuota(o.quota):
		// What is free is not known well until something can be written.
		m.defrag = r.compactedAt.After(r.defrag)
	case o.inUse <= defragMax:
		m.defrag = free >= defragMegabytes<<20 && free >= o.size/2 && now.Sub(r.defrag) >= defragPause
	}
	m.disarm = o.alarm && o.size < hardQuota(o.quota)
	return m
}

// keepSpace looks after the space until ctx ends.
func (s *Store) keepSpace(ctx context.Context) {
	p := s.space
	if p.server == nil {
		return
	}
	ticker := time.NewTicker(looksEvery)
	defer ticker.Stop()
	reserve := &reservation{name: filepath.Join(p.dir, "member", "snap", "db")}
	r := remembered{defrag: time.Now()} // starting has just done it
	for {
		if err := s.keepOnce(ctx, reserve, &r); err != nil && ctx.Err() == nil {
			s.tel.Log.Error("cannot look after the store's space", "error", err)
		}
		select {
		case <-ticker.C:
			// etcd has counted since, be it to the same number.
			p.since.Store(0)
		case <-p.nudged:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) keepOnce(ctx context.Context, reserve *reservation, r *remembered) error {
	p := s.space
	o, err := p.observe(reserve)
	if err != nil {
		return err
	}
	m := decide(o, *r, time.Now())
	if m.short != r.short {
		p.enter(m.short)
		level := s.tel.Log.Warn
		if m.short == nothing {
			level = s.tel.Log.Info
		}
		level("the store's room changed", "lacks", m.short.String(), "bytes", o.inUse, "quota", o.quota, "diskFree", o.diskFree)
		r.short = m.short
	}
	if m.compact {
		r.compacted, r.compactedAt = o.revision, time.Now()
		// The tables hold what readers may still ask for; etcd's own
		// history is for nobody else.
		if _, err := p.etcd.Compact(ctx, o.revision, clientv3.WithCompactPhysical()); err != nil {
			return fmt.Errorf("cannot compact etcd to revision %d: %w", o.revision, err)
		}
	}
	if m.compact && !o.alarm || m.settle {
		r.settledAt = time.Now()
		if r.compacted, err = p.settle(ctx, r.compacted); err != nil {
			return err
		}
	}
	if m.compact || m.settle {
		p.nudge()
	}
	if m.defrag {
		r.defrag = time.Now()
		p.defrags.Inc()
		if err := p.server.etcd.Server.Backend().Defrag(); err != nil {
			return fmt.Errorf("cannot defragment etcd: %w", err)
		}
		s.tel.Log.Info("the database was defragmented", "before", o.size, "after", p.server.etcd.Server.Backend().Size(), "took", time.Since(r.defrag))
		p.nudge()
	}
	if m.disarm {
		return p.server.disarm(ctx, p.etcd)
	}
	return nil
}

// settleKey is outside of what upstream knows.
const settleKey = "binnacle/compacted"

// settle makes etcd count the pages that a compaction has freed: it does so
// when it commits the second transaction after it. It returns the revision
// after which someone else wrote.
func (p *space) settle(ctx context.Context, compacted int64) (int64, error) {
	for range 2 {
		resp, err := p.etcd.Put(ctx, settleKey, time.Now().UTC().Format(time.RFC3339))
		if err != nil {
			return compacted, fmt.Errorf("cannot write after a compaction: %w", err)
		}
		if resp.Header.Revision == compacted+1 {
			compacted++
		}
		p.server.etcd.Server.Backend().ForceCommit()
	}
	return compacted, nil
}

// enter tells writers.
func (p *space) enter(w want) {
	p.spent.Store(0)
	p.short.Store(int32(w))
	for _, each := range []want{quotaRoom, diskRoom} {
		on := 0.0
		if w == each {
			on = 1
		}
		p.full.WithLabelValues(each.String()).Set(on)
	}
}

func (p *space) observe(reserve *reservation) (o observed, err error) {
	srv := p.server.etcd.Server
	o = observed{size: srv.Backend().Size(), inUse: srv.Backend().SizeInUse(), quota: p.quota, revision: srv.KV().Rev()}
	var fs unix.Statfs_t
	if err := unix.Statfs(p.dir, &fs); err != nil {
		return o, fmt.Errorf("cannot ask for the space of %s: %w", p.dir, err)
	}
	o.diskFree = int64(fs.Bavail) * fs.Bsize
	for _, a := range srv.Alarms() {
		o.alarm = o.alarm || a.Alarm == etcdserverpb.AlarmType_NOSPACE
	}
	o.reserved, err = reserve.extend()
	return o, err
}

// reservation is disk blocks allocated behind the end of a file that grows.
type reservation struct {
	name string
	last os.FileInfo
}

// extend reports whether the blocks are there.
func (r *reservation) extend() (bool, error) {
	f, err := os.OpenFile(r.name, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("cannot reserve space: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("cannot reserve space: %w", err)
	}
	if r.last != nil && os.SameFile(st, r.last) && st.Size() == r.last.Size() {
		return true, nil
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, st.Size()+fileReserve)
	switch {
	case err == nil, errors.Is(err, syscall.EOPNOTSUPP):
		r.last = st // a file system without reservations has its free space only
		return true, nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r.last = nil
		return false, nil
	}
	return false, fmt.Errorf("cannot reserve space in %s: %w", r.name, err)
}
