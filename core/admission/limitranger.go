package admission

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"binnacle.io/core/admission/quota"
	"binnacle.io/core/client"
)

// LimitRanger applies a namespace's LimitRanges: defaults for containers,
// bounds for containers, pods and claims.
type LimitRanger struct{ c client.Client }

// NewLimitRanger returns the plugin.
func NewLimitRanger(c client.Client) *LimitRanger { return &LimitRanger{c} }

func (*LimitRanger) Name() string { return "LimitRanger" }

func (*LimitRanger) Handles(op Operation, r client.Resource, sub string) bool {
	switch r {
	case podResource: // a pod's resources change through resize only
		return op == Create && sub == "" || op == Update && sub == "resize"
	case pvcResource:
		return sub == "" && (op == Create || op == Update)
	}
	return false
}

func (p *LimitRanger) ranges(ctx context.Context, namespace string) ([]corev1.LimitRangeItem, error) {
	ranges, _, err := client.ListOf[*corev1.LimitRange](ctx, p.c, client.ReadOptions{Namespace: namespace, FromCache: true})
	if err != nil {
		return nil, fmt.Errorf("cannot look up the limit ranges of namespace %q: %w", namespace, err)
	}
	slices.SortFunc(ranges, func(a, b *corev1.LimitRange) int { return cmp.Compare(a.Name, b.Name) })
	var items []corev1.LimitRangeItem
	for _, r := range ranges {
		items = append(items, r.Spec.Limits...)
	}
	return items, nil
}

// Admit gives containers the defaults.
func (p *LimitRanger) Admit(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Op != Create {
		return nil
	}
	items, err := p.ranges(ctx, a.Key.Namespace)
	if err != nil {
		return err
	}
	var notes []string
	complete := func(c *corev1.Container, what string) {
		for i := range items {
			if items[i].Type != corev1.LimitTypeContainer {
				continue
			}
			if set := fill(&c.Resources.Requests, items[i].DefaultRequest, c.Resources.Limits); len(set) > 0 {
				notes = append(notes, fmt.Sprintf("%s request for %s %s", strings.Join(set, ", "), what, c.Name))
			}
			if set := fill(&c.Resources.Limits, items[i].Default, nil); len(set) > 0 {
				notes = append(notes, fmt.Sprintf("%s limit for %s %s", strings.Join(set, ", "), what, c.Name))
			}
		}
	}
	for i := range pod.Spec.Containers {
		complete(&pod.Spec.Containers[i], "container")
	}
	for i := range pod.Spec.InitContainers {
		complete(&pod.Spec.InitContainers[i], "init container")
	}
	if len(notes) > 0 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations["kubernetes.io/limit-ranger"] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
	}
	return nil
}

// fill adds the defaults that are missing and returns their names. A request
// that is missing beside a limit of the container's own equals that limit.
func fill(have *corev1.ResourceList, defaults, limits corev1.ResourceList) []string {
	var set []string
	for name, q := range defaults {
		if _, ok := (*have)[name]; ok {
			continue
		}
		if *have == nil {
			*have = corev1.ResourceList{}
		}
		if l, ok := limits[name]; ok {
			q = l
		} else {
			set = append(set, string(name))
		}
		(*have)[name] = q.DeepCopy()
	}
	slices.Sort(set)
	return set
}

// Validate checks the bounds.
func (p *LimitRanger) Validate(ctx context.Context, a *Attributes) error {
	items, err := p.ranges(ctx, a.Key.Namespace)
	if err != nil || len(items) == 0 {
		return err
	}
	var errs []error
	switch o := a.Object.(type) {
	case *corev1.Pod:
		errs = podBounds(items, &o.Spec)
	case *corev1.PersistentVolumeClaim:
		for i := range items {
			if items[i].Type == corev1.LimitTypePersistentVolumeClaim {
				errs = append(errs, minBound(&items[i], o.Spec.Resources.Requests, o.Spec.Resources.Limits)...)
				errs = append(errs, maxRequest(&items[i], o.Spec.Resources.Requests)...)
			}
		}
	}
	if len(errs) > 0 {
		return refuse(a, several(errs))
	}
	return nil
}

func podBounds(items []corev1.LimitRangeItem, pod *corev1.PodSpec) []error {
	var errs []error
	for i := range items {
		item := &items[i]
		switch item.Type {
		case corev1.LimitTypeContainer:
			containers(pod, func(c *corev1.Container, _ bool) {
				errs = append(errs, bounds(item, c.Resources.Requests, c.Resources.Limits)...)
			})
		case corev1.LimitTypePod:
			requests, limits := quota.PodTotals(pod)
			errs = append(errs, bounds(item, requests, limits)...)
		}
	}
	return errs
}

func bounds(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	return slices.Concat(minBound(item, requests, limits), maxLimit(item, limits), ratioBound(item, requests, limits))
}

func each(list corev1.ResourceList, f func(name corev1.ResourceName, bound resource.Quantity)) {
	names := make([]string, 0, len(list))
	for n := range list {
		names = append(names, string(n))
	}
	slices.Sort(names)
	for _, n := range names {
		f(corev1.ResourceName(n), list[corev1.ResourceName(n)])
	}
}

func minBound(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) (errs []error) {
	each(item.Min, func(name corev1.ResourceName, bound resource.Quantity) {
		req, ok := requests[name]
		lim, limited := limits[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, item.Type, bound.String()))
		case req.Cmp(bound) < 0:
			errs = append(errs, fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, item.Type, bound.String(), req.String()))
		case limited && lim.Cmp(bound) < 0:
			errs = append(errs, fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, item.Type, bound.String(), lim.String()))
		}
	})
	return errs
}

func maxLimit(item *corev1.LimitRangeItem, limits corev1.ResourceList) (errs []error) {
	each(item.Max, func(name corev1.ResourceName, bound resource.Quantity) {
		lim, ok := limits[name]
		if !ok {
			errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, item.Type, bound.String()))
		} else if lim.Cmp(bound) > 0 {
			errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, item.Type, bound.String(), lim.String()))
		}
	})
	return errs
}

func maxRequest(item *corev1.LimitRangeItem, requests corev1.ResourceList) (errs []error) {
	each(item.Max, func(name corev1.ResourceName, bound resource.Quantity) {
		req, ok := requests[name]
		if !ok {
			errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, item.Type, bound.String()))
		} else if req.Cmp(bound) > 0 {
			errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, item.Type, bound.String(), req.String()))
		}
	})
	return errs
}

func ratioBound(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) (errs []error) {
	each(item.MaxLimitRequestRatio, func(name corev1.ResourceName, bound resource.Quantity) {
		req, ok := requests[name]
		lim, limited := limits[name]
		switch {
		case !ok || req.IsZero():
			errs = append(errs, fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, item.Type, bound.String()))
			return
		case !limited || lim.IsZero():
			errs = append(errs, fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, item.Type, bound.String()))
			return
		}
		if ratio := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); ratio > bound.AsApproximateFloat64() {
			errs = append(errs, fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, item.Type, bound.String(), ratio))
		}
	})
	return errs
}
