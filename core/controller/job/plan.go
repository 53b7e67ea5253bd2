package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/controller"
)

// atMost bounds how many pods one plan makes, deletes or counts: what is being
// counted stands in the status by UID.
const atMost = 500

// work is what one reconciliation of a job knows and decides.
type work struct {
	now  time.Time
	job  *batchv1.Job // as stored
	pods []*corev1.Pod

	// Of running pods. They change with what is planned, as far as it works.
	active            []*corev1.Pod
	running           counts
	succeeded, failed int32 // pods, those still to be counted among them
	succeededIndexes  indexes
	failedIndexes     indexes
	awaitReplacement  map[int]*corev1.Pod // failed pods kept until their replacement carries their count on, by index
	startTime         *metav1.Time
	suspension        *batchv1.JobCondition // to be set
	ending            *batchv1.JobCondition // SuccessCriteriaMet or FailureTarget, once the job is to end

	books *books

	// For metrics: what was done about pods, why they were made and whether
	// that failed.
	action, recreation string
	createFailed       bool
}

type counts struct{ active, ready, terminating int32 }

func plan(s controller.State, j *batchv1.Job, m *metrics) controller.Plan {
	var p controller.Plan
	w := &work{now: s.Now(), job: j, pods: claim(&p, s, j), action: actionTracking}
	w.look()
	seen := w.running
	w.ending = w.verdict(&p)
	if w.ending != nil {
		w.stop(&p, w.active)
	} else {
		if j.DeletionTimestamp == nil {
			w.manage(&p)
		}
		if w.complete() {
			w.ending = w.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
		} else if j.DeletionTimestamp == nil {
			w.suspend()
		}
	}
	w.books = w.account()
	p.Add(w.write()...)
	// When pods cannot be made or deleted, what has ended is counted all the
	// same; but pods that could not be stopped are not over.
	p.Failed = func(a controller.Action, _ error) []controller.Action {
		made, stopped := a.Op == controller.OpCreate, a.Op == controller.OpDelete && w.ending == nil
		if !made && !stopped {
			return nil
		}
		w.createFailed = made
		w.running = seen
		w.books = w.account()
		return w.write()
	}
	p.Report = func(o controller.Outcome) { m.observe(w, o) }
	return p
}

// look counts what is there.
func (w *work) look() {
	w.startTime = w.job.Status.StartTime
	if w.startTime == nil && !suspended(w.job) {
		w.startTime = &metav1.Time{Time: w.now}
	}
	for _, pod := range w.pods {
		switch {
		case controller.PodActive(pod):
			w.active = append(w.active, pod)
			w.running.active++
			if controller.PodReady(pod) {
				w.running.ready++
			}
		case terminating(pod):
			w.running.terminating++
		}
	}
	st := &w.job.Status
	keptSucceeded, keptFailed := kept(st)
	w.succeeded = st.Succeeded + int32(len(keptSucceeded))
	w.failed = st.Failed + int32(len(keptFailed))
	var newSucceeded, newFailed []int
	for _, pod := range w.pods {
		if !w.countable(pod) {
			continue
		}
		switch {
		case pod.Status.Phase == corev1.PodSucceeded:
			newSucceeded = append(newSucceeded, indexOf(pod))
			if !slices.Contains(keptSucceeded, pod.UID) {
				w.succeeded++
			}
		case failed(w.job, pod):
			if perIndex(w.job) && indexFailed(w.job, pod) {
				newFailed = append(newFailed, indexOf(pod))
			}
			if !slices.Contains(keptFailed, pod.UID) && judge(w.job, pod).counts {
				w.failed++
			}
		}
	}
	if !indexed(w.job) {
		return
	}
	n := int(*w.job.Spec.Completions)
	w.succeededIndexes = parseIndexes(st.CompletedIndexes, n).with(newIndexes(newSucceeded...))
	w.succeeded = int32(w.succeededIndexes.count())
	if perIndex(w.job) {
		before := ""
		if st.FailedIndexes != nil {
			before = *st.FailedIndexes
		}
		w.failedIndexes = parseIndexes(before, n).with(newIndexes(newFailed...))
		w.keepForReplacement()
	}
}

