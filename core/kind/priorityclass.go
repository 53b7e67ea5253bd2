package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Priorities from highestUser on belong to the system, under these names.
const (
	highestUser        = 1_000_000_000
	systemCritical     = 2 * highestUser
	systemPrefix       = "system-"
	systemCluster      = "system-cluster-critical"
	systemNodeCritical = "system-node-critical"
)

func priorityClassKind(gv schema.GroupVersion) *Kind {
	k := define[schedulingv1.PriorityClass, schedulingv1.PriorityClassList](gv, "priorityclasses", "pc").inCluster()
	k.Default = do1(func(c *schedulingv1.PriorityClass) { orPointer(&c.PreemptionPolicy, corev1.PreemptLowerPriority) })
	k.PrepareCreate = do1(func(c *schedulingv1.PriorityClass) { c.Generation = 1 })
	k.PrepareUpdate = do2(func(c, old *schedulingv1.PriorityClass) { c.Generation = old.Generation })
	k.Validate = check1(validatePriorityClass)
	k.ValidateUpdate = check2(func(c, old *schedulingv1.PriorityClass) field.ErrorList {
		var errs field.ErrorList
		if c.Value != old.Value {
			errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
		}
		return append(errs, unchanged(field.NewPath("preemptionPolicy"), c.PreemptionPolicy, old.PreemptionPolicy)...)
	})
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	k.Columns = named[*schedulingv1.PriorityClass]().
		count("Value", doc["value"], func(c *schedulingv1.PriorityClass) int64 { return int64(c.Value) }).
		flag("Global-Default", doc["globalDefault"], func(c *schedulingv1.PriorityClass) bool { return c.GlobalDefault }).
		age().
		text("PreemptionPolicy", doc["preemptionPolicy"], func(c *schedulingv1.PriorityClass) string { return string(deref(c.PreemptionPolicy)) })
	return k
}

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, systemPrefix) {
		known := map[string]int32{systemCluster: systemCritical, systemNodeCritical: systemCritical + 1000}
		why := ""
		switch value, ok := known[c.Name]; {
		case !ok:
			why = fmt.Sprintf("%v is not a known system priority class", c.Name)
		case c.Value != value:
			why = fmt.Sprintf("value of %v PriorityClass must be %v", c.Name, value)
		case c.GlobalDefault:
			why = fmt.Sprintf("globalDefault of %v PriorityClass must be %v", c.Name, false)
		}
		if why != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: %s", systemPrefix, why)))
		}
	} else if c.Value > highestUser {
		errs = append(errs, field.Forbidden(field.NewPath("value"),
			fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestUser)))
	}
	if c.PreemptionPolicy != nil {
		errs = append(errs, oneOf(field.NewPath("preemptionPolicy"), *c.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}
