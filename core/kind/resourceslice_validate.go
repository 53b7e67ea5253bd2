package kind

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateResourceSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	p, spec := field.NewPath("spec"), &s.Spec
	errs := validateDriverName(p.Child("driver"), spec.Driver)
	errs = append(errs, validatePoolName(p.Child("pool", "name"), spec.Pool.Name)...)
	if n := spec.Pool.ResourceSliceCount; n <= 0 {
		errs = append(errs, field.Invalid(p.Child("pool", "resourceSliceCount"), n, "must be greater than zero"))
	}
	if n := spec.Pool.Generation; n < 0 {
		errs = append(errs, field.Invalid(p.Child("pool", "generation"), n, "must be greater than or equal to zero"))
	}
	errs = append(errs, validateSliceNodes(p, spec)...)
	if spec.SharedCounters != nil && spec.Devices != nil {
		errs = append(errs, field.Invalid(p, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	max := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(spec.Devices, isAdvanced) {
		max = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	perDevice := deref(spec.PerDeviceNodeSelection)
	errs = append(errs, limitedSet(p.Child("devices"), spec.Devices, max, func(d *resourcev1.Device) string { return d.Name },
		func(p *field.Path, d *resourcev1.Device) field.ErrorList { return validateDevice(p, d, perDevice) })...)
	return append(errs, limitedSet(p.Child("sharedCounters"), spec.SharedCounters, resourcev1.ResourceSliceMaxCounterSets,
		func(c *resourcev1.CounterSet) string { return c.Name },
		func(p *field.Path, c *resourcev1.CounterSet) field.ErrorList {
			errs := required(p.Child("name"), c.Name, validation.IsDNS1123Label)
			return append(errs, validateCounters(p.Child("counters"), c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet)...)
		})...)
}

// isAdvanced devices take more room in etcd, so a slice holds fewer of them.
func isAdvanced(d resourcev1.Device) bool {
	if len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 {
		return true
	}
	for _, a := range d.Attributes {
		if a.BoolValues != nil || a.IntValues != nil || a.StringValues != nil || a.VersionValues != nil {
			return true
		}
	}
	return false
}

// validatePoolName takes subdomains between slashes.
func validatePoolName(p *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(p, "", resourcev1.PoolNameMaxLength))
	}
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, invalids(p, part, validation.IsDNS1123Subdomain(part))...)
	}
	return errs
}

// validateSliceNodes checks that the slice says in exactly one way from where
// its devices can be used.
func validateSliceNodes(p *field.Path, s *resourcev1.ResourceSliceSpec) field.ErrorList {
	const choose = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	var errs field.ErrorList
	var set []string
	if s.NodeName != nil {
		if *s.NodeName == "" {
			errs = append(errs, field.Invalid(p.Child("nodeName"), "", "must be either unset or set to a non-empty string"))
		} else {
			set = append(set, "`nodeName`")
			errs = append(errs, invalids(p.Child("nodeName"), *s.NodeName, subdomain(*s.NodeName))...)
		}
	}
	if s.NodeSelector != nil {
		set = append(set, "`nodeSelector`")
		errs = append(errs, validateNodeSelector(p.Child("nodeSelector"), s.NodeSelector)...)
		if terms := s.NodeSelector.NodeSelectorTerms; len(terms) != 1 {
			errs = append(errs, field.Invalid(p.Child("nodeSelector", "nodeSelectorTerms"), terms, "must have exactly one node selector term"))
		}
	}
	for _, f := range []struct {
		name  string
		value *bool
	}{{"allNodes", s.AllNodes}, {"perDeviceNodeSelection", s.PerDeviceNodeSelection}} {
		switch {
		case f.value == nil:
		case *f.value:
			set = append(set, "`"+f.name+"`")
		default:
			errs = append(errs, field.Invalid(p.Child(f.name), false, "must be either unset or set to true"))
		}
	}
	switch len(set) {
	case 0:
		errs = append(errs, field.Required(p, choose))
	case 1:
	default:
		errs = append(errs, field.Invalid(p, fmt.Sprintf("{%s}", strings.Join(set, ", ")), choose+", but multiple fields are set"))
	}
	return errs
}

