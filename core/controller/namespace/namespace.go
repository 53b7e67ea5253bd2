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

var pods = client.Resource{Resource: "pods"}

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

// plan deletes what is in the namespace. Pods go first: what they use, such as
// policies that protect them, stays as long as one of them runs (KEP-5080).
func plan(s controller.State, ns *corev1.Namespace, resources []client.Resource) (p controller.Plan) {
	c := content{left: map[string]int{}, finalizers: map[string]int{}}
	c.add(s, pods, ns.Name)
	if len(c.left) == 0 {
		for _, r := range resources {
			c.add(s, r, ns.Name)
		}
	}
	if len(c.left) == 0 && slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		next := ns.DeepCopy()
		next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		p.Add(controller.Sub(next, "finalize"))
		return p
	}
	next := ns.DeepCopy()
	c.explain(&next.Status, s.Now())
	if !equality.Semantic.DeepEqual(next.Status, ns.Status) {
		p.Add(controller.Status(next))
	}
	p.Add(c.deletions...)
	p.Failed = func(a controller.Action, err error) []controller.Action {
		if a.Op != controller.OpDelete {
			return nil
		}
		failed, ok := controller.Get[*corev1.Namespace](s, "", ns.Name)
		if !ok {
			return nil
		}
		failed = failed.DeepCopy()
		set(&failed.Status, s.Now(), corev1.NamespaceDeletionContentFailure, true, "ContentDeletionFailed", "",
			fmt.Sprintf("Failed to delete all resource types, 1 remaining: %v", err), "")
		return []controller.Action{controller.Status(failed)}
	}
	p.Again(look)
	return p
}

// content is what is in a namespace: numbers by resource and by finalizer, and
// the deletions of what is not being deleted yet.
type content struct {
	left, finalizers map[string]int
	deletions        []controller.Action
}

func (c *content) add(s controller.State, r client.Resource, namespace string) {
	for _, obj := range s.List(r, namespace) {
		name := r.Resource + "."
		if r.Group != "" {
			name += r.Group
		}
		c.left[name]++
		for _, f := range obj.GetFinalizers() {
			c.finalizers[f]++
		}
		if obj.GetDeletionTimestamp() == nil {
			c.deletions = append(c.deletions, controller.DeleteWith(obj, metav1.DeletePropagationBackground))
		}
	}
}

// explain sets the conditions that say what keeps the namespace, upstream's
// types and words.
func (c *content) explain(st *corev1.NamespaceStatus, now time.Time) {
	list := func(format string, numbers map[string]int) string {
		texts := make([]string, 0, len(numbers))
		for of, n := range numbers {
			texts = append(texts, fmt.Sprintf(format, of, n))
		}
		slices.Sort(texts)
		return strings.Join(texts, ", ")
	}
	// The kinds of this server are known to it.
	set(st, now, corev1.NamespaceDeletionDiscoveryFailure, false, "", "ResourcesDiscovered", "", "All resources successfully discovered")
	set(st, now, corev1.NamespaceDeletionGVParsingFailure, false, "", "ParsedGroupVersions", "", "All legacy kube types successfully parsed")
	// A failure stands until nothing is left to delete.
	if len(c.deletions) == 0 || !slices.ContainsFunc(st.Conditions, func(have corev1.NamespaceCondition) bool {
		return have.Type == corev1.NamespaceDeletionContentFailure
	}) {
		set(st, now, corev1.NamespaceDeletionContentFailure, false, "", "ContentDeleted", "", "All content successfully deleted, may be waiting on finalization")
	}
	set(st, now, corev1.NamespaceContentRemaining, len(c.left) > 0, "SomeResourcesRemain", "ContentRemoved",
		"Some resources are remaining: "+list("%s has %d resource instances", c.left), "All content successfully removed")
	set(st, now, corev1.NamespaceFinalizersRemaining, len(c.finalizers) > 0, "SomeFinalizersRemain", "ContentHasNoFinalizers",
		"Some content in the namespace has finalizers remaining: "+list("%s in %d resource instances", c.finalizers), "All content-preserving finalizers finished")
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
