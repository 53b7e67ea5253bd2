package kind

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func hasJobCondition(j *batchv1.Job, t batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// validateJobStatus checks what a job's controller reports, whoever that is
// (KEP-4368). A rule is applied where what it is about has changed, so that a
// status which breaks it already can be mended step by step.
func validateJobStatus(j, old *batchv1.Job) field.ErrorList {
	p, s, was := field.NewPath("status"), &j.Status, &old.Status
	errs := counts(p, map[string]int32{
		"active": s.Active, "succeeded": s.Succeeded, "failed": s.Failed, "ready": deref(s.Ready), "terminating": deref(s.Terminating),
	})
	if u := s.UncountedTerminatedPods; u != nil {
		seen := map[string]bool{}
		at := p.Child("uncountedTerminatedPods")
		for i, uid := range u.Succeeded {
			errs = append(errs, uncounted(at.Child("succeeded").Index(i), string(uid), seen)...)
		}
		for i, uid := range u.Failed {
			errs = append(errs, uncounted(at.Child("failed").Index(i), string(uid), seen)...)
		}
	}
	is := func(t batchv1.JobConditionType) bool { return hasJobCondition(j, t) }
	wasSet := func(t batchv1.JobConditionType) bool { return hasJobCondition(old, t) }
	complete, failed := is(batchv1.JobComplete), is(batchv1.JobFailed)
	target, met := is(batchv1.JobFailureTarget), is(batchv1.JobSuccessCriteriaMet)
	finished := complete || failed
	completeNew, failedNew := complete != wasSet(batchv1.JobComplete), failed != wasSet(batchv1.JobFailed)
	finishedNew := finished != (wasSet(batchv1.JobComplete) || wasSet(batchv1.JobFailed))
	same := apiequality.Semantic.DeepEqual
	startNew, endNew := !same(s.StartTime, was.StartTime), !same(s.CompletionTime, was.CompletionTime)
	doneNew, lostNew := s.CompletedIndexes != was.CompletedIndexes, !same(s.FailedIndexes, was.FailedIndexes)

	conditions := p.Child("conditions")
	refuse := func(broken bool, why string) {
		if broken {
			errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, why))
		}
	}
	invalid := func(broken bool, name string, value any, why string) {
		if broken {
			errs = append(errs, field.Invalid(p.Child(name), value, why))
		}
	}
	missing := func(broken bool, name, why string) {
		if broken {
			errs = append(errs, field.Required(p.Child(name), why))
		}
	}
	refuse((completeNew || failedNew) && complete && failed, "cannot set Complete=True and Failed=true conditions")
	refuse((completeNew || target != wasSet(batchv1.JobFailureTarget)) && complete && target, "cannot set Complete=True and FailureTarget=true conditions")
	invalid((completeNew || endNew) && s.CompletionTime != nil && !complete, "completionTime", s.CompletionTime,
		"cannot set completionTime when there is no Complete=True condition")
	missing((completeNew || endNew) && s.CompletionTime == nil && complete, "completionTime", "completionTime is required for Complete jobs")
	invalid((startNew || endNew) && s.StartTime != nil && s.CompletionTime != nil && s.CompletionTime.Before(s.StartTime),
		"completionTime", s.CompletionTime, "must be equal to or after `startTime`")
	refuse((failedNew || lostNew) && failed && !target, "cannot set Failed=True condition without the FailureTarget=true condition")
	refuse((completeNew || met != wasSet(batchv1.JobSuccessCriteriaMet)) && complete && !met,
		"cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	invalid((finishedNew || s.Active != was.Active) && s.Active > 0 && finished, "active", s.Active, "active>0 is invalid for finished job")
	nothing := deref(j.Spec.Suspend) && j.Spec.Completions != nil && *j.Spec.Completions == 0
	missing((finishedNew || startNew) && !nothing && s.StartTime == nil && finished, "startTime", "startTime is required for finished job")
	if u := s.UncountedTerminatedPods; u != nil {
		invalid((finishedNew || !same(u, was.UncountedTerminatedPods)) && finished && len(u.Failed)+len(u.Succeeded) > 0,
			"uncountedTerminatedPods", u, "must be empty for finished job")
	}
	errs = append(errs, validateJobIndexes(p, j, doneNew, lostNew)...)
	invalid((finishedNew || !same(s.Terminating, was.Terminating)) && deref(s.Terminating) > 0 && finished, "terminating", s.Terminating,
		"terminating>0 is invalid for finished job")
	invalid((!same(s.Ready, was.Ready) || s.Active != was.Active) && deref(s.Ready) > s.Active, "ready", deref(s.Ready), "cannot set more ready pods than active")
	refuse(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions")
	refuse(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	refuse(j.Spec.SuccessPolicy != nil && !met && complete, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")

	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		refuse(wasSet(t) && !is(t), fmt.Sprintf("cannot disable the terminal %s=True condition", t))
	}
	invalid(s.Failed < was.Failed, "failed", s.Failed, "cannot decrease the failed counter")
	elastic := deref(j.Spec.CompletionMode) == batchv1.IndexedCompletion && same(j.Spec.Completions, j.Spec.Parallelism)
	invalid(!elastic && s.Succeeded < was.Succeeded, "succeeded", s.Succeeded, "cannot decrease the succeeded counter")
	invalid(endNew && s.CompletionTime != nil && was.CompletionTime != nil, "completionTime", s.CompletionTime, immutable)
	resuming := wasSet(batchv1.JobSuspended) && jobResumed(j)
	invalid(startNew && !resuming && was.StartTime != nil && !deref(j.Spec.Suspend), "startTime", s.StartTime,
		"field is immutable for unsuspended job once set")
	refuse(wasSet(batchv1.JobSuccessCriteriaMet) && !met, "cannot disable the SuccessCriteriaMet=True condition")
	refuse(wasSet(batchv1.JobComplete) && !wasSet(batchv1.JobSuccessCriteriaMet) && met,
		"cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	return errs
}

func jobResumed(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobSuspended && c.Status == corev1.ConditionFalse {
			return true
		}
	}
	return false
}

func uncounted(p *field.Path, uid string, seen map[string]bool) field.ErrorList {
	switch {
	case uid == "":
		return field.ErrorList{field.Invalid(p, uid, "must not be empty")}
	case seen[uid]:
		return field.ErrorList{field.Duplicate(p, uid)}
	}
	seen[uid] = true
	return nil
}

// validateJobIndexes checks the lists of indexes that are done and that failed.
func validateJobIndexes(p *field.Path, j *batchv1.Job, doneNew, lostNew bool) field.ErrorList {
	var errs field.ErrorList
	s, n := &j.Status, deref(j.Spec.Completions)
	indexed := deref(j.Spec.CompletionMode) == batchv1.IndexedCompletion
	done, err := parseIndexes(s.CompletedIndexes, n)
	if doneNew && j.Spec.Completions != nil && err != nil {
		errs = append(errs, field.Invalid(p.Child("completedIndexes"), s.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %s", err)))
	}
	lost, err := parseIndexes(deref(s.FailedIndexes), n)
	if lostNew && j.Spec.Completions != nil && j.Spec.BackoffLimitPerIndex != nil && err != nil {
		errs = append(errs, field.Invalid(p.Child("failedIndexes"), *s.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %s", err)))
	}
	if doneNew && s.CompletedIndexes != "" && !indexed {
		errs = append(errs, field.Invalid(p.Child("completedIndexes"), s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if lostNew && j.Spec.BackoffLimitPerIndex == nil && s.FailedIndexes != nil {
		errs = append(errs, field.Invalid(p.Child("failedIndexes"), *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	if !doneNew && !lostNew {
		return errs
	}
	for _, a := range done {
		for _, b := range lost {
			if a.first <= b.last && b.first <= a.last {
				return append(errs, field.Invalid(p.Child("failedIndexes"), *s.FailedIndexes,
					fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", max(a.first, b.first))))
			}
		}
	}
	return errs
}
