package resourcequota

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"binnacle.io/core/admission/quota"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

var quotas = client.Resource{Resource: "resourcequotas"}

// New returns the controller. counted are the kinds that a quota may count.
// Events are left out, as upstream does: nobody budgets them and they change
// more than all else.
func New(counted []client.Resource) controller.Controller {
	counted = slices.DeleteFunc(slices.Clone(counted), func(r client.Resource) bool { return r.Resource == "events" })
	c := controller.Controller{
		Name:   "resourcequota",
		Writes: []string{"resourcequotas/status"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			q, ok := controller.Get[*corev1.ResourceQuota](s, key.Namespace, key.Name)
			if !ok {
				return p, nil
			}
			status := corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: used(s, q, counted)}
			if !equality.Semantic.DeepEqual(status, q.Status) {
				next := q.DeepCopy()
				next.Status = *status.DeepCopy()
				p.Add(controller.Status(next))
			}
			return p, nil
		},
	}
	for _, r := range counted {
		in := controller.Input{Resource: r, Keys: func(s controller.State, o client.Object) []client.Key { return interested(s, r, o) }}
		c.Inputs = append(c.Inputs, in)
	}
	return c
}

// interested names the quotas whose usage o may change, and o itself when it is
// a quota.
func interested(s controller.State, r client.Resource, o client.Object) (keys []client.Key) {
	if r == quotas {
		keys = append(keys, client.KeyOf(o))
	}
	for _, q := range controller.List[*corev1.ResourceQuota](s, o.GetNamespace()) {
		if slices.Contains(quota.Resources(q.Spec.Hard), r) && quota.Counts(q, o) {
			keys = append(keys, client.KeyOf(q))
		}
	}
	return keys
}

// used adds up what the objects of q's namespace use of q.
func used(s controller.State, q *corev1.ResourceQuota, counted []client.Resource) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		of := quota.Resources(corev1.ResourceList{name: {}})
		if slices.ContainsFunc(of, func(r client.Resource) bool { return slices.Contains(counted, r) }) {
			sum[name] = resource.Quantity{Format: resource.DecimalSI}
		}
	}
	for _, r := range quota.Resources(sum) {
		for _, o := range s.List(r, q.Namespace) {
			if quota.Counts(q, o) {
				quota.AddTo(sum, quota.Usage(r, o))
			}
		}
	}
	return sum
}
