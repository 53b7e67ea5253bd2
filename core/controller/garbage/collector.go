package garbage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

const (
	workers = 8
	rewatch = 200 * time.Millisecond
)

// Collector is the garbage collector.
type Collector struct {
	reader  client.Client // reads everything
	client  client.Client // writes as the collector's own account
	kinds   *kind.Catalogue
	tel     *telemetry.Component
	queue   workqueue.TypedRateLimitingInterface[types.UID]
	deleted prometheus.Counter
	size    prometheus.GaugeFunc

	mu sync.Mutex
	g  *graph // guarded by mu
}

// New returns a collector; c must be allowed to delete everything.
func New(c client.Client, kinds *kind.Catalogue, tel *telemetry.Component) *Collector {
	col := &Collector{
		reader: c,
		client: c.As("system:serviceaccount:kube-system:generic-garbage-collector",
			"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"),
		kinds: kinds, tel: tel, g: newGraph(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](5*time.Millisecond, time.Minute)),
		deleted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_garbage_deleted_total", Help: "Objects deleted because their owners were gone.",
		}),
	}
	col.size = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "binnacle_garbage_graph_objects", Help: "Objects in the owner graph.",
	}, func() float64 {
		col.mu.Lock()
		defer col.mu.Unlock()
		return float64(len(col.g.nodes))
	})
	tel.Registry.MustRegister(col.deleted, col.size)
	return col
}

