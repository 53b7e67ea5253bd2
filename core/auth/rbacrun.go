package auth

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Run follows the roles and bindings that c sees until ctx ends. It closes
// Ready after the first complete reading, and is called once.
func (z *RBAC) Run(ctx context.Context, c client.Client, tel *telemetry.Component) error {
	g, ctx := errgroup.WithContext(ctx)
	read := make(chan struct{}, 4)
	g.Go(func() error {
		for range cap(read) {
			select {
			case <-read:
			case <-ctx.Done():
				return nil
			}
		}
		close(z.ready)
		return nil
	})
	f := follower{z, c, tel, read}
	g.Go(func() error { follow(ctx, f, z.clusterRoleTable()); return nil })
	g.Go(func() error { follow(ctx, f, z.roleTable()); return nil })
	g.Go(func() error { follow(ctx, f, z.clusterBindingTable()); return nil })
	g.Go(func() error { follow(ctx, f, z.bindingTable()); return nil })
	return g.Wait()
}

// table is how objects of one kind enter and leave the index. Its functions
// are called with z.mu held.
type table[T client.Object] struct {
	reset       func()
	put, remove func(T)
}

func (z *RBAC) clusterRoleTable() table[*rbacv1.ClusterRole] {
	return table[*rbacv1.ClusterRole]{
		reset:  func() { clear(z.clusterRoles) },
		put:    func(r *rbacv1.ClusterRole) { z.clusterRoles[r.Name] = r },
		remove: func(r *rbacv1.ClusterRole) { delete(z.clusterRoles, r.Name) },
	}
}

func (z *RBAC) roleTable() table[*rbacv1.Role] {
	return table[*rbacv1.Role]{
		reset: func() { clear(z.roles) },
		put: func(r *rbacv1.Role) {
			if z.roles[r.Namespace] == nil {
				z.roles[r.Namespace] = map[string]*rbacv1.Role{}
			}
			z.roles[r.Namespace][r.Name] = r
		},
		remove: func(r *rbacv1.Role) {
			delete(z.roles[r.Namespace], r.Name)
			if len(z.roles[r.Namespace]) == 0 {
				delete(z.roles, r.Namespace)
			}
		},
	}
}

func (z *RBAC) clusterBindingTable() table[*rbacv1.ClusterRoleBinding] {
	return table[*rbacv1.ClusterRoleBinding]{
		reset: func() { z.cluster = bindings{} },
		put: func(b *rbacv1.ClusterRoleBinding) {
			z.cluster.put(&binding{name: b.Name, role: b.RoleRef, subjects: b.Subjects})
		},
		remove: func(b *rbacv1.ClusterRoleBinding) { z.cluster.remove(b.Name) },
	}
}

func (z *RBAC) bindingTable() table[*rbacv1.RoleBinding] {
	return table[*rbacv1.RoleBinding]{
		reset: func() { clear(z.namespaced) },
		put: func(b *rbacv1.RoleBinding) {
			if z.namespaced[b.Namespace] == nil {
				z.namespaced[b.Namespace] = &bindings{}
			}
			z.namespaced[b.Namespace].put(&binding{namespace: b.Namespace, name: b.Name, role: b.RoleRef, subjects: b.Subjects})
		},
		remove: func(b *rbacv1.RoleBinding) {
			scope := z.namespaced[b.Namespace]
			if scope == nil {
				return
			}
			if scope.remove(b.Name); len(scope.byName) == 0 {
				delete(z.namespaced, b.Namespace)
			}
		},
	}
}

type follower struct {
	z    *RBAC
	c    client.Client
	tel  *telemetry.Component
	read chan<- struct{} // receives once per kind, after its first list
}

// follow keeps one table of the index until ctx ends.
func follow[T client.Object](ctx context.Context, f follower, t table[T]) {
	const shortest, longest = 100 * time.Millisecond, 10 * time.Second
	first, pause := true, shortest
	for {
		err := listAndWatch(ctx, f, t, func() {
			if first {
				first = false
				f.read <- struct{}{}
			}
			pause = shortest
		})
		if ctx.Err() != nil {
			return
		}
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			f.tel.Log.Warn("cannot follow RBAC objects, will try again", "error", err, "after", pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause + rand.N(pause)):
		}
		pause = min(2*pause, longest)
	}
}

func listAndWatch[T client.Object](ctx context.Context, f follower, t table[T], listed func()) error {
	items, revision, err := client.ListOf[T](ctx, f.c, client.ReadOptions{})
	if err != nil {
		return err
	}
	f.z.mu.Lock()
	t.reset()
	for _, o := range items {
		t.put(o)
	}
	f.z.mu.Unlock()
	listed()

	w, err := client.WatchOf[T](ctx, f.c, revision, client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		o, ok := e.Object.(T)
		if !ok {
			continue // a bookmark
		}
		f.z.mu.Lock()
		if e.Type == client.Deleted {
			t.remove(o)
		} else {
			t.put(o)
		}
		f.z.mu.Unlock()
	}
}
