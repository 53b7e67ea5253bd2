package kind

import (
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func runtimeClassKind(gv schema.GroupVersion) *Kind {
	k := define[nodev1.RuntimeClass, nodev1.RuntimeClassList](gv, "runtimeclasses").inCluster()
	k.Default = do1(func(r *nodev1.RuntimeClass) {
		if r.Overhead != nil {
			roundUp(r.Overhead.PodFixed)
		}
	})
	k.Validate = check1(func(r *nodev1.RuntimeClass) field.ErrorList {
		errs := required(field.NewPath("handler"), r.Handler, validation.IsDNS1123Label)
		if r.Overhead != nil {
			for _, name := range sortedNames(r.Overhead.PodFixed) {
				errs = append(errs, validateQuantity(field.NewPath("overhead", "podFixed").Key(string(name)), name, r.Overhead.PodFixed[name])...)
			}
		}
		if r.Scheduling != nil {
			errs = append(errs, validateLabels(field.NewPath("scheduling", "nodeSelector"), r.Scheduling.NodeSelector)...)
			errs = append(errs, validateTolerations(field.NewPath("scheduling", "tolerations"), r.Scheduling.Tolerations)...)
		}
		return errs
	})
	k.ValidateUpdate = check2(func(r, old *nodev1.RuntimeClass) field.ErrorList {
		return unchanged(field.NewPath("handler"), r.Handler, old.Handler)
	})
	k.Columns = named[*nodev1.RuntimeClass]().
		text("Handler", nodev1.RuntimeClass{}.SwaggerDoc()["handler"], func(r *nodev1.RuntimeClass) string { return r.Handler }).
		age()
	return k
}
