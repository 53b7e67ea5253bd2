package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Preconditions must hold for the stored object when a write is made; zero
// values demand nothing.
type Preconditions struct {
	UID      types.UID
	Revision int64
}

func (p Preconditions) check(gr client.Resource, e *Entry) error {
	if p.UID != "" && p.UID != e.Object.GetUID() {
		return uidConflict(gr, e.Key, p.UID, e.Object.GetUID())
	}
	if p.Revision != 0 && p.Revision != e.Revision {
		return apierrors.NewConflict(gr, e.Key.Name, errOptimisticLock)
	}
	return nil
}

// operation is one timed and traced request to etcd.
type operation struct {
	store    *Store
	ctx      context.Context
	span     trace.Span
	name     string
	resource client.Resource
	start    time.Time
}

func (s *Store) begin(ctx context.Context, span, name string, gr client.Resource) operation {
	ctx, sp := s.tel.Tracer.Start(ctx, span, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "etcd"),
		attribute.String("db.operation.name", name),
		attribute.String("db.collection.name", gr.String()),
	))
	return operation{s, ctx, sp, name, gr, time.Now()}
}

func (o operation) end(err error) {
	o.store.metrics.request(o.name, o.resource, o.start, err)
	telemetry.Spent(o.ctx, telemetry.InStorage, o.start)
	telemetry.End(o.span, err)
}

// withSpanOf gives ctx the span of another context.
func withSpanOf(ctx, of context.Context) context.Context {
	return trace.ContextWithSpan(ctx, trace.SpanFromContext(of))
}

func (s *Store) translate(ctx context.Context, err error, doing string) error {
	quota := int64(0)
	if s.server != nil {
		quota = s.cfg.QuotaBytes
		if errors.Is(err, rpctypes.ErrNoSpace) {
			s.space.nudge()
		}
	}
	return translate(ctx, err, doing, quota)
}

// Create stores a new object under the key its metadata says and returns it as
// stored. It sets nothing but resourceVersion, and does not keep obj.
func (s *Store) Create(ctx context.Context, gr client.Resource, obj client.Object) (*Entry, error) {
	t, err := s.table(gr)
	if err != nil {
		return nil, err
	}
	if rv := obj.GetResourceVersion(); rv != "" {
		return nil, ErrRevisionOnCreate
	}
	path, err := t.writable(client.KeyOf(obj))
	if err != nil {
		return nil, err
	}
	value, err := encode(t.kind, obj)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("cannot encode %s %s: %w", gr, path, err))
	}
	if err := s.space.admitCreate(gr, path, len(value)); err != nil {
		return nil, err
	}
	put, err := s.put(ctx, t, path, value)
	if err != nil {
		return nil, err
	}
	key := t.prefix + path
	resp, err := s.commit(ctx, t, "create", path,
		clientv3.Compare(clientv3.ModRevision(key), "=", 0), put, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	if err != nil {
		return nil, err
	}
	if !resp.Succeeded {
		// Who is told that the object exists shall find it.
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			if err := s.waitFor(ctx, kvs[0].ModRevision); err != nil {
				return nil, err
			}
		}
		return nil, apierrors.NewAlreadyExists(gr, obj.GetName())
	}
	return s.settle(ctx, t, path, resp.Header.Revision, value)
}

// Update replaces an object by what change makes of it. change gets the stored
// version, which it must copy before changing anything, and may be called
// again with a newer one when the write lost a race; returning cur.Object
// means not to write. The returned object is the store's to modify. With a
// precondition that does not hold the answer is Conflict.
func (s *Store) Update(ctx context.Context, gr client.Resource, key client.Key, pre Preconditions, change func(cur *Entry) (client.Object, error)) (*Entry, error) {
	t, err := s.table(gr)
	if err != nil {
		return nil, err
	}
	var next client.Object
	var value []byte
	return s.modify(ctx, t, key, pre, "update", func(cur *Entry) (clientv3.Op, bool, error) {
		if next, err = change(cur); err != nil || next == cur.Object {
			return clientv3.Op{}, false, err
		}
		if client.KeyOf(next) != key {
			return clientv3.Op{}, false, apierrors.NewBadRequest(fmt.Sprintf("cannot rename %s %s to %s", gr, key, client.KeyOf(next)))
		}
		next.SetResourceVersion("")
		if value, err = encode(t.kind, next); err != nil {
			return clientv3.Op{}, false, apierrors.NewInternalError(fmt.Errorf("cannot encode %s %s: %w", gr, key, err))
		}
		if t.ttl == 0 && s.unchanged(t, cur, value) {
			return clientv3.Op{}, false, nil
		}
		if err := s.space.admitUpdate(gr, cur, next, len(value)); err != nil {
			return clientv3.Op{}, false, err
		}
		op, err := s.put(ctx, t, cur.path, value)
		return op, true, err
	}, func(_ *Entry, revision int64) (*Entry, error) {
		return s.settle(ctx, t, pathOf(key), revision, value)
	})
}

// unchanged reports whether value is what etcd holds for cur.
func (s *Store) unchanged(t *table, cur *Entry, value []byte) bool {
	if cur.stale || len(value) != cur.size || maphash.Bytes(s.seed, value) != cur.sum {
		return false
	}
	// Almost certain now, but a write must not be lost to a collision.
	obj := cur.Object.DeepCopyObject().(client.Object)
	obj.SetResourceVersion("")
	stored, err := encode(t.kind, obj)
	return err == nil && bytes.Equal(stored, value)
}

