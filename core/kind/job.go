package kind

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func jobKind(gv schema.GroupVersion) *Kind {
	k := define[batchv1.Job, batchv1.JobList](gv, "jobs").inAll()
	// batch/v1 keeps the pods of a deleted job unless told otherwise.
	k.OrphanByDefault = true
	k.Default = do1(defaultJob)
	k.PrepareCreate = do1(func(j *batchv1.Job) {
		j.Status = batchv1.JobStatus{}
		j.Generation = 1
		selectByUID(j)
		if len(j.Labels) == 0 {
			j.Labels = maps.Clone(j.Spec.Template.Labels)
		}
	})
	k.PrepareUpdate = do2(func(j, old *batchv1.Job) {
		j.Status = *old.Status.DeepCopy()
		raise(j, old, &j.Spec, &old.Spec)
	})
	k.Validate = check1(validateJob)
	k.ValidateUpdate = check2(validateJobUpdate)
	warnOfTemplate(k, true, func(j *batchv1.Job) []string {
		warnings := templateWarnings(&j.Spec.Template)
		if deref(j.Spec.CompletionMode) == batchv1.IndexedCompletion && deref(j.Spec.Completions) > 100_000 && deref(j.Spec.Parallelism) > 10_000 {
			warnings = append(warnings, "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
		}
		return warnings
	})
	k.Fields = select1(func(j *batchv1.Job) fields.Set {
		return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
	})
	k.Columns = jobColumns()
	k.Subresources = []Subresource{status(func(j, old *batchv1.Job) {
		j.Spec = *old.Spec.DeepCopy()
		j.Generation = old.Generation
	}, validateJobStatus)}
	return k
}

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		orPointer(&s.Completions, 1)
	}
	orPointer(&s.Parallelism, 1)
	if s.BackoffLimit == nil {
		limit := int32(6)
		if s.BackoffLimitPerIndex != nil {
			limit = math.MaxInt32
		}
		s.BackoffLimit = &limit
	}
	if len(j.Labels) == 0 {
		j.Labels = maps.Clone(s.Template.Labels)
	}
	orPointer(&s.CompletionMode, batchv1.NonIndexedCompletion)
	orPointer(&s.Suspend, false)
	orPointer(&s.ManualSelector, false)
	if s.PodFailurePolicy != nil {
		for i := range s.PodFailurePolicy.Rules {
			for j := range s.PodFailurePolicy.Rules[i].OnPodConditions {
				c := &s.PodFailurePolicy.Rules[i].OnPodConditions[j]
				orElse(&c.Status, corev1.ConditionTrue)
			}
		}
		orPointer(&s.PodReplacementPolicy, batchv1.Failed)
	}
	orPointer(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	defaultPodSpec(&s.Template.Spec)
}

// selectByUID makes pods of this job and of no other belong to it.
func selectByUID(j *batchv1.Job) {
	if deref(j.Spec.ManualSelector) {
		return
	}
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	uid := string(j.UID)
	t.Labels[batchv1.ControllerUidLabel], t.Labels["controller-uid"] = uid, uid
	t.Labels[batchv1.JobNameLabel], t.Labels["job-name"] = j.Name, j.Name
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = uid
	}
}

func validateJob(j *batchv1.Job) field.ErrorList {
	p, s := field.NewPath("spec"), &j.Spec
	errs := validateGenerated(p, j, true)
	errs = append(errs, validateJobSelected(p, s)...)
	if deref(s.CompletionMode) == batchv1.IndexedCompletion && s.Completions != nil && *s.Completions > 0 {
		// The last pod's host name must still be a label.
		name := fmt.Sprintf("%s-%d", j.Name, *s.Completions-1)
		if msgs := validation.IsDNS1123Label(name); j.Name != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata").Child("name"), j.Name, fmt.Sprintf("will not able to create pod with invalid DNS label: %s", name)))
		}
	}
	return errs
}

