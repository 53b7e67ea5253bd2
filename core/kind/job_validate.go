package kind

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateJobSpec checks a job, or a cron job's template of jobs.
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
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(p.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if m := s.ManagedBy; m != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(p.Child("managedBy"), *m)...)
		if len(*m) > 63 {
			errs = append(errs, field.TooLong(p.Child("managedBy"), "", 63))
		}
	}
	errs = append(errs, validateCompletionMode(p, s)...)
	if s.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(p.Child("podFailurePolicy", "rules"), s)...)
	}
	switch {
	case s.SuccessPolicy == nil:
	case deref(s.CompletionMode) != batchv1.IndexedCompletion:
		errs = append(errs, field.Invalid(p.Child("successPolicy"), s.SuccessPolicy, "requires indexed completion mode"))
	default:
		errs = append(errs, validateSuccessPolicy(p.Child("successPolicy", "rules"), s)...)
	}
	if r := s.PodReplacementPolicy; r != nil {
		choices := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
		if s.PodFailurePolicy != nil {
			choices = choices[:1]
		}
		errs = append(errs, supported(p.Child("podReplacementPolicy"), *r, choices...)...)
	}
	errs = append(errs, validatePodTemplate(&s.Template, p.Child("template"))...)
	at := p.Child("template", "spec", "restartPolicy")
	switch policy := s.Template.Spec.RestartPolicy; {
	case policy == "" || policy == corev1.RestartPolicyAlways:
		errs = append(errs, field.Required(at, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.NotSupported(at, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	case s.PodFailurePolicy != nil && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.Invalid(at, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	return errs
}

// Bounds of indexed jobs: their status lists indexes, and must fit an object.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	manyCompletions       = 100_000
	fewParallel           = 10_000
	fewFailed             = 10_000
)

func validateCompletionMode(p *field.Path, s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	mode := deref(s.CompletionMode)
	if s.CompletionMode != nil {
		errs = append(errs, supported(p.Child("completionMode"), mode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
	}
	if s.CompletionMode == nil || mode == batchv1.NonIndexedCompletion {
		const indexed = "requires indexed completion mode"
		if n := s.BackoffLimitPerIndex; n != nil {
			errs = append(errs, field.Invalid(p.Child("backoffLimitPerIndex"), *n, indexed))
		}
		if n := s.MaxFailedIndexes; n != nil {
			errs = append(errs, field.Invalid(p.Child("maxFailedIndexes"), *n, indexed))
		}
	}
	if mode != batchv1.IndexedCompletion {
		return errs
	}
	atMost := func(name string, n *int32, limit int32, when string) {
		if n != nil && *n > limit {
			errs = append(errs, field.Invalid(p.Child(name), *n, fmt.Sprintf("must be less than or equal to %d%s", limit, when)))
		}
	}
	if s.Completions == nil {
		errs = append(errs, field.Required(p.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	atMost("parallelism", s.Parallelism, maxIndexedParallelism, fmt.Sprintf(" when completion mode is %s", batchv1.IndexedCompletion))
	if s.Completions != nil && s.MaxFailedIndexes != nil && *s.MaxFailedIndexes > *s.Completions {
		errs = append(errs, field.Invalid(p.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "must be less than or equal to completions"))
	}
	atMost("maxFailedIndexes", s.MaxFailedIndexes, maxFailedIndexes, "")
	if deref(s.Completions) > manyCompletions && s.BackoffLimitPerIndex != nil {
		if s.MaxFailedIndexes == nil {
			errs = append(errs, field.Required(p.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
		}
		when := fmt.Sprintf(" when completions are above %d and used with backoff limit per index", manyCompletions)
		atMost("parallelism", s.Parallelism, fewParallel, when)
		atMost("maxFailedIndexes", s.MaxFailedIndexes, fewFailed, when)
	}
	return errs
}

func validateFailurePolicy(p *field.Path, s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	if n := len(s.PodFailurePolicy.Rules); n > 20 {
		errs = append(errs, field.TooMany(p, n, 20))
	}
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	for i := range s.PodFailurePolicy.Rules {
		r, at := &s.PodFailurePolicy.Rules[i], p.Index(i)
		switch action := at.Child("action"); r.Action {
		case "":
			errs = append(errs, field.Required(action, fmt.Sprintf("valid values: %q", actions)))
		case batchv1.PodFailurePolicyActionFailIndex:
			if s.BackoffLimitPerIndex == nil {
				errs = append(errs, field.Invalid(action, r.Action, "requires the backoffLimitPerIndex to be set"))
			}
		default:
			errs = append(errs, supported(action, r.Action, actions...)...)
		}
		if r.OnExitCodes != nil {
			errs = append(errs, validateOnExitCodes(at.Child("onExitCodes"), r.OnExitCodes, &s.Template.Spec)...)
		}
		errs = append(errs, validateOnPodConditions(at.Child("onPodConditions"), r.OnPodConditions)...)
		switch conditions := len(r.OnPodConditions) > 0; {
		case r.OnExitCodes != nil && conditions:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case r.OnExitCodes == nil && !conditions:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
	return errs
}

func validateOnPodConditions(p *field.Path, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) field.ErrorList {
	var errs field.ErrorList
	if n := len(patterns); n > 20 {
		errs = append(errs, field.TooMany(p, n, 20))
	}
	states := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
	for i, c := range patterns {
		at := p.Index(i)
		errs = append(errs, invalids(at.Child("type"), string(c.Type), validation.IsQualifiedName(string(c.Type)))...)
		if c.Status == "" {
			errs = append(errs, field.Required(at.Child("status"), fmt.Sprintf("valid values: %q", states)))
		} else {
			errs = append(errs, supported(at.Child("status"), c.Status, states...)...)
		}
	}
	return errs
}

func validateOnExitCodes(p *field.Path, r *batchv1.PodFailurePolicyOnExitCodesRequirement, s *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	if r.Operator == "" {
		errs = append(errs, field.Required(p.Child("operator"), fmt.Sprintf("valid values: %q", operators)))
	} else {
		errs = append(errs, supported(p.Child("operator"), r.Operator, operators...)...)
	}
	if name := r.ContainerName; name != nil {
		known := func(c corev1.Container) bool { return c.Name == *name }
		if !slices.ContainsFunc(s.Containers, known) && !slices.ContainsFunc(s.InitContainers, known) {
			errs = append(errs, field.Invalid(p.Child("containerName"), *name, "must be one of the container or initContainer names in the pod template"))
		}
	}
	values := p.Child("values")
	switch n := len(r.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(values, r.Values, "at least one value is required"))
	case n > 255:
		errs = append(errs, field.TooMany(values, n, 255))
	}
	seen := map[int32]bool{}
	for i, v := range r.Values {
		if r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			errs = append(errs, field.Invalid(values.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen[v] {
			errs = append(errs, field.Duplicate(values.Index(i), v))
		}
		seen[v] = true
	}
	if !slices.IsSorted(r.Values) {
		errs = append(errs, field.Invalid(values, r.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(p *field.Path, s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	switch n := len(s.SuccessPolicy.Rules); {
	case n == 0:
		errs = append(errs, field.Required(p, "at least one rules must be specified when the successPolicy is specified"))
	case n > 20:
		errs = append(errs, field.TooMany(p, n, 20))
	}
	completions := deref(s.Completions)
	for i, r := range s.SuccessPolicy.Rules {
		at := p.Index(i)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		var total int32
		if list := r.SucceededIndexes; list != nil {
			if len(*list) > 64*1024 {
				errs = append(errs, field.TooLong(at.Child("succeededIndexes"), "", 64*1024))
			}
			indexes, err := parseIndexes(*list, completions)
			if err != nil {
				errs = append(errs, field.Invalid(at.Child("succeededIndexes"), *list, fmt.Sprintf("error parsing succeededIndexes: %s", err)))
			}
			for _, in := range indexes {
				total += in.last - in.first + 1
			}
		}
		if n := r.SucceededCount; n != nil {
			at := at.Child("succeededCount")
			errs = append(errs, nonNegative(at, int64(*n))...)
			if *n > completions {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
			}
			if r.SucceededIndexes != nil && *n > total {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
			}
		}
	}
	return errs
}

// An interval of a job's indexes, both ends included.
type interval struct{ first, last int32 }

// parseIndexes reads a list such as "1,3-5", increasing and below completions.
func parseIndexes(list string, completions int32) ([]interval, error) {
	if list == "" {
		return nil, nil
	}
	number := func(text string) (int32, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", text)
		}
		if n >= int(completions) {
			return 0, fmt.Errorf("too large index: %q", text)
		}
		return int32(n), nil
	}
	var all []interval
	for _, text := range strings.Split(list, ",") {
		ends := strings.Split(text, "-")
		if len(ends) > 2 {
			return nil, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
		}
		first, err := number(ends[0])
		if err != nil {
			return nil, err
		}
		in := interval{first, first}
		if len(ends) == 2 {
			if in.last, err = number(ends[1]); err != nil {
				return nil, err
			}
			if in.first >= in.last {
				return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", in.first, in.last)
			}
		}
		if n := len(all); n > 0 && all[n-1].last >= in.first {
			return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", all[n-1].last, in.first)
		}
		all = append(all, in)
	}
	return all, nil
}

// validateJobTemplateUpdate lets a job that does not run change what its pods
// need and where they may run (KEP-2926, KEP-5440).
func validateJobTemplateUpdate(p *field.Path, j, old *batchv1.Job) field.ErrorList {
	now, was := &j.Spec.Template, old.Spec.Template.DeepCopy()
	suspended := deref(old.Spec.Suspend)
	if idle := suspended && (old.Status.StartTime == nil || hasJobCondition(old, batchv1.JobSuspended)); idle {
		t, o := &now.Spec, &was.Spec
		o.NodeSelector, o.Tolerations, o.SchedulingGates = t.NodeSelector, t.Tolerations, t.SchedulingGates
		switch {
		case t.Affinity == nil && o.Affinity != nil:
			o.Affinity.NodeAffinity = nil
			if *o.Affinity == (corev1.Affinity{}) {
				o.Affinity = nil
			}
		case t.Affinity != nil && o.Affinity == nil:
			o.Affinity = &corev1.Affinity{NodeAffinity: t.Affinity.NodeAffinity}
		case t.Affinity != nil:
			o.Affinity.NodeAffinity = t.Affinity.NodeAffinity
		}
		was.Labels, was.Annotations = now.Labels, now.Annotations
		for i := range o.Containers {
			if len(t.Containers) == len(o.Containers) && t.Containers[i].Name == o.Containers[i].Name {
				o.Containers[i].Resources = t.Containers[i].Resources
			}
		}
		for i := range o.InitContainers {
			if len(t.InitContainers) == len(o.InitContainers) && t.InitContainers[i].Name == o.InitContainers[i].Name {
				o.InitContainers[i].Resources = t.InitContainers[i].Resources
			}
		}
		if !apiequality.Semantic.DeepEqual(now.Spec, was.Spec) {
			return field.ErrorList{field.Invalid(p.Child("template.spec"), now.Spec, immutable)}
		}
		return nil
	}
	if !apiequality.Semantic.DeepEqual(*now, *was) {
		return field.ErrorList{field.Invalid(p.Child("template"), now, immutable)}
	}
	return nil
}
