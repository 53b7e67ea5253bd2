package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"binnacle.io/core/controller"
)

// books are the accounts of a job: the status that is to be stored, and what
// may follow once it is.
type books struct {
	status batchv1.JobStatus
	// release are pods that are counted, or never will be: their finalizer
	// may go once the status is stored.
	release []*corev1.Pod
	// finished is Complete or Failed, when the job became so.
	finished *batchv1.JobCondition
	// policies are the failed pods that are counted, by the action of the
	// rule that matched them.
	policies map[batchv1.PodFailurePolicyAction]int
}

// account draws up the books.
func (w *work) account() *books {
	b := &books{status: *w.job.Status.DeepCopy(), policies: map[batchv1.PodFailurePolicyAction]int{}}
	st := &b.status
	st.StartTime = w.startTime
	st.Active, st.Ready, st.Terminating = w.running.active, ptr.To(w.running.ready), ptr.To(w.running.terminating)
	if st.UncountedTerminatedPods == nil {
		st.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	w.settle(st)
	all := w.count(b)
	for _, c := range []*batchv1.JobCondition{w.suspension, w.ending} {
		if c != nil {
			setCondition(st, *c)
		}
	}
	waiting := st.UncountedTerminatedPods
	if w.ending == nil || !all || len(b.release)+len(waiting.Succeeded)+len(waiting.Failed) > 0 || w.running.active+w.running.terminating > 0 {
		return b
	}
	last := batchv1.JobFailed
	if w.ending.Type == batchv1.JobSuccessCriteriaMet {
		last = batchv1.JobComplete
	}
	b.finished = w.condition(last, w.ending.Reason, w.ending.Message)
	setCondition(st, *b.finished)
	if last == batchv1.JobComplete {
		st.CompletionTime = &b.finished.LastTransitionTime
	}
	return b
}

// settle raises the counters by the pods that were kept by UID and whose
// finalizer has gone.
func (w *work) settle(st *batchv1.JobStatus) {
	settle := func(kept *[]types.UID, counter *int32) {
		before := len(*kept)
		*kept = slices.DeleteFunc(*kept, func(uid types.UID) bool {
			return !slices.ContainsFunc(w.pods, func(pod *corev1.Pod) bool { return pod.UID == uid && tracked(pod) })
		})
		*counter += int32(before - len(*kept))
	}
	settle(&st.UncountedTerminatedPods.Succeeded, &st.Succeeded)
	settle(&st.UncountedTerminatedPods.Failed, &st.Failed)
}

// count enters pods that ended. It reports whether that was all of them: the
// status holds only so many UIDs, the rest follows.
func (w *work) count(b *books) (all bool) {
	st, all := &b.status, true
	waiting := st.UncountedTerminatedPods
	var newSucceeded []int
	for _, pod := range w.pods {
		if !tracked(pod) || !w.releasable(pod) {
			continue
		}
		if len(newSucceeded)+len(waiting.Succeeded)+len(waiting.Failed) >= atMost {
			all = false
			break
		}
		b.release = append(b.release, pod)
		known := slices.Contains(waiting.Succeeded, pod.UID) || slices.Contains(waiting.Failed, pod.UID)
		switch {
		case known || !w.inRange(pod):
		case pod.Status.Phase == corev1.PodSucceeded && indexed(w.job):
			newSucceeded = append(newSucceeded, indexOf(pod))
		case pod.Status.Phase == corev1.PodSucceeded:
			waiting.Succeeded = append(waiting.Succeeded, pod.UID)
		case failed(w.job, pod) || w.ending != nil && w.ending.Type == batchv1.JobFailureTarget:
			verdict := judge(w.job, pod)
			if verdict.action != "" {
				b.policies[verdict.action]++
			}
			if verdict.counts {
				waiting.Failed = append(waiting.Failed, pod.UID)
			}
		}
	}
	if indexed(w.job) {
		completed := parseIndexes(st.CompletedIndexes, int(*w.job.Spec.Completions)).with(newIndexes(newSucceeded...))
		st.CompletedIndexes, st.Succeeded = completed.String(), int32(completed.count())
		st.FailedIndexes = nil
		if perIndex(w.job) {
			st.FailedIndexes = ptr.To(w.failedIndexes.String())
		}
	}
	return all
}

// releasable reports whether the job is done with the pod.
func (w *work) releasable(pod *corev1.Pod) bool {
	switch {
	case w.job.DeletionTimestamp != nil, w.ending != nil, pod.Status.Phase == corev1.PodSucceeded:
		return true
	case !failed(w.job, pod):
		return false
	}
	kept := w.awaitReplacement[indexOf(pod)]
	return kept == nil || kept.UID != pod.UID
}

// setCondition puts c in place of a condition of its type that says something
// else.
func setCondition(st *batchv1.JobStatus, c batchv1.JobCondition) {
	i := slices.IndexFunc(st.Conditions, func(have batchv1.JobCondition) bool { return have.Type == c.Type })
	switch {
	case i < 0:
		st.Conditions = append(st.Conditions, c)
	case st.Conditions[i].Status != c.Status:
		st.Conditions[i] = c
	}
}

// write stores the books. Finalizers go only after the status was stored, and
// people are told of nothing that was not.
func (w *work) write() (out []controller.Action) {
	b := w.books
	if !equality.Semantic.DeepEqual(w.job.Status, b.status) {
		next := w.job.DeepCopy()
		next.Status = b.status
		out = append(out, controller.Status(next))
	}
	for _, pod := range b.release {
		out = append(out, untrack(pod))
	}
	if w.suspension != nil {
		reason := "Resumed"
		if suspended(w.job) {
			reason = "Suspended"
		}
		out = append(out, controller.Event(w.job, corev1.EventTypeNormal, reason, "%s", w.suspension.Message))
	}
	switch {
	case b.finished == nil:
	case b.finished.Type == batchv1.JobFailed:
		out = append(out, controller.Event(w.job, corev1.EventTypeWarning, b.finished.Reason, "%s", b.finished.Message))
	default:
		if w.job.Spec.Completions != nil && b.status.Succeeded > *w.job.Spec.Completions {
			out = append(out, controller.Event(w.job, corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached"))
		}
		out = append(out, controller.Event(w.job, corev1.EventTypeNormal, "Completed", "Job completed"))
	}
	return out
}
