package kind

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
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
		errs = append(errs, unchanged(field.NewPath("parameters"), c.Parameters, old.Parameters)...)
		errs = append(errs, unchanged(field.NewPath("provisioner"), c.Provisioner, old.Provisioner)...)
		errs = append(errs, unchanged(field.NewPath("reclaimPolicy"), c.ReclaimPolicy, old.ReclaimPolicy)...)
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
		flag("AllowVolumeExpansion", doc["allowVolumeExpansion"], func(c *storagev1.StorageClass) bool { return deref(c.AllowVolumeExpansion) }).as("string").
		age()
	return k
}

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	errs := validateProvisioner(field.NewPath("provisioner"), c.Provisioner)
	errs = append(errs, validateParameters(field.NewPath("parameters"), c.Parameters)...)
	if c.ReclaimPolicy != nil && *c.ReclaimPolicy != "" {
		errs = append(errs, supported(field.NewPath("reclaimPolicy"), *c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, supported(field.NewPath("volumeBindingMode"), *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(field.NewPath("allowedTopologies"), c.AllowedTopologies)...)
}

// The bounds of a class' parameters: their number, and the bytes of all keys
// and values.
const (
	maxParameters     = 512
	maxParameterBytes = 256 << 10
)

func validateParameters(p *field.Path, parameters map[string]string) field.ErrorList {
	var errs field.ErrorList
	if len(parameters) > maxParameters {
		errs = append(errs, field.TooLong(p, "Provisioner Parameters exceeded max allowed", maxParameters))
	}
	size := 0
	for k, v := range parameters {
		if k == "" {
			errs = append(errs, field.Invalid(p, k, "field can not be empty."))
		}
		size += len(k) + len(v)
	}
	if size > maxParameterBytes {
		errs = append(errs, field.TooLong(p, "", maxParameterBytes))
	}
	return errs
}

// validateProvisioner checks the name of a driver, whose case does not matter.
func validateProvisioner(p *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	name = strings.ToLower(name)
	return invalids(p, name, validation.IsQualifiedName(name))
}

func validateTopologies(p *field.Path, terms []corev1.TopologySelectorTerm) field.ErrorList {
	var errs field.ErrorList
	var seen []map[string]sets.Set[string]
	for i, term := range terms {
		at := p.Index(i).Child("matchLabelExpressions")
		has := map[string]sets.Set[string]{}
		for j, e := range term.MatchLabelExpressions {
			in := at.Index(j)
			values := sets.New[string]()
			if len(e.Values) == 0 {
				errs = append(errs, field.Required(in.Child("values"), ""))
			}
			for k, v := range e.Values {
				if values.Has(v) {
					errs = append(errs, field.Duplicate(in.Child("values").Index(k), v))
				}
				values.Insert(v)
			}
			errs = append(errs, metav1validation.ValidateLabelName(e.Key, in.Child("key"))...)
			if _, twice := has[e.Key]; twice {
				errs = append(errs, field.Duplicate(in.Child("key"), e.Key))
			}
			has[e.Key] = values
		}
		// A term that says nothing is like no term, which comes first.
		same := len(has) == 0 || slices.ContainsFunc(seen, func(s map[string]sets.Set[string]) bool { return maps.EqualFunc(s, has, sets.Set[string].Equal) })
		if same {
			errs = append(errs, field.Duplicate(at, ""))
		}
		seen = append(seen, has)
	}
	return errs
}

func volumeAttributesClassKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList](gv, "volumeattributesclasses", "vac").inCluster()
	validate := func(c *storagev1.VolumeAttributesClass) field.ErrorList {
		errs := validateProvisioner(field.NewPath("driverName"), c.DriverName)
		if len(c.Parameters) == 0 {
			errs = append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
		}
		return append(errs, validateParameters(field.NewPath("parameters"), c.Parameters)...)
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
		errs := validate(c)
		if c.DriverName != old.DriverName {
			errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
		}
		if !apiequality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
			errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
		}
		return errs
	})
	k.Columns = named[*storagev1.VolumeAttributesClass]().
		text("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], func(c *storagev1.VolumeAttributesClass) string { return c.DriverName }).
		age()
	return k
}

