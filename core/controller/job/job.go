package job

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

var (
	jobs    = client.Resource{Group: batchv1.GroupName, Resource: "jobs"}
	podsOf  = client.Resource{Resource: "pods"}
	jobKind = batchv1.SchemeGroupVersion.WithKind("Job")
)

// serviceAccount is that of both controllers of this package.
const serviceAccount = "job-controller"

// New returns the controller of Jobs; its metrics go to reg.
func New(reg prometheus.Registerer) controller.Controller {
	m := newMetrics(reg)
	return controller.Controller{
		Name:    "job",
		Account: serviceAccount,
		Workers: 5,
		Inputs: []controller.Input{
			{Resource: jobs, Keys: controller.Self},
			{Resource: podsOf, Keys: jobsOf},
		},
		Writes: []string{"jobs.batch/status", "pods of jobs"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			j, ok := controller.Get[*batchv1.Job](s, key.Namespace, key.Name)
			if !ok || managedElsewhere(j) || finished(j) {
				return controller.Plan{}, nil
			}
			return plan(s, j, m), nil
		},
	}
}

// NewOrphans returns the controller that takes the finalizer off pods whose job
// is gone or finished, so that they can go as well.
func NewOrphans() controller.Controller {
	return controller.Controller{
		Name:    "job_orphan_pod",
		Account: serviceAccount,
		Inputs: []controller.Input{
			{Resource: podsOf, Keys: func(_ controller.State, o client.Object) []client.Key {
				if pod, ok := o.(*corev1.Pod); !ok || !tracked(pod) {
					return nil
				}
				return []client.Key{client.KeyOf(o)}
			}},
			{Resource: jobs, Keys: func(s controller.State, o client.Object) (keys []client.Key) {
				for _, pod := range controller.Owned[*corev1.Pod](s, o) {
					if tracked(pod) {
						keys = append(keys, client.KeyOf(pod))
					}
				}
				return keys
			}},
		},
		Writes: []string{"finalizers of pods whose job is gone"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			pod, ok := controller.Get[*corev1.Pod](s, key.Namespace, key.Name)
			if ok && tracked(pod) && orphan(s, pod) {
				p.Add(untrack(pod))
			}
			return p, nil
		},
	}
}

// orphan reports whether no job is going to count the pod.
func orphan(s controller.State, pod *corev1.Pod) bool {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return len(adopters(s, pod)) == 0
	}
	if ref.Kind != jobKind.Kind || ref.APIVersion != batchv1.SchemeGroupVersion.String() {
		return false
	}
	j, ok := controller.Get[*batchv1.Job](s, pod.Namespace, ref.Name)
	return !ok || j.UID != ref.UID || !managedElsewhere(j) && finished(j)
}

// jobsOf names the job of a pod, or, for one without owner, those that adopt it.
func jobsOf(s controller.State, o client.Object) []client.Key {
	if ref := metav1.GetControllerOf(o); ref != nil {
		if ref.Kind == jobKind.Kind && ref.APIVersion == batchv1.SchemeGroupVersion.String() {
			return []client.Key{{Namespace: o.GetNamespace(), Name: ref.Name}}
		}
		return nil
	}
	return adopters(s, o)
}

func adopters(s controller.State, pod client.Object) (keys []client.Key) {
	if pod.GetDeletionTimestamp() != nil {
		return nil
	}
	for _, j := range controller.List[*batchv1.Job](s, pod.GetNamespace()) {
		sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
		if err == nil && !sel.Empty() && sel.Matches(labels.Set(pod.GetLabels())) && j.DeletionTimestamp == nil && !finished(j) && !managedElsewhere(j) {
			keys = append(keys, client.KeyOf(j))
		}
	}
	return keys
}

// managedElsewhere reports whether spec.managedBy names another controller.
func managedElsewhere(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.ManagedBy, batchv1.JobControllerName) != batchv1.JobControllerName
}

// finished reports whether the job is Complete or Failed.
func finished(j *batchv1.Job) bool {
	return holds(&j.Status, batchv1.JobComplete) != nil || holds(&j.Status, batchv1.JobFailed) != nil
}

// holds returns the condition when it is true.
func holds(st *batchv1.JobStatus, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range st.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return &st.Conditions[i]
		}
	}
	return nil
}
