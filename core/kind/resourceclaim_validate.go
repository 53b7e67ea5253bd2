package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/cel"
)

// limited checks each item of a list, unless there are too many (max < 0: any
// number) to be worth it.
func limited[T any](p *field.Path, items []T, max int, each func(*field.Path, *T) field.ErrorList) field.ErrorList {
	if max >= 0 && len(items) > max {
		return field.ErrorList{field.TooMany(p, len(items), max)}
	}
	var errs field.ErrorList
	for i := range items {
		errs = append(errs, each(p.Index(i), &items[i])...)
	}
	return errs
}

// limitedSet is limited for items of which each key may appear once.
func limitedSet[T any, K comparable](p *field.Path, items []T, max int, key func(*T) K, each func(*field.Path, *T) field.ErrorList) field.ErrorList {
	if max >= 0 && len(items) > max {
		return field.ErrorList{field.TooMany(p, len(items), max)}
	}
	errs := limited(p, items, -1, each)
	seen := map[K]bool{}
	for i := range items {
		k := key(&items[i])
		if seen[k] {
			errs = append(errs, field.Duplicate(p.Index(i), k))
		}
		seen[k] = true
	}
	return errs
}

func itself[T any](v *T) T { return *v }

// label is a mandatory DNS label: the names of devices, requests, counters.
func label(p *field.Path, name string) field.ErrorList {
	return invalids(p, name, validation.IsDNS1123Label(name))
}

// requestNames are the requests of a claim, with their alternatives.
type requestNames map[string]map[string]bool

func namesOf(c *resourcev1.DeviceClaim) requestNames {
	out := requestNames{}
	for _, r := range c.Requests {
		out[r.Name] = map[string]bool{}
		for _, alternative := range r.FirstAvailable {
			out[r.Name][alternative.Name] = true
		}
	}
	return out
}

// reference checks a mention of a request or of one of its alternatives.
func (names requestNames) reference(p *field.Path, ref *string) field.ErrorList {
	const unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	request, alternative, sub := strings.Cut(*ref, "/")
	if strings.Contains(alternative, "/") {
		return field.ErrorList{field.Invalid(p, *ref, unknown)}
	}
	errs := label(p, request)
	if sub {
		errs = append(errs, label(p, alternative)...)
	}
	alternatives, known := names[request]
	if !known || sub && !alternatives[alternative] {
		errs = append(errs, field.Invalid(p, *ref, unknown))
	}
	return errs
}

func validateDeviceClaim(p *field.Path, c *resourcev1.DeviceClaim) field.ErrorList {
	names := namesOf(c)
	errs := limitedSet(p.Child("requests"), c.Requests, resourcev1.DeviceRequestsMaxSize,
		func(r *resourcev1.DeviceRequest) string { return r.Name }, validateDeviceRequest)
	errs = append(errs, limited(p.Child("constraints"), c.Constraints, resourcev1.DeviceConstraintsMaxSize,
		func(p *field.Path, d *resourcev1.DeviceConstraint) field.ErrorList {
			return validateDeviceConstraint(p, d, names)
		})...)
	return append(errs, limited(p.Child("config"), c.Config, resourcev1.DeviceConfigMaxSize,
		func(p *field.Path, config *resourcev1.DeviceClaimConfiguration) field.ErrorList {
			errs := limitedSet(p.Child("requests"), config.Requests, resourcev1.DeviceRequestsMaxSize, itself, names.reference)
			return append(errs, validateDeviceConfiguration(p, &config.DeviceConfiguration)...)
		})...)
}

