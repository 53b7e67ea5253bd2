package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
		return append(validateQuota(q), unchanged(field.NewPath("spec", "scopes"), q.Spec.Scopes, old.Spec.Scopes)...)
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

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateQuotaList(p.Child("hard"), q.Spec.Hard)
	seen := map[corev1.ResourceQuotaScope]bool{}
	for _, s := range q.Spec.Scopes {
		if seen[s] {
			errs = append(errs, field.Duplicate(p.Child("scopes"), s))
		}
		seen[s] = true
		errs = append(errs, validateScope(p.Child("scopes"), s)...)
	}
	if seen[corev1.ResourceQuotaScopeBestEffort] && seen[corev1.ResourceQuotaScopeNotBestEffort] ||
		seen[corev1.ResourceQuotaScopeTerminating] && seen[corev1.ResourceQuotaScopeNotTerminating] {
		errs = append(errs, field.Invalid(p.Child("scopes"), q.Spec.Scopes, "conflicting scopes"))
	}
	if q.Spec.ScopeSelector != nil {
		for _, r := range q.Spec.ScopeSelector.MatchExpressions {
			at := p.Child("scopeSelector", "matchExpressions")
			errs = append(errs, validateScope(at.Child("scopeName"), r.ScopeName)...)
			switch r.Operator {
			case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
				if len(r.Values) == 0 {
					errs = append(errs, field.Required(at.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
				}
			case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
				if len(r.Values) > 0 {
					errs = append(errs, field.Invalid(at.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
				}
			default:
				errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
			}
		}
	}
	return errs
}

func validateScope(p *field.Path, s corev1.ResourceQuotaScope) field.ErrorList {
	switch s {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass,
		corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass:
		return nil
	}
	return field.ErrorList{field.Invalid(p, s, "unsupported scope")}
}

func validateQuotaList(p *field.Path, list corev1.ResourceList) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedNames(list) {
		errs = append(errs, qualified(p.Key(string(name)), name, isQuotaResource, "must be a standard resource for quota")...)
		errs = append(errs, validateQuantity(p.Key(string(name)), name, list[name])...)
	}
	return errs
}

func limitRangeKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.LimitRange, corev1.LimitRangeList](gv, "limitranges", "limits")
	k.Default = do1(defaultLimitRange)
	k.Validate = check1(validateLimitRange)
	k.ValidateUpdate = check2(func(l, _ *corev1.LimitRange) field.ErrorList { return validateLimitRange(l) })
	k.Columns = createdAt[*corev1.LimitRange]()
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
		if types[item.Type] {
			errs = append(errs, field.Duplicate(p.Child("type"), item.Type))
		}
		types[item.Type] = true
		if item.Type == corev1.LimitTypePod {
			if len(item.Default) > 0 {
				errs = append(errs, field.Forbidden(p.Child("default"), "may not be specified when `type` is 'Pod'"))
			}
			if len(item.DefaultRequest) > 0 {
				errs = append(errs, field.Forbidden(p.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
			}
		}
		all := corev1.ResourceList{}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest} {
			for name, q := range list {
				all[name] = q
			}
		}
		inOrder := func(name corev1.ResourceName, small, big corev1.ResourceList, at, smallName, bigName string) {
			s, okS := small[name]
			b, okB := big[name]
			if okS && okB && s.Cmp(b) > 0 {
				errs = append(errs, field.Invalid(p.Child(at).Key(string(name)), quantityOf(at, smallName, s, b),
					fmt.Sprintf("%s value %s is greater than %s value %s", smallName, s.String(), bigName, b.String())))
			}
		}
		for _, name := range sortedNames(all) {
			inOrder(name, item.Min, item.Max, "min", "min", "max")
			inOrder(name, item.Min, item.DefaultRequest, "defaultRequest", "min", "default request")
			inOrder(name, item.DefaultRequest, item.Max, "defaultRequest", "default request", "max")
			inOrder(name, item.DefaultRequest, item.Default, "defaultRequest", "default request", "default limit")
			inOrder(name, item.Min, item.Default, "default", "min", "default")
			inOrder(name, item.Default, item.Max, "default", "default", "max")
		}
		for _, name := range sortedNames(item.MaxLimitRequestRatio) {
			ratio := item.MaxLimitRequestRatio[name]
			if ratio.Cmp(resource.MustParse("1")) < 0 {
				errs = append(errs, field.Invalid(p.Child("maxLimitRequestRatio").Key(string(name)), ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
			}
		}
	}
	return errs
}

// quantityOf is the value that stands at the field which an error names.
func quantityOf(at, small string, s, b resource.Quantity) string {
	if at == "default" && small == "min" || at == "defaultRequest" && small == "min" {
		return b.String()
	}
	return s.String()
}
