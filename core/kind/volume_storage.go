package kind

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What pods' volumes and PersistentVolumes have in common.

const (
	longTarget   = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
	badPartition = "must be between 1 and 255, inclusive"
)

func validateNFS(p *field.Path, n *corev1.NFSVolumeSource) field.ErrorList {
	errs := required(p.Child("server"), n.Server, nil)
	errs = append(errs, required(p.Child("path"), n.Path, nil)...)
	if !path.IsAbs(n.Path) {
		errs = append(errs, field.Invalid(p.Child("path"), n.Path, "must be an absolute path"))
	}
	return errs
}

func validateGCEDisk(p *field.Path, d *corev1.GCEPersistentDiskVolumeSource) field.ErrorList {
	errs := required(p.Child("pdName"), d.PDName, nil)
	if d.Partition < 0 || d.Partition > 255 {
		errs = append(errs, field.Invalid(p.Child("partition"), d.Partition, badPartition))
	}
	return errs
}

func validateAWSDisk(p *field.Path, d *corev1.AWSElasticBlockStoreVolumeSource) field.ErrorList {
	errs := required(p.Child("volumeID"), d.VolumeID, nil)
	if d.Partition < 0 || d.Partition > 255 {
		errs = append(errs, field.Invalid(p.Child("partition"), d.Partition, badPartition))
	}
	return errs
}

