package kind

import (
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func replicationControllerKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.ReplicationController, corev1.ReplicationControllerList](gv, "replicationcontrollers", "rc").inAll()
	k.Prefix = "controllers"
	// The first version of the API kept the pods of a deleted controller.
	k.OrphanByDefault = true
	k.Default = do1(defaultReplicationController)
	k.PrepareCreate = do1(func(rc *corev1.ReplicationController) {
		rc.Status = corev1.ReplicationControllerStatus{}
		rc.Generation = 1
	})
	k.PrepareUpdate = do2(func(rc, old *corev1.ReplicationController) {
		rc.Status = *old.Status.DeepCopy()
		raise(rc, old, &rc.Spec, &old.Spec)
	})
	k.Validate = check1(validateReplicationController)
	k.ValidateUpdate = check2(func(rc, _ *corev1.ReplicationController) field.ErrorList { return validateReplicationController(rc) })
	warnOfTemplate(k, true, func(rc *corev1.ReplicationController) []string {
		if rc.Spec.Template == nil {
			return nil
		}
		return templateWarnings(rc.Spec.Template)
	})
	k.Fields = select1(func(rc *corev1.ReplicationController) fields.Set { return replicasField(rc.Status.Replicas) })
	k.Columns = replicaColumns(
		corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc(),
		func(rc *corev1.ReplicationController) (desired, current, ready int32) {
			return deref(rc.Spec.Replicas), rc.Status.Replicas, rc.Status.ReadyReplicas
		},
		func(rc *corev1.ReplicationController) *corev1.PodSpec {
			if rc.Spec.Template == nil {
				return &corev1.PodSpec{}
			}
			return &rc.Spec.Template.Spec
		},
		func(rc *corev1.ReplicationController) string { return labelsText(rc.Spec.Selector) },
	)
	k.Subresources = []Subresource{
		scale(scalable[*corev1.ReplicationController]{
			replicas: func(rc *corev1.ReplicationController) **int32 { return &rc.Spec.Replicas },
			current:  func(rc *corev1.ReplicationController) int32 { return rc.Status.Replicas },
			selector: func(rc *corev1.ReplicationController) *metav1.LabelSelector {
				return &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
			},
		}),
		status(func(rc, old *corev1.ReplicationController) {
			rc.Spec = *old.Spec.DeepCopy()
			rc.Generation = old.Generation
		}, func(rc, _ *corev1.ReplicationController) field.ErrorList {
			s := &rc.Status
			return validateReplicaStatus(field.NewPath("status"), s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas, s.ObservedGeneration)
		}),
	}
	return k
}

func defaultReplicationController(rc *corev1.ReplicationController) {
	if t := rc.Spec.Template; t != nil {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(t.Labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(t.Labels)
		}
		defaultPodSpec(&t.Spec)
	}
	orPointer(&rc.Spec.Replicas, 1)
}

func validateReplicationController(rc *corev1.ReplicationController) field.ErrorList {
	p, s := field.NewPath("spec"), &rc.Spec
	errs := nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if len(s.Selector) == 0 {
		errs = append(errs, field.Required(p.Child("selector"), ""))
	}
	errs = append(errs, nonNegative32(p.Child("replicas"), s.Replicas)...)
	if s.Template == nil {
		return append(errs, field.Required(p.Child("template"), ""))
	}
	if len(s.Selector) > 0 {
		errs = append(errs, validateSelected(p.Child("template"), s.Template, labels.SelectorFromSet(s.Selector))...)
	}
	return append(errs, validateForever(p.Child("template"), s.Template, "ReplicationController")...)
}

func replicasField(n int32) fields.Set {
	return fields.Set{"status.replicas": strconv.Itoa(int(n))}
}