// Delete removes an object and returns its last state, at the revision of the
// deletion. check, if not nil, may refuse it with an error; it may be called
// again with a newer version.
func (s *Store) Delete(ctx context.Context, gr client.Resource, key client.Key, pre Preconditions, check func(cur *Entry) error) (*Entry, error) {
	t, err := s.table(gr)
	if err != nil {
		return nil, err
	}
	return s.modify(ctx, t, key, pre, "delete", func(cur *Entry) (clientv3.Op, bool, error) {
		if check != nil {
			if err := check(cur); err != nil {
				return clientv3.Op{}, false, err
			}
		}
		if err := s.space.admitDelete(gr, cur.path); err != nil {
			return clientv3.Op{}, false, err
		}
		return clientv3.OpDelete(t.prefix + cur.path), true, nil
	}, func(cur *Entry, revision int64) (*Entry, error) {
		if err := s.waitFor(ctx, revision); err != nil {
			return nil, err
		}
		if e := t.written(cur.path, revision); e != nil {
			return e, nil
		}
		return cur.as(revision), nil
	})
}

// modify does what plan makes of the stored version, again from a newer one
// whenever another write came between. It begins with the cached version,
// which may be stale: what is decided from that counts only after asking etcd.
func (s *Store) modify(ctx context.Context, t *table, key client.Key, pre Preconditions, name string,
	plan func(cur *Entry) (op clientv3.Op, write bool, err error),
	finish func(cur *Entry, revision int64) (*Entry, error),
) (*Entry, error) {
	path, err := t.writable(key)
	if err != nil {
		return nil, err
	}
	etcdKey := t.prefix + path
	for certain := false; ; {
		cur, ok := t.get(path)
		var op clientv3.Op
		var write bool
		if !ok {
			err = notFound(t.resource, key)
			if bad := t.corruption(path); bad != nil {
				err = apierrors.NewInternalError(bad)
			}
		} else if err = pre.check(t.resource, cur); err == nil {
			op, write, err = plan(cur)
		}
		if err != nil || !write {
			if certain {
				return kept(cur, err)
			}
			if failed := s.freshen(ctx, Latest()); failed != nil {
				return nil, failed
			}
			if now, _ := t.get(path); now == cur {
				return kept(cur, err)
			}
			certain = true
			continue
		}
		resp, err := s.commit(ctx, t, name, path,
			clientv3.Compare(clientv3.ModRevision(etcdKey), "=", cur.Revision), op, clientv3.OpGet(etcdKey, clientv3.WithKeysOnly()))
		if err != nil {
			return nil, err
		}
		if resp.Succeeded {
			return finish(cur, resp.Header.Revision)
		}
		// Gone means deleted at an unknown revision up to the present one.
		seen := resp.Header.Revision
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			seen = kvs[0].ModRevision
		}
		if err := s.waitFor(ctx, seen); err != nil {
			return nil, err
		}
		certain = true
	}
}

func kept(cur *Entry, err error) (*Entry, error) {
	if err != nil {
		return nil, err
	}
	return cur, nil
}

// put makes the etcd operation that writes value, leased if the kind expires.
func (s *Store) put(ctx context.Context, t *table, path string, value []byte) (clientv3.Op, error) {
	key := t.prefix + path
	if t.ttl == 0 {
		return clientv3.OpPut(key, string(value)), nil
	}
	lease, err := s.lease(ctx, t.ttl)
	if err != nil {
		return clientv3.Op{}, err
	}
	return clientv3.OpPut(key, string(value), clientv3.WithLease(lease)), nil
}

func (s *Store) commit(ctx context.Context, t *table, name, path string, cond clientv3.Cmp, then, otherwise clientv3.Op) (*clientv3.TxnResponse, error) {
	if then.IsPut() {
		defer s.keys.begin()()
		then.WithValueBytes(s.keys.seal(t.resource, string(then.KeyBytes()), then.ValueBytes()))
	}
	op := s.begin(ctx, "etcd.txn", name, t.resource)
	resp, err := s.etcd.Txn(op.ctx).If(cond).Then(then).Else(otherwise).Commit()
	op.end(err)
	if err != nil {
		return nil, s.translate(ctx, err, name+" "+t.resource.String()+" "+path)
	}
	return resp, nil
}

// settle returns the entry written at revision, once readers see it.
func (s *Store) settle(ctx context.Context, t *table, path string, revision int64, value []byte) (*Entry, error) {
	if err := s.waitFor(ctx, revision); err != nil {
		return nil, err
	}
	if e := t.written(path, revision); e != nil {
		return e, nil
	}
	// The ring has moved on already, or the kind was removed.
	obj, err := decode(t.kind, value, revision)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("cannot read back %s%s: %w", t.prefix, path, err))
	}
	return s.newEntry(path, revision, obj, value), nil
}

// writable checks that key can be one of the table's and returns its path.
func (t *table) writable(key client.Key) (string, error) {
	switch {
	case key.Name == "" || strings.Contains(key.Name, "/") || strings.Contains(key.Namespace, "/"):
		return "", apierrors.NewBadRequest(fmt.Sprintf("invalid name %q in namespace %q", key.Name, key.Namespace))
	case t.kind.ClusterScoped && key.Namespace != "":
		return "", apierrors.NewBadRequest(fmt.Sprintf("%s are not in a namespace, but %q is given", t.resource, key.Namespace))
	case !t.kind.ClusterScoped && key.Namespace == "":
		return "", apierrors.NewBadRequest(fmt.Sprintf("%s are in a namespace, but none is given", t.resource))
	}
	return pathOf(key), nil
}
