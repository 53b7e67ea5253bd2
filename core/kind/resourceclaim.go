package kind

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func resourceClaimKind(gv schema.GroupVersion) *Kind {
	k := define[resourcev1.ResourceClaim, resourcev1.ResourceClaimList](gv, "resourceclaims")
	k.Default = do1(func(c *resourcev1.ResourceClaim) { defaultDeviceClaim(&c.Spec.Devices) })
	k.PrepareCreate = do1(func(c *resourcev1.ResourceClaim) { c.Status = resourcev1.ResourceClaimStatus{} })
	k.PrepareUpdate = do2(func(c, old *resourcev1.ResourceClaim) { c.Status = *old.Status.DeepCopy() })
	k.Validate = check1(func(c *resourcev1.ResourceClaim) field.ErrorList {
		return validateDeviceClaim(field.NewPath("spec", "devices"), &c.Spec.Devices)
	})
	k.ValidateUpdate = check2(func(c, old *resourcev1.ResourceClaim) field.ErrorList {
		return unchanged(field.NewPath("spec"), c.Spec, old.Spec)
	})
	k.Columns = named[*resourcev1.ResourceClaim]().
		text("State", "A summary of the current state (allocated, pending, reserved, etc.).", claimState).
		age()
	k.Subresources = []Subresource{status(prepareClaimStatus, validateClaimStatus)}
	return k
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation == nil && c.DeletionTimestamp == nil:
		states = append(states, "pending")
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	}
	return strings.Join(states, ",")
}

// prepareClaimStatus also forgets what drivers reported about devices that a
// change of the allocation took away.
func prepareClaimStatus(c, old *resourcev1.ResourceClaim) {
	c.Spec = *old.Spec.DeepCopy()
	before := allocatedDevices(&old.Status)
	now := allocatedDevices(&c.Status)
	var kept []resourcev1.AllocatedDeviceStatus
	for _, d := range c.Status.Devices {
		if id := statusDevice(&d); !before[id] || now[id] {
			kept = append(kept, d)
		}
	}
	c.Status.Devices = kept
}

// device names one share of one device of a pool.
type device struct{ driver, pool, name, share string }

func (d device) String() string {
	text := d.driver + "/" + d.pool + "/" + d.name
	if d.share != "" {
		text += "/" + d.share
	}
	return text
}

func statusDevice(d *resourcev1.AllocatedDeviceStatus) device {
	return device{d.Driver, d.Pool, d.Device, deref(d.ShareID)}
}

func allocatedDevices(s *resourcev1.ResourceClaimStatus) map[device]bool {
	out := map[device]bool{}
	if s.Allocation == nil {
		return out
	}
	for _, r := range s.Allocation.Devices.Results {
		out[device{r.Driver, r.Pool, r.Device, string(deref(r.ShareID))}] = true
	}
	return out
}

func resourceClaimTemplateKind(gv schema.GroupVersion) *Kind {
	k := define[resourcev1.ResourceClaimTemplate, resourcev1.ResourceClaimTemplateList](gv, "resourceclaimtemplates")
	k.Default = do1(func(t *resourcev1.ResourceClaimTemplate) { defaultDeviceClaim(&t.Spec.Spec.Devices) })
	k.Validate = check1(func(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
		p := field.NewPath("spec")
		errs := validateLabels(p.Child("metadata", "labels"), t.Spec.Labels)
		errs = append(errs, apivalidation.ValidateAnnotations(t.Spec.Annotations, p.Child("metadata", "annotations"))...)
		errs = append(errs, onlyLabelsAndAnnotations(p.Child("metadata"), &t.Spec.ObjectMeta)...)
		return append(errs, validateDeviceClaim(p.Child("spec", "devices"), &t.Spec.Spec.Devices)...)
	})
	k.ValidateUpdate = check2(func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
		return append(k.Validate(t), unchanged(field.NewPath("spec"), t.Spec, old.Spec)...)
	})
	k.Columns = named[*resourcev1.ResourceClaimTemplate]().age()
	return k
}

