package job

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"binnacle.io/core/controller"
)

const (
	indexVariable = "JOB_COMPLETION_INDEX"
	// generateNameMost is how much of a generateName the API keeps.
	generateNameMost = 58
)

// claim returns the pods of the job, adopts orphans that match its selector and
// lets go of pods that do not.
func claim(p *controller.Plan, s controller.State, j *batchv1.Job) (pods []*corev1.Pod) {
	sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		sel = labels.Nothing() // validation refuses such selectors
	}
	for _, pod := range controller.List[*corev1.Pod](s, j.Namespace) {
		matches := !sel.Empty() && sel.Matches(labels.Set(pod.Labels))
		switch ref := metav1.GetControllerOf(pod); {
		case ref != nil && ref.UID == j.UID && matches:
			pods = append(pods, pod)
		case ref != nil && ref.UID == j.UID && j.DeletionTimestamp == nil:
			owners := slices.DeleteFunc(slices.Clone(pod.OwnerReferences), func(r metav1.OwnerReference) bool { return r.UID == j.UID })
			p.Add(patchMeta(pod, owners, without(pod.Finalizers, batchv1.JobTrackingFinalizer)))
		case ref == nil && matches && j.DeletionTimestamp == nil && pod.DeletionTimestamp == nil:
			adopted := pod.DeepCopy()
			adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(j, jobKind))
			adopted.Finalizers = append(without(adopted.Finalizers, batchv1.JobTrackingFinalizer), batchv1.JobTrackingFinalizer)
			p.Add(patchMeta(pod, adopted.OwnerReferences, adopted.Finalizers))
			pods = append(pods, adopted)
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(indexOf(a), indexOf(b)) })
	return pods
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(have string) bool { return have == s })
}

// patchMeta replaces owners and finalizers of exactly the pod as it was read.
func patchMeta(pod *corev1.Pod, owners []metav1.OwnerReference, finalizers []string) controller.Action {
	if owners == nil {
		owners = []metav1.OwnerReference{}
	}
	if finalizers == nil {
		finalizers = []string{}
	}
	return patch(pod, types.MergePatchType, map[string]any{
		"uid": pod.UID, "resourceVersion": pod.ResourceVersion, "ownerReferences": owners, "finalizers": finalizers,
	})
}

// untrack takes the finalizer off a pod, whatever else changes it meanwhile.
func untrack(pod *corev1.Pod) controller.Action {
	return patch(pod, types.StrategicMergePatchType, map[string]any{
		"uid": pod.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer},
	})
}

func patch(pod *corev1.Pod, t types.PatchType, meta map[string]any) controller.Action {
	body, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		panic(err) // of plain strings and owner references
	}
	return controller.Patch(pod, "", t, body)
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

func terminating(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// failed reports whether the pod counts as failed. Unless only failed pods are
// replaced, one that is being deleted does so already: it may never get to tell.
func failed(j *batchv1.Job, pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed ||
		!replacesFailedOnly(j) && pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

func replacesFailedOnly(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.PodReplacementPolicy, "") == batchv1.Failed || j.Spec.PodFailurePolicy != nil
}

func indexed(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

func suspended(j *batchv1.Job) bool { return ptr.Deref(j.Spec.Suspend, false) }

// indexOf is a pod's completion index, -1 for none.
func indexOf(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// failures of its index before this pod: those that count, and those that a
// pod failure policy ignores.
func failures(pod *corev1.Pod) (counted, ignored int32) {
	number := func(annotation string) int32 {
		n, err := strconv.ParseInt(pod.Annotations[annotation], 10, 32)
		if err != nil || n < 0 {
			return 0
		}
		return int32(n)
	}
	return number(batchv1.JobIndexFailureCountAnnotation), number(batchv1.JobIndexIgnoredFailureCountAnnotation)
}

// newPod makes a pod of the job. index is -1 when the job is not indexed; last
// is the failed pod of that index that it replaces, if any, in a job that
// counts failures per index.
func newPod(j *batchv1.Job, index int, last *corev1.Pod) *corev1.Pod {
	pod := controller.PodFromTemplate(&j.Spec.Template, j, metav1.NewControllerRef(j, jobKind))
	if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if index < 0 {
		return pod
	}
	pod.Annotations, pod.Labels = orNew(pod.Annotations), orNew(pod.Labels)
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	pod.Spec.Hostname = fmt.Sprintf("%s-%d", j.Name, index)
	tail := fmt.Sprintf("-%d-", index)
	pod.GenerateName = j.Name[:min(len(j.Name), generateNameMost-len(tail))] + tail
	if perIndex(j) {
		counted, ignored := int32(0), int32(0)
		if last != nil {
			counted, ignored = failures(last)
			if judge(j, last).counts {
				counted++
			} else {
				ignored++
			}
		}
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(counted))
		if ignored > 0 {
			pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(ignored))
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			tellIndex(&containers[i])
		}
	}
	return pod
}

func tellIndex(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation),
	}}})
}

func orNew(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// leastWorthFirst orders running pods by what their loss costs: not assigned,
// pending, not ready and young ones come first.
func leastWorthFirst(pods []*corev1.Pod) []*corev1.Pod {
	rank := func(pod *corev1.Pod) (n int) {
		for _, has := range []bool{pod.Spec.NodeName != "", pod.Status.Phase == corev1.PodRunning, controller.PodReady(pod)} {
			if n *= 2; has {
				n++
			}
		}
		return n
	}
	out := slices.Clone(pods)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(rank(a)-rank(b), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// ended is when the pod ended: when the last of its containers did, else when
// it stopped being ready, else when it was told to go, else when it was made.
func ended(pod *corev1.Pod) time.Time {
	var last time.Time
	known := len(pod.Status.ContainerStatuses) > 0
	look := func(c corev1.ContainerStatus) {
		if c.State.Terminated == nil || c.State.Terminated.FinishedAt.IsZero() {
			known = false
		} else if at := c.State.Terminated.FinishedAt.Time; at.After(last) {
			last = at
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		look(c)
	}
	for _, c := range pod.Status.InitContainerStatuses {
		if slices.ContainsFunc(pod.Spec.InitContainers, func(spec corev1.Container) bool {
			return spec.Name == c.Name && ptr.Deref(spec.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways
		}) {
			look(c)
		}
	}
	if known {
		return last
	}
	if c := controller.PodCondition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Add(-time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
	return pod.CreationTimestamp.Time
}
