package store

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
)

// Objects with about the same time to live share a lease: one is granted for
// this many objects or this long, whichever comes first, as upstream does.
const (
	leaseObjects = 1000
	leaseReuse   = time.Minute
)

type leases struct {
	mu      sync.Mutex
	current map[time.Duration]*lease // guarded by mu
}

type lease struct {
	id      clientv3.LeaseID
	until   time.Time // when to stop attaching objects
	objects int
}

// lease returns a lease that lasts at least ttl from now and at most a little
// longer.
func (s *Store) lease(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	l := &s.leases
	// Held while granting: others wait for the lease they will share.
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if cur := l.current[ttl]; cur != nil {
		if cur.objects < leaseObjects && now.Before(cur.until) {
			cur.objects++
			return cur.id, nil
		}
		s.metrics.leaseSize.Observe(float64(cur.objects))
	}
	reuse := min(leaseReuse, ttl/20)
	seconds := int64((ttl + reuse + time.Second - 1) / time.Second)
	op := s.begin(ctx, "etcd.lease", "lease", client.Resource{})
	resp, err := s.etcd.Grant(op.ctx, seconds)
	op.end(err)
	if err != nil {
		return 0, s.translate(ctx, err, "grant a lease")
	}
	if l.current == nil {
		l.current = map[time.Duration]*lease{}
	}
	l.current[ttl] = &lease{id: resp.ID, until: now.Add(reuse), objects: 1}
	return resp.ID, nil
}
