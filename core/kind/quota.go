package kind

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func resourceQuotaKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.ResourceQuota, corev1.ResourceQuotaList](gv, "resourcequotas", "quota")
	k.Default = do1(func(q *corev1.ResourceQuota) {
		roundUp(q.Spec.Hard)
		roundUp(q.Status.Hard)
		roundUp(q.Status.Used)
	})
	k.PrepareCreate = do1(func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} })
	k.PrepareUpdate = do2(func(q, old *corev1.ResourceQuota) { q.Status = *old.Status.DeepCopy() })
	k.Validate = check1(validateQuota)
	k.ValidateUpdate = check2(func(q, old *corev1.ResourceQuota) field.ErrorList {
		errs := validateQuota(q)
		if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, immutable))
		}
		return errs
	})
	text := func(verb bool) func(*corev1.ResourceQuota) string {
		return func(q *corev1.ResourceQuota) string {
			var out []string
			for _, name := range sortedNames(q.Status.Hard) {
				if strings.HasPrefix(string(name), "limits") != verb {
					continue
				}
				used, hard := q.Status.Used[name], q.Status.Hard[name]
				out = append(out, fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String()))
			}
			return strings.Join(out, ", ")
		}
	}
	k.Columns = named[*corev1.ResourceQuota]().
		text("Request", "Request represents a minimum amount of cpu/memory that a container may consume.", text(false)).
		text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.", text(true)).
		age()
	k.Subresources = []Subresource{status(func(q, old *corev1.ResourceQuota) { q.Spec = *old.Spec.DeepCopy() },
		func(q, _ *corev1.ResourceQuota) field.ErrorList {
			errs := validateQuotaList(field.NewPath("status", "hard"), q.Status.Hard)
			return append(errs, validateQuotaList(field.NewPath("status", "used"), q.Status.Used)...)
		})}
	return k
}

func isQuotaResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourcePersistentVolumeClaims, corev1.ResourceConfigMaps,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return isHugePages(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// isStandardResource is a name that needs no domain anywhere.
func isStandardResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceStorage || isQuotaResource(name)
}

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateQuotaList(p.Child("hard"), q.Spec.Hard)
	unfit := func(s corev1.ResourceQuotaScope) bool {
		for name := range q.Spec.Hard {
			if isQuotaResource(name) && !scopeFits(s, name) {
				return true
			}
		}
		return false
	}
	at, bad := p.Child("scopes"), func(p *field.Path, value any, message string) { errs = append(errs, field.Invalid(p, value, message)) }
	for _, s := range q.Spec.Scopes {
		if !isScope(s) {
			bad(at, q.Spec.Scopes, "unsupported scope")
		}
		if unfit(s) {
			bad(at, q.Spec.Scopes, "unsupported scope applied to resource")
		}
	}
	if conflictingScopes(q.Spec.Scopes) {
		bad(at, q.Spec.Scopes, "conflicting scopes")
	}
	if q.Spec.ScopeSelector == nil {
		return errs
	}
	at = p.Child("scopeSelector", "matchExpressions")
	var selected []corev1.ResourceQuotaScope
	for _, r := range q.Spec.ScopeSelector.MatchExpressions {
		if !isScope(r.ScopeName) {
			bad(at.Child("scopeName"), r.ScopeName, "unsupported scope")
		}
		if unfit(r.ScopeName) {
			bad(at, q.Spec.ScopeSelector, "unsupported scope applied to resource")
		}
		errs = append(errs, validateScopeOperator(at, &r)...)
		selected = append(selected, r.ScopeName)
	}
	if conflictingScopes(selected) {
		bad(at, q.Spec.Scopes, "conflicting scopes")
	}
	return errs
}

func validateScopeOperator(p *field.Path, r *corev1.ScopedResourceSelectorRequirement) field.ErrorList {
	var errs field.ErrorList
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if r.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(p.Child("operator"), r.Operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "+
				"ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	}
	switch r.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(r.Values) == 0 {
			errs = append(errs, field.Required(p.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			errs = append(errs, field.Invalid(p.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
		}
	default:
		errs = append(errs, field.Invalid(p.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	return errs
}

func conflictingScopes(scopes []corev1.ResourceQuotaScope) bool {
	both := func(a, b corev1.ResourceQuotaScope) bool {
		return slices.Contains(scopes, a) && slices.Contains(scopes, b)
	}
	return both(corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort) ||
		both(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating)
}

func isScope(s corev1.ResourceQuotaScope) bool {
	switch s {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass,
		corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass:
		return true
	}
	return false
}

// scopeFits says whether what a scope selects has the resource.
func scopeFits(s corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch s {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort,
		corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		switch name {
		case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
			corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
			return true
		}
		return false
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
	}
	return true
}

func validateQuotaList(p *field.Path, list corev1.ResourceList) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedNames(list) {
		at := p.Key(string(name))
		errs = append(errs, qualified(at, name, isStandardResource, "must be a standard resource type or fully qualified")...)
		if !strings.Contains(string(name), "/") && !isQuotaResource(name) {
			errs = append(errs, field.Invalid(at, name, "must be a standard resource for quota"))
		}
		errs = append(errs, validateQuantity(at, name, list[name])...)
	}
	return errs
}

func limitRangeKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.LimitRange, corev1.LimitRangeList](gv, "limitranges", "limits")
	k.Default = do1(defaultLimitRange)
	k.PrepareCreate = do1(func(l *corev1.LimitRange) {
		if l.Name == "" && l.GenerateName == "" {
			l.Name = string(l.UID)
		}
	})
	k.Validate = check1(validateLimitRange)
	k.ValidateUpdate = check2(func(l, _ *corev1.LimitRange) field.ErrorList { return validateLimitRange(l) })
	return k
}

// defaultLimitRange derives, for containers, the default limit from the
// maximum and the default request from the default limit or the minimum.
func defaultLimitRange(l *corev1.LimitRange) {
	fill := func(to *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if *to == nil {
				*to = corev1.ResourceList{}
			}
			if _, ok := (*to)[name]; !ok {
				(*to)[name] = q.DeepCopy()
			}
		}
	}
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			fill(&item.Default, item.Max)
			fill(&item.DefaultRequest, item.Default)
			fill(&item.DefaultRequest, item.Min)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundUp(list)
		}
	}
}

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	types := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, p := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		errs = append(errs, validateLimitType(p.Child("type"), item.Type)...)
		if types[item.Type] {
			errs = append(errs, field.Duplicate(p.Child("type"), item.Type))
		}
		types[item.Type] = true
		errs = append(errs, validateLimitItem(p, item)...)
	}
	return errs
}

