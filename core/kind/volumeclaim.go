package kind

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func persistentVolumeClaimKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](gv, "persistentvolumeclaims", "pvc")
	k.Default = do1(func(c *corev1.PersistentVolumeClaim) {
		orElse(&c.Status.Phase, corev1.ClaimPending)
		defaultClaimSpec(&c.Spec)
	})
	k.PrepareCreate = do1(func(c *corev1.PersistentVolumeClaim) {
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		dropForeignSource(&c.Spec)
		// dataSource is for the two kinds it began with; other kinds are
		// for dataSourceRef, and what old clients put here alone is dropped.
		if c.Spec.DataSource != nil && c.Spec.DataSourceRef == nil && !fromClaimOrSnapshot(c.Spec.DataSource) {
			c.Spec.DataSource = nil
		}
		linkDataSources(&c.Spec)
	})
	k.PrepareUpdate = do2(func(c, old *corev1.PersistentVolumeClaim) {
		c.Status = *old.Status.DeepCopy()
		if c.Spec.DataSource != nil && old.Spec.DataSource == nil && old.Spec.DataSourceRef == nil && !fromClaimOrSnapshot(c.Spec.DataSource) {
			c.Spec.DataSource = nil
		}
		linkDataSources(&c.Spec)
	})
	k.Warnings = warn1(claimWarnings)
	k.Validate = check1(func(c *corev1.PersistentVolumeClaim) field.ErrorList {
		return validateClaimSpec(field.NewPath("spec"), &c.Spec)
	})
	k.ValidateUpdate = check2(validateClaimUpdate)
	k.Columns = claimColumns()
	k.Subresources = []Subresource{status(
		func(c, old *corev1.PersistentVolumeClaim) { c.Spec = *old.Spec.DeepCopy() },
		func(c, _ *corev1.PersistentVolumeClaim) field.ErrorList { return validateVolumeClaimStatus(c) },
	)}
	return k
}

func claimWarnings(c *corev1.PersistentVolumeClaim) []string {
	var warnings []string
	if _, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		warnings = append(warnings, fmt.Sprintf("metadata.annotations[%s]: deprecated since v1.8; use \"storageClassName\" attribute instead", corev1.BetaStorageClassAnnotation))
	}
	return append(warnings, claimSpecWarnings(field.NewPath("spec"), &c.Spec)...)
}

func validateVolumeClaimStatus(c *corev1.PersistentVolumeClaim) field.ErrorList {
	p := field.NewPath("status")
	var errs field.ErrorList
	for _, name := range sortedNames(c.Status.Capacity) {
		errs = append(errs, validQuantity(p.Child("capacity").Key(string(name)), c.Status.Capacity[name])...)
	}
	at := p.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(c.Status.AllocatedResourceStatuses)) {
		errs = append(errs, claimResource(at, name)...)
		switch c.Status.AllocatedResourceStatuses[name] {
		case corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
			corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible:
		default:
			errs = append(errs, field.NotSupported(at, name, []corev1.ClaimResourceStatus{
				corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
				corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible, corev1.PersistentVolumeClaimNodeResizePending,
			}))
		}
	}
	at = p.Child("allocatedResources")
	for _, name := range sortedNames(c.Status.AllocatedResources) {
		if bad := claimResource(at, name); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		q, at := c.Status.AllocatedResources[name], at.Key(string(name))
		if bad := validQuantity(at, q); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, validateQuantity(at, corev1.ResourceStorage, q)...)
		}
	}
	return errs
}

// validQuantity is the check of quantities that are only reported.
func validQuantity(p *field.Path, q resource.Quantity) field.ErrorList {
	if q.Value() < 0 {
		return field.ErrorList{field.Invalid(p, q.Value(), "must be a valid resource quantity")}
	}
	return nil
}

func claimResource(p *field.Path, name corev1.ResourceName) field.ErrorList {
	if errs := invalids(p, string(name), validation.IsQualifiedName(string(name))); len(errs) > 0 {
		return errs
	}
	if isNative(name) && name != corev1.ResourceStorage {
		return field.ErrorList{field.NotSupported(p, name, []corev1.ResourceName{corev1.ResourceStorage})}
	}
	return nil
}

func fromClaimOrSnapshot(r *corev1.TypedLocalObjectReference) bool {
	group := deref(r.APIGroup)
	return r.Kind == "PersistentVolumeClaim" && group == "" || r.Kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io"
}

