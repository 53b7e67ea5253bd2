package kind

import (
	"encoding/json"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func controllerRevisionKind(gv schema.GroupVersion) *Kind {
	k := define[appsv1.ControllerRevision, appsv1.ControllerRevisionList](gv, "controllerrevisions")
	k.Validate = check1(validateRevision)
	k.ValidateUpdate = check2(func(r, old *appsv1.ControllerRevision) field.ErrorList {
		errs := nonNegative(field.NewPath("revision"), r.Revision)
		return append(errs, unchanged(field.NewPath("data"), r.Data, old.Data)...)
	})
	k.Columns = named[*appsv1.ControllerRevision]().
		text("Controller", "Controller of the object", func(r *appsv1.ControllerRevision) string {
			ref := metav1.GetControllerOf(r)
			if ref == nil {
				return "<none>"
			}
			gv, err := schema.ParseGroupVersion(ref.APIVersion)
			if err != nil {
				return "<none>"
			}
			return gvkText(gv.WithKind(ref.Kind)) + "/" + ref.Name
		}).
		count("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"], func(r *appsv1.ControllerRevision) int64 { return r.Revision }).as("string").
		age()
	return k
}

// gvkText is kind.group in lower case, as kubectl names things.
func gvkText(gvk schema.GroupVersionKind) string {
	gk := gvk.GroupKind()
	return schema.GroupResource{Group: gk.Group, Resource: strings.ToLower(gk.Kind)}.String()
}

func validateRevision(r *appsv1.ControllerRevision) field.ErrorList {
	errs := nonNegative(field.NewPath("revision"), r.Revision)
	switch p := field.NewPath("data"); {
	case r.Data.Raw == nil && r.Data.Object == nil:
		errs = append(errs, field.Required(p, "data is mandatory"))
	case r.Data.Raw != nil && json.Unmarshal(r.Data.Raw, &map[string]any{}) != nil:
		errs = append(errs, field.Required(p, "data must be a valid JSON object"))
	}
	return errs
}
