package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
)

// Rotation is what a rotation of keys did.
type Rotation struct {
	// Keys are the names of the new keys, one for each element of the file
	// that encrypts.
	Keys []string `json:"keys"`
	// Rewritten values are now sealed with them.
	Rewritten int64 `json:"rewritten"`
}

// ErrNothingEncrypted refuses to rotate keys that are not there.
var ErrNothingEncrypted = errors.New("cannot rotate encryption keys: nothing is encrypted at rest")

// RotateKeys puts a fresh key first in the encryption file, writes every value
// again that another key sealed, and drops the other keys. Whenever the
// process dies in between, the file holds every key in use; the next start
// writes the rest again, and the next rotation drops what this one left. No
// other process may write to the same etcd meanwhile with the old file.
func (s *Store) RotateKeys(ctx context.Context) (*Rotation, error) {
	k := s.keys
	if !k.rotating.TryLock() {
		return nil, errors.New("cannot rotate encryption keys: a rotation is under way")
	}
	defer k.rotating.Unlock()
	if k.file == "" {
		return nil, ErrNothingEncrypted
	}
	old, err := readEncryption(k.file)
	if err != nil {
		return nil, err
	}
	both, names := withKey(old, time.Now())
	if len(names) == 0 {
		return nil, ErrNothingEncrypted
	}
	// On disk before anything is sealed with it.
	if err := writeEncryption(k.file, both); err != nil {
		return nil, err
	}
	if err := k.use(both); err != nil {
		return nil, fmt.Errorf("cannot rotate encryption keys: %w", err)
	}
	out := &Rotation{Keys: names}
	if out.Rewritten, err = s.reseal(ctx, func(*Entry) bool { return true }); err != nil {
		return out, fmt.Errorf("cannot rotate encryption keys: %w; every key is still in %s, rotate again later", err, k.file)
	}
	only := withoutOldKeys(both)
	ring, err := newKeyring(only)
	if err == nil {
		err = s.allOpen(ctx, ring)
	}
	if err != nil {
		return out, fmt.Errorf("cannot drop old encryption keys: %w; every key is still in %s", err, k.file)
	}
	if err := writeEncryption(k.file, only); err != nil {
		return out, err
	}
	s.tel.Log.Info("encryption keys were rotated", "keys", names, "rewritten", out.Rewritten)
	return out, k.use(only)
}

// resealers bounds the values written again at once.
const resealers = 8

// reseal writes again, as the keyring says today, those of the wanted objects
// that are stored otherwise. Their content stays, their revision does not.
func (s *Store) reseal(ctx context.Context, wanted func(*Entry) bool) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type item struct {
		gr  client.Resource
		key string
	}
	work := make(chan item)
	var rewritten atomic.Int64
	var workers sync.WaitGroup
	for range resealers {
		workers.Go(func() {
			for it := range work {
				did, err := s.resealOne(ctx, it.gr, it.key)
				if err != nil {
					cancel(err)
					continue // the rest fails by the context, and the channel is emptied
				}
				if did {
					rewritten.Add(1)
				}
			}
		})
	}
	if err := s.freshen(ctx, Latest()); err != nil {
		cancel(err)
	}
	for _, t := range s.tables() {
		for e := range (Snapshot{table: t, entries: t.current.Load().entries}).All("") {
			if ctx.Err() == nil && wanted(e) && (e.stale || s.keys.ring.Load().rule(t.resource) != nil) {
				work <- item{t.resource, t.prefix + e.path}
			}
		}
	}
	close(work)
	workers.Wait()
	return rewritten.Load(), context.Cause(ctx)
}

// resealOne reports whether it wrote. A value that changes meanwhile is left
// to the one who changes it.
func (s *Store) resealOne(ctx context.Context, gr client.Resource, key string) (bool, error) {
	op := s.begin(ctx, "etcd.range", "get", gr)
	resp, err := s.etcd.Get(op.ctx, key)
	op.end(err)
	if err != nil {
		return false, s.translate(ctx, err, "read "+key)
	}
	if len(resp.Kvs) == 0 {
		return false, nil
	}
	kv := resp.Kvs[0]
	defer s.keys.begin()()
	plain, stale, err := s.keys.open(gr, key, kv.Value)
	if err != nil {
		return false, fmt.Errorf("cannot read %q of revision %d: %w", key, kv.ModRevision, err)
	}
	if !stale {
		return false, nil
	}
	var opts []clientv3.OpOption
	if kv.Lease != 0 {
		opts = append(opts, clientv3.WithLease(clientv3.LeaseID(kv.Lease)))
	}
	op = s.begin(ctx, "etcd.txn", "update", gr)
	done, err := s.etcd.Txn(op.ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).
		Then(clientv3.OpPut(key, string(s.keys.seal(gr, key, plain)), opts...)).Commit()
	op.end(err)
	if err != nil {
		return false, s.translate(ctx, err, "write "+key)
	}
	return done.Succeeded, nil
}

// allOpen checks that no value in etcd needs a key that is not in ring, not
// even one of a kind that is not served.
func (s *Store) allOpen(ctx context.Context, ring *keyring) error {
	end := clientv3.GetPrefixRangeEnd(root)
	for from := root; ; {
		op := s.begin(ctx, "etcd.range", "list", client.Resource{})
		resp, err := s.etcd.Get(op.ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageKeys))
		op.end(err)
		if err != nil {
			return s.translate(ctx, err, "list "+from)
		}
		for _, kv := range resp.Kvs {
			if bytes.HasPrefix(kv.Value, []byte(sealed)) && !ring.knows(kv.Value) {
				return fmt.Errorf("%q is still encrypted with %q", kv.Key, prefixOf(kv.Value))
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// knows reports whether one of the keys has the name a value was sealed with.
func (r *keyring) knows(value []byte) bool {
	for _, rule := range r.rules {
		for _, k := range rule.keys {
			if k.box != nil && bytes.HasPrefix(value, k.prefix) {
				return true
			}
		}
	}
	return false
}

// resealStale brings what is stored otherwise than configured up to date: what
// was written before a resource was to be encrypted, and what a rotation that
// did not finish left.
func (s *Store) resealStale(ctx context.Context) {
	n, err := s.reseal(ctx, func(e *Entry) bool { return e.stale })
	if n > 0 {
		s.tel.Log.Info("stored values were encrypted as configured", "values", n)
	}
	if err != nil && ctx.Err() == nil {
		s.tel.Log.Error("cannot encrypt every stored value as configured; the next start goes on", "error", err)
	}
}
