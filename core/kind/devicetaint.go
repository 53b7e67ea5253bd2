package kind

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func deviceTaintRuleKind(gv schema.GroupVersion) *Kind {
	type rule = resourcev1.DeviceTaintRule
	k := define[rule, resourcev1.DeviceTaintRuleList](gv, "devicetaintrules").inCluster()
	k.Default = do1(func(r *rule) { dateTaint(&r.Spec.Taint) })
	k.PrepareCreate = do1(func(r *rule) {
		r.Generation, r.Status = 1, resourcev1.DeviceTaintRuleStatus{}
	})
	k.PrepareUpdate = do2(func(r, old *rule) {
		r.Status = *old.Status.DeepCopy()
		r.Generation = nextGeneration(r.Spec, old.Spec, old.Generation)
	})
	k.Validate = check1(validateDeviceTaintRule)
	k.ValidateUpdate = check2(func(r, _ *rule) field.ErrorList { return validateDeviceTaintRule(r) })
	k.Subresources = []Subresource{status(func(r, old *rule) { r.Spec = *old.Spec.DeepCopy() }, func(r, _ *rule) field.ErrorList {
		p := field.NewPath("status", "conditions")
		errs := metav1validation.ValidateConditions(r.Status.Conditions, p)
		if n := len(r.Status.Conditions); n > resourcev1.DeviceTaintRuleStatusMaxConditions {
			errs = append(errs, field.TooMany(p, n, resourcev1.DeviceTaintRuleStatusMaxConditions))
		}
		return errs
	})}
	doc := resourcev1.DeviceTaint{}.SwaggerDoc()
	k.Columns = named[*rule]().
		text("Key", doc["key"], func(r *rule) string { return r.Spec.Taint.Key }).
		text("Value", doc["value"], func(r *rule) string { return r.Spec.Taint.Value }).
		text("Effect", doc["effect"], func(r *rule) string { return string(r.Spec.Taint.Effect) }).
		at("TimeAdded", doc["timeAdded"], func(r *rule, now time.Time) string { return since(deref(r.Spec.Taint.TimeAdded), now) }).
		age()
	return k
}

func validateDeviceTaintRule(r *resourcev1.DeviceTaintRule) field.ErrorList {
	p := field.NewPath("spec")
	var errs field.ErrorList
	if s := r.Spec.DeviceSelector; s != nil {
		p := p.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, validateDriverName(p.Child("driver"), *s.Driver)...)
		}
		if s.Pool != nil {
			errs = append(errs, validatePoolName(p.Child("pool"), *s.Pool)...)
		}
		if s.Device != nil {
			errs = append(errs, label(p.Child("device"), *s.Device)...)
		}
	}
	return append(errs, validateDeviceTaint(p.Child("taint"), &r.Spec.Taint)...)
}

// dateTaint says since when a taint is there: tolerations count from then.
func dateTaint(t *resourcev1.DeviceTaint) {
	if t.TimeAdded == nil {
		now := metav1.Now().Rfc3339Copy()
		t.TimeAdded = &now
	}
}