// validateGenerated checks that a selector that is not the user's is the job's.
// Jobs from before the labels had a prefix may be without those.
func validateGenerated(p *field.Path, j *batchv1.Job, prefixed bool) field.ErrorList {
	if deref(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	own := labels.Set{"controller-uid": string(j.UID), "job-name": j.Name}
	if prefixed {
		own[batchv1.ControllerUidLabel], own[batchv1.JobNameLabel] = string(j.UID), j.Name
	}
	at := p.Child("template", "metadata", "labels")
	for _, key := range sortedKeys(own) {
		have, ok := j.Spec.Template.Labels[key]
		switch {
		case !ok:
			errs = append(errs, field.Required(at.Key(key), fmt.Sprintf("must be '%s'", own[key])))
		case have != own[key]:
			errs = append(errs, field.Invalid(at.Key(key), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", own[key])))
		}
	}
	if sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !sel.Matches(own) {
		errs = append(errs, field.Invalid(p.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateJobSelected(p *field.Path, s *batchv1.JobSpec) field.ErrorList {
	errs := validateJobSpec(p, s)
	if s.Selector == nil {
		errs = append(errs, field.Required(p.Child("selector"), ""))
	} else {
		errs = append(errs, validateSelector(p.Child("selector"), s.Selector)...)
	}
	if sel, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !sel.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(p.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	p := field.NewPath("spec")
	_, prefixed := old.Spec.Template.Labels[batchv1.JobNameLabel]
	errs := validateGenerated(p, j, prefixed)
	errs = append(errs, validateJobSelected(p, &j.Spec)...)
	switch now, was := j.Spec.Completions, old.Spec.Completions; {
	case deref(j.Spec.CompletionMode) != batchv1.IndexedCompletion:
		errs = append(errs, unchanged(p.Child("completions"), now, was)...)
	case now != nil && deref(now) != deref(was) && *now != deref(j.Spec.Parallelism):
		errs = append(errs, field.Invalid(p.Child("completions"), *now, "can only be modified in tandem with spec.parallelism"))
	}
	errs = append(errs, unchanged(p.Child("selector"), j.Spec.Selector, old.Spec.Selector)...)
	errs = append(errs, validateJobTemplateUpdate(p, j, old)...)
	errs = append(errs, unchanged(p.Child("completionMode"), j.Spec.CompletionMode, old.Spec.CompletionMode)...)
	errs = append(errs, unchanged(p.Child("podFailurePolicy"), j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy)...)
	errs = append(errs, unchanged(p.Child("backoffLimitPerIndex"), j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex)...)
	errs = append(errs, unchanged(p.Child("managedBy"), j.Spec.ManagedBy, old.Spec.ManagedBy)...)
	return append(errs, unchanged(p.Child("successPolicy"), j.Spec.SuccessPolicy, old.Spec.SuccessPolicy)...)
}

func jobCondition(j *batchv1.Job, t batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func jobColumns() []Column {
	return named[*batchv1.Job]().
		text("Status", "Status of the job.", func(j *batchv1.Job) string {
			switch {
			case jobCondition(j, batchv1.JobComplete):
				return "Complete"
			case jobCondition(j, batchv1.JobFailed):
				return "Failed"
			case j.DeletionTimestamp != nil:
				return "Terminating"
			case jobCondition(j, batchv1.JobSuspended):
				return "Suspended"
			case jobCondition(j, batchv1.JobFailureTarget):
				return "FailureTarget"
			case jobCondition(j, batchv1.JobSuccessCriteriaMet):
				return "SuccessCriteriaMet"
			}
			return "Running"
		}).
		text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"], func(j *batchv1.Job) string {
			if j.Spec.Completions != nil {
				return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
			}
			if n := deref(j.Spec.Parallelism); n > 1 {
				return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
			}
			return fmt.Sprintf("%d/1", j.Status.Succeeded)
		}).
		at("Duration", "Time required to complete the job.", func(j *batchv1.Job, now time.Time) string {
			switch {
			case j.Status.StartTime == nil:
				return ""
			case j.Status.CompletionTime == nil:
				return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
			}
			return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
		}).
		age().
		template(func(j *batchv1.Job) *corev1.PodSpec { return &j.Spec.Template.Spec }).
		text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"], func(j *batchv1.Job) string { return selectorText(j.Spec.Selector) }).wide()
}
