package namespace

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// look is how often a namespace that still has content is looked at; deletions
// in it do not queue it.
const look = 250 * time.Millisecond

// New returns the controller of namespaces. resources lists, at the time of the
// call, all namespaced resources that can be deleted.
func New(resources func() []client.Resource) controller.Controller {
	return controller.Controller{
		Name:    "namespace",
		Workers: 4,
		Inputs: []controller.Input{
			{Resource: client.Resource{Resource: "namespaces"}, Keys: controller.Self},
		},
		Writes: []string{"namespaces/status", "namespaces/finalize"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			ns, ok := controller.Get[*corev1.Namespace](s, "", key.Name)
			if !ok || ns.DeletionTimestamp == nil {
				return controller.Plan{}, nil
			}
			return plan(s, ns, resources()), nil
		},
	}
}

func plan(s controller.State, ns *corev1.Namespace, resources []client.Resource) (p controller.Plan) {
	left := map[string]int{}
	finalizers := map[string]int{}
	for _, r := range resources {
		for _, obj := range s.List(r, ns.Name) {
			name := r.Resource + "."
			if r.Group != "" {
				name += r.Group
			}
			left[name]++
			for _, f := range obj.GetFinalizers() {
				finalizers[f]++
			}
			if obj.GetDeletionTimestamp() == nil {
				p.Add(controller.DeleteWith(obj, metav1.DeletePropagationBackground))
			}
		}
	}
	if len(left) == 0 && slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		next := ns.DeepCopy()
		next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		p.Add(controller.Sub(next, "finalize"))
		return p
	}
	next := ns.DeepCopy()
	explain(&next.Status, s.Now(), left, finalizers)
	if !equality.Semantic.DeepEqual(next.Status, ns.Status) {
		p.Actions = append([]controller.Action{controller.Status(next)}, p.Actions...)
	}
	p.Again(look)
	return p
}

// explain sets the conditions that say what keeps the namespace, upstream's
// types and words.
func explain(st *corev1.NamespaceStatus, now time.Time, left, finalizers map[string]int) {
	remaining := make([]string, 0, len(left))
	for r, n := range left {
		remaining = append(remaining, fmt.Sprintf("%s has %d resource instances", r, n))
	}
	waiting := make([]string, 0, len(finalizers))
	for f, n := range finalizers {
		waiting = append(waiting, fmt.Sprintf("%s in %d resource instances", f, n))
	}
	slices.Sort(remaining)
	slices.Sort(waiting)
	set(st, now, corev1.NamespaceContentRemaining, len(left) > 0, "SomeResourcesRemain", "ContentRemoved",
		"Some resources are remaining: "+strings.Join(remaining, ", "), "All content successfully removed")
	set(st, now, corev1.NamespaceFinalizersRemaining, len(finalizers) > 0, "SomeFinalizersRemain", "ContentHasNoFinalizers",
		"Some content in the namespace has finalizers remaining: "+strings.Join(waiting, ", "), "All content-preserving finalizers finished")
}

func set(st *corev1.NamespaceStatus, now time.Time, t corev1.NamespaceConditionType, is bool, reasonIs, reasonNot, messageIs, messageNot string) {
	c := corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: reasonNot, Message: messageNot}
	if is {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonIs, messageIs
	}
	i := slices.IndexFunc(st.Conditions, func(o corev1.NamespaceCondition) bool { return o.Type == t })
	if i < 0 {
		st.Conditions = append(st.Conditions, corev1.NamespaceCondition{})
		i = len(st.Conditions) - 1
	}
	c.LastTransitionTime = st.Conditions[i].LastTransitionTime
	if st.Conditions[i].Status != c.Status {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
	st.Conditions[i] = c
}
