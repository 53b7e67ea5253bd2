package admission_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// TestWholeChain: a pod passes all built-in plugins in the real pipeline.
func TestWholeChain(t *testing.T) {
	s := apitest.Start(t, apitest.WithPlugins(func(c client.Client) []admission.Plugin {
		all, err := admission.Builtin(admission.Config{Disable: []string{"ServiceAllocation"}}, c, nil, auth.Masters(), telemetry.Discard())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}))
	ctx, c := t.Context(), s.Client
	create(t, c, &corev1.ServiceAccount{ObjectMeta: named("default", "default")})
	p := create(t, c, pod("default", "a"))
	if p.Spec.ServiceAccountName != "default" || *p.Spec.Priority != 0 || len(p.Spec.Tolerations) != 2 || len(p.Spec.Volumes) != 1 {
		t.Errorf("pod %+v", p.Spec)
	}
	if n := create(t, c, &corev1.Node{ObjectMeta: named("", "n")}); len(n.Spec.Taints) != 1 {
		t.Errorf("node %+v", n.Spec)
	}
	if _, err := client.Modify(ctx, c, "default", "a", "", func(p *corev1.Pod) (bool, error) { p.Labels = map[string]string{"a": "b"}; return true, nil }); err != nil {
		t.Errorf("label: %v", err)
	}
	if _, err := client.Modify(ctx, c, "default", "a", "status", func(p *corev1.Pod) (bool, error) { p.Status.Phase = corev1.PodRunning; return true, nil }); err != nil {
		t.Errorf("status: %v", err)
	}
	b := pod("default", "b")
	b.Spec.ServiceAccountName = "none"
	_, err := client.Create(ctx, c, b)
	refused(t, "no account", err, 403, `pods "b" is forbidden: error looking up service account default/none: serviceaccount "none" not found`)
	_, err = client.Create(ctx, c, pod("nowhere", "b"))
	if err == nil || !strings.Contains(err.Error(), `namespaces "nowhere" not found`) {
		t.Errorf("no namespace: %v", err)
	}
}
