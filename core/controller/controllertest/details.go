package controllertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
)

// details are the parts of a written object that stories are about.
func details(o client.Object) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch o := o.(type) {
	case *appsv1.Deployment:
		st := o.Status
		add("replicas %d, updated %d, ready %d, available %d, unavailable %d", st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas, st.UnavailableReplicas)
		for _, c := range st.Conditions {
			add("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	case *appsv1.ReplicaSet:
		add("spec.replicas %d, revision %s; replicas %d, ready %d, available %d", ptr.Deref(o.Spec.Replicas, 1),
			o.Annotations["deployment.kubernetes.io/revision"], o.Status.Replicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas)
	case *discoveryv1.EndpointSlice:
		for _, p := range o.Ports {
			add("port %s %s/%d", ptr.Deref(p.Name, ""), ptr.Deref(p.Protocol, ""), ptr.Deref(p.Port, 0))
		}
		for _, e := range o.Endpoints {
			if e.TargetRef == nil { // written by hand
				add("endpoint %s ready=%v", strings.Join(e.Addresses, ","), ptr.Deref(e.Conditions.Ready, false))
				continue
			}
			add("endpoint %s %s ready=%v serving=%v terminating=%v", e.TargetRef.Name, strings.Join(e.Addresses, ","),
				ptr.Deref(e.Conditions.Ready, false), ptr.Deref(e.Conditions.Serving, false), ptr.Deref(e.Conditions.Terminating, false))
		}
	case *corev1.Endpoints:
		for _, s := range o.Subsets {
			for _, a := range s.Addresses {
				add("ready %s", a.IP)
			}
			for _, a := range s.NotReadyAddresses {
				add("not ready %s", a.IP)
			}
		}
	case *corev1.Node:
		for _, t := range o.Spec.Taints {
			add("taint %s:%s", t.Key, t.Effect)
		}
		for _, c := range o.Status.Conditions {
			add("%s=%s %s", c.Type, c.Status, c.Reason)
		}
	case *corev1.Namespace:
		add("finalizers %v", o.Spec.Finalizers)
		for _, c := range o.Status.Conditions {
			add("%s=%s %s", c.Type, c.Status, c.Message)
		}
	case *corev1.Pod:
		for _, r := range o.OwnerReferences {
			add("owner %s/%s", r.Kind, r.Name)
		}
	case *corev1.ResourceQuota:
		for _, name := range slices.Sorted(maps.Keys(o.Status.Hard)) {
			hard, used := o.Status.Hard[name], "none"
			if q, ok := o.Status.Used[name]; ok {
				used = q.String()
			}
			add("%s: %s of %s", name, used, hard.String())
		}
	case *policyv1.PodDisruptionBudget:
		st := o.Status
		add("allowed %d, healthy %d, desired %d, expected %d, observed generation %d", st.DisruptionsAllowed, st.CurrentHealthy, st.DesiredHealthy, st.ExpectedPods, st.ObservedGeneration)
		for _, name := range slices.Sorted(maps.Keys(st.DisruptedPods)) {
			add("disrupted %s", name)
		}
		for _, c := range st.Conditions {
			add("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	case *corev1.ConfigMap:
		for k := range o.Data {
			add("key %s", k)
		}
	}
	return out
}
