package kind

import (
	"fmt"
	"slices"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
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
	// preventPodSchedulingIfMissing is off by default upstream and not kept.
	k.PrepareCreate = do1(func(d *storagev1.CSIDriver) { d.Spec.PreventPodSchedulingIfMissing = nil })
	k.PrepareUpdate = do2(func(d, old *storagev1.CSIDriver) {
		d.Spec.PreventPodSchedulingIfMissing = nil
		raise(d, old, &d.Spec, &old.Spec)
	})
	k.Warnings = func(o Object) []string {
		if s := o.(*storagev1.CSIDriver).Spec; len(s.TokenRequests) > 0 && s.ServiceAccountTokenInSecrets == nil {
			return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
		}
		return nil
	}
	k.WarningsOnUpdate = func(obj, old Object) []string {
		now, was := &obj.(*storagev1.CSIDriver).Spec, &old.(*storagev1.CSIDriver).Spec
		if apiequality.Semantic.DeepEqual(now.TokenRequests, was.TokenRequests) &&
			apiequality.Semantic.DeepEqual(now.ServiceAccountTokenInSecrets, was.ServiceAccountTokenInSecrets) {
			return nil
		}
		return k.Warnings(obj)
	}
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
			errs = append(errs, supported(p.Child("fsGroupPolicy"), *s.FSGroupPolicy,
				storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)...)
		}
		if n := s.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < 10 {
			errs = append(errs, field.Invalid(p.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
		}
		return append(errs, validateTokenRequests(p, s)...)
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

// shortestToken is the least life of a driver's token, in seconds.
const shortestToken = 10 * 60

func validateTokenRequests(p *field.Path, s *storagev1.CSIDriverSpec) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, t := range s.TokenRequests {
		at := p.Child("tokenRequests").Index(i)
		if seen[t.Audience] {
			errs = append(errs, field.Duplicate(at.Child("audience"), t.Audience))
			continue
		}
		seen[t.Audience] = true
		if n := t.ExpirationSeconds; n != nil {
			if *n < shortestToken {
				errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
			}
			if *n > 1<<32 {
				errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
			}
		}
	}
	if in := s.ServiceAccountTokenInSecrets; in != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(p.Child("serviceAccountTokenInSecrets"), *in, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
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
			if len(d.NodeID) > maxCSINodeID {
				errs = append(errs, field.Invalid(p.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxCSINodeID)))
			}
			keys := map[string]bool{}
			for _, key := range d.TopologyKeys {
				errs = append(errs, required(p, key, nil)...)
				if keys[key] {
					errs = append(errs, field.Duplicate(p, key))
				}
				keys[key] = true
				errs = append(errs, invalids(p, key, validation.IsQualifiedName(key))...)
			}
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
	k.ValidateUpdate = check2(func(n, old *storagev1.CSINode) field.ErrorList {
		errs := validate(n)
		for _, was := range old.Spec.Drivers {
			for _, d := range n.Spec.Drivers {
				if d.Name == was.Name && !sameDriver(d, was) {
					// Upstream shows its internal type, which has no JSON names.
					errs = append(errs, field.Invalid(field.NewPath("spec", "drivers"), internalDriver(d), immutable))
				}
			}
		}
		return errs
	})
	k.Columns = named[*storagev1.CSINode]().
		count("Drivers", "Drivers indicates the number of CSI drivers registered on the node", func(n *storagev1.CSINode) int64 {
			return int64(len(n.Spec.Drivers))
		}).
		age()
	return k
}

// maxCSINodeID is what the CSI specification allows, in bytes.
const maxCSINodeID = 256

// internalDriver has the fields of storagev1.CSINodeDriver under their Go names.
type internalDriver struct {
	Name         string
	NodeID       string
	TopologyKeys []string
	Allocatable  *storagev1.VolumeNodeResources
}

// sameDriver compares all that may not change once a driver is registered.
func sameDriver(a, b storagev1.CSINodeDriver) bool {
	return a.NodeID == b.NodeID && slices.Equal(a.TopologyKeys, b.TopologyKeys)
}

func csiStorageCapacityKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.CSIStorageCapacity, storagev1.CSIStorageCapacityList](gv, "csistoragecapacities")
	validate := func(c *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := validateSelector(field.NewPath("nodeTopology"), c.NodeTopology)
		errs = append(errs, invalids(field.NewPath("storageClassName"), c.StorageClassName, subdomain(c.StorageClassName))...)
		if c.Capacity != nil && c.Capacity.Sign() < 0 {
			errs = append(errs, field.Invalid(field.NewPath("capacity"), c.Capacity.String(), notNegative))
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := validate(c)
		errs = append(errs, unchanged(field.NewPath("nodeTopology"), c.NodeTopology, old.NodeTopology)...)
		return append(errs, unchanged(field.NewPath("storageClassName"), c.StorageClassName, old.StorageClassName)...)
	})
	return k
}