// countable pods carry the finalizer and, in an indexed job, an index of it.
func (w *work) countable(pod *corev1.Pod) bool {
	return tracked(pod) && w.inRange(pod)
}

func (w *work) inRange(pod *corev1.Pod) bool {
	if !indexed(w.job) {
		return true
	}
	i := indexOf(pod)
	return i >= 0 && i < int(*w.job.Spec.Completions)
}

// keepForReplacement finds, for each index that is to be tried again, its
// latest failed pod: the next pod carries its count of failures on.
func (w *work) keepForReplacement() {
	w.awaitReplacement = map[int]*corev1.Pod{}
	running := w.indexesOf(w.active)
	for _, pod := range w.pods {
		i := indexOf(pod)
		if !w.countable(pod) || !failed(w.job, pod) || running.has(i) || w.succeededIndexes.has(i) || w.failedIndexes.has(i) {
			continue
		}
		if last := w.awaitReplacement[i]; last == nil || tries(last) <= tries(pod) && !ended(pod).Before(ended(last)) {
			w.awaitReplacement[i] = pod
		}
	}
}

func tries(pod *corev1.Pod) int32 {
	counted, ignored := failures(pod)
	return counted + ignored
}

func (w *work) indexesOf(pods []*corev1.Pod) indexes {
	var of []int
	for _, pod := range pods {
		if i := indexOf(pod); i >= 0 {
			of = append(of, i)
		}
	}
	return newIndexes(of...)
}

func (w *work) condition(t batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	now := metav1.NewTime(w.now)
	return &batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now, Reason: reason, Message: message}
}

