package kind

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func namespaceKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Namespace, corev1.NamespaceList](gv, "namespaces", "ns").inCluster()
	k.Verbs = []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	k.Default = do1(func(n *corev1.Namespace) {
		orElse(&n.Status.Phase, corev1.NamespaceActive)
		if n.Name != "" {
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels[corev1.LabelMetadataName] = n.Name
		}
	})
	k.PrepareCreate = do1(func(n *corev1.Namespace) {
		n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
		if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
			n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
		}
		// The name may have come only now, out of generateName.
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		if n.Name != "" {
			n.Labels[corev1.LabelMetadataName] = n.Name
		}
	})
	k.PrepareUpdate = do2(func(n, old *corev1.Namespace) {
		n.Spec.Finalizers = slices.Clone(old.Spec.Finalizers)
		n.Status = *old.Status.DeepCopy()
	})
	k.ValidateName = apivalidation.NameIsDNSLabel
	k.Validate = check1(validateNamespace)
	k.ValidateUpdate = check2(func(n, _ *corev1.Namespace) field.ErrorList { return nil })
	k.OnDelete = func(o Object) { o.(*corev1.Namespace).Status.Phase = corev1.NamespaceTerminating }
	k.Held = func(o Object) bool { return len(o.(*corev1.Namespace).Spec.Finalizers) > 0 }
	k.Fields = select1(func(n *corev1.Namespace) fields.Set {
		return fields.Set{"status.phase": string(n.Status.Phase)}
	})
	k.Columns = named[*corev1.Namespace]().
		text("Status", "The status of the namespace", func(n *corev1.Namespace) string { return string(n.Status.Phase) }).
		age()
	k.Subresources = []Subresource{
		{
			Name:  "finalize",
			Verbs: []string{"update"},
			PrepareUpdate: do2(func(n, old *corev1.Namespace) {
				n.Status = *old.Status.DeepCopy()
			}),
			ValidateUpdate: check2(func(n, _ *corev1.Namespace) field.ErrorList { return validateNamespace(n) }),
		},
		status(func(n, old *corev1.Namespace) { n.Spec = *old.Spec.DeepCopy() }, func(n, _ *corev1.Namespace) field.ErrorList {
			p := field.NewPath("status", "Phase")
			switch {
			case n.DeletionTimestamp.IsZero() && n.Status.Phase != corev1.NamespaceActive:
				return field.ErrorList{field.Invalid(p, n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
			case !n.DeletionTimestamp.IsZero() && n.Status.Phase != corev1.NamespaceTerminating:
				return field.ErrorList{field.Invalid(p, n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
			}
			return nil
		}),
	}
	return k
}

func validateNamespace(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	p := field.NewPath("spec", "finalizers")
	for _, f := range n.Spec.Finalizers {
		errs = append(errs, apivalidation.ValidateFinalizerName(string(f), p)...)
		if !strings.Contains(string(f), "/") && f != corev1.FinalizerKubernetes && f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			errs = append(errs, field.Invalid(p, string(f), "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}