// dropForeignSource takes a source in another namespace out: KEP-3294 is off
// wherever upstream's defaults hold.
func dropForeignSource(s *corev1.PersistentVolumeClaimSpec) {
	if s.DataSourceRef != nil && deref(s.DataSourceRef.Namespace) != "" {
		s.DataSourceRef = nil
	}
}

// linkDataSources keeps dataSource and dataSourceRef the same where both can
// say it.
func linkDataSources(s *corev1.PersistentVolumeClaimSpec) {
	switch {
	case s.DataSource != nil && s.DataSourceRef == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{Kind: s.DataSource.Kind, Name: s.DataSource.Name}
		if s.DataSource.APIGroup != nil {
			g := *s.DataSource.APIGroup
			s.DataSourceRef.APIGroup = &g
		}
	case s.DataSource == nil && s.DataSourceRef != nil && deref(s.DataSourceRef.Namespace) == "":
		s.DataSource = &corev1.TypedLocalObjectReference{
			APIGroup: copied(s.DataSourceRef.APIGroup), Kind: s.DataSourceRef.Kind, Name: s.DataSourceRef.Name,
		}
	}
}

func validateClaimSpec(p *field.Path, s *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	errs := validateAccessModes(p.Child("accessModes"), s.AccessModes, "at least 1 access mode is required")
	if s.Selector != nil {
		errs = append(errs, validateSelector(p.Child("selector"), s.Selector)...)
	}
	size, ok := s.Resources.Requests[corev1.ResourceStorage]
	if at := p.Child("resources").Key(string(corev1.ResourceStorage)); !ok {
		errs = append(errs, field.Required(at, ""))
	} else {
		bad := positiveQuantity(at, size)
		if len(bad) == 0 {
			bad = validateQuantity(at, corev1.ResourceStorage, size)
		}
		errs = append(errs, bad...)
	}
	if s.StorageClassName != nil && *s.StorageClassName != "" {
		errs = append(errs, invalids(p.Child("storageClassName"), *s.StorageClassName, subdomain(*s.StorageClassName))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, supported(p.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if s.DataSource != nil {
		errs = append(errs, validateDataSource(p.Child("dataSource"), deref(s.DataSource.APIGroup), s.DataSource.Kind, s.DataSource.Name)...)
	}
	if s.DataSourceRef != nil {
		errs = append(errs, validateDataSource(p.Child("dataSourceRef"), deref(s.DataSourceRef.APIGroup), s.DataSourceRef.Kind, s.DataSourceRef.Name)...)
	}
	switch ref := s.DataSourceRef; {
	case ref == nil:
	case deref(ref.Namespace) != "":
		errs = append(errs, invalids(p.Child("dataSourceRef", "namespace"), *ref.Namespace, validation.IsDNS1123Label(*ref.Namespace))...)
		if s.DataSource != nil {
			errs = append(errs, field.Invalid(p, map[string]any{"field": p.Child("dataSource").String()}, "may not be specified when dataSourceRef.namespace is specified"))
		}
	case s.DataSource != nil && (deref(ref.APIGroup) != deref(s.DataSource.APIGroup) || ref.Kind != s.DataSource.Kind || ref.Name != s.DataSource.Name):
		errs = append(errs, field.Invalid(p, map[string]any{"field": p.Child("dataSource").String()}, "must match dataSourceRef"))
	}
	if n := deref(s.VolumeAttributesClassName); n != "" {
		errs = append(errs, invalids(p.Child("volumeAttributesClassName"), n, subdomain(n))...)
	}
	return errs
}

func validateDataSource(p *field.Path, group, kind, name string) field.ErrorList {
	errs := required(p.Child("name"), name, nil)
	errs = append(errs, required(p.Child("kind"), kind, nil)...)
	if group == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(p, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if group != "" {
		errs = append(errs, invalids(p.Child("apiGroup"), group, validation.IsDNS1123Subdomain(group))...)
	}
	return errs
}

func validateAccessModes(p *field.Path, modes []corev1.PersistentVolumeAccessMode, missing string) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(p, missing)}
	}
	var errs field.ErrorList
	alone, others := false, false
	for _, m := range modes {
		bad := supported(p, m, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
		errs = append(errs, bad...)
		alone = alone || m == corev1.ReadWriteOncePod
		others = others || m != corev1.ReadWriteOncePod && len(bad) == 0
	}
	if alone && others {
		errs = append(errs, field.Forbidden(p, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func positiveQuantity(p *field.Path, q resource.Quantity) field.ErrorList {
	if q.Sign() <= 0 {
		return field.ErrorList{field.Invalid(p, q.String(), "must be greater than zero")}
	}
	return nil
}

func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateClaimSpec(p, &c.Spec)
	same, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		// The binder fills it in.
		was.VolumeName = same.VolumeName
	}
	legacyWas, hadLegacy := old.Annotations[corev1.BetaStorageClassAnnotation]
	legacy, hasLegacy := c.Annotations[corev1.BetaStorageClassAnnotation]
	class := same.StorageClassName
	switch named := was.StorageClassName == nil && class != nil; {
	case hadLegacy && named && *class == legacyWas && (!hasLegacy || legacy == legacyWas):
		same.StorageClassName = nil
	default:
		if legacy != legacyWas {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations", corev1.BetaStorageClassAnnotation), legacy, immutable))
		}
		if named && (!hadLegacy || *class == legacyWas) {
			same.StorageClassName = nil
		}
	}
	size, sizeWas := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if c.Status.Phase == corev1.ClaimBound {
		if same.Resources.Requests != nil {
			same.Resources.Requests[corev1.ResourceStorage] = sizeWas
		}
		same.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if !apiequality.Semantic.DeepEqual(*same, *was) {
		errs = append(errs, field.Forbidden(p, fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(*was, *same))))
	}
	if size.Cmp(sizeWas) < 0 && size.Cmp(old.Status.Capacity[corev1.ResourceStorage]) <= 0 {
		errs = append(errs, field.Forbidden(p.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, unchanged(field.NewPath("volumeMode"), c.Spec.VolumeMode, old.Spec.VolumeMode)...)
	attributes := p.Child("volumeAttributesClassName")
	switch now := c.Spec.VolumeAttributesClassName; {
	case old.Status.CurrentVolumeAttributesClassName == nil || apiequality.Semantic.DeepEqual(now, old.Spec.VolumeAttributesClassName):
	case now == nil:
		errs = append(errs, field.Forbidden(attributes, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
	case *now == "":
		errs = append(errs, field.Forbidden(attributes, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
	}
	return errs
}

// accessModes is how kubectl abbreviates them.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var out []string
	for _, m := range []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}} {
		if slices.Contains(modes, m.mode) {
			out = append(out, m.short)
		}
	}
	return strings.Join(out, ",")
}

func claimColumns() []Column {
	doc, statusDoc := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	bound := func(c *corev1.PersistentVolumeClaim) bool { return c.Spec.VolumeName != "" }
	return named[*corev1.PersistentVolumeClaim]().
		text("Status", statusDoc["phase"], func(c *corev1.PersistentVolumeClaim) string {
			if c.DeletionTimestamp != nil {
				return "Terminating"
			}
			return string(c.Status.Phase)
		}).
		text("Volume", doc["volumeName"], func(c *corev1.PersistentVolumeClaim) string { return c.Spec.VolumeName }).
		text("Capacity", statusDoc["capacity"], func(c *corev1.PersistentVolumeClaim) string {
			if !bound(c) {
				return ""
			}
			q := c.Status.Capacity[corev1.ResourceStorage]
			return q.String()
		}).
		text("Access Modes", statusDoc["accessModes"], func(c *corev1.PersistentVolumeClaim) string {
			if !bound(c) {
				return ""
			}
			return accessModes(c.Status.AccessModes)
		}).
		text("StorageClass", "StorageClass of the pvc", func(c *corev1.PersistentVolumeClaim) string {
			if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
				return class
			}
			return deref(c.Spec.StorageClassName)
		}).
		text("VolumeAttributesClass", "VolumeAttributesClass of the pvc", func(c *corev1.PersistentVolumeClaim) string {
			if n := deref(c.Spec.VolumeAttributesClassName); n != "" {
				return n
			}
			return "<unset>"
		}).
		age().
		text("VolumeMode", doc["volumeMode"], func(c *corev1.PersistentVolumeClaim) string {
			if c.Spec.VolumeMode == nil {
				return "<unset>"
			}
			return string(*c.Spec.VolumeMode)
		}).wide()
}