func validateLimitType(p *field.Path, t corev1.LimitType) field.ErrorList {
	errs := invalids(p, t, validation.IsQualifiedName(string(t)))
	switch t {
	case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
	default:
		if len(errs) == 0 && !strings.Contains(string(t), "/") {
			errs = append(errs, field.Invalid(p, t, "must be a standard limit type or fully qualified"))
		}
	}
	return errs
}

func validateLimitItem(p *field.Path, item *corev1.LimitRangeItem) field.ErrorList {
	var errs field.ErrorList
	all := corev1.ResourceList{}
	for _, list := range []struct {
		name string
		corev1.ResourceList
	}{{"max", item.Max}, {"min", item.Min}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio}} {
		if item.Type == corev1.LimitTypePod && strings.HasPrefix(list.name, "default") {
			if len(list.ResourceList) > 0 {
				errs = append(errs, field.Forbidden(p.Child(list.name), "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for _, name := range sortedNames(list.ResourceList) {
			errs = append(errs, validateLimitResource(p.Child(list.name).Key(string(name)), item.Type, name)...)
			all[name] = list.ResourceList[name]
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, least := item.Min[corev1.ResourceStorage]
		_, most := item.Max[corev1.ResourceStorage]
		if !least && !most {
			errs = append(errs, field.Required(p, "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	for _, name := range sortedNames(all) {
		errs = append(errs, validateLimitOrder(p, item, name)...)
	}
	return errs
}

func validateLimitResource(p *field.Path, t corev1.LimitType, name corev1.ResourceName) field.ErrorList {
	if t == corev1.LimitTypePod || t == corev1.LimitTypeContainer {
		return containerResource(p, name)
	}
	return qualified(p, name, isStandardResource, "must be a standard resource type or fully qualified")
}

// validateLimitOrder checks that min ≤ defaultRequest ≤ default ≤ max, and that
// the ratio can be reached. The value an error shows is upstream's choice.
func validateLimitOrder(p *field.Path, item *corev1.LimitRangeItem, name corev1.ResourceName) field.ErrorList {
	var errs field.ErrorList
	key := string(name)
	least, hasLeast := item.Min[name]
	most, hasMost := item.Max[name]
	request, hasRequest := item.DefaultRequest[name]
	limit, hasLimit := item.Default[name]
	inOrder := func(known bool, at string, small, big, shown resource.Quantity, smallName, bigName string) {
		if known && small.Cmp(big) > 0 {
			errs = append(errs, field.Invalid(p.Child(at).Key(key), shown.String(), fmt.Sprintf("%s value %s is greater than %s value %s", smallName, small.String(), bigName, big.String())))
		}
	}
	inOrder(hasLeast && hasMost, "min", least, most, least, "min", "max")
	inOrder(hasRequest && hasLeast, "defaultRequest", least, request, request, "min", "default request")
	inOrder(hasRequest && hasMost, "defaultRequest", request, most, request, "default request", "max")
	inOrder(hasRequest && hasLimit, "defaultRequest", request, limit, request, "default request", "default limit")
	inOrder(hasLimit && hasLeast, "default", least, limit, least, "min", "default")
	inOrder(hasLimit && hasMost, "default", limit, most, most, "default", "max")
	ratio, hasRatio := item.MaxLimitRequestRatio[name]
	if !hasRatio {
		return errs
	}
	at := p.Child("maxLimitRequestRatio").Key(key)
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	if hasLeast && hasMost {
		reach := float64(most.Value()) / float64(least.Value())
		asked := float64(ratio.Value())
		if most.Value() < 100 || least.Value() < 100 { // few units: in thousandths
			reach = float64(most.MilliValue()) / float64(least.MilliValue())
			asked = float64(ratio.MilliValue()) / 1000
		}
		if asked > reach {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), reach)))
		}
	}
	return errs
}