func volumeAttachmentKind(gv schema.GroupVersion) *Kind {
	k := define[storagev1.VolumeAttachment, storagev1.VolumeAttachmentList](gv, "volumeattachments").inCluster()
	k.Default = do1(func(a *storagev1.VolumeAttachment) {
		if inline := a.Spec.Source.InlineVolumeSpec; inline != nil {
			defaultPersistentSource(&inline.PersistentVolumeSource)
		}
	})
	k.PrepareCreate = do1(func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} })
	k.PrepareUpdate = do2(func(a, old *storagev1.VolumeAttachment) { a.Status = *old.Status.DeepCopy() })
	k.Validate = check1(func(a *storagev1.VolumeAttachment) field.ErrorList {
		p := field.NewPath("spec")
		errs := validateDriverName(p.Child("attacher"), a.Spec.Attacher)
		errs = append(errs, invalids(p.Child("nodeName"), a.Spec.NodeName, subdomain(a.Spec.NodeName))...)
		source, name, inline := p.Child("source"), a.Spec.Source.PersistentVolumeName, a.Spec.Source.InlineVolumeSpec
		switch {
		case name == nil && inline == nil:
			errs = append(errs, field.Required(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
		case name != nil && inline != nil:
			errs = append(errs, field.Forbidden(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
		case inline != nil:
			errs = append(errs, validateInlineVolume(source.Child("inlineVolumeSpec"), inline)...)
		case *name == "":
			errs = append(errs, field.Required(source.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
		}
		if name != nil {
			errs = append(errs, invalids(source.Child("persistentVolumeName"), *name, subdomain(*name))...)
		}
		return append(errs, validateAttached(field.NewPath("status"), &a.Status)...)
	})
	k.ValidateUpdate = check2(func(a, old *storagev1.VolumeAttachment) field.ErrorList {
		errs := k.Validate(a)
		if !apiequality.Semantic.DeepEqual(a.Spec, old.Spec) {
			errs = append(errs, field.Invalid(field.NewPath("spec"), a.Spec, immutable))
		}
		return errs
	})
	spec, statusDoc := storagev1.VolumeAttachmentSpec{}.SwaggerDoc(), storagev1.VolumeAttachmentStatus{}.SwaggerDoc()
	k.Columns = named[*storagev1.VolumeAttachment]().
		text("Attacher", spec["attacher"], func(a *storagev1.VolumeAttachment) string { return a.Spec.Attacher }).format("name").
		text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"], func(a *storagev1.VolumeAttachment) string {
			return deref(a.Spec.Source.PersistentVolumeName)
		}).
		text("Node", spec["nodeName"], func(a *storagev1.VolumeAttachment) string { return a.Spec.NodeName }).
		flag("Attached", statusDoc["attached"], func(a *storagev1.VolumeAttachment) bool { return a.Status.Attached }).
		age()
	k.Subresources = []Subresource{status(func(a, old *storagev1.VolumeAttachment) {
		a.Spec = *old.Spec.DeepCopy()
		m := old.DeepCopy()
		a.Labels, a.Annotations, a.Finalizers, a.OwnerReferences = m.Labels, m.Annotations, m.Finalizers, m.OwnerReferences
	},
		func(a, _ *storagev1.VolumeAttachment) field.ErrorList {
			return validateAttached(field.NewPath("status"), &a.Status)
		})}
	return k
}

// Bounds of what a CSI driver may say of an attachment, in bytes.
const (
	maxAttachmentMetadata = 256 * 1024
	maxVolumeError        = 1024
)

func validateAttached(p *field.Path, s *storagev1.VolumeAttachmentStatus) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for k, v := range s.AttachmentMetadata {
		size += len(k) + len(v)
	}
	if size > maxAttachmentMetadata {
		errs = append(errs, field.TooLong(p.Child("attachmentMetadata"), "", maxAttachmentMetadata))
	}
	failure := func(p *field.Path, e *storagev1.VolumeError) {
		if e == nil {
			return
		}
		if len(e.Message) > maxVolumeError {
			errs = append(errs, field.TooLong(p.Child("message"), "", maxAttachmentMetadata))
		}
		if e.ErrorCode != nil && *e.ErrorCode < 0 {
			errs = append(errs, field.Invalid(p.Child("errorCode"), *e.ErrorCode, validation.InclusiveRangeError(0, math.MaxInt32)))
		}
	}
	failure(p.Child("attachError"), s.AttachError)
	failure(p.Child("detachError"), s.DetachError)
	return errs
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
