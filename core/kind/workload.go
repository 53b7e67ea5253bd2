package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// raise starts a new generation when what the user wants has changed.
func raise[S any](obj, old Object, spec, was *S) {
	obj.SetGeneration(old.GetGeneration())
	if !apiequality.Semantic.DeepEqual(spec, was) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// validateSelectorOf checks a workload's selector: it must be there and must
// not select everything. what is the word of upstream's message.
func validateSelectorOf(p *field.Path, s *metav1.LabelSelector, what string) field.ErrorList {
	if s == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	errs := validateSelector(p, s)
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(p, s, "empty selector is invalid for "+what))
	}
	return errs
}

// validateServing checks the template of pods that are to run for ever, at p of
// the spec. what is the word of upstream's message, bad what it says of a
// selector that cannot be understood; then it does not look at the template.
func validateServing(p *field.Path, t *corev1.PodTemplateSpec, sel *metav1.LabelSelector, what, bad string) field.ErrorList {
	selector, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return field.ErrorList{field.Invalid(p.Child("selector"), sel, bad)}
	}
	var errs field.ErrorList
	if !selector.Empty() {
		errs = append(errs, validateSelected(p.Child("template"), t, selector)...)
	}
	return append(errs, validateForever(p.Child("template"), t, what)...)
}

func validateSelected(p *field.Path, t *corev1.PodTemplateSpec, selector labels.Selector) field.ErrorList {
	if !selector.Matches(labels.Set(t.Labels)) {
		return field.ErrorList{field.Invalid(p.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")}
	}
	return nil
}

func validateForever(p *field.Path, t *corev1.PodTemplateSpec, what string) field.ErrorList {
	errs := validatePodTemplate(t, p)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(p.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(p.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+what+" is not Supported"))
	}
	return errs
}

// counts checks numbers of a status: none is negative.
func counts(p *field.Path, numbers map[string]int32) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedKeys(numbers) {
		errs = append(errs, nonNegative(p.Child(name), int64(numbers[name]))...)
	}
	return errs
}

// atMost checks that a part of the replicas is not more than the whole.
func atMost(p *field.Path, part, whole int32, name string) field.ErrorList {
	if part > whole {
		return field.ErrorList{field.Invalid(p, part, "cannot be greater than "+name)}
	}
	return nil
}

// warnOfTemplate gives a workload's kind its warnings: those of its template
// and, for a new one, of its name if that becomes part of its pods' names.
// An update that changes nothing is not told again.
func warnOfTemplate[T Object](k *Kind, named bool, warnings func(T) []string) {
	k.Warnings = warn1(func(o T) []string {
		var all []string
		if msgs := validation.IsDNS1123Label(o.GetName()); named && o.GetName() != "" && len(msgs) > 0 {
			all = append(all, fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
		}
		return append(all, warnings(o)...)
	})
	k.WarningsOnUpdate = func(obj, old Object) []string {
		if obj.GetGeneration() == old.GetGeneration() {
			return nil
		}
		return warnings(obj.(T))
	}
}

func templateWarnings(t *corev1.PodTemplateSpec) []string {
	return podWarnings(field.NewPath("spec", "template"), &t.ObjectMeta, &t.Spec)
}