func validateAzureDisk(p *field.Path, d *corev1.AzureDiskVolumeSource) field.ErrorList {
	errs := required(p.Child("diskName"), d.DiskName, nil)
	errs = append(errs, required(p.Child("diskURI"), d.DataDiskURI, nil)...)
	if d.CachingMode != nil {
		errs = append(errs, supported(p.Child("cachingMode"), *d.CachingMode,
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	}
	if d.Kind == nil {
		return errs
	}
	errs = append(errs, supported(p.Child("kind"), *d.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)...)
	prefix, shape := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *d.Kind == corev1.AzureManagedDisk {
		prefix, shape = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(d.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(p.Child("diskURI"), d.DataDiskURI, []string{shape}))
	}
	return errs
}

func validateAzureFile(p *field.Path, secret, share string) field.ErrorList {
	return append(required(p.Child("secretName"), secret, nil), required(p.Child("shareName"), share, nil)...)
}

func validateGlusterfs(p *field.Path, endpoints, target string) field.ErrorList {
	return append(required(p.Child("endpoints"), endpoints, nil), required(p.Child("path"), target, nil)...)
}

func validateFlocker(p *field.Path, f *corev1.FlockerVolumeSource) field.ErrorList {
	var errs field.ErrorList
	switch {
	case f.DatasetName == "" && f.DatasetUUID == "":
		errs = append(errs, field.Required(p, "one of datasetName and datasetUUID is required"))
	case f.DatasetName != "" && f.DatasetUUID != "":
		errs = append(errs, field.Invalid(p, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(f.DatasetName, "/") {
		errs = append(errs, field.Invalid(p.Child("datasetName"), f.DatasetName, "must not contain '/'"))
	}
	return errs
}

func validateMonitors(p *field.Path, monitors []string) field.ErrorList {
	if len(monitors) == 0 {
		return field.ErrorList{field.Required(p.Child("monitors"), "")}
	}
	return nil
}

func validateRBD(p *field.Path, monitors []string, image string) field.ErrorList {
	return append(validateMonitors(p, monitors), required(p.Child("image"), image, nil)...)
}

func validateQuobyte(p *field.Path, q *corev1.QuobyteVolumeSource) field.ErrorList {
	var errs field.ErrorList
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case q.Registry == "":
		errs = append(errs, field.Required(p.Child("registry"), pairs))
	case len(q.Tenant) > 64:
		errs = append(errs, field.Required(p.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for _, pair := range strings.Split(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(p.Child("registry"), q.Registry, pairs))
			}
		}
	}
	return append(errs, required(p.Child("volume"), q.Volume, nil)...)
}

func validateFC(p *field.Path, f *corev1.FCVolumeSource) field.ErrorList {
	var errs field.ErrorList
	at := p.Child("targetWWNs")
	switch {
	case len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0:
		errs = append(errs, field.Required(at, "must specify either targetWWNs or wwids, but not both"))
	case len(f.TargetWWNs) != 0 && len(f.WWIDs) != 0:
		errs = append(errs, field.Invalid(at, f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if len(f.TargetWWNs) == 0 {
		return errs
	}
	if f.Lun == nil {
		return append(errs, field.Required(p.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	return append(errs, validateLun(p.Child("lun"), *f.Lun)...)
}

func validateLun(p *field.Path, lun int32) field.ErrorList {
	if lun < 0 || lun > 255 {
		return field.ErrorList{field.Invalid(p, lun, validation.InclusiveRangeError(0, 255))}
	}
	return nil
}

func validateFlex(p *field.Path, driver string, options map[string]string) field.ErrorList {
	errs := required(p.Child("driver"), driver, nil)
	for _, k := range sortedKeys(options) {
		domain, _, _ := strings.Cut(k, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(p.Child("options").Key(k), k, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func validateScaleIO(p *field.Path, gateway, system, volume string) field.ErrorList {
	errs := required(p.Child("gateway"), gateway, nil)
	errs = append(errs, required(p.Child("system"), system, nil)...)
	return append(errs, required(p.Child("volumeName"), volume, nil)...)
}

func validateStorageOS(p *field.Path, volume, namespace string) field.ErrorList {
	errs := required(p.Child("volumeName"), volume, validation.IsDNS1123Label)
	if namespace != "" {
		errs = append(errs, invalids(p.Child("volumeNamespace"), namespace, validation.IsDNS1123Label(namespace))...)
	}
	return errs
}

func localSecret(p *field.Path, ref *corev1.LocalObjectReference) field.ErrorList {
	if ref != nil && ref.Name == "" {
		return field.ErrorList{field.Required(p.Child("name"), "")}
	}
	return nil
}

func validateISCSI(p *field.Path, s *corev1.ISCSIVolumeSource, volume string) field.ErrorList {
	at := p.Child("iscsi")
	const families = "must be valid format starting with iqn, eui, or naa"
	errs := required(at.Child("targetPortal"), s.TargetPortal, nil)
	errs = append(errs, validateISCSITarget(at, s.IQN, families, s.Lun, s.DiscoveryCHAPAuth || s.SessionCHAPAuth, s.SecretRef != nil)...)
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(at.Child("initiatorname"), *s.InitiatorName, families)...)
	}
	return errs
}

// validateISCSITarget checks the parts that pods' volumes and PersistentVolumes
// share; families is what an iqn of no known family is told.
func validateISCSITarget(p *field.Path, iqn, families string, lun int32, chap, secret bool) field.ErrorList {
	var errs field.ErrorList
	if iqn == "" {
		errs = append(errs, field.Required(p.Child("iqn"), ""))
	} else {
		errs = append(errs, validateISCSIName(p.Child("iqn"), iqn, families)...)
	}
	errs = append(errs, validateLun(p.Child("lun"), lun)...)
	if chap && !secret {
		errs = append(errs, field.Required(p.Child("secretRef"), ""))
	}
	return errs
}

// validateISCSIName checks a name by its family (RFC 3721).
func validateISCSIName(p *field.Path, name, families string) field.ErrorList {
	formats := map[string]string{
		"iqn": `iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`,
		"eui": `^eui.[[:alnum:]]{16}$`,
		"naa": `^naa.[[:alnum:]]{32}$`,
	}
	for family, format := range formats {
		if strings.HasPrefix(name, family) {
			if ok, err := regexp.MatchString(format, name); err != nil || !ok {
				return field.ErrorList{field.Invalid(p, name, "must be valid format")}
			}
			return nil
		}
	}
	return field.ErrorList{field.Invalid(p, name, families)}
}
