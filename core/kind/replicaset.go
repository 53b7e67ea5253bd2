package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func replicaSetKind(gv schema.GroupVersion) *Kind {
	k := define[appsv1.ReplicaSet, appsv1.ReplicaSetList](gv, "replicasets", "rs").inAll()
	k.Default = do1(func(rs *appsv1.ReplicaSet) {
		orPointer(&rs.Spec.Replicas, 1)
		defaultPodSpec(&rs.Spec.Template.Spec)
	})
	k.PrepareCreate = do1(func(rs *appsv1.ReplicaSet) {
		rs.Status = appsv1.ReplicaSetStatus{}
		rs.Generation = 1
	})
	k.PrepareUpdate = do2(func(rs, old *appsv1.ReplicaSet) {
		rs.Status = *old.Status.DeepCopy()
		raise(rs, old, &rs.Spec, &old.Spec)
	})
	k.Validate = check1(validateReplicaSet)
	k.ValidateUpdate = check2(func(rs, old *appsv1.ReplicaSet) field.ErrorList {
		errs := validateReplicaSet(rs)
		return append(errs, unchanged(field.NewPath("spec", "selector"), rs.Spec.Selector, old.Spec.Selector)...)
	})
	warnOfTemplate(k, true, func(rs *appsv1.ReplicaSet) []string { return templateWarnings(&rs.Spec.Template) })
	k.Columns = replicaColumns(
		appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc(),
		func(rs *appsv1.ReplicaSet) (desired, current, ready int32) {
			return deref(rs.Spec.Replicas), rs.Status.Replicas, rs.Status.ReadyReplicas
		},
		func(rs *appsv1.ReplicaSet) *corev1.PodSpec { return &rs.Spec.Template.Spec },
		func(rs *appsv1.ReplicaSet) string { return selectorText(rs.Spec.Selector) },
	)
	k.Subresources = []Subresource{
		scale(scalable[*appsv1.ReplicaSet]{
			replicas: func(rs *appsv1.ReplicaSet) **int32 { return &rs.Spec.Replicas },
			current:  func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas },
			selector: func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector },
		}),
		status(func(rs, old *appsv1.ReplicaSet) {
			rs.Spec = *old.Spec.DeepCopy()
			rs.Generation = old.Generation
		}, func(rs, _ *appsv1.ReplicaSet) field.ErrorList {
			s := &rs.Status
			errs := nonNegative32(field.NewPath("status", "terminatingReplicas"), s.TerminatingReplicas)
			return append(errs, validateReplicaStatus(field.NewPath("status"), s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas, s.ObservedGeneration)...)
		}),
	}
	return k
}

func validateReplicaSet(rs *appsv1.ReplicaSet) field.ErrorList {
	p, s := field.NewPath("spec"), &rs.Spec
	errs := nonNegative32(p.Child("replicas"), s.Replicas)
	errs = append(errs, nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))...)
	errs = append(errs, validateSelectorOf(p.Child("selector"), s.Selector, "deployment")...)
	return append(errs, validateServing(p, &s.Template, s.Selector, "ReplicaSet", "invalid label selector")...)
}

func validateReplicaStatus(p *field.Path, replicas, labeled, ready, available int32, observed int64) field.ErrorList {
	errs := counts(p, map[string]int32{
		"replicas": replicas, "fullyLabeledReplicas": labeled, "readyReplicas": ready, "availableReplicas": available,
	})
	errs = append(errs, nonNegative(p.Child("observedGeneration"), observed)...)
	errs = append(errs, atMost(p.Child("fullyLabeledReplicas"), labeled, replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("readyReplicas"), ready, replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("availableReplicas"), available, replicas, "status.replicas")...)
	return append(errs, atMost(p.Child("availableReplicas"), available, ready, "readyReplicas")...)
}

func replicaColumns[T Object](spec, status map[string]string, numbers func(T) (desired, current, ready int32),
	pods func(T) *corev1.PodSpec, selector func(T) string,
) []Column {
	return named[T]().
		count("Desired", spec["replicas"], func(t T) int64 { n, _, _ := numbers(t); return int64(n) }).
		count("Current", status["replicas"], func(t T) int64 { _, n, _ := numbers(t); return int64(n) }).
		count("Ready", status["readyReplicas"], func(t T) int64 { _, _, n := numbers(t); return int64(n) }).
		age().
		template(pods).
		text("Selector", spec["selector"], selector).wide()
}
