package kind

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func deploymentKind(gv schema.GroupVersion) *Kind {
	k := define[appsv1.Deployment, appsv1.DeploymentList](gv, "deployments", "deploy").inAll()
	k.Default = do1(defaultDeployment)
	k.PrepareCreate = do1(func(d *appsv1.Deployment) {
		d.Status = appsv1.DeploymentStatus{}
		d.Generation = 1
	})
	k.PrepareUpdate = do2(func(d, old *appsv1.Deployment) {
		d.Status = *old.Status.DeepCopy()
		raise(d, old, &d.Spec, &old.Spec)
		if d.Generation == old.Generation && !apiequality.Semantic.DeepEqual(d.Annotations, old.Annotations) {
			d.Generation++
		}
	})
	k.Validate = check1(func(d *appsv1.Deployment) field.ErrorList {
		return validateDeploymentSpec(field.NewPath("spec"), &d.Spec)
	})
	k.ValidateUpdate = check2(func(d, old *appsv1.Deployment) field.ErrorList {
		p := field.NewPath("spec")
		errs := validateDeploymentSpec(p, &d.Spec)
		if old.Spec.Selector == nil {
			return errs
		}
		return append(errs, unchanged(p.Child("selector"), d.Spec.Selector, old.Spec.Selector)...)
	})
	warnOfTemplate(k, true, func(d *appsv1.Deployment) []string { return templateWarnings(&d.Spec.Template) })
	k.Columns = deploymentColumns()
	k.Subresources = []Subresource{
		scale(scalable[*appsv1.Deployment]{
			replicas: func(d *appsv1.Deployment) **int32 { return &d.Spec.Replicas },
			current:  func(d *appsv1.Deployment) int32 { return d.Status.Replicas },
			selector: func(d *appsv1.Deployment) *metav1.LabelSelector { return d.Spec.Selector },
		}),
		status(func(d, old *appsv1.Deployment) {
			d.Spec = *old.Spec.DeepCopy()
			d.Labels = old.DeepCopy().Labels
			d.Generation = old.Generation
		}, validateDeploymentStatus),
	}
	return k
}

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	orPointer(&s.Replicas, 1)
	orElse(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orPointer(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		orPointer(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		orPointer(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	orPointer(&s.RevisionHistoryLimit, 10)
	orPointer(&s.ProgressDeadlineSeconds, 600)
	defaultPodSpec(&s.Template.Spec)
}

func validateDeploymentSpec(p *field.Path, s *appsv1.DeploymentSpec) field.ErrorList {
	errs := nonNegative32(p.Child("replicas"), s.Replicas)
	errs = append(errs, validateSelectorOf(p.Child("selector"), s.Selector, "deployment")...)
	errs = append(errs, validateServing(p, &s.Template, s.Selector, "ReplicaSet", "invalid label selector")...)
	errs = append(errs, validateDeploymentStrategy(p.Child("strategy"), &s.Strategy)...)
	errs = append(errs, nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))...)
	errs = append(errs, nonNegative32(p.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)...)
	if d := s.ProgressDeadlineSeconds; d != nil {
		errs = append(errs, nonNegative(p.Child("progressDeadlineSeconds"), int64(*d))...)
		if *d <= s.MinReadySeconds {
			errs = append(errs, field.Invalid(p.Child("progressDeadlineSeconds"), *d, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateDeploymentStrategy(p *field.Path, s *appsv1.DeploymentStrategy) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(p.Child("rollingUpdate"), "may not be specified when strategy `type` is '"+string(s.Type)+"'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(p.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
	default:
		return field.ErrorList{field.NotSupported(p, *s, []appsv1.DeploymentStrategyType{
			appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType,
		})}
	}
	p = p.Child("rollingUpdate")
	unavailable, surge := deref(s.RollingUpdate.MaxUnavailable), deref(s.RollingUpdate.MaxSurge)
	errs := intOrPercent(p.Child("maxUnavailable"), unavailable)
	errs = append(errs, intOrPercent(p.Child("maxSurge"), surge)...)
	if isZero(unavailable) && isZero(surge) {
		errs = append(errs, field.Invalid(p.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, notMoreThanAll(p.Child("maxUnavailable"), unavailable)...)
}

// isZero is no pods, in number or share.
func isZero(v intstr.IntOrString) bool {
	if n, ok := percent(v); ok {
		return n == 0
	}
	return v.Type == intstr.Int && v.IntVal == 0
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	p, s := field.NewPath("status"), &d.Status
	errs := nonNegative(p.Child("observedGeneration"), s.ObservedGeneration)
	errs = append(errs, counts(p, map[string]int32{
		"replicas": s.Replicas, "updatedReplicas": s.UpdatedReplicas, "readyReplicas": s.ReadyReplicas,
		"availableReplicas": s.AvailableReplicas, "unavailableReplicas": s.UnavailableReplicas,
		"terminatingReplicas": deref(s.TerminatingReplicas),
	})...)
	errs = append(errs, atMost(p.Child("updatedReplicas"), s.UpdatedReplicas, s.Replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("readyReplicas"), s.ReadyReplicas, s.Replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("availableReplicas"), s.AvailableReplicas, s.Replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("availableReplicas"), s.AvailableReplicas, s.ReadyReplicas, "readyReplicas")...)
	return append(errs, validateCollisions(p.Child("collisionCount"), s.CollisionCount, old.Status.CollisionCount)...)
}

// validateCollisions checks a count that must never go back.
func validateCollisions(p *field.Path, now, old *int32) field.ErrorList {
	errs := nonNegative32(p, now)
	if old != nil && (now == nil || *now < *old) {
		errs = append(errs, field.Invalid(p, deref(now), "cannot be decremented"))
	}
	return errs
}

func deploymentColumns() []Column {
	spec, status := appsv1.DeploymentSpec{}.SwaggerDoc(), appsv1.DeploymentStatus{}.SwaggerDoc()
	return named[*appsv1.Deployment]().
		text("Ready", "Number of the pod with ready state", func(d *appsv1.Deployment) string {
			return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, deref(d.Spec.Replicas))
		}).
		count("Up-to-date", status["updatedReplicas"], func(d *appsv1.Deployment) int64 { return int64(d.Status.UpdatedReplicas) }).as("string").
		count("Available", status["availableReplicas"], func(d *appsv1.Deployment) int64 { return int64(d.Status.AvailableReplicas) }).as("string").
		age().
		template(func(d *appsv1.Deployment) *corev1.PodSpec { return &d.Spec.Template.Spec }).
		text("Selector", spec["selector"], func(d *appsv1.Deployment) string { return selectorText(d.Spec.Selector) }).wide()
}
