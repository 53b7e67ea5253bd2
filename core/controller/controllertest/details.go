package controllertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		for _, of := range []string{batchv1.JobCompletionIndexAnnotation, batchv1.JobIndexFailureCountAnnotation, batchv1.JobIndexIgnoredFailureCountAnnotation} {
			if v, ok := o.Annotations[of]; ok {
				add("%s %s", of, v)
			}
		}
		for _, f := range o.Finalizers {
			add("finalizer %s", f)
		}
	case *batchv1.Job:
		for _, r := range o.OwnerReferences {
			add("owner %s/%s, scheduled %s", r.Kind, r.Name, o.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
		}
		st := o.Status
		add("active %d, ready %d, terminating %d, succeeded %d, failed %d", st.Active, ptr.Deref(st.Ready, 0), ptr.Deref(st.Terminating, 0), st.Succeeded, st.Failed)
		if st.CompletedIndexes != "" || st.FailedIndexes != nil {
			add("completed indexes %q, failed %q", st.CompletedIndexes, ptr.Deref(st.FailedIndexes, "none"))
		}
		if u := st.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
			add("uncounted: succeeded %v, failed %v", u.Succeeded, u.Failed)
		}
		if st.StartTime != nil {
			add("started %s", st.StartTime.UTC().Format(time.RFC3339))
		}
		if st.CompletionTime != nil {
			add("completed %s", st.CompletionTime.UTC().Format(time.RFC3339))
		}
		for _, c := range st.Conditions {
			add("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	case *batchv1.CronJob:
		for _, ref := range o.Status.Active {
			add("active %s/%s", ref.Kind, ref.Name)
		}
		at := func(what string, t *metav1.Time) {
			if t != nil {
				add("%s %s", what, t.UTC().Format(time.RFC3339))
			}
		}
		at("last scheduled", o.Status.LastScheduleTime)
		at("last successful", o.Status.LastSuccessfulTime)
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
	case *corev1.PersistentVolumeClaim:
		add("finalizers %v", o.Finalizers)
		for _, c := range o.Status.Conditions {
			add("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	case *corev1.PersistentVolume, *storagev1.VolumeAttributesClass:
		add("finalizers %v", o.GetFinalizers())
	case *corev1.ConfigMap:
		for _, k := range slices.Sorted(maps.Keys(o.Data)) {
			add("key %s", k)
		}
	}
	return out
}