func deviceClassKind(gv schema.GroupVersion) *Kind {
	k := define[resourcev1.DeviceClass, resourcev1.DeviceClassList](gv, "deviceclasses").inCluster()
	k.PrepareCreate = do1(func(c *resourcev1.DeviceClass) { c.Generation = 1 })
	k.PrepareUpdate = do2(func(c, old *resourcev1.DeviceClass) {
		c.Generation = nextGeneration(c.Spec, old.Spec, old.Generation)
	})
	k.Validate = check1(validateDeviceClass)
	k.ValidateUpdate = check2(func(c, _ *resourcev1.DeviceClass) field.ErrorList { return validateDeviceClass(c) })
	k.Columns = named[*resourcev1.DeviceClass]().age()
	return k
}

func resourceSliceKind(gv schema.GroupVersion) *Kind {
	k := define[resourcev1.ResourceSlice, resourcev1.ResourceSliceList](gv, "resourceslices").inCluster()
	k.Default = do1(defaultResourceSlice)
	k.PrepareCreate = do1(func(s *resourcev1.ResourceSlice) { s.Generation = 1 })
	k.PrepareUpdate = do2(func(s, old *resourcev1.ResourceSlice) {
		s.Generation = nextGeneration(s.Spec, old.Spec, old.Generation)
	})
	k.Validate = check1(func(s *resourcev1.ResourceSlice) field.ErrorList { return validateResourceSlice(s) })
	k.ValidateUpdate = check2(func(s, old *resourcev1.ResourceSlice) field.ErrorList {
		p := field.NewPath("spec")
		errs := validateResourceSlice(s)
		errs = append(errs, unchanged(p.Child("pool", "name"), s.Spec.Pool.Name, old.Spec.Pool.Name)...)
		errs = append(errs, unchanged(p.Child("driver"), s.Spec.Driver, old.Spec.Driver)...)
		return append(errs, unchanged(p.Child("nodeName"), s.Spec.NodeName, old.Spec.NodeName)...)
	})
	k.Fields = select1(func(s *resourcev1.ResourceSlice) fields.Set {
		return fields.Set{"spec.nodeName": deref(s.Spec.NodeName), "spec.driver": s.Spec.Driver}
	})
	doc := resourcev1.ResourceSliceSpec{}.SwaggerDoc()
	k.Columns = named[*resourcev1.ResourceSlice]().
		text("Node", doc["nodeName"], func(s *resourcev1.ResourceSlice) string { return deref(s.Spec.NodeName) }).
		text("Driver", doc["driver"], func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver }).
		text("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"], func(s *resourcev1.ResourceSlice) string { return s.Spec.Pool.Name }).
		age()
	return k
}

// defaultDeviceClaim asks for one device where nothing else is said.
func defaultDeviceClaim(c *resourcev1.DeviceClaim) {
	for i := range c.Requests {
		r := &c.Requests[i]
		if r.Exactly != nil {
			defaultAsked(&r.Exactly.AllocationMode, &r.Exactly.Count, r.Exactly.Tolerations)
		}
		for j := range r.FirstAvailable {
			s := &r.FirstAvailable[j]
			defaultAsked(&s.AllocationMode, &s.Count, s.Tolerations)
		}
	}
}

func defaultAsked(mode *resourcev1.DeviceAllocationMode, count *int64, tolerations []resourcev1.DeviceToleration) {
	orElse(mode, resourcev1.DeviceAllocationModeExactCount)
	if *mode == resourcev1.DeviceAllocationModeExactCount {
		orElse(count, 1)
	}
	for i := range tolerations {
		orElse(&tolerations[i].Operator, resourcev1.DeviceTolerationOpEqual)
	}
}

func defaultResourceSlice(s *resourcev1.ResourceSlice) {
	for i := range s.Spec.Devices {
		for j := range s.Spec.Devices[i].Taints {
			dateTaint(&s.Spec.Devices[i].Taints[j])
		}
	}
}

// nextGeneration goes up when the spec has changed.
func nextGeneration(spec, old any, generation int64) int64 {
	if apiequality.Semantic.DeepEqual(spec, old) {
		return generation
	}
	return generation + 1
}
