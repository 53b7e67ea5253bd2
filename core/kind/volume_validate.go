package kind

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateVolumes(p *field.Path, volumes []corev1.Volume) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range volumes {
		v, at := &volumes[i], p.Index(i)
		named := required(at.Child("name"), v.Name, validation.IsDNS1123Label)
		if names[v.Name] {
			named = append(named, field.Duplicate(at.Child("name"), v.Name))
		}
		errs = append(errs, named...)
		names[v.Name] = true
		errs = append(errs, validateVolumeSource(at, &v.VolumeSource, v.Name)...)
	}
	return errs
}

// setFields names the pointers of a union that are set, as JSON spells them.
func setFields(union any) []string {
	v := reflect.ValueOf(union).Elem()
	var names []string
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

// exactlyOne reports a union of volume types of which not exactly one is set.
func exactlyOne(p *field.Path, union any) field.ErrorList {
	set := setFields(union)
	if len(set) == 0 {
		return field.ErrorList{field.Required(p, "must specify a volume type")}
	}
	var errs field.ErrorList
	for _, name := range set[1:] {
		errs = append(errs, field.Forbidden(p.Child(name), "may not specify more than 1 volume type"))
	}
	return errs
}

func validateVolumeSource(p *field.Path, v *corev1.VolumeSource, name string) field.ErrorList {
	errs := exactlyOne(p, v)
	if e := v.EmptyDir; e != nil {
		if e.SizeLimit != nil && e.SizeLimit.Sign() < 0 {
			errs = append(errs, field.Forbidden(p.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
		if e.Medium != "" && e.Medium != corev1.StorageMediumMemory && e.Medium != corev1.StorageMediumHugePages &&
			!strings.HasPrefix(string(e.Medium), string(corev1.StorageMediumHugePagesPrefix)) {
			errs = append(errs, field.NotSupported(p.Child("emptyDir", "medium"), e.Medium,
				[]corev1.StorageMedium{corev1.StorageMediumDefault, corev1.StorageMediumMemory, corev1.StorageMediumHugePages}))
		}
	}
	if h := v.HostPath; h != nil {
		errs = append(errs, validateHostPath(p.Child("hostPath"), h)...)
	}
	if s := v.Secret; s != nil {
		at := p.Child("secret")
		errs = append(errs, required(at.Child("secretName"), s.SecretName, nil)...)
		errs = append(errs, validateMode(at.Child("defaultMode"), s.DefaultMode)...)
		errs = append(errs, validateItems(at.Child("items"), s.Items)...)
	}
	if c := v.ConfigMap; c != nil {
		at := p.Child("configMap")
		errs = append(errs, required(at.Child("name"), c.Name, nil)...)
		errs = append(errs, validateMode(at.Child("defaultMode"), c.DefaultMode)...)
		errs = append(errs, validateItems(at.Child("items"), c.Items)...)
	}
	if d := v.DownwardAPI; d != nil {
		errs = append(errs, validateMode(p.Child("downwardAPI", "defaultMode"), d.DefaultMode)...)
		errs = append(errs, validateDownward(p.Child("downwardAPI"), d.Items)...)
	}
	if v.Projected != nil {
		errs = append(errs, validateProjected(p.Child("projected"), v.Projected)...)
	}
	if n := v.NFS; n != nil {
		errs = append(errs, validateNFS(p.Child("nfs"), n)...)
	}
	if c := v.PersistentVolumeClaim; c != nil {
		errs = append(errs, required(p.Child("persistentVolumeClaim", "claimName"), c.ClaimName, nil)...)
	}
	if e := v.Ephemeral; e != nil {
		errs = append(errs, validateEphemeral(p.Child("ephemeral"), e)...)
	}
	if c := v.CSI; c != nil {
		errs = append(errs, validateDriverName(p.Child("csi", "driver"), c.Driver)...)
		if c.NodePublishSecretRef != nil {
			errs = append(errs, required(p.Child("csi", "nodePublishSecretRef", "name"), c.NodePublishSecretRef.Name, nil)...)
		}
	}
	if v.Image != nil {
		errs = append(errs, required(p.Child("image", "reference"), v.Image.Reference, nil)...)
		errs = append(errs, oneOf(p.Child("image", "pullPolicy"), v.Image.PullPolicy,
			corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	}
	return append(errs, validateNetworkVolume(p, v)...)
}

// validateNetworkVolume checks the kinds of storage that Kubernetes itself
// once reached over the network.
func validateNetworkVolume(p *field.Path, v *corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	need := func(value string, at ...string) {
		errs = append(errs, required(p.Child(at[0], at[1:]...), value, nil)...)
	}
	if s := v.ISCSI; s != nil {
		need(s.TargetPortal, "iscsi", "targetPortal")
		need(s.IQN, "iscsi", "iqn")
		if s.Lun < 0 || s.Lun > 255 {
			errs = append(errs, field.Invalid(p.Child("iscsi", "lun"), s.Lun, validation.InclusiveRangeError(0, 255)))
		}
	}
	if s := v.RBD; s != nil {
		if len(s.CephMonitors) == 0 {
			errs = append(errs, field.Required(p.Child("rbd", "monitors"), ""))
		}
		need(s.RBDImage, "rbd", "image")
	}
	if s := v.CephFS; s != nil && len(s.Monitors) == 0 {
		errs = append(errs, field.Required(p.Child("cephfs", "monitors"), ""))
	}
	if s := v.Glusterfs; s != nil {
		need(s.EndpointsName, "glusterfs", "endpoints")
		need(s.Path, "glusterfs", "path")
	}
	if s := v.GitRepo; s != nil {
		need(s.Repository, "gitRepo", "repository")
		errs = append(errs, relativePath(p.Child("gitRepo", "directory"), s.Directory)...)
	}
	if s := v.FlexVolume; s != nil {
		need(s.Driver, "flexVolume", "driver")
	}
	if s := v.Cinder; s != nil {
		need(s.VolumeID, "cinder", "volumeID")
	}
	if s := v.GCEPersistentDisk; s != nil {
		need(s.PDName, "gcePersistentDisk", "pdName")
	}
	if s := v.AWSElasticBlockStore; s != nil {
		need(s.VolumeID, "awsElasticBlockStore", "volumeID")
	}
	if s := v.AzureFile; s != nil {
		need(s.SecretName, "azureFile", "secretName")
		need(s.ShareName, "azureFile", "shareName")
	}
	if s := v.AzureDisk; s != nil {
		need(s.DiskName, "azureDisk", "diskName")
		need(s.DataDiskURI, "azureDisk", "diskURI")
	}
	if s := v.VsphereVolume; s != nil {
		need(s.VolumePath, "vsphereVolume", "volumePath")
	}
	return errs
}

func validateNFS(p *field.Path, n *corev1.NFSVolumeSource) field.ErrorList {
	errs := required(p.Child("server"), n.Server, nil)
	errs = append(errs, required(p.Child("path"), n.Path, nil)...)
	if !path.IsAbs(n.Path) {
		errs = append(errs, field.Invalid(p.Child("path"), n.Path, "must be an absolute path"))
	}
	return errs
}

func validateHostPath(p *field.Path, h *corev1.HostPathVolumeSource) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(p.Child("path"), "")}
	}
	errs := noBacksteps(p.Child("path"), h.Path)
	if h.Type != nil {
		errs = append(errs, supported(p.Child("type"), *h.Type, corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate,
			corev1.HostPathDirectory, corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket,
			corev1.HostPathCharDev, corev1.HostPathBlockDev)...)
	}
	return errs
}

func validateMode(p *field.Path, mode *int32) field.ErrorList {
	if mode != nil && (*mode > 0o777 || *mode < 0) {
		return field.ErrorList{field.Invalid(p, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func validateItems(p *field.Path, items []corev1.KeyToPath) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		errs = append(errs, required(p.Index(i).Child("key"), item.Key, nil)...)
		errs = append(errs, insidePath(p.Index(i).Child("path"), item.Path)...)
		errs = append(errs, validateMode(p.Index(i).Child("mode"), item.Mode)...)
	}
	return errs
}

// insidePath is a path that a volume's own bookkeeping does not collide with.
func insidePath(p *field.Path, target string) field.ErrorList {
	if target == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	errs := relativePath(p, target)
	if strings.HasPrefix(target, "..") && !strings.HasPrefix(target, "../") {
		errs = append(errs, field.Invalid(p, target, "must not start with '..'"))
	}
	return errs
}

func validateDownward(p *field.Path, items []corev1.DownwardAPIVolumeFile) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		f := &items[i]
		errs = append(errs, insidePath(p.Child("path"), f.Path)...)
		switch {
		case f.FieldRef != nil:
			errs = append(errs, validateFieldRef(p.Child("fieldRef"), f.FieldRef, []string{
				"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
			})...)
			if f.ResourceFieldRef != nil {
				errs = append(errs, field.Invalid(p, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
			}
		case f.ResourceFieldRef != nil:
			errs = append(errs, validateResourceFieldRef(p.Child("resourceFieldRef"), f.ResourceFieldRef, true)...)
		default:
			errs = append(errs, field.Required(p, "one of fieldRef and resourceFieldRef is required"))
		}
		errs = append(errs, validateMode(p.Child("mode"), f.Mode)...)
	}
	return errs
}

func validateProjected(p *field.Path, pr *corev1.ProjectedVolumeSource) field.ErrorList {
	errs := validateMode(p.Child("defaultMode"), pr.DefaultMode)
	paths := map[string]bool{}
	once := func(at *field.Path, target string) {
		if target != "" && paths[target] {
			errs = append(errs, field.Invalid(at, target, "conflicting duplicate paths"))
		}
		paths[target] = true
	}
	for i := range pr.Sources {
		src, at := &pr.Sources[i], p.Child("sources").Index(i)
		set := setFields(src)
		if len(set) == 0 {
			errs = append(errs, field.Required(at, "must specify a projection"))
			continue
		}
		for _, name := range set[1:] {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 projection type"))
		}
		if s := src.Secret; s != nil {
			errs = append(errs, required(at.Child("secret", "name"), s.Name, nil)...)
			errs = append(errs, validateItems(at.Child("secret", "items"), s.Items)...)
			for _, item := range s.Items {
				once(p, item.Path)
			}
		}
		if c := src.ConfigMap; c != nil {
			errs = append(errs, required(at.Child("configMap", "name"), c.Name, nil)...)
			errs = append(errs, validateItems(at.Child("configMap", "items"), c.Items)...)
			for _, item := range c.Items {
				once(p, item.Path)
			}
		}
		if d := src.DownwardAPI; d != nil {
			errs = append(errs, validateDownward(at.Child("downwardAPI"), d.Items)...)
			for _, item := range d.Items {
				once(p, item.Path)
			}
		}
		if t := src.ServiceAccountToken; t != nil {
			errs = append(errs, validateTokenProjection(at.Child("serviceAccountToken"), t)...)
			once(at.Child("serviceAccountToken", "path"), t.Path)
		}
		if c := src.ClusterTrustBundle; c != nil {
			errs = append(errs, insidePath(at.Child("clusterTrustBundle", "path"), c.Path)...)
			if (c.Name == nil) == (c.SignerName == nil) {
				errs = append(errs, field.Required(at.Child("clusterTrustBundle"), "either name or signerName must be specified"))
			}
			once(at.Child("clusterTrustBundle", "path"), c.Path)
		}
	}
	return errs
}

func validateTokenProjection(p *field.Path, t *corev1.ServiceAccountTokenProjection) field.ErrorList {
	errs := required(p.Child("path"), t.Path, nil)
	if t.Path != "" {
		errs = append(errs, insidePath(p.Child("path"), t.Path)...)
	}
	at, seconds := p.Child("expirationSeconds"), deref(t.ExpirationSeconds)
	switch {
	case seconds < 600:
		errs = append(errs, field.Invalid(at, seconds, "may not specify a duration less than 10 minutes"))
	case seconds > 1<<32:
		errs = append(errs, field.Invalid(at, seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

func validateEphemeral(p *field.Path, e *corev1.EphemeralVolumeSource) field.ErrorList {
	if e.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(p.Child("volumeClaimTemplate"), "")}
	}
	at := p.Child("volumeClaimTemplate")
	errs := validateLabels(at.Child("metadata", "labels"), e.VolumeClaimTemplate.Labels)
	return append(errs, validateClaimSpec(at.Child("spec"), &e.VolumeClaimTemplate.Spec)...)
}

// validateDriverName checks the name under which a CSI driver registers.
func validateDriverName(p *field.Path, driver string) field.ErrorList {
	if driver == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	var errs field.ErrorList
	if len(driver) > 63 {
		errs = append(errs, field.TooLong(p, driver, 63))
	}
	return append(errs, invalids(p, driver, validation.IsDNS1123Subdomain(strings.ToLower(driver)))...)
}
