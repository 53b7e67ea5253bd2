package replicaset_test

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/replicaset"
)

func TestStories(t *testing.T) { controllertest.Run(t, "", replicaset.New()) }

// Pods that cannot be made are told in the condition ReplicaFailure, which goes
// when they can be made again.
func TestReplicaFailure(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "dev", Name: "web", UID: "u"}
	labels := map[string]string{"app": "web"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
	rs := &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}}
	rc := &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](1), Selector: labels, Template: &template}}
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "web-x", errors.New("exceeded quota: q"))

	type condition struct{ Type, Status, Reason, Message string }
	conditions := func(o client.Object) (out []condition) {
		switch o := o.(type) {
		case *appsv1.ReplicaSet:
			for _, c := range o.Status.Conditions {
				out = append(out, condition{string(c.Type), string(c.Status), c.Reason, c.Message})
			}
		case *corev1.ReplicationController:
			for _, c := range o.Status.Conditions {
				out = append(out, condition{string(c.Type), string(c.Status), c.Reason, c.Message})
			}
		}
		return out
	}
	for _, f := range []struct {
		c controller.Controller
		o client.Object
	}{{replicaset.New(), rs}, {replicaset.NewReplicationController(), rc}} {
		plan := func(o client.Object) controller.Plan {
			p, err := f.c.Reconcile(t.Context(), controllertest.NewState(t, controllertest.Epoch, o), client.KeyOf(o))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := plan(f.o)
		failed := p.Failed(p.Actions[0], refused)
		if len(failed) != 1 {
			t.Fatalf("%s: after a refused pod: %v", f.c.Name, failed)
		}
		want := condition{"ReplicaFailure", "True", "FailedCreate", refused.Error()}
		if got := conditions(failed[0].Object); len(got) != 1 || got[0] != want {
			t.Errorf("%s: conditions %v, want %v", f.c.Name, got, want)
		}
		p = plan(failed[0].Object)
		last := p.Actions[len(p.Actions)-1]
		if got := conditions(last.Object); last.Op != controller.OpStatus || len(got) != 0 {
			t.Errorf("%s: once pods can be made: %v with conditions %v, want a status without any", f.c.Name, last, got)
		}
		if got := p.Failed(last, errors.New("conflict")); got != nil {
			t.Errorf("%s: a failed status update is told as %v", f.c.Name, got)
		}
	}
}
