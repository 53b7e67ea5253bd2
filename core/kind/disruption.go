package kind

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func podDisruptionBudgetKind(gv schema.GroupVersion) *Kind {
	k := define[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](gv, "poddisruptionbudgets", "pdb")
	k.AnyFinalizer = true
	k.ValidateName = func(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }
	k.PrepareCreate = do1(func(b *policyv1.PodDisruptionBudget) {
		b.Status = policyv1.PodDisruptionBudgetStatus{}
		b.Generation = 1
	})
	k.PrepareUpdate = do2(func(b, old *policyv1.PodDisruptionBudget) {
		b.Status = *old.Status.DeepCopy()
		raise(b, old, &b.Spec, &old.Spec)
	})
	k.Validate = check1(validateBudget)
	k.ValidateUpdate = check2(func(b, _ *policyv1.PodDisruptionBudget) field.ErrorList { return validateBudget(b) })
	limit := func(v *intstr.IntOrString) string {
		if v == nil {
			return "N/A"
		}
		return v.String()
	}
	k.Columns = named[*policyv1.PodDisruptionBudget]().
		text("Min Available", "The minimum number of pods that must be available.", func(b *policyv1.PodDisruptionBudget) string {
			return limit(b.Spec.MinAvailable)
		}).
		text("Max Unavailable", "The maximum number of pods that may be unavailable.", func(b *policyv1.PodDisruptionBudget) string {
			return limit(b.Spec.MaxUnavailable)
		}).
		count("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time.", func(b *policyv1.PodDisruptionBudget) int64 {
			return int64(b.Status.DisruptionsAllowed)
		}).
		age()
	k.Subresources = []Subresource{status(func(b, old *policyv1.PodDisruptionBudget) {
		b.Spec = *old.Spec.DeepCopy()
		b.Generation = old.Generation
	}, func(b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
		s := &b.Status
		errs := counts(field.NewPath("status"), map[string]int32{
			"disruptionsAllowed": s.DisruptionsAllowed, "currentHealthy": s.CurrentHealthy,
			"desiredHealthy": s.DesiredHealthy, "expectedPods": s.ExpectedPods,
		})
		return append(errs, metav1validation.ValidateConditions(s.Conditions, field.NewPath("status", "conditions"))...)
	})}
	return k
}

func validateBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	p, s := field.NewPath("spec"), &b.Spec
	var errs field.ErrorList
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(p, *s, "minAvailable and maxUnavailable cannot be both set"))
	}
	limit := func(name string, v *intstr.IntOrString) {
		if v != nil {
			errs = append(errs, intOrPercent(p.Child(name), *v)...)
			errs = append(errs, notMoreThanAll(p.Child(name), *v)...)
		}
	}
	limit("minAvailable", s.MinAvailable)
	limit("maxUnavailable", s.MaxUnavailable)
	errs = append(errs, validateSelector(p.Child("selector"), s.Selector)...)
	if e := s.UnhealthyPodEvictionPolicy; e != nil {
		errs = append(errs, supported(p.Child("unhealthyPodEvictionPolicy"), *e, policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
	}
	return errs
}