func validateDevice(p *field.Path, d *resourcev1.Device, perDevice bool) field.ErrorList {
	errs := label(p.Child("name"), d.Name)
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(p, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d",
			resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	values := 0
	for _, name := range sortedAttributes(d.Attributes) {
		a := d.Attributes[name]
		values += max(1, len(a.BoolValues)+len(a.IntValues)+len(a.StringValues)+len(a.VersionValues))
		errs = append(errs, attributeName(p.Child("attributes"), name)...)
		errs = append(errs, validateAttribute(p.Child("attributes").Key(string(name)), &a)...)
	}
	if values > resourcev1.ResourceSliceMaxAttributeValuesPerDevice {
		errs = append(errs, field.Invalid(p, values, fmt.Sprintf("the total number of attribute values must not exceed %d",
			resourcev1.ResourceSliceMaxAttributeValuesPerDevice)))
	}
	for _, name := range sortedAttributes(d.Capacity) {
		c, at := d.Capacity[name], p.Child("capacity").Key(string(name)).Child("requestPolicy")
		errs = append(errs, attributeName(p.Child("capacity"), name)...)
		switch {
		case c.RequestPolicy == nil:
		case deref(d.AllowMultipleAllocations):
			errs = append(errs, validateRequestPolicy(at, c.Value, c.RequestPolicy)...)
		default:
			errs = append(errs, field.Forbidden(at, "allowMultipleAllocations must be true"))
		}
	}
	errs = append(errs, limited(p.Child("taints"), d.Taints, resourcev1.DeviceTaintsMaxLength, validateDeviceTaint)...)
	errs = append(errs, limitedSet(p.Child("consumesCounters"), d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice,
		func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet },
		func(p *field.Path, c *resourcev1.DeviceCounterConsumption) field.ErrorList {
			errs := required(p.Child("counterSet"), c.CounterSet, validation.IsDNS1123Label)
			return append(errs, validateCounters(p.Child("counters"), c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption)...)
		})...)
	errs = append(errs, validateDeviceNodes(p, d, perDevice)...)
	errs = append(errs, validateBindingConditions(p, d.BindingConditions, d.BindingFailureConditions)...)
	return append(errs, validateNodeResources(p.Child("nodeAllocatableResources"), d)...)
}

