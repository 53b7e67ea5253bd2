package kind

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Wording that upstream shares between kinds.
const (
	notNegative   = apivalidation.IsNegativeErrorMsg
	mustBeInteger = "must be an integer"
	immutable     = apivalidation.FieldImmutableErrorMsg
)

// invalids makes one error of each message.
func invalids(p *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(p, value, m))
	}
	return errs
}

// required checks a mandatory string by its format.
func required(p *field.Path, value string, format func(string) []string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	if format == nil {
		return nil
	}
	return invalids(p, value, format(value))
}

// subdomain is the format of most objects' names.
func subdomain(name string) []string { return apivalidation.NameIsDNSSubdomain(name, false) }

// oneOf checks a mandatory choice.
func oneOf[T ~string](p *field.Path, value T, choices ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	return supported(p, value, choices...)
}

// supported checks a choice.
func supported[T ~string](p *field.Path, value T, choices ...T) field.ErrorList {
	for _, c := range choices {
		if value == c {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(p, value, choices)}
}

func nonNegative(p *field.Path, n int64) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(n, p)
}

func nonNegative32(p *field.Path, n *int32) field.ErrorList {
	if n == nil {
		return nil
	}
	return nonNegative(p, int64(*n))
}

// positive checks that a number is at least 1.
func positive(p *field.Path, n int64) field.ErrorList {
	if n <= 0 {
		return field.ErrorList{field.Invalid(p, n, "must be greater than 0")}
	}
	return nil
}

func unchanged(p *field.Path, value, old any) field.ErrorList {
	return apivalidation.ValidateImmutableField(value, old, p)
}

func portNumber(p *field.Path, n int32) field.ErrorList {
	return invalids(p, n, validation.IsValidPortNum(int(n)))
}

func portNumberOrName(p *field.Path, port intstr.IntOrString) field.ErrorList {
	switch port.Type {
	case intstr.Int:
		return invalids(p, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	case intstr.String:
		return invalids(p, port.StrVal, validation.IsValidPortName(port.StrVal))
	}
	return field.ErrorList{field.InternalError(p, fmt.Errorf("unknown type: %v", port.Type))}
}

func validateSelector(p *field.Path, s *metav1.LabelSelector) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, p)
}

func validateLabels(p *field.Path, labels map[string]string) field.ErrorList {
	return metav1validation.ValidateLabels(labels, p)
}

// intOrPercent checks a number of pods or a share of them: format first, then
// that it is not negative.
func intOrPercent(p *field.Path, v intstr.IntOrString) field.ErrorList {
	switch v.Type {
	case intstr.Int:
		return nonNegative(p, int64(v.IntValue()))
	case intstr.String:
		return invalids(p, v, validation.IsValidPercent(v.StrVal))
	}
	return field.ErrorList{field.Invalid(p, v, "must be an integer or percentage (e.g '5%%')")}
}

// percent is the share that v asks for, if it is one.
func percent(v intstr.IntOrString) (int, bool) {
	if v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return 0, false
	}
	var n int
	_, err := fmt.Sscanf(v.StrVal, "%d%%", &n)
	return n, err == nil
}

func notMoreThanAll(p *field.Path, v intstr.IntOrString) field.ErrorList {
	if n, ok := percent(v); ok && n > 100 {
		return field.ErrorList{field.Invalid(p, v, "must not be greater than 100%")}
	}
	return nil
}

// relativePath checks a path inside a volume.
func relativePath(p *field.Path, target string) field.ErrorList {
	if path.IsAbs(target) {
		return field.ErrorList{field.Invalid(p, target, "must be a relative path")}
	}
	return noBacksteps(p, target)
}

func noBacksteps(p *field.Path, target string) field.ErrorList {
	for _, part := range strings.Split(target, "/") {
		if part == ".." {
			return field.ErrorList{field.Invalid(p, target, "must not contain '..'")}
		}
	}
	return nil
}

// qualified checks a resource's name, and that it is a known one if it has no
// domain.
func qualified(p *field.Path, name corev1.ResourceName, known func(corev1.ResourceName) bool, otherwise string) field.ErrorList {
	errs := invalids(p, name, validation.IsQualifiedName(string(name)))
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !known(name) {
		errs = append(errs, field.Invalid(p, name, otherwise))
	}
	return errs
}

