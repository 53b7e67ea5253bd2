package kind

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func runtimeClassKind(gv schema.GroupVersion) *Kind {
	k := define[nodev1.RuntimeClass, nodev1.RuntimeClassList](gv, "runtimeclasses").inCluster()
	k.AnyFinalizer = true
	k.Default = do1(func(r *nodev1.RuntimeClass) {
		if r.Overhead != nil {
			roundUp(r.Overhead.PodFixed)
		}
	})
	k.Validate = check1(func(r *nodev1.RuntimeClass) field.ErrorList {
		errs := required(field.NewPath("handler"), r.Handler, validation.IsDNS1123Label)
		if r.Overhead != nil {
			// As upstream reports it: the overhead is a pod's limits.
			errs = append(errs, validateResources(field.NewPath("overhead"), &corev1.ResourceRequirements{Limits: r.Overhead.PodFixed}, nil)...)
		}
		if r.Scheduling != nil {
			errs = append(errs, validateLabels(field.NewPath("scheduling", "nodeSelector"), r.Scheduling.NodeSelector)...)
			p := field.NewPath("scheduling", "tolerations")
			errs = append(errs, validateTolerations(p, r.Scheduling.Tolerations)...)
			for i, t := range r.Scheduling.Tolerations {
				if slices.ContainsFunc(r.Scheduling.Tolerations[:i], func(o corev1.Toleration) bool { return apiequality.Semantic.DeepEqual(o, t) }) {
					errs = append(errs, field.Duplicate(p.Index(i), t))
				}
			}
		}
		return errs
	})
	k.ValidateUpdate = check2(func(r, old *nodev1.RuntimeClass) field.ErrorList {
		return append(k.Validate(r), unchanged(field.NewPath("handler"), r.Handler, old.Handler)...)
	})
	k.Columns = named[*nodev1.RuntimeClass]().
		text("Handler", "", func(r *nodev1.RuntimeClass) string { return r.Handler }).
		age()
	return k
}