func sortedAttributes[V any](m map[resourcev1.QualifiedName]V) []resourcev1.QualifiedName {
	names := make([]resourcev1.QualifiedName, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// validateDeviceNodes checks where one device can be used from, which it says
// only if its slice leaves that to it.
func validateDeviceNodes(p *field.Path, d *resourcev1.Device, perDevice bool) field.ErrorList {
	const choose = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	if !perDevice {
		if d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil {
			return field.ErrorList{field.Invalid(p, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")}
		}
		return nil
	}
	var errs field.ErrorList
	var set []string
	if d.NodeName != nil {
		if *d.NodeName == "" {
			errs = append(errs, field.Invalid(p.Child("nodeName"), "", "must not be empty"))
		} else {
			set = append(set, "`nodeName`")
			errs = append(errs, invalids(p.Child("nodeName"), *d.NodeName, subdomain(*d.NodeName))...)
		}
	}
	if d.NodeSelector != nil {
		set = append(set, "`nodeSelector`")
		errs = append(errs, validateNodeSelector(p.Child("nodeSelector"), d.NodeSelector)...)
	}
	switch {
	case d.AllNodes == nil:
	case *d.AllNodes:
		set = append(set, "`allNodes`")
	default:
		errs = append(errs, field.Invalid(p.Child("allNodes"), false, "must be either unset or set to true"))
	}
	switch len(set) {
	case 0:
		errs = append(errs, field.Required(p, choose))
	case 1:
	default:
		errs = append(errs, field.Invalid(p, fmt.Sprintf("{%s}", strings.Join(set, ", ")), choose))
	}
	return errs
}

func validateCounters(p *field.Path, counters map[string]resourcev1.Counter, max int) field.ErrorList {
	switch {
	case len(counters) == 0:
		return field.ErrorList{field.Required(p, "")}
	case len(counters) > max:
		return field.ErrorList{field.TooMany(p, len(counters), max)}
	}
	var errs field.ErrorList
	for _, name := range sortedKeys(counters) {
		errs = append(errs, label(p, name)...)
	}
	return errs
}

// semver is the pattern of semver.org 2.0.0.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

func validateAttribute(p *field.Path, a *resourcev1.DeviceAttribute) field.ErrorList {
	var errs field.ErrorList
	text := func(p *field.Path, s *string) field.ErrorList {
		if len(*s) > resourcev1.DeviceAttributeMaxValueLength {
			return field.ErrorList{field.TooLong(p, "", resourcev1.DeviceAttributeMaxValueLength)}
		}
		return nil
	}
	version := func(p *field.Path, s *string) field.ErrorList {
		if !semver.MatchString(*s) {
			return append(field.ErrorList{field.Invalid(p, *s, "must be a string compatible with semver.org spec 2.0.0")}, text(p, s)...)
		}
		return text(p, s)
	}
	set := 0
	list := func(name string, present bool, n int, value any) {
		if present {
			set++
			if n == 0 {
				errs = append(errs, field.Invalid(p.Child(name), value, "must not be empty if specified"))
			}
		}
	}
	for _, present := range []bool{a.BoolValue != nil, a.IntValue != nil, a.StringValue != nil, a.VersionValue != nil} {
		if present {
			set++
		}
	}
	if a.StringValue != nil {
		errs = append(errs, text(p.Child("string"), a.StringValue)...)
	}
	if a.VersionValue != nil {
		errs = append(errs, version(p.Child("version"), a.VersionValue)...)
	}
	list("bools", a.BoolValues != nil, len(a.BoolValues), a.BoolValues)
	list("ints", a.IntValues != nil, len(a.IntValues), a.IntValues)
	list("strings", a.StringValues != nil, len(a.StringValues), a.StringValues)
	list("versions", a.VersionValues != nil, len(a.VersionValues), a.VersionValues)
	errs = append(errs, limited(p.Child("strings"), a.StringValues, -1, text)...)
	errs = append(errs, limited(p.Child("versions"), a.VersionValues, -1, version)...)
	switch set {
	case 0:
		errs = append(errs, field.Invalid(p, "", "exactly one value must be specified"))
	case 1:
	default:
		errs = append(errs, field.Invalid(p, a, "exactly one value must be specified"))
	}
	return errs
}

// maxCapacityOptions is how many portions of a capacity a device may offer.
const maxCapacityOptions = 10

// validateRequestPolicy checks in what portions a capacity can be asked for.
func validateRequestPolicy(p *field.Path, capacity resource.Quantity, policy *resourcev1.CapacityRequestPolicy) field.ErrorList {
	switch values := p.Child("validValues"); {
	case len(policy.ValidValues) > 0 && policy.ValidRange != nil:
		return field.ErrorList{field.Forbidden(p, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)}
	case len(policy.ValidValues) > 0 && policy.Default == nil:
		return field.ErrorList{field.Required(p.Child("default"), "required when validValues is defined")}
	case policy.ValidRange != nil && policy.Default == nil:
		return field.ErrorList{field.Required(p.Child("default"), "required when validRange is defined")}
	case policy.ValidRange != nil:
		return validateRequestRange(p.Child("validRange"), capacity, *policy.Default, policy.ValidRange)
	case len(policy.ValidValues) > 0:
		var errs field.ErrorList
		found := false
		for i, v := range policy.ValidValues {
			if i > 0 && policy.ValidValues[i-1].Cmp(v) > 0 {
				errs = append(errs, field.Invalid(values.Index(i), v.String(), "values must be sorted in ascending order"))
			}
			found = found || v.Cmp(*policy.Default) == 0
		}
		errs = append(errs, limitedSet(values, policy.ValidValues, maxCapacityOptions,
			func(q *resource.Quantity) int64 { return q.Value() },
			func(p *field.Path, q *resource.Quantity) field.ErrorList {
				if q.Cmp(capacity) > 0 {
					return field.ErrorList{field.Invalid(p, q.String(), "option is larger than capacity value: "+capacity.String())}
				}
				return nil
			})...)
		if !found {
			errs = append(errs, field.Invalid(values, policy.Default.String(), "default value is not valid according to the requestPolicy"))
		}
		return errs
	}
	return nil
}

func validateRequestRange(p *field.Path, capacity, standard resource.Quantity, r *resourcev1.CapacityRequestPolicyRange) field.ErrorList {
	if r.Min == nil {
		return field.ErrorList{field.Required(p.Child("min"), "required when validRange is defined")}
	}
	var errs field.ErrorList
	less := func(a, b resource.Quantity, at, text string) {
		if a.Cmp(b) < 0 {
			errs = append(errs, field.Invalid(p.Child(at), a.String(), text+b.String()))
		}
	}
	more := func(a, b resource.Quantity, at, text string) {
		if a.Cmp(b) > 0 {
			errs = append(errs, field.Invalid(p.Child(at), a.String(), text+b.String()))
		}
	}
	more(*r.Min, capacity, "min", "min is larger than capacity value: ")
	less(standard, *r.Min, "min", "default is less than min: ")
	if r.Max != nil {
		more(*r.Min, *r.Max, "max", "min is larger than max: ")
		more(*r.Max, capacity, "max", "max is larger than capacity value: ")
		more(standard, *r.Max, "max", "default is more than max: ")
	}
	if r.Step == nil {
		return errs
	}
	first := r.Min.DeepCopy()
	first.Add(*r.Step)
	if first.Cmp(capacity) > 0 {
		errs = append(errs, field.Invalid(p.Child("step"), r.Step.String(),
			fmt.Sprintf("one step %s is larger than capacity value: %s", first.String(), capacity.String())))
	}
	step := r.Step.Value()
	if step <= 0 {
		return append(errs, field.Invalid(p.Child("step"), r.Step.String(), "must be greater than zero"))
	}
	for _, q := range []*resource.Quantity{&standard, r.Max} {
		if q != nil && (q.Value()-r.Min.Value())%step != 0 {
			errs = append(errs, field.Invalid(p.Child("step"), q.String(),
				fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String())))
		}
	}
	return errs
}

func validateDeviceTaint(p *field.Path, t *resourcev1.DeviceTaint) field.ErrorList {
	errs := metav1validation.ValidateLabelName(t.Key, p.Child("key"))
	errs = append(errs, invalids(p.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
	return append(errs, validateDeviceTaintEffect(p.Child("effect"), t.Effect)...)
}

// validateBindingConditions checks the conditions that a pod waits for before
// it is bound, and those that make it give up.
func validateBindingConditions(p *field.Path, wanted, failures []string) field.ErrorList {
	good, bad := p.Child("bindingConditions"), p.Child("bindingFailureConditions")
	name := func(p *field.Path, s *string) field.ErrorList { return metav1validation.ValidateLabelName(*s, p) }
	errs := limitedSet(good, wanted, resourcev1.BindingConditionsMaxSize, itself, name)
	errs = append(errs, limitedSet(bad, failures, resourcev1.BindingFailureConditionsMaxSize, itself, name)...)
	for i, c := range failures {
		if slices.Contains(wanted, c) {
			errs = append(errs, field.Invalid(bad.Index(i), c, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	switch {
	case len(wanted) == 0 && len(failures) > 0:
		errs = append(errs, field.Invalid(good, wanted, "bindingConditions are required to use bindingFailureConditions"))
	case len(failures) == 0 && len(wanted) > 0:
		errs = append(errs, field.Invalid(bad, failures, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}

// validateNodeResources checks what a device takes of the node's own resources.
func validateNodeResources(p *field.Path, d *resourcev1.Device) field.ErrorList {
	var errs field.ErrorList
	names := make([]corev1.ResourceName, 0, len(d.NodeAllocatableResources))
	for name := range d.NodeAllocatableResources {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		at, r := p.Key(string(name)), d.NodeAllocatableResources[name]
		if !isNative(name) {
			errs = append(errs, field.Invalid(at, name, "must be a node allocatable resource name"))
		}
		if m := r.Mapping; m != nil {
			at := at.Child("mapping")
			switch {
			case m.CapacityKey == nil && m.DeviceMultiplier == nil:
				errs = append(errs, field.Invalid(at, "", "must specify one of: `capacityKey`, `deviceMultiplier`"))
			case m.CapacityKey != nil && m.DeviceMultiplier != nil:
				errs = append(errs, field.Invalid(at, "{capacityKey, deviceMultiplier}", "must specify exactly one of: `capacityKey`, `deviceMultiplier`"))
			}
			if (m.CapacityKey == nil) != (m.CapacityMultiplier == nil) {
				errs = append(errs, field.Required(at, "`capacityKey` and `capacityMultiplier` must be set together"))
			}
			if m.CapacityKey != nil {
				if _, ok := d.Capacity[*m.CapacityKey]; !ok {
					errs = append(errs, field.NotFound(at.Child("capacityKey"), *m.CapacityKey))
				}
			}
		}
	}
	return errs
}