// containerResource checks the name of what a container asks for.
func containerResource(p *field.Path, name corev1.ResourceName) field.ErrorList {
	errs := qualified(p, name, isStandardResource, "must be a standard resource type or fully qualified")
	switch {
	case !strings.Contains(string(name), "/"):
		if !isContainerResource(name) {
			errs = append(errs, field.Invalid(p, name, "must be a standard resource for containers"))
		}
	case !isNative(name) && (!isExtended(name) || len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) > 0):
		errs = append(errs, field.Invalid(p, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

func isHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// isNative is a resource of Kubernetes itself, without a foreign domain.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

func isExtended(name corev1.ResourceName) bool {
	return !isNative(name) && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
}

func isContainerResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return isHugePages(name)
}

// isWhole is a resource that is only counted in whole units.
func isWhole(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return isExtended(name)
}

func validateQuantity(p *field.Path, name corev1.ResourceName, q resource.Quantity) field.ErrorList {
	var errs field.ErrorList
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(p, q.String(), notNegative))
	}
	if isWhole(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(p, q, mustBeInteger))
	}
	return errs
}

func validateResources(p *field.Path, r *corev1.ResourceRequirements, claims map[string]bool) field.ErrorList {
	var errs field.ErrorList
	limits, requests := p.Child("limits"), p.Child("requests")
	compute, huge := false, false
	each := func(p *field.Path, list corev1.ResourceList, more func(corev1.ResourceName, resource.Quantity)) {
		for _, key := range sortedNames(list) {
			q := list[key]
			errs = append(errs, containerResource(p.Key(string(key)), key)...)
			errs = append(errs, validateQuantity(p.Key(string(key)), key, q)...)
			huge = huge || isHugePages(key)
			compute = compute || key == corev1.ResourceCPU || key == corev1.ResourceMemory
			more(key, q)
		}
	}
	each(limits, r.Limits, func(name corev1.ResourceName, q resource.Quantity) {
		if isHugePages(name) {
			errs = append(errs, validateHugePages(limits.Key(string(name)), name, q)...)
		}
	})
	each(requests, r.Requests, func(name corev1.ResourceName, q resource.Quantity) {
		if isHugePages(name) {
			errs = append(errs, validateHugePages(requests.Key(string(name)), name, q)...)
		}
		limit, limited := r.Limits[name]
		overcommit := isNative(name) && !isHugePages(name)
		switch {
		case !limited && !overcommit:
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		case limited && !overcommit && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	})
	if huge && !compute {
		errs = append(errs, field.Forbidden(p, "HugePages require cpu or memory"))
	}
	seen := map[corev1.ResourceClaim]bool{}
	for i, c := range r.Claims {
		at := p.Child("claims").Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(at, ""))
		case !claims[c.Name]:
			notFound := field.NotFound(at, c.Name)
			notFound.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(claims) > 0 {
				notFound.Detail += ": " + strings.Join(sortedKeys(claims), ", ")
			} else {
				notFound.Detail += " which is empty"
			}
			errs = append(errs, notFound)
		}
		if seen[c] {
			errs = append(errs, field.Duplicate(at, c))
		}
		seen[c] = true
	}
	return errs
}

// validateHugePages checks that there is a whole number of pages.
func validateHugePages(p *field.Path, name corev1.ResourceName, q resource.Quantity) field.ErrorList {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil {
		return field.ErrorList{field.Invalid(p, name, err.Error())}
	}
	if size.Sign() > 0 && q.Value()%size.Value() != 0 {
		return field.ErrorList{field.Invalid(p, q.String(), fmt.Sprintf("%v is not positive integer multiple of %v", q.String(), name))}
	}
	return nil
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	keys := map[string]bool{}
	for name := range list {
		keys[string(name)] = true
	}
	var names []corev1.ResourceName
	for _, k := range sortedKeys(keys) {
		names = append(names, corev1.ResourceName(k))
	}
	return names
}
