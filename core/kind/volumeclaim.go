package kind

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func persistentVolumeClaimKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](gv, "persistentvolumeclaims", "pvc")
	k.Default = do1(func(c *corev1.PersistentVolumeClaim) {
		orElse(&c.Status.Phase, corev1.ClaimPending)
		defaultClaimSpec(&c.Spec)
		linkDataSources(&c.Spec)
	})
	k.PrepareCreate = do1(func(c *corev1.PersistentVolumeClaim) {
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	})
	k.PrepareUpdate = do2(func(c, old *corev1.PersistentVolumeClaim) { c.Status = *old.Status.DeepCopy() })
	k.Validate = check1(func(c *corev1.PersistentVolumeClaim) field.ErrorList {
		return validateClaimSpec(field.NewPath("spec"), &c.Spec)
	})
	k.ValidateUpdate = check2(validateClaimUpdate)
	k.Columns = claimColumns()
	k.Subresources = []Subresource{status(
		func(c, old *corev1.PersistentVolumeClaim) { c.Spec = *old.Spec.DeepCopy() },
		func(c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
			p := field.NewPath("status", "capacity")
			var errs field.ErrorList
			for _, name := range sortedNames(c.Status.Capacity) {
				errs = append(errs, validateQuantity(p.Key(string(name)), name, c.Status.Capacity[name])...)
			}
			return errs
		},
	)}
	return k
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
		group := deref(s.DataSourceRef.APIGroup)
		claim := group == "" && s.DataSourceRef.Kind == "PersistentVolumeClaim"
		if claim || group == "snapshot.storage.k8s.io" && s.DataSourceRef.Kind == "VolumeSnapshot" {
			s.DataSource = &corev1.TypedLocalObjectReference{Kind: s.DataSourceRef.Kind, Name: s.DataSourceRef.Name}
			if s.DataSourceRef.APIGroup != nil {
				s.DataSource.APIGroup = &group
			}
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
		errs = append(errs, positiveQuantity(at, size)...)
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
	return errs
}

func validateDataSource(p *field.Path, group, kind, name string) field.ErrorList {
	errs := required(p.Child("name"), name, nil)
	errs = append(errs, required(p.Child("kind"), kind, nil)...)
	if group == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(p, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	return errs
}

func validateAccessModes(p *field.Path, modes []corev1.PersistentVolumeAccessMode, missing string) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(p, missing)}
	}
	var errs field.ErrorList
	alone := false
	for _, m := range modes {
		errs = append(errs, supported(p, m, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
		alone = alone || m == corev1.ReadWriteOncePod
	}
	if alone && len(modes) > 1 {
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
	same := c.Spec.DeepCopy()
	// What the binder sets once, and what may change all the time.
	if old.Spec.VolumeName == "" {
		same.VolumeName = ""
	}
	if old.Spec.StorageClassName == nil {
		same.StorageClassName = nil
	} else if legacy := old.Annotations[corev1.BetaStorageClassAnnotation]; legacy != "" && *old.Spec.StorageClassName == "" {
		same.StorageClassName = old.Spec.StorageClassName
	}
	same.VolumeAttributesClassName = old.Spec.VolumeAttributesClassName
	if old.Status.Phase == corev1.ClaimBound {
		request, was := same.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
		current := old.Status.Capacity[corev1.ResourceStorage]
		if request.Cmp(was) < 0 && request.Cmp(current) <= 0 {
			errs = append(errs, field.Forbidden(p.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
		}
		same.Resources.Requests = old.Spec.Resources.Requests
	}
	if !apiequality.Semantic.DeepEqual(*same, old.Spec) {
		errs = append(errs, field.Forbidden(p, fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(old.Spec, *same))))
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
		text("VolumeAttributesClass", doc["volumeAttributesClassName"], func(c *corev1.PersistentVolumeClaim) string {
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
