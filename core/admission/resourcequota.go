package admission

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/admission/quota"
	"binnacle.io/core/client"
)

// ResourceQuota keeps namespaces within their quotas. What is used is counted
// from the stored objects and from those about to be stored: an object counts
// for the larger of both. So concurrent requests cannot pass a quota together,
// and deletions count at once; but only one process may admit.
type ResourceQuota struct {
	c client.Client

	mu      sync.Mutex // held while a namespace is counted and a choice is made
	pending map[types.UID]promise
}

// promise is an object that may be stored any moment.
type promise struct {
	resource client.Resource
	object   client.Object
}

// NewResourceQuota returns the plugin. It goes last in the chain.
func NewResourceQuota(c client.Client) *ResourceQuota {
	return &ResourceQuota{c: c, pending: map[types.UID]promise{}}
}

func (*ResourceQuota) Name() string { return "ResourceQuota" }

func (*ResourceQuota) Handles(op Operation, r client.Resource, sub string) bool {
	switch op {
	case Create:
		return sub == ""
	case Update:
		return sub == "" && (r == serviceResource || r == pvcResource) || r == podResource && sub == "resize"
	}
	return false
}

func (p *ResourceQuota) Validate(ctx context.Context, a *Attributes) error {
	if a.Key.Namespace == "" || a.Object == nil {
		return nil
	}
	quotas, _, err := client.ListOf[*corev1.ResourceQuota](ctx, p.c, client.ReadOptions{Namespace: a.Key.Namespace, FromCache: true})
	if err != nil {
		return fmt.Errorf("cannot look up the quotas of namespace %q: %w", a.Key.Namespace, err)
	}
	quotas = slices.DeleteFunc(quotas, func(q *corev1.ResourceQuota) bool {
		return !quota.Counts(q, a.Object) || !slices.Contains(quota.Resources(q.Spec.Hard), a.Resource)
	})
	if len(quotas) == 0 {
		return nil
	}
	slices.SortFunc(quotas, func(x, y *corev1.ResourceQuota) int { return cmp.Compare(x.Name, y.Name) })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range quotas {
		if err := p.check(ctx, a, q); err != nil {
			return err
		}
	}
	uid := a.Object.GetUID()
	p.pending[uid] = promise{a.Resource, a.Object.DeepCopyObject().(client.Object)}
	a.OnDone(func(bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pending, uid)
	})
	return nil
}

// check refuses the write if q is exceeded by what it adds. p.mu is held.
func (p *ResourceQuota) check(ctx context.Context, a *Attributes, q *corev1.ResourceQuota) error {
	if pod, ok := a.Object.(*corev1.Pod); ok && a.Op == Create {
		if missing := quota.Unspecified(q.Spec.Hard, &pod.Spec); len(missing) > 0 {
			return refuse(a, fmt.Errorf("failed quota: %s: must specify %s", q.Name, strings.Join(missing, ",")))
		}
	}
	used, err := p.used(ctx, q)
	if err != nil {
		return fmt.Errorf("cannot count the use of quota %s/%s: %w", q.Namespace, q.Name, err)
	}
	added := quota.Usage(a.Resource, a.Object)
	if a.Old != nil && quota.Counts(q, a.Old) {
		for name, had := range quota.Usage(a.Resource, a.Old) {
			if now, ok := added[name]; ok {
				now.Sub(had)
				added[name] = now
			}
		}
	}
	over := corev1.ResourceList{}
	for name, hard := range q.Spec.Hard {
		more, ok := added[name]
		if !ok || more.Sign() <= 0 {
			continue
		}
		sum := used[name].DeepCopy()
		sum.Add(more)
		if sum.Cmp(hard) > 0 {
			over[name] = more
		}
	}
	if len(over) == 0 {
		return nil
	}
	return refuse(a, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s",
		q.Name, amounts(over, over), amounts(used, over), amounts(q.Spec.Hard, over)))
}

// used counts stored and promised objects, each once.
func (p *ResourceQuota) used(ctx context.Context, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	stored := map[types.UID]bool{}
	used, err := quota.Used(ctx, p.c, q, func(o client.Object, usage corev1.ResourceList) {
		stored[o.GetUID()] = true
		if next, ok := p.pending[o.GetUID()]; ok {
			quota.Larger(usage, quota.Usage(next.resource, next.object))
		}
	})
	if err != nil {
		return nil, err
	}
	for uid, next := range p.pending {
		if !stored[uid] && next.object.GetNamespace() == q.Namespace && quota.Counts(q, next.object) {
			quota.AddTo(used, quota.Usage(next.resource, next.object))
		}
	}
	return used, nil
}

// amounts prints the quantities of list that names names, sorted.
func amounts(list, names corev1.ResourceList) string {
	var parts []string
	for name := range names {
		q := list[name]
		parts = append(parts, string(name)+"="+q.String())
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
