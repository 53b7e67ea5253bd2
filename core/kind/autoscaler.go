package kind

import (
	"fmt"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func horizontalPodAutoscalerKind(gv schema.GroupVersion) *Kind {
	k := define[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerList](gv, "horizontalpodautoscalers", "hpa").inAll()
	k.Default = do1(defaultAutoscaler)
	k.PrepareCreate = do1(func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
	})
	k.PrepareUpdate = do2(func(h, old *autoscalingv2.HorizontalPodAutoscaler) { h.Status = *old.Status.DeepCopy() })
	k.ValidateName = apivalidation.NameIsDNSSubdomain
	k.Validate = check1(func(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
		return append(validateAutoscaler(h), validateTargetVersion(h)...)
	})
	k.ValidateUpdate = check2(func(h, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
		errs := validateAutoscaler(h)
		now, was := h.Spec.ScaleTargetRef, old.Spec.ScaleTargetRef
		if now.APIVersion != was.APIVersion || now.Kind != was.Kind {
			errs = append(errs, validateTargetVersion(h)...)
		}
		return errs
	})
	k.Columns = autoscalerColumns()
	k.Versions = []Version{typedVersion[autoscalingv1.HorizontalPodAutoscaler, autoscalingv1.HorizontalPodAutoscalerList](
		autoscalingv1.SchemeGroupVersion, autoscalerToV2, autoscalerFromV2)}
	k.Subresources = []Subresource{status(
		func(h, old *autoscalingv2.HorizontalPodAutoscaler) { h.Spec = *old.Spec.DeepCopy() },
		func(h, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
			return counts(field.NewPath("status"), map[string]int32{
				"currentReplicas": h.Status.CurrentReplicas, "desiredReplicas": h.Status.DesiredReplicas,
			})
		})}
	return k
}

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	orPointer(&h.Spec.MinReplicas, 1)
	if len(h.Spec.Metrics) == 0 {
		share := int32(80)
		h.Spec.Metrics = []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{
				Name:   corev1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &share},
			},
		}}
	}
	b := h.Spec.Behavior
	if b == nil {
		return
	}
	up := func() []autoscalingv2.HPAScalingPolicy {
		return []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		}
	}
	down := func() []autoscalingv2.HPAScalingPolicy {
		return []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}}
	}
	orPointer(&b.ScaleUp, autoscalingv2.HPAScalingRules{})
	orPointer(&b.ScaleUp.StabilizationWindowSeconds, 0)
	defaultScaling(b.ScaleUp, up)
	orPointer(&b.ScaleDown, autoscalingv2.HPAScalingRules{})
	defaultScaling(b.ScaleDown, down)
}

