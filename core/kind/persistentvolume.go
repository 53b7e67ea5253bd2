package kind

import (
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func persistentVolumeKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.PersistentVolume, corev1.PersistentVolumeList](gv, "persistentvolumes", "pv").inCluster()
	k.Default = do1(defaultVolumeObject)
	k.PrepareCreate = do1(func(v *corev1.PersistentVolume) {
		v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}
	})
	k.PrepareUpdate = do2(func(v, old *corev1.PersistentVolume) { v.Status = *old.Status.DeepCopy() })
	k.Validate = check1(validateVolumeObject)
	k.ValidateUpdate = check2(validateVolumeObjectUpdate)
	k.Fields = select1(func(v *corev1.PersistentVolume) fields.Set { return fields.Set{"name": v.Name} })
	k.Warnings = warn1(func(v *corev1.PersistentVolume) []string {
		if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			return []string{"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."}
		}
		return nil
	})
	k.Columns = volumeColumns()
	k.Subresources = []Subresource{status(func(v, old *corev1.PersistentVolume) { v.Spec = *old.Spec.DeepCopy() }, nil)}
	return k
}

func defaultVolumeObject(v *corev1.PersistentVolume) {
	s := &v.Spec
	orElse(&v.Status.Phase, corev1.VolumePending)
	orElse(&s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	orPointer(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Capacity)
	if s.HostPath != nil {
		orPointer(&s.HostPath.Type, corev1.HostPathUnset)
	}
	if s.ISCSI != nil {
		orElse(&s.ISCSI.ISCSIInterface, "default")
	}
	if s.RBD != nil {
		orElse(&s.RBD.RBDPool, "rbd")
		orElse(&s.RBD.RadosUser, "admin")
		orElse(&s.RBD.Keyring, "/etc/ceph/keyring")
	}
	if s.ScaleIO != nil {
		orElse(&s.ScaleIO.StorageMode, "ThinProvisioned")
		orElse(&s.ScaleIO.FSType, "xfs")
	}
	defaultAzureDisk(s.AzureDisk)
}

func validateVolumeObject(v *corev1.PersistentVolume) field.ErrorList {
	p, s := field.NewPath("spec"), &v.Spec
	errs := validateAccessModes(p.Child("accessModes"), s.AccessModes, "")
	size, ok := s.Capacity[corev1.ResourceStorage]
	switch at := p.Child("capacity"); {
	case len(s.Capacity) == 0:
		errs = append(errs, field.Required(at, ""))
	case !ok || len(s.Capacity) > 1:
		errs = append(errs, field.NotSupported(at, s.Capacity.Name(corev1.ResourceStorage, "").String(), []corev1.ResourceName{corev1.ResourceStorage}))
	default:
		errs = append(errs, positiveQuantity(at.Key(string(corev1.ResourceStorage)), size)...)
	}
	errs = append(errs, supported(p.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy,
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	errs = append(errs, exactlyOne(p, &s.PersistentVolumeSource)...)
	if s.HostPath != nil {
		errs = append(errs, validateHostPath(p.Child("hostPath"), s.HostPath)...)
		if path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			errs = append(errs, field.Forbidden(p.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
		}
	}
	if s.NFS != nil {
		errs = append(errs, validateNFS(p.Child("nfs"), s.NFS)...)
	}
	if s.Local != nil {
		errs = append(errs, required(p.Child("local", "path"), s.Local.Path, nil)...)
		errs = append(errs, noBacksteps(p.Child("local", "path"), s.Local.Path)...)
	}
	if s.CSI != nil {
		errs = append(errs, validateDriverName(p.Child("csi", "driver"), s.CSI.Driver)...)
		errs = append(errs, required(p.Child("csi", "volumeHandle"), s.CSI.VolumeHandle, nil)...)
	}
	if s.NodeAffinity != nil {
		at := p.Child("nodeAffinity")
		if s.NodeAffinity.Required == nil {
			errs = append(errs, field.Required(at.Child("required"), "must specify required node constraints"))
		} else {
			errs = append(errs, validateNodeSelector(at.Child("required"), s.NodeAffinity.Required)...)
		}
	} else if s.Local != nil {
		errs = append(errs, field.Required(p.Child("nodeAffinity"), "Local volume requires node affinity"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, invalids(p.Child("storageClassName"), s.StorageClassName, subdomain(s.StorageClassName))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, supported(p.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	return errs
}

func validateVolumeObjectUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateVolumeObject(v)
	if !apiequality.Semantic.DeepEqual(v.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(p.Child("persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(old.Spec.PersistentVolumeSource, v.Spec.PersistentVolumeSource))))
	}
	errs = append(errs, unchanged(p.Child("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, unchanged(p.Child("nodeAffinity"), v.Spec.NodeAffinity, old.Spec.NodeAffinity)...)
	}
	return errs
}

func volumeColumns() []Column {
	doc, statusDoc := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return named[*corev1.PersistentVolume]().
		text("Capacity", doc["capacity"], func(v *corev1.PersistentVolume) string {
			q := v.Spec.Capacity[corev1.ResourceStorage]
			return q.String()
		}).
		text("Access Modes", doc["accessModes"], func(v *corev1.PersistentVolume) string { return accessModes(v.Spec.AccessModes) }).
		text("Reclaim Policy", doc["persistentVolumeReclaimPolicy"], func(v *corev1.PersistentVolume) string {
			return string(v.Spec.PersistentVolumeReclaimPolicy)
		}).
		text("Status", statusDoc["phase"], func(v *corev1.PersistentVolume) string {
			if v.DeletionTimestamp != nil {
				return "Terminating"
			}
			return string(v.Status.Phase)
		}).
		text("Claim", doc["claimRef"], func(v *corev1.PersistentVolume) string {
			if v.Spec.ClaimRef == nil {
				return ""
			}
			return v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
		}).
		text("StorageClass", "StorageClass of the pv", func(v *corev1.PersistentVolume) string {
			if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
				return class
			}
			return v.Spec.StorageClassName
		}).
		text("VolumeAttributesClass", doc["volumeAttributesClassName"], func(v *corev1.PersistentVolume) string {
			if n := deref(v.Spec.VolumeAttributesClassName); n != "" {
				return n
			}
			return "<unset>"
		}).
		text("Reason", statusDoc["reason"], func(v *corev1.PersistentVolume) string { return v.Status.Reason }).
		age().
		text("VolumeMode", doc["volumeMode"], func(v *corev1.PersistentVolume) string {
			if v.Spec.VolumeMode == nil {
				return "<unset>"
			}
			return string(*v.Spec.VolumeMode)
		}).wide()
}