// verdict says why the job is to end before it is complete, nil when it is not.
// What was decided before stands; failure goes before success.
func (w *work) verdict(p *controller.Plan) *batchv1.JobCondition {
	j, spec := w.job, &w.job.Spec
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if c := holds(&j.Status, t); c != nil {
			return c
		}
	}
	fail := func(reason, message string) *batchv1.JobCondition {
		return w.condition(batchv1.JobFailureTarget, reason, message)
	}
	for _, pod := range w.pods {
		if failed(j, pod) {
			if v := judge(j, pod); v.action == batchv1.PodFailurePolicyActionFailJob {
				return fail(batchv1.JobReasonPodFailurePolicy, v.why)
			}
		}
	}
	if w.failed > *spec.BackoffLimit || restartsExhausted(j, w.pods) {
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if spec.ActiveDeadlineSeconds != nil && !suspended(j) {
		left := w.startTime.Add(time.Duration(*spec.ActiveDeadlineSeconds) * time.Second).Sub(w.now)
		if left <= 0 {
			return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		p.Again(left)
	}
	if n := w.failedIndexes.count(); n > 0 {
		if spec.MaxFailedIndexes != nil && n > int(*spec.MaxFailedIndexes) {
			return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		}
		if n+w.succeededIndexes.count() >= int(*spec.Completions) {
			return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if indexed(j) {
		if why := enough(j, w.succeededIndexes); why != "" {
			return w.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, why)
		}
	}
	return nil
}

// complete reports whether nothing is left to do. Without a number of
// completions one success is enough, once the others have ended.
func (w *work) complete() bool {
	if w.running.active > 0 {
		return false
	}
	if w.job.Spec.Completions == nil {
		return w.succeeded > 0
	}
	return w.succeeded >= *w.job.Spec.Completions
}

// stop deletes running pods; their finalizers stay until they are counted.
func (w *work) stop(p *controller.Plan, pods []*corev1.Pod) {
	for _, pod := range pods {
		p.Add(controller.DeleteFor(w.job, pod))
		w.running.active--
		w.running.terminating++
		if controller.PodReady(pod) {
			w.running.ready--
		}
	}
}

// manage brings the number of running pods to what it should be.
func (w *work) manage(p *controller.Plan) {
	want := w.wanted()
	if tooMany := w.surplus(want); len(tooMany) > 0 {
		// They did not fail: nobody counts them.
		for _, pod := range tooMany {
			if tracked(pod) {
				p.Add(untrack(pod))
			}
		}
		w.stop(p, tooMany)
		w.action = actionDeleted
		return
	}
	missing := want - w.running.active
	if replacesFailedOnly(w.job) {
		missing -= w.running.terminating
	}
	if missing <= 0 || suspended(w.job) {
		return
	}
	w.action = actionCreated
	w.recreation = w.whyCreate()
	missing = min(missing, atMost)
	if !perIndex(w.job) {
		if wait := pause(w.job, w.pods, w.now); wait > 0 {
			p.Again(wait)
			return
		}
	}
	if !indexed(w.job) {
		for range missing {
			w.create(p, -1)
		}
		return
	}
	for _, i := range w.pending(int(missing)) {
		if last := w.awaitReplacement[i]; last != nil {
			if wait := backoff(int(tries(last))+1, ended(last), w.now); wait > 0 {
				p.Again(wait)
				continue
			}
		}
		w.create(p, i)
	}
}

func (w *work) create(p *controller.Plan, index int) {
	p.Add(controller.CreateFor(w.job, newPod(w.job, index, w.awaitReplacement[index])))
	w.running.active++
}

// wanted is how many pods should run.
func (w *work) wanted() int32 {
	spec := &w.job.Spec
	switch {
	case suspended(w.job):
		return 0
	case spec.Completions != nil:
		return max(0, min(*spec.Completions-w.succeeded, *spec.Parallelism))
	case w.succeeded > 0:
		return w.running.active // let those that run come to their end
	}
	return *spec.Parallelism
}

// surplus returns the running pods to remove: in an indexed job those without
// an index of it and all but one of each index, then as many as are too many.
func (w *work) surplus(want int32) []*corev1.Pod {
	var remove, keep []*corev1.Pod
	seen := map[int]bool{}
	ordered := leastWorthFirst(w.active)
	slices.Reverse(ordered) // the pod worth most keeps its index
	for _, pod := range ordered {
		i := indexOf(pod)
		if indexed(w.job) && (!w.inRange(pod) || seen[i]) {
			remove = append(remove, pod)
			continue
		}
		seen[i] = true
		keep = append(keep, pod)
	}
	slices.Reverse(keep)
	if more := len(w.active) - int(want) - len(remove); more > 0 {
		remove = append(remove, keep[:more]...)
	}
	return remove[:min(len(remove), atMost)]
}

// pending returns the lowest n indexes that neither ended nor run.
func (w *work) pending(n int) []int {
	busy := w.succeededIndexes.with(w.failedIndexes, w.indexesOf(w.active))
	if replacesFailedOnly(w.job) {
		var going []*corev1.Pod
		for _, pod := range w.pods {
			if terminating(pod) {
				going = append(going, pod)
			}
		}
		busy = busy.with(w.indexesOf(going))
	}
	return busy.missing(n, int(*w.job.Spec.Completions))
}

// suspend tells that the job rests, or no longer does. A job that is resumed
// starts anew: spec.activeDeadlineSeconds is about time without a rest.
func (w *work) suspend() {
	status, reason, message := corev1.ConditionFalse, "JobResumed", "Job resumed"
	if suspended(w.job) {
		status, reason, message = corev1.ConditionTrue, "JobSuspended", "Job suspended"
	}
	i := slices.IndexFunc(w.job.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobSuspended })
	if i < 0 && status == corev1.ConditionFalse || i >= 0 && w.job.Status.Conditions[i].Status == status {
		return
	}
	w.suspension = w.condition(batchv1.JobSuspended, reason, message)
	w.suspension.Status = status
	w.startTime = nil
	if status == corev1.ConditionFalse {
		w.startTime = &metav1.Time{Time: w.now}
	}
}

// kept are the pods whose end stands in the status and not yet in its counters.
func kept(st *batchv1.JobStatus) (succeeded, failed []types.UID) {
	if st.UncountedTerminatedPods == nil {
		return nil, nil
	}
	return st.UncountedTerminatedPods.Succeeded, st.UncountedTerminatedPods.Failed
}