func defaultScaling(r *autoscalingv2.HPAScalingRules, policies func() []autoscalingv2.HPAScalingPolicy) {
	orPointer(&r.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if r.Policies == nil {
		r.Policies = policies()
	}
}

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	p, s := field.NewPath("spec"), &h.Spec
	var errs field.ErrorList
	if s.MinReplicas != nil && *s.MinReplicas < 1 {
		errs = append(errs, field.Invalid(p.Child("minReplicas"), *s.MinReplicas, fmt.Sprintf("must be greater than or equal to %d", 1)))
	}
	switch {
	case s.MaxReplicas == 0:
		errs = append(errs, field.Required(p.Child("maxReplicas"), "must be set and greater than 0"))
	case s.MaxReplicas < 1:
		errs = append(errs, field.Invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to 1"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateTarget(p.Child("scaleTargetRef"), s.ScaleTargetRef)...)
	outside := func(m autoscalingv2.MetricSpec) bool {
		return m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 && !slices.ContainsFunc(s.Metrics, outside) {
		errs = append(errs, field.Forbidden(p.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	for i := range s.Metrics {
		errs = append(errs, validateMetric(p.Child("metrics").Index(i), &s.Metrics[i])...)
	}
	if s.Behavior != nil {
		errs = append(errs, validateScaling(p.Child("behavior", "scaleUp"), s.Behavior.ScaleUp)...)
		errs = append(errs, validateScaling(p.Child("behavior", "scaleDown"), s.Behavior.ScaleDown)...)
	}
	return errs
}

func validateTarget(p *field.Path, ref autoscalingv2.CrossVersionObjectReference) field.ErrorList {
	errs := required(p.Child("kind"), ref.Kind, path.IsValidPathSegmentName)
	errs = append(errs, required(p.Child("name"), ref.Name, path.IsValidPathSegmentName)...)
	if ref.APIVersion != "" {
		if _, err := schema.ParseGroupVersion(ref.APIVersion); err != nil {
			errs = append(errs, field.Invalid(p.Child("apiVersion"), ref.APIVersion, err.Error()))
		}
	}
	return errs
}

func validateMetric(p *field.Path, m *autoscalingv2.MetricSpec) field.ErrorList {
	var errs field.ErrorList
	if m.Type == "" {
		errs = append(errs, field.Required(p.Child("type"), "must specify a metric source type"))
	}
	known := supported(p.Child("type"), m.Type, autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType,
		autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType)
	errs = append(errs, known...)
	// Object becomes object, ContainerResource containerResource.
	want := ""
	if len(known) == 0 {
		want = strings.ToLower(string(m.Type[:1])) + string(m.Type[1:])
	}
	set := setFields(m)
	// One source is looked at, and the others are refused.
	for _, name := range []string{"object", "external", "pods", "resource", "containerResource"} {
		if slices.Contains(set, name) {
			errs = append(errs, validateMetricSource(p.Child(name), name, m)...)
			break
		}
	}
	if want != "" && !slices.Contains(set, want) {
		errs = append(errs, field.Required(p.Child(want), "must populate information for the given metric source"))
	}
	for _, name := range set {
		if name != want && len(set) > 1 {
			errs = append(errs, field.Forbidden(p.Child(name), "must populate the given metric source only"))
		}
	}
	return errs
}

// validateMetricSource checks the source that stands in the field name.
func validateMetricSource(p *field.Path, name string, m *autoscalingv2.MetricSpec) field.ErrorList {
	var errs field.ErrorList
	switch name {
	case "object":
		errs = append(errs, validateTarget(p.Child("describedObject"), m.Object.DescribedObject)...)
		errs = append(errs, validateMetricName(p.Child("metric"), m.Object.Metric)...)
		errs = append(errs, validateMetricTarget(p.Child("target"), &m.Object.Target)...)
		if m.Object.Target.Value == nil && m.Object.Target.AverageValue == nil {
			errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value or averageValue"))
		}
	case "pods":
		errs = append(errs, validateMetricName(p.Child("metric"), m.Pods.Metric)...)
		errs = append(errs, validateMetricTarget(p.Child("target"), &m.Pods.Target)...)
		if m.Pods.Target.AverageValue == nil || m.Pods.Target.AverageValue.Sign() != 1 {
			errs = append(errs, field.Required(p.Child("target", "averageValue"), "must specify a positive target averageValue"))
		}
	case "resource":
		errs = append(errs, validateResourceMetric(p, m.Resource.Name, &m.Resource.Target)...)
	case "containerResource":
		errs = append(errs, required(p.Child("container"), m.ContainerResource.Container, validation.IsDNS1123Label)...)
		if m.ContainerResource.Name != "" {
			errs = append(errs, containerResource(p.Child("name"), m.ContainerResource.Name)...)
		}
		errs = append(errs, validateResourceMetric(p, m.ContainerResource.Name, &m.ContainerResource.Target)...)
	case "external":
		errs = append(errs, validateMetricName(p.Child("metric"), m.External.Metric)...)
		errs = append(errs, validateMetricTarget(p.Child("target"), &m.External.Target)...)
		switch t := &m.External.Target; {
		case t.Value == nil && t.AverageValue == nil:
			errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
		case t.Value != nil && t.AverageValue != nil:
			errs = append(errs, field.Forbidden(p.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
		}
	}
	return errs
}

// validateTargetVersion wants the target's group; only one kind that can be
// scaled has none.
func validateTargetVersion(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	p, ref := field.NewPath("spec", "scaleTargetRef", "apiVersion"), h.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(p, ref.APIVersion, err.Error())}
	case gv.Group == "" && ref.Kind != "ReplicationController":
		return field.ErrorList{field.Invalid(p, ref.APIVersion, "apiVersion must specify API group")}
	}
	return nil
}

func validateMetricName(p *field.Path, m autoscalingv2.MetricIdentifier) field.ErrorList {
	// The selector means what the metrics API takes it for; upstream does not
	// look at it.
	if m.Name == "" {
		return field.ErrorList{field.Required(p.Child("name"), "must specify a metric name")}
	}
	return invalids(p.Child("name"), m.Name, path.IsValidPathSegmentName(m.Name))
}

func validateMetricTarget(p *field.Path, t *autoscalingv2.MetricTarget) field.ErrorList {
	var errs field.ErrorList
	if t.Type == "" {
		errs = append(errs, field.Required(p.Child("type"), "must specify a metric target type"))
	}
	if t.Type != autoscalingv2.UtilizationMetricType && t.Type != autoscalingv2.ValueMetricType && t.Type != autoscalingv2.AverageValueMetricType {
		errs = append(errs, field.Invalid(p.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(p.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(p.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(p.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}

func validateResourceMetric(p *field.Path, name corev1.ResourceName, t *autoscalingv2.MetricTarget) field.ErrorList {
	errs := required(p.Child("name"), string(name), nil)
	errs = append(errs, validateMetricTarget(p.Child("target"), t)...)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(p.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(p.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateScaling(p *field.Path, r *autoscalingv2.HPAScalingRules) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	const maxWindow, maxPeriod = 3600, 1800 // seconds
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		errs = append(errs, field.Invalid(p.Child("stabilizationWindowSeconds"), *w, "must be greater than or equal to zero"))
	} else if w != nil && *w > maxWindow {
		errs = append(errs, field.Invalid(p.Child("stabilizationWindowSeconds"), *w, fmt.Sprintf("must be less than or equal to %v", maxWindow)))
	}
	if r.SelectPolicy != nil {
		errs = append(errs, supported(p.Child("selectPolicy"), *r.SelectPolicy, autoscalingv2.DisabledPolicySelect,
			autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)...)
	}
	if r.Tolerance != nil && r.Tolerance.Sign() < 0 {
		errs = append(errs, field.Invalid(p.Child("tolerance"), r.Tolerance.String(), notNegative))
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(p.Child("policies"), "must specify at least one Policy"))
	}
	for i, policy := range r.Policies {
		at := p.Child("policies").Index(i)
		errs = append(errs, supported(at.Child("type"), policy.Type, autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)...)
		if policy.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), policy.Value, "must be greater than zero"))
		}
		if policy.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), policy.PeriodSeconds, "must be greater than zero"))
		} else if policy.PeriodSeconds > maxPeriod {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), policy.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriod)))
		}
	}
	return errs
}