func validateDeviceRequest(p *field.Path, r *resourcev1.DeviceRequest) field.ErrorList {
	errs := label(p.Child("name"), r.Name)
	switch {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		return append(errs, field.Required(p, "exactly one of `exactly` or `firstAvailable` is required"))
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		return append(errs, field.Invalid(p, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
	case r.Exactly != nil:
		e := r.Exactly
		return append(errs, validateAsked(p.Child("exactly"), e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations)...)
	}
	return append(errs, limitedSet(p.Child("firstAvailable"), r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize,
		func(s *resourcev1.DeviceSubRequest) string { return s.Name },
		func(p *field.Path, s *resourcev1.DeviceSubRequest) field.ErrorList {
			errs := label(p.Child("name"), s.Name)
			return append(errs, validateAsked(p, s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations)...)
		})...)
}

// validateAsked checks what requests and their alternatives have in common.
func validateAsked(p *field.Path, class string, selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, count int64, tolerations []resourcev1.DeviceToleration) field.ErrorList {
	errs := required(p.Child("deviceClassName"), class, subdomain)
	errs = append(errs, validateDeviceSelectors(p.Child("selectors"), selectors)...)
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if count != 0 {
			errs = append(errs, field.Invalid(p.Child("count"), count, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if count <= 0 {
			errs = append(errs, field.Invalid(p.Child("count"), count, "must be greater than zero"))
		}
	default:
		errs = append(errs, supported(p.Child("allocationMode"), mode, resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount)...)
	}
	return append(errs, limited(p.Child("tolerations"), tolerations, resourcev1.DeviceTolerationsMaxLength, validateDeviceToleration)...)
}

func validateDeviceSelectors(p *field.Path, selectors []resourcev1.DeviceSelector) field.ErrorList {
	return limited(p, selectors, resourcev1.DeviceSelectorsMaxSize, func(p *field.Path, s *resourcev1.DeviceSelector) field.ErrorList {
		if s.CEL == nil {
			return field.ErrorList{field.Required(p.Child("cel"), "")}
		}
		at := p.Child("cel", "expression")
		switch n := len(s.CEL.Expression); {
		case n == 0:
			return field.ErrorList{field.Required(at, "")}
		case n > resourcev1.CELSelectorExpressionMaxLength:
			return field.ErrorList{field.TooLong(at, "", resourcev1.CELSelectorExpressionMaxLength)}
		}
		_, err := cel.CompileSelector(s.CEL.Expression)
		if errors.Is(err, cel.ErrTooComplex) {
			return field.ErrorList{field.Forbidden(at, err.Error())}
		}
		return wrongExpression(at, s.CEL.Expression, err)
	})
}

func validateDeviceToleration(p *field.Path, t *resourcev1.DeviceToleration) field.ErrorList {
	var errs field.ErrorList
	if t.Key != "" {
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, p.Child("key"))...)
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(p.Child("value"), t.Value, "must be empty for operator `Exists`"))
		}
	case resourcev1.DeviceTolerationOpEqual:
		errs = append(errs, invalids(p.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
	default:
		errs = append(errs, oneOf(p.Child("operator"), t.Operator, resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)...)
	}
	if t.Effect != "" {
		errs = append(errs, validateDeviceTaintEffect(p.Child("effect"), t.Effect)...)
	}
	return errs
}

func validateDeviceTaintEffect(p *field.Path, e resourcev1.DeviceTaintEffect) field.ErrorList {
	return oneOf(p, e, resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)
}

func validateDeviceConstraint(p *field.Path, c *resourcev1.DeviceConstraint, names requestNames) field.ErrorList {
	errs := limitedSet(p.Child("requests"), c.Requests, resourcev1.DeviceRequestsMaxSize, itself, names.reference)
	switch {
	case c.MatchAttribute != nil:
		errs = append(errs, fullyQualified(p.Child("matchAttribute"), *c.MatchAttribute)...)
	case c.DistinctAttribute != nil:
		errs = append(errs, fullyQualified(p.Child("distinctAttribute"), *c.DistinctAttribute)...)
	default:
		errs = append(errs, field.Required(p, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
	}
	return errs
}

func fullyQualified(p *field.Path, name resourcev1.FullyQualifiedName) field.ErrorList {
	errs := attributeName(p, resourcev1.QualifiedName(name))
	if !strings.Contains(string(name), "/") {
		errs = append(errs, field.Invalid(p, name, "a fully qualified name must be a domain and a name separated by a slash"))
	}
	return errs
}

// attributeName checks the name of an attribute or capacity: an identifier,
// with the domain of a driver before it or without.
func attributeName(p *field.Path, name resourcev1.QualifiedName) field.ErrorList {
	domain, id, qualified := strings.Cut(string(name), "/")
	if !qualified {
		return identifier(p, domain)
	}
	var errs field.ErrorList
	if domain == "" {
		errs = append(errs, field.Invalid(p, "", "the domain must not be empty"))
	} else {
		errs = append(errs, validateDriverName(p, domain)...)
	}
	if id == "" {
		return append(errs, field.Invalid(p, "", "the name must not be empty"))
	}
	return append(errs, identifier(p, id)...)
}

func identifier(p *field.Path, id string) field.ErrorList {
	var errs field.ErrorList
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(p, "", resourcev1.DeviceMaxIDLength))
	}
	return append(errs, invalids(p, id, validation.IsCIdentifier(id))...)
}

func validateDeviceConfiguration(p *field.Path, c *resourcev1.DeviceConfiguration) field.ErrorList {
	if c.Opaque == nil {
		return field.ErrorList{field.Required(p.Child("opaque"), "")}
	}
	p = p.Child("opaque")
	errs := validateDriverName(p.Child("driver"), c.Opaque.Driver)
	return append(errs, jsonObject(p.Child("parameters"), c.Opaque.Parameters, resourcev1.OpaqueParametersMaxLength)...)
}

// jsonObject checks that a field of unknown content is an object.
func jsonObject(p *field.Path, raw runtime.RawExtension, max int) field.ErrorList {
	switch {
	case len(raw.Raw) == 0:
		return field.ErrorList{field.Required(p, "")}
	case len(raw.Raw) > max:
		return field.ErrorList{field.TooLong(p, "", max)}
	}
	var v any
	if err := json.Unmarshal(raw.Raw, &v); err != nil {
		return field.ErrorList{field.Invalid(p, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))}
	}
	if v == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(p, "<value omitted>", "must be a valid JSON object")}
	}
	return nil
}

