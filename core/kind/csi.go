package kind

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func csiDriverKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.CSIDriver, storagev1.CSIDriverList](gv, "csidrivers").inCluster()
	k.Default = do1(func(d *storagev1.CSIDriver) {
		s := &d.Spec
		orPointer(&s.AttachRequired, true)
		orPointer(&s.PodInfoOnMount, false)
		orPointer(&s.StorageCapacity, false)
		orPointer(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
		if len(s.VolumeLifecycleModes) == 0 {
			s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
		}
		orPointer(&s.RequiresRepublish, false)
		orPointer(&s.SELinuxMount, false)
	})
	validate := func(d *storagev1.CSIDriver) field.ErrorList {
		p, s := field.NewPath("spec"), &d.Spec
		var errs field.ErrorList
		if s.AttachRequired == nil {
			errs = append(errs, field.Required(p.Child("attachRequired"), ""))
		}
		if s.PodInfoOnMount == nil {
			errs = append(errs, field.Required(p.Child("podInfoOnMount"), ""))
		}
		for _, m := range s.VolumeLifecycleModes {
			errs = append(errs, supported(p.Child("volumeLifecycleModes"), m, storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
		}
		if s.FSGroupPolicy != nil {
			errs = append(errs, supported(p.Child("fsGroupPolicy"), *s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy,
				storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy)...)
		}
		return errs
	}
	k.ValidateName = func(name string, _ bool) []string {
		var msgs []string
		for _, e := range validateDriverName(field.NewPath("name"), name) {
			msgs = append(msgs, e.Detail)
		}
		return msgs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(d, old *storagev1.CSIDriver) field.ErrorList {
		p := field.NewPath("spec")
		errs := validate(d)
		errs = append(errs, unchanged(p.Child("attachedRequired"), d.Spec.AttachRequired, old.Spec.AttachRequired)...)
		return append(errs, unchanged(p.Child("volumeLifecycleModes"), d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes)...)
	})
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	k.Columns = named[*storagev1.CSIDriver]().
		flag("AttachRequired", doc["attachRequired"], func(d *storagev1.CSIDriver) bool { return d.Spec.AttachRequired == nil || *d.Spec.AttachRequired }).
		flag("PodInfoOnMount", doc["podInfoOnMount"], func(d *storagev1.CSIDriver) bool { return deref(d.Spec.PodInfoOnMount) }).
		flag("StorageCapacity", doc["storageCapacity"], func(d *storagev1.CSIDriver) bool { return deref(d.Spec.StorageCapacity) }).
		text("TokenRequests", doc["tokenRequests"], func(d *storagev1.CSIDriver) string {
			var out []string
			for _, t := range d.Spec.TokenRequests {
				out = append(out, t.Audience)
			}
			if len(out) == 0 {
				return "<unset>"
			}
			return strings.Join(out, ",")
		}).
		flag("RequiresRepublish", doc["requiresRepublish"], func(d *storagev1.CSIDriver) bool { return deref(d.Spec.RequiresRepublish) }).
		text("Modes", doc["volumeLifecycleModes"], func(d *storagev1.CSIDriver) string {
			var out []string
			for _, m := range d.Spec.VolumeLifecycleModes {
				out = append(out, string(m))
			}
			return orNone(out...)
		}).
		age()
	return k
}

func csiNodeKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.CSINode, storagev1.CSINodeList](gv, "csinodes").inCluster()
	validate := func(n *storagev1.CSINode) field.ErrorList {
		var errs field.ErrorList
		seen := map[string]bool{}
		for i, d := range n.Spec.Drivers {
			p := field.NewPath("spec", "drivers").Index(i)
			errs = append(errs, validateDriverName(p.Child("name"), d.Name)...)
			errs = append(errs, required(p.Child("nodeID"), d.NodeID, nil)...)
			if seen[d.Name] {
				errs = append(errs, field.Duplicate(p.Child("name"), d.Name))
			}
			seen[d.Name] = true
			if d.Allocatable != nil && d.Allocatable.Count != nil {
				errs = append(errs, nonNegative(p.Child("allocatable", "count"), int64(*d.Allocatable.Count))...)
			}
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(n, _ *storagev1.CSINode) field.ErrorList { return validate(n) })
	k.Columns = named[*storagev1.CSINode]().
		count("Drivers", "Drivers indicates the number of CSI drivers registered on the node", func(n *storagev1.CSINode) int64 {
			return int64(len(n.Spec.Drivers))
		}).
		age()
	return k
}

func csiStorageCapacityKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.CSIStorageCapacity, storagev1.CSIStorageCapacityList](gv, "csistoragecapacities")
	validate := func(c *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := validateSelector(field.NewPath("nodeTopology"), c.NodeTopology)
		errs = append(errs, required(field.NewPath("storageClassName"), c.StorageClassName, func(s string) []string {
			return apivalidation.NameIsDNSSubdomain(s, false)
		})...)
		if c.Capacity != nil && c.Capacity.Sign() < 0 {
			errs = append(errs, field.Invalid(field.NewPath("capacity"), c.Capacity.String(), notNegative))
		}
		if c.MaximumVolumeSize != nil && c.MaximumVolumeSize.Sign() < 0 {
			errs = append(errs, field.Invalid(field.NewPath("maximumVolumeSize"), c.MaximumVolumeSize.String(), notNegative))
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := validate(c)
		errs = append(errs, unchanged(field.NewPath("nodeTopology"), c.NodeTopology, old.NodeTopology)...)
		return append(errs, unchanged(field.NewPath("storageClassName"), c.StorageClassName, old.StorageClassName)...)
	})
	doc := storagev1.CSIStorageCapacity{}.SwaggerDoc()
	k.Columns = named[*storagev1.CSIStorageCapacity]().
		text("StorageClassName", doc["storageClassName"], func(c *storagev1.CSIStorageCapacity) string { return c.StorageClassName }).
		text("Capacity", doc["capacity"], func(c *storagev1.CSIStorageCapacity) string {
			if c.Capacity == nil {
				return "<unset>"
			}
			return c.Capacity.String()
		}).
		age()
	return k
}
