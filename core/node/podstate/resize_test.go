package podstate_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
)

// TestResizeIsNotClaimed changes the resources of a running container: the
// status goes on to show what it runs with, and says that the node does not
// follow.
func TestResizeIsNotClaimed(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	want := func(cpu string) {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	in := podstate.Input{
		Now: time.Unix(1000, 0), Pod: pod,
		Sandboxes: []runtime.Sandbox{{ID: "s", Ready: true, IPs: []string{"10.0.0.1"}}},
		Containers: []runtime.Container{{ID: "c1", SandboxID: "s", Name: "c", State: runtime.Running,
			Annotations: map[string]string{runtime.AnnotationResources: `{"requests":{"cpu":"100m"}}`}}},
	}
	f := func(cpu string, pending bool) {
		t.Helper()
		want(cpu)
		st := podstate.Status(in)
		pod.Status = st
		cs := st.ContainerStatuses[0]
		if q := cs.AllocatedResources.Cpu().String(); q != "100m" || cs.Resources.Requests.Cpu().String() != "100m" {
			t.Errorf("%s: status shows %s and %v", cpu, q, cs.Resources)
		}
		i := slices.IndexFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
		if pending != (i >= 0) || pending && st.Conditions[i].Reason != corev1.PodReasonInfeasible {
			t.Errorf("%s: conditions %v", cpu, st.Conditions)
		}
	}
	f("100m", false)
	f("200m", true)
	f("0.1", false)
}