// owns leaves events out: they own nothing and nobody owns them.
func owns(k *kind.Kind) bool { return k.Resource != "events" }

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var synced sync.WaitGroup
	for _, r := range c.kinds.Deletable(owns) {
		synced.Add(1)
		g.Go(func() error { return c.follow(ctx, r, sync.OnceFunc(synced.Done)) })
	}
	g.Go(func() error {
		<-ctx.Done()
		c.queue.ShutDown()
		return nil
	})
	for range workers {
		g.Go(func() error {
			synced.Wait() // an owner not seen yet is not an owner gone
			for c.work(ctx) {
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *Collector) follow(ctx context.Context, r client.Resource, ready func()) error {
	defer ready()
	known := map[types.UID]bool{}
	for ctx.Err() == nil {
		err := c.watch(ctx, r, known, ready)
		if ctx.Err() != nil {
			break
		}
		c.tel.Log.Info("watch ended, starting anew", "controller", "garbage-collector", "resource", r.String(), "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
	return nil
}

func (c *Collector) watch(ctx context.Context, r client.Resource, known map[types.UID]bool, ready func()) error {
	w, err := c.reader.Watch(ctx, r, "", client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	arrived := map[types.UID]bool{}
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		switch ev.Type {
		case client.Bookmark:
			if arrived == nil {
				continue
			}
			for uid := range known {
				if !arrived[uid] { // deleted while nobody watched
					delete(known, uid)
					c.drop(uid)
				}
			}
			arrived = nil
			ready()
		case client.Deleted:
			delete(known, ev.Object.GetUID())
			c.drop(ev.Object.GetUID())
		default:
			known[ev.Object.GetUID()] = true
			if arrived != nil {
				arrived[ev.Object.GetUID()] = true
			}
			c.mu.Lock()
			look := c.g.put(r, ev.Object)
			c.mu.Unlock()
			c.look(look)
		}
	}
}

func (c *Collector) drop(uid types.UID) {
	c.mu.Lock()
	look := c.g.drop(uid)
	c.mu.Unlock()
	c.look(look)
}

func (c *Collector) look(uids []types.UID) {
	for _, uid := range uids {
		c.queue.Add(uid)
	}
}

func (c *Collector) work(ctx context.Context) bool {
	uid, quit := c.queue.Get()
	if quit {
		return false
	}
	defer c.queue.Done(uid)
	if err := c.attend(ctx, uid); err != nil && ctx.Err() == nil {
		if !apierrors.IsConflict(err) {
			c.tel.Log.Warn("cannot collect", "uid", uid, "retries", c.queue.NumRequeues(uid), "err", err)
		}
		c.queue.AddRateLimited(uid)
		return true
	}
	c.queue.Forget(uid)
	return true
}

// attend carries out what the graph says about one object.
func (c *Collector) attend(ctx context.Context, uid types.UID) error {
	c.mu.Lock()
	v := c.g.judge(uid)
	var n node
	if p := c.g.nodes[uid]; p != nil {
		n = *p
	}
	c.mu.Unlock()
	for _, o := range v.verify {
		if err := c.verify(ctx, n.key.Namespace, o); err != nil {
			return err
		}
	}
	if len(v.verify) > 0 {
		c.queue.Add(uid)
		return nil
	}
	c.look(v.then)
	switch {
	case v.remove != "":
		err := c.client.Delete(ctx, n.resource, n.key, client.DeleteOptions{UID: uid, Propagation: v.remove})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // gone, or another object by that name: its own event says the rest
		}
		if err == nil {
			c.deleted.Inc()
		}
		return err
	case len(v.disown) > 0:
		return c.disown(ctx, n.resource, n.key, uid, v.disown...)
	case v.release != "":
		return c.release(ctx, n, v)
	}
	return nil
}

// verify asks for an owner that is known only from a reference. When it is not
// there, the graph learns that it is gone.
func (c *Collector) verify(ctx context.Context, namespace string, o metav1.OwnerReference) error {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return fmt.Errorf("cannot find owner %s %q: %w", o.Kind, o.Name, err)
	}
	k, _, ok := c.kinds.ByKind(gv.WithKind(o.Kind))
	if !ok || k.Virtual {
		// As upstream: an owner of an unknown kind may exist; leave it.
		return fmt.Errorf("cannot find owner %q: no kind %s is served", o.Name, gv.WithKind(o.Kind))
	}
	r, key := k.GroupResource(), client.Key{Name: o.Name}
	if !k.ClusterScoped {
		key.Namespace = namespace
	}
	obj, err := c.reader.Get(ctx, r, key, client.ReadOptions{})
	switch {
	case err == nil && obj.GetUID() == o.UID:
		c.mu.Lock()
		c.g.put(r, obj)
		c.mu.Unlock()
		return nil
	case err == nil || apierrors.IsNotFound(err):
		c.mu.Lock()
		c.g.gone[o.UID] = true
		c.mu.Unlock()
		return nil
	}
	return err
}

// release removes the finalizer, after the dependents were orphaned.
func (c *Collector) release(ctx context.Context, n node, v verdict) error {
	for _, id := range v.orphans {
		c.mu.Lock()
		d := c.g.nodes[id]
		var dep node
		if d != nil {
			dep = *d
		}
		c.mu.Unlock()
		if d == nil || !dep.seen {
			continue
		}
		if err := c.disown(ctx, dep.resource, dep.key, id, n.uid); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return c.edit(ctx, n.resource, n.key, n.uid, func(meta client.Object) (map[string]any, bool) {
		var keep []string
		for _, f := range meta.GetFinalizers() {
			if f != v.release {
				keep = append(keep, f)
			}
		}
		return map[string]any{"finalizers": keep}, len(keep) < len(meta.GetFinalizers())
	})
}

func (c *Collector) disown(ctx context.Context, r client.Resource, key client.Key, uid types.UID, owners ...types.UID) error {
	return c.edit(ctx, r, key, uid, func(meta client.Object) (map[string]any, bool) {
		keep := []metav1.OwnerReference{}
		for _, o := range meta.GetOwnerReferences() {
			drop := false
			for _, uid := range owners {
				drop = drop || o.UID == uid
			}
			if !drop {
				keep = append(keep, o)
			}
		}
		return map[string]any{"ownerReferences": keep}, len(keep) < len(meta.GetOwnerReferences())
	})
}

// edit changes metadata of exactly the object with uid, at the state it read.
func (c *Collector) edit(ctx context.Context, r client.Resource, key client.Key, uid types.UID, change func(client.Object) (map[string]any, bool)) error {
	for {
		obj, err := c.reader.Get(ctx, r, key, client.ReadOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		fields, needed := change(obj)
		if obj.GetUID() != uid || !needed {
			return nil
		}
		fields["uid"], fields["resourceVersion"] = uid, obj.GetResourceVersion()
		body, err := json.Marshal(map[string]any{"metadata": fields})
		if err != nil {
			return err
		}
		_, err = c.client.Patch(ctx, r, key, types.MergePatchType, body, client.WriteOptions{})
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue
		}
		if apierrors.IsNotFound(err) || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
}
