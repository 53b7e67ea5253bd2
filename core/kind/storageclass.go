package kind

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func storageClassKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.StorageClass, storagev1.StorageClassList](gv, "storageclasses", "sc").inCluster()
	k.Default = do1(func(c *storagev1.StorageClass) {
		orPointer(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		orPointer(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	})
	k.Validate = check1(validateStorageClass)
	k.ValidateUpdate = check2(func(c, old *storagev1.StorageClass) field.ErrorList {
		errs := validateStorageClass(c)
		if !apiequality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
			errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
		}
		if c.Provisioner != old.Provisioner {
			errs = append(errs, field.Forbidden(field.NewPath("provisioner"), "updates to provisioner are forbidden."))
		}
		if deref(c.ReclaimPolicy) != deref(old.ReclaimPolicy) {
			errs = append(errs, field.Forbidden(field.NewPath("reclaimPolicy"), "updates to reclaimPolicy are forbidden."))
		}
		return append(errs, unchanged(field.NewPath("volumeBindingMode"), c.VolumeBindingMode, old.VolumeBindingMode)...)
	})
	doc := storagev1.StorageClass{}.SwaggerDoc()
	k.Columns = columns[*storagev1.StorageClass]{{
		TableColumnDefinition: named[*storagev1.StorageClass]()[0].TableColumnDefinition,
		Cell:                  storageClassName,
	}}.
		text("Provisioner", doc["provisioner"], func(c *storagev1.StorageClass) string { return c.Provisioner }).
		text("ReclaimPolicy", doc["reclaimPolicy"], func(c *storagev1.StorageClass) string {
			return cmp.Or(string(deref(c.ReclaimPolicy)), string(corev1.PersistentVolumeReclaimDelete))
		}).
		text("VolumeBindingMode", doc["volumeBindingMode"], func(c *storagev1.StorageClass) string {
			return cmp.Or(string(deref(c.VolumeBindingMode)), string(storagev1.VolumeBindingImmediate))
		}).
		flag("AllowVolumeExpansion", doc["allowVolumeExpansion"], func(c *storagev1.StorageClass) bool { return deref(c.AllowVolumeExpansion) }).
		age()
	return k
}

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	errs := required(field.NewPath("provisioner"), c.Provisioner, validation.IsQualifiedName)
	if len(c.Parameters) > 512 {
		errs = append(errs, field.TooLong(field.NewPath("parameters"), "Provisioner Parameters exceeded max allowed", 512))
	}
	size := 0
	for k, v := range c.Parameters {
		if k == "" {
			errs = append(errs, field.Invalid(field.NewPath("parameters"), k, "field can not be empty."))
		}
		size += len(k) + len(v)
	}
	if size > 256*1024 {
		errs = append(errs, field.TooLong(field.NewPath("parameters"), "", 256*1024))
	}
	if c.ReclaimPolicy != nil && *c.ReclaimPolicy != "" {
		errs = append(errs, supported(field.NewPath("reclaimPolicy"), *c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, supported(field.NewPath("volumeBindingMode"), *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return errs
}

func volumeAttributesClassKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList](gv, "volumeattributesclasses", "vac").inCluster()
	k.Validate = check1(func(c *storagev1.VolumeAttributesClass) field.ErrorList {
		errs := required(field.NewPath("driverName"), c.DriverName, validation.IsQualifiedName)
		if len(c.Parameters) == 0 {
			errs = append(errs, field.Required(field.NewPath("parameters"), ""))
		}
		return errs
	})
	k.ValidateUpdate = check2(func(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
		errs := unchanged(field.NewPath("driverName"), c.DriverName, old.DriverName)
		return append(errs, unchanged(field.NewPath("parameters"), c.Parameters, old.Parameters)...)
	})
	k.Columns = named[*storagev1.VolumeAttributesClass]().
		text("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], func(c *storagev1.VolumeAttributesClass) string { return c.DriverName }).
		age()
	return k
}

func volumeAttachmentKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.VolumeAttachment, storagev1.VolumeAttachmentList](gv, "volumeattachments").inCluster()
	k.PrepareCreate = do1(func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} })
	k.PrepareUpdate = do2(func(a, old *storagev1.VolumeAttachment) { a.Status = *old.Status.DeepCopy() })
	k.Validate = check1(func(a *storagev1.VolumeAttachment) field.ErrorList {
		p := field.NewPath("spec")
		errs := validateDriverName(p.Child("attacher"), a.Spec.Attacher)
		errs = append(errs, required(p.Child("nodeName"), a.Spec.NodeName, nil)...)
		if a.Spec.Source.PersistentVolumeName == nil && a.Spec.Source.InlineVolumeSpec == nil {
			errs = append(errs, field.Required(p.Child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
		}
		if a.Spec.Source.PersistentVolumeName != nil && a.Spec.Source.InlineVolumeSpec != nil {
			errs = append(errs, field.Forbidden(p.Child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
		}
		return errs
	})
	k.ValidateUpdate = check2(func(a, old *storagev1.VolumeAttachment) field.ErrorList {
		if !apiequality.Semantic.DeepEqual(a.Spec, old.Spec) {
			return field.ErrorList{field.Invalid(field.NewPath("spec"), a.Spec, immutable)}
		}
		return nil
	})
	spec, statusDoc := storagev1.VolumeAttachmentSpec{}.SwaggerDoc(), storagev1.VolumeAttachmentStatus{}.SwaggerDoc()
	k.Columns = named[*storagev1.VolumeAttachment]().
		text("Attacher", spec["attacher"], func(a *storagev1.VolumeAttachment) string { return a.Spec.Attacher }).
		text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"], func(a *storagev1.VolumeAttachment) string {
			return deref(a.Spec.Source.PersistentVolumeName)
		}).
		text("Node", spec["nodeName"], func(a *storagev1.VolumeAttachment) string { return a.Spec.NodeName }).
		flag("Attached", statusDoc["attached"], func(a *storagev1.VolumeAttachment) bool { return a.Status.Attached }).
		age()
	k.Subresources = []Subresource{status(func(a, old *storagev1.VolumeAttachment) { a.Spec = *old.Spec.DeepCopy() }, nil)}
	return k
}

// storageClassName marks the class that claims get when they do not choose.
func storageClassName(o Object, _ time.Time) any {
	for _, key := range []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"} {
		if o.GetAnnotations()[key] == "true" {
			return o.GetName() + " (default)"
		}
	}
	return o.GetName()
}
