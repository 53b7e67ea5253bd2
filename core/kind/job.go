package kind

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
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
	})
	k.PrepareUpdate = do2(func(j, old *batchv1.Job) {
		j.Status = *old.Status.DeepCopy()
		raise(j, old, &j.Spec, &old.Spec)
	})
	k.Validate = check1(validateJob)
	k.ValidateUpdate = check2(validateJobUpdate)
	k.Warnings = warn1(func(j *batchv1.Job) []string {
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
	}, func(j, old *batchv1.Job) field.ErrorList {
		s := &j.Status
		return counts(field.NewPath("status"), map[string]int32{"active": s.Active, "succeeded": s.Succeeded, "failed": s.Failed})
	})}
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
	errs := validateJobSpec(p, s)
	if deref(s.CompletionMode) == batchv1.IndexedCompletion && s.Completions != nil && *s.Completions > 0 {
		// The last pod's host name must still be a label.
		name := fmt.Sprintf("%s-%d", j.Name, *s.Completions-1)
		if msgs := validation.IsDNS1123Label(name); j.Name != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata").Child("name"), j.Name, fmt.Sprintf("will not able to create pod with invalid DNS label: %s", name)))
		}
	}
	if s.Selector == nil {
		return append(errs, field.Required(p.Child("selector"), ""))
	}
	errs = append(errs, validateSelector(p.Child("selector"), s.Selector)...)
	if sel, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !sel.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(p.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateJobSpec(p *field.Path, s *batchv1.JobSpec) field.ErrorList {
	errs := nonNegative32(p.Child("parallelism"), s.Parallelism)
	errs = append(errs, nonNegative32(p.Child("completions"), s.Completions)...)
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, nonNegative(p.Child("activeDeadlineSeconds"), *s.ActiveDeadlineSeconds)...)
	}
	errs = append(errs, nonNegative32(p.Child("backoffLimit"), s.BackoffLimit)...)
	errs = append(errs, nonNegative32(p.Child("ttlSecondsAfterFinished"), s.TTLSecondsAfterFinished)...)
	errs = append(errs, nonNegative32(p.Child("backoffLimitPerIndex"), s.BackoffLimitPerIndex)...)
	errs = append(errs, nonNegative32(p.Child("maxFailedIndexes"), s.MaxFailedIndexes)...)
	indexed := deref(s.CompletionMode) == batchv1.IndexedCompletion
	if s.CompletionMode != nil {
		at := p.Child("completionMode")
		errs = append(errs, supported(at, *s.CompletionMode, batchv1.IndexedCompletion, batchv1.NonIndexedCompletion)...)
		if indexed && s.Completions == nil {
			errs = append(errs, field.Required(p.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
		}
		if indexed && deref(s.Parallelism) > 100_000 {
			errs = append(errs, field.Invalid(p.Child("parallelism"), *s.Parallelism, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", 100_000, batchv1.IndexedCompletion)))
		}
	}
	if s.BackoffLimitPerIndex != nil && !indexed {
		errs = append(errs, field.Invalid(p.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(p.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.PodFailurePolicy != nil && s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		errs = append(errs, field.Invalid(p.Child("template", "spec", "restartPolicy"), s.Template.Spec.RestartPolicy, "only \"Never\" is supported when podFailurePolicy is specified"))
	}
	if s.SuccessPolicy != nil && !indexed {
		errs = append(errs, field.Invalid(p.Child("successPolicy"), s.SuccessPolicy, "requires indexed completion mode"))
	}
	errs = append(errs, validatePodTemplate(&s.Template, p.Child("template"))...)
	switch s.Template.Spec.RestartPolicy {
	case "", corev1.RestartPolicyAlways:
		errs = append(errs, field.Required(p.Child("template", "spec", "restartPolicy"), fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, field.NotSupported(p.Child("template", "spec", "restartPolicy"), s.Template.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	return errs
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateJobSpec(p, &j.Spec)
	elastic := deref(j.Spec.CompletionMode) == batchv1.IndexedCompletion && j.Spec.Completions != nil && j.Spec.Parallelism != nil && *j.Spec.Completions == *j.Spec.Parallelism
	if !elastic {
		errs = append(errs, unchanged(p.Child("completions"), j.Spec.Completions, old.Spec.Completions)...)
	}
	errs = append(errs, unchanged(p.Child("selector"), j.Spec.Selector, old.Spec.Selector)...)
	template := j.Spec.Template.DeepCopy()
	if deref(old.Spec.Suspend) && old.Status.StartTime == nil {
		// KEP-2926: where a job that has not started may run can change.
		t, o := &template.Spec, &old.Spec.Template.Spec
		t.NodeSelector, t.Tolerations, t.SchedulingGates, t.Affinity = o.NodeSelector, o.Tolerations, o.SchedulingGates, o.Affinity
		template.Labels, template.Annotations = old.Spec.Template.Labels, old.Spec.Template.Annotations
	}
	if !apiequality.Semantic.DeepEqual(*template, old.Spec.Template) {
		errs = append(errs, field.Invalid(p.Child("template"), j.Spec.Template, immutable))
	}
	errs = append(errs, unchanged(p.Child("completionMode"), j.Spec.CompletionMode, old.Spec.CompletionMode)...)
	errs = append(errs, unchanged(p.Child("podFailurePolicy"), j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy)...)
	errs = append(errs, unchanged(p.Child("backoffLimitPerIndex"), j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex)...)
	return append(errs, unchanged(p.Child("managedBy"), j.Spec.ManagedBy, old.Spec.ManagedBy)...)
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