func validateDeviceClass(c *resourcev1.DeviceClass) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateDeviceSelectors(p.Child("selectors"), c.Spec.Selectors)
	errs = append(errs, limited(p.Child("config"), c.Spec.Config, resourcev1.DeviceConfigMaxSize,
		func(p *field.Path, config *resourcev1.DeviceClassConfiguration) field.ErrorList {
			return validateDeviceConfiguration(p, &config.DeviceConfiguration)
		})...)
	if name := c.Spec.ExtendedResourceName; name != nil && !isExtendedName(*name) {
		errs = append(errs, field.Invalid(p.Child("extendedResourceName"), *name, "must be a valid extended resource name"))
	}
	return errs
}

// isExtendedName reports whether quota could count the resource, too.
func isExtendedName(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, "kubernetes.io/") && !strings.HasPrefix(name, "requests.") &&
		len(validation.IsQualifiedName("requests."+name)) == 0
}

func validateClaimStatus(c, old *resourcev1.ResourceClaim) field.ErrorList {
	p, s := field.NewPath("status"), &c.Status
	errs := limitedSet(p.Child("reservedFor"), s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize,
		func(r *resourcev1.ResourceClaimConsumerReference) string { return string(r.UID) },
		func(p *field.Path, r *resourcev1.ResourceClaimConsumerReference) field.ErrorList {
			errs := required(p.Child("resource"), r.Resource, nil)
			errs = append(errs, required(p.Child("name"), r.Name, nil)...)
			return append(errs, required(p.Child("uid"), string(r.UID), nil)...)
		})
	allocated := allocatedDevices(s)
	errs = append(errs, limitedSet(p.Child("devices"), s.Devices, -1, statusDevice,
		func(p *field.Path, d *resourcev1.AllocatedDeviceStatus) field.ErrorList {
			return validateDeviceStatus(p, d, allocated)
		})...)

	if len(s.ReservedFor) > 0 && s.Allocation == nil {
		errs = append(errs, field.Forbidden(p.Child("reservedFor"), "may not be specified when `allocated` is not set"))
	}
	if len(s.ReservedFor) > 0 && s.Allocation != nil && c.DeletionTimestamp != nil {
		had := map[resourcev1.ResourceClaimConsumerReference]bool{}
		for _, r := range old.Status.ReservedFor {
			had[r] = true
		}
		for _, r := range s.ReservedFor {
			if !had[r] {
				errs = append(errs, field.Forbidden(p.Child("reservedFor"), "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
				break
			}
		}
	}
	switch {
	case s.Allocation != nil && old.Status.Allocation != nil:
		errs = append(errs, unchanged(p.Child("allocation"), s.Allocation, old.Status.Allocation)...)
	case s.Allocation != nil:
		errs = append(errs, validateAllocation(p.Child("allocation"), s.Allocation, namesOf(&c.Spec.Devices))...)
	}
	return errs
}

func validateAllocation(p *field.Path, a *resourcev1.AllocationResult, names requestNames) field.ErrorList {
	devices := p.Child("devices")
	errs := limited(devices.Child("results"), a.Devices.Results, resourcev1.AllocationResultsMaxSize,
		func(p *field.Path, r *resourcev1.DeviceRequestAllocationResult) field.ErrorList {
			errs := names.reference(p.Child("request"), &r.Request)
			errs = append(errs, validateDriverName(p.Child("driver"), r.Driver)...)
			errs = append(errs, validatePoolName(p.Child("pool"), r.Pool)...)
			errs = append(errs, label(p.Child("device"), r.Device)...)
			errs = append(errs, validateBindingConditions(p, r.BindingConditions, r.BindingFailureConditions)...)
			return append(errs, validateShare(p.Child("shareID"), (*string)(r.ShareID))...)
		})
	errs = append(errs, limited(devices.Child("config"), a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize,
		func(p *field.Path, c *resourcev1.DeviceAllocationConfiguration) field.ErrorList {
			errs := oneOf(p.Child("source"), c.Source, resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)
			errs = append(errs, limitedSet(p.Child("requests"), c.Requests, resourcev1.DeviceRequestsMaxSize, itself, names.reference)...)
			return append(errs, validateDeviceConfiguration(p, &c.DeviceConfiguration)...)
		})...)
	if a.NodeSelector != nil {
		errs = append(errs, validateNodeSelector(p.Child("nodeSelector"), a.NodeSelector)...)
	}
	return errs
}

func validateShare(p *field.Path, id *string) field.ErrorList {
	if id == nil {
		return nil
	}
	if err := uuid.Validate(*id); err != nil {
		return field.ErrorList{field.Invalid(p, *id, fmt.Sprintf("error validating uid: %v", err))}
	}
	if len(*id) != 36 || *id != strings.ToLower(*id) {
		return field.ErrorList{field.Invalid(p, *id, "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters")}
	}
	return nil
}

func validateDeviceStatus(p *field.Path, d *resourcev1.AllocatedDeviceStatus, allocated map[device]bool) field.ErrorList {
	errs := validateDriverName(p.Child("driver"), d.Driver)
	errs = append(errs, validatePoolName(p.Child("pool"), d.Pool)...)
	errs = append(errs, label(p.Child("device"), d.Device)...)
	errs = append(errs, validateShare(p.Child("shareID"), d.ShareID)...)
	if id := statusDevice(d); !allocated[id] {
		errs = append(errs, field.Invalid(p, id, "must be an allocated device in the claim"))
	}
	if n := len(d.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(p.Child("conditions"), n, resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, p.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, jsonObject(p.Child("data"), *d.Data, resourcev1.AllocatedDeviceStatusDataMaxLength)...)
	}
	if n := d.NetworkData; n != nil {
		p := p.Child("networkData")
		if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
			errs = append(errs, field.TooLong(p.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
		}
		if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
			errs = append(errs, field.TooLong(p.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
		}
		errs = append(errs, limitedSet(p.Child("ips"), n.IPs, resourcev1.NetworkDeviceDataMaxIPs, itself,
			func(p *field.Path, ip *string) field.ErrorList { return validation.IsValidInterfaceAddress(p, *ip) })...)
	}
	return errs
}
