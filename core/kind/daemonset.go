package kind

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func daemonSetKind(gv schema.GroupVersion) *Kind {
	k := define[appsv1.DaemonSet, appsv1.DaemonSetList](gv, "daemonsets", "ds").inAll()
	k.Default = do1(defaultDaemonSet)
	k.PrepareCreate = do1(func(d *appsv1.DaemonSet) {
		d.Status = appsv1.DaemonSetStatus{}
		d.Generation = 1
		setTemplateGeneration(d, 1)
	})
	k.PrepareUpdate = do2(prepareDaemonSetUpdate)
	k.Validate = check1(validateDaemonSet)
	k.ValidateUpdate = check2(func(d, old *appsv1.DaemonSet) field.ErrorList {
		return append(validateDaemonSet(d), unchanged(field.NewPath("spec", "selector"), d.Spec.Selector, old.Spec.Selector)...)
	})
	warnOfTemplate(k, false, func(d *appsv1.DaemonSet) []string { return templateWarnings(&d.Spec.Template) })
	k.Columns = daemonSetColumns()
	k.Subresources = []Subresource{status(func(d, old *appsv1.DaemonSet) {
		d.Spec = *old.Spec.DeepCopy()
		d.Generation = old.Generation
	}, validateDaemonSetStatus)}
	return k
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	u := &d.Spec.UpdateStrategy
	orElse(&u.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if u.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		orPointer(&u.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		orPointer(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		orPointer(&u.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	orPointer(&d.Spec.RevisionHistoryLimit, 10)
	defaultPodSpec(&d.Spec.Template.Spec)
}

// templateGeneration counts the templates a DaemonSet has had. It was a field
// of the old versions and is an annotation of apps/v1.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func setTemplateGeneration(d *appsv1.DaemonSet, atLeast int64) {
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(max(templateGeneration(d), atLeast), 10)
}

func prepareDaemonSetUpdate(d, old *appsv1.DaemonSet) {
	d.Status = *old.Status.DeepCopy()
	delete(d.Annotations, appsv1.DeprecatedTemplateGeneration)
	was := templateGeneration(old)
	if !apiequality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
		was++
	}
	setTemplateGeneration(d, was)
	raise(d, old, &d.Spec, &old.Spec)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	p, s := field.NewPath("spec"), &d.Spec
	errs := validateSelector(p.Child("selector"), s.Selector)
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil {
		errs = append(errs, validateSelected(p.Child("template"), &s.Template, selector)...)
	}
	if s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(p.Child("selector"), s.Selector, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, validateForever(p.Child("template"), &s.Template, "DaemonSet")...)
	errs = append(errs, nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))...)
	errs = append(errs, validateDaemonStrategy(p.Child("updateStrategy"), &s.UpdateStrategy)...)
	return append(errs, nonNegative32(p.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)...)
}

// asNumber is the number or the share, 0 for what is neither.
func asNumber(v intstr.IntOrString) int {
	if n, ok := percent(v); ok {
		return n
	}
	return int(v.IntVal)
}

func validateDaemonStrategy(p *field.Path, u *appsv1.DaemonSetUpdateStrategy) field.ErrorList {
	switch u.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(p, *u, []appsv1.DaemonSetUpdateStrategyType{
			appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType,
		})}
	}
	if u.RollingUpdate == nil {
		return field.ErrorList{field.Required(p.Child("rollingUpdate"), "")}
	}
	p = p.Child("rollingUpdate")
	unavailable, surge := deref(u.RollingUpdate.MaxUnavailable), deref(u.RollingUpdate.MaxSurge)
	errs := intOrPercent(p.Child("maxUnavailable"), unavailable)
	errs = append(errs, notMoreThanAll(p.Child("maxUnavailable"), unavailable)...)
	errs = append(errs, intOrPercent(p.Child("maxSurge"), surge)...)
	errs = append(errs, notMoreThanAll(p.Child("maxSurge"), surge)...)
	switch {
	case asNumber(unavailable) != 0 && asNumber(surge) != 0:
		errs = append(errs, field.Invalid(p.Child("maxSurge"), surge, "may not be set when `maxUnavailable` is non-zero"))
	case asNumber(unavailable) == 0 && asNumber(surge) == 0:
		errs = append(errs, field.Required(p.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetStatus(d, old *appsv1.DaemonSet) field.ErrorList {
	p, s := field.NewPath("status"), &d.Status
	errs := counts(p, map[string]int32{
		"currentNumberScheduled": s.CurrentNumberScheduled, "numberMisscheduled": s.NumberMisscheduled,
		"desiredNumberScheduled": s.DesiredNumberScheduled, "numberReady": s.NumberReady,
		"updatedNumberScheduled": s.UpdatedNumberScheduled, "numberAvailable": s.NumberAvailable,
		"numberUnavailable": s.NumberUnavailable,
	})
	errs = append(errs, nonNegative(p.Child("observedGeneration"), s.ObservedGeneration)...)
	return append(errs, validateCollisions(p.Child("collisionCount"), s.CollisionCount, old.Status.CollisionCount)...)
}

func daemonSetColumns() []Column {
	doc := appsv1.DaemonSetStatus{}.SwaggerDoc()
	return named[*appsv1.DaemonSet]().
		count("Desired", doc["desiredNumberScheduled"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.DesiredNumberScheduled) }).
		count("Current", doc["currentNumberScheduled"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.CurrentNumberScheduled) }).
		count("Ready", doc["numberReady"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.NumberReady) }).
		count("Up-to-date", doc["updatedNumberScheduled"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.UpdatedNumberScheduled) }).
		count("Available", doc["numberAvailable"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.NumberAvailable) }).
		text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"], func(d *appsv1.DaemonSet) string {
			return labelsText(d.Spec.Template.Spec.NodeSelector)
		}).
		age().
		template(func(d *appsv1.DaemonSet) *corev1.PodSpec { return &d.Spec.Template.Spec }).
		text("Selector", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"], func(d *appsv1.DaemonSet) string {
			return selectorText(d.Spec.Selector)
		}).wide()
}
