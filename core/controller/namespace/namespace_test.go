package namespace_test

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/namespace"
)

// What could not be deleted is told until nothing is left to delete.
func TestDeletionFailure(t *testing.T) {
	now := metav1.NewTime(controllertest.Epoch)
	var ns client.Object = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dev", DeletionTimestamp: &now}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "a", DeletionTimestamp: &now}}
	c := namespace.New(func() []client.Resource { return []client.Resource{{Resource: "configmaps"}} })
	plan := func(in client.Object) controller.Plan {
		p, err := c.Reconcile(t.Context(), controllertest.NewState(t, controllertest.Epoch, ns, in), client.Key{Name: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	failure := func(o client.Object) string {
		for _, c := range o.(*corev1.Namespace).Status.Conditions {
			if c.Type == corev1.NamespaceDeletionContentFailure {
				return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
			}
		}
		return ""
	}
	there := held.DeepCopy()
	there.DeletionTimestamp = nil
	p := plan(there)
	ns = p.Failed(p.Actions[len(p.Actions)-1], errors.New("refused"))[0].Object
	want := "True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: refused"
	if got := failure(ns); got != want {
		t.Errorf("after a refused deletion: %q, want %q", got, want)
	}
	if got := failure(plan(there).Actions[0].Object); got != want {
		t.Errorf("at the next try: %q, want %q", got, want)
	}
	if got := failure(plan(held).Actions[0].Object); got != "False ContentDeleted: All content successfully deleted, may be waiting on finalization" {
		t.Errorf("once deleted: %q", got)
	}
}

func TestStories(t *testing.T) {
	controllertest.Run(t, "", namespace.New(func() []client.Resource {
		return []client.Resource{{Resource: "configmaps"}, {Resource: "pods"}}
	}))
}
