package kind

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateFinalizers checks that finalizers are Kubernetes' own or have a domain.
// It is the part of the metadata's rules in which kinds differ.
func (k *Kind) ValidateFinalizers(o Object) field.ErrorList {
	if k.AnyFinalizer {
		return nil
	}
	return qualifiedFinalizers(o)
}

func qualifiedFinalizers(o Object) field.ErrorList {
	var errs field.ErrorList
	for i, f := range o.GetFinalizers() {
		switch f {
		case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
			continue
		}
		if !strings.Contains(f, "/") {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers").Index(i), f, "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}
