package kind

import (
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes checks a pod's volumes and returns those that containers may
// refer to: a volume with an error is not there for them. pod is the pod's
// name, empty in a template.
func validateVolumes(p *field.Path, volumes []corev1.Volume, pod string) (map[string]*corev1.Volume, field.ErrorList) {
	var errs field.ErrorList
	valid, claims := map[string]*corev1.Volume{}, map[string]bool{}
	for i := range volumes {
		if pod != "" && volumes[i].Ephemeral != nil {
			claims[pod+"-"+volumes[i].Name] = true
		}
	}
	for i := range volumes {
		v, at := &volumes[i], p.Index(i)
		found := validateVolumeSource(at, v, pod)
		found = append(found, required(at.Child("name"), v.Name, validation.IsDNS1123Label)...)
		if valid[v.Name] != nil {
			found = append(found, field.Duplicate(at.Child("name"), v.Name))
		}
		if len(found) == 0 {
			valid[v.Name] = v
		}
		errs = append(errs, found...)
		if c := v.PersistentVolumeClaim; c != nil && claims[c.ClaimName] {
			errs = append(errs, field.Invalid(at.Child("persistentVolumeClaim", "claimName"), c.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return valid, errs
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

// A volumeType is one member of a union of volume types.
type volumeType struct {
	name  string
	set   bool
	check func() field.ErrorList
	// again types are checked and not refused when another is there.
	again bool
}

// oneVolume checks the first type that is set and refuses the others.
func oneVolume(p *field.Path, types []volumeType) field.ErrorList {
	var errs field.ErrorList
	found := false
	for _, t := range types {
		switch {
		case !t.set:
		case found && !t.again:
			errs = append(errs, field.Forbidden(p.Child(t.name), "may not specify more than 1 volume type"))
		default:
			found = true
			errs = append(errs, t.check()...)
		}
	}
	if !found {
		errs = append(errs, field.Required(p, "must specify a volume type"))
	}
	return errs
}

func validateVolumeSource(p *field.Path, v *corev1.Volume, pod string) field.ErrorList {
	// The order is upstream's: it decides which type is one too many. So are
	// the odd spellings.
	errs := oneVolume(p, []volumeType{
		{name: "emptyDir", set: v.EmptyDir != nil, check: func() field.ErrorList {
			if v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() < 0 {
				return field.ErrorList{field.Forbidden(p.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity")}
			}
			return nil
		}},
		{name: "hostPath", set: v.HostPath != nil, check: func() field.ErrorList { return validateHostPath(p.Child("hostPath"), v.HostPath) }},
		{name: "gitRepo", set: v.GitRepo != nil, check: func() field.ErrorList {
			at := p.Child("gitRepo")
			return append(required(at.Child("repository"), v.GitRepo.Repository, nil), relativePath(at.Child("directory"), v.GitRepo.Directory)...)
		}},
		{name: "gcePersistentDisk", set: v.GCEPersistentDisk != nil, check: func() field.ErrorList { return validateGCEDisk(p.Child("persistentDisk"), v.GCEPersistentDisk) }},
		{name: "awsElasticBlockStore", set: v.AWSElasticBlockStore != nil, check: func() field.ErrorList {
			return validateAWSDisk(p.Child("awsElasticBlockStore"), v.AWSElasticBlockStore)
		}},
		{name: "secret", set: v.Secret != nil, check: func() field.ErrorList {
			at := p.Child("secret")
			errs := required(at.Child("secretName"), v.Secret.SecretName, nil)
			errs = append(errs, validateMode(at.Child("defaultMode"), v.Secret.DefaultMode)...)
			return append(errs, validateItems(at.Child("items"), v.Secret.Items)...)
		}},
		{name: "nfs", set: v.NFS != nil, check: func() field.ErrorList { return validateNFS(p.Child("nfs"), v.NFS) }},
		{name: "iscsi", set: v.ISCSI != nil, check: func() field.ErrorList { return validateISCSI(p, v.ISCSI, v.Name) }},
		{name: "glusterfs", set: v.Glusterfs != nil, check: func() field.ErrorList {
			return validateGlusterfs(p.Child("glusterfs"), v.Glusterfs.EndpointsName, v.Glusterfs.Path)
		}},
		{name: "flocker", set: v.Flocker != nil, check: func() field.ErrorList { return validateFlocker(p.Child("flocker"), v.Flocker) }},
		{name: "persistentVolumeClaim", set: v.PersistentVolumeClaim != nil, check: func() field.ErrorList {
			return required(p.Child("persistentVolumeClaim", "claimName"), v.PersistentVolumeClaim.ClaimName, nil)
		}},
		{name: "rbd", set: v.RBD != nil, check: func() field.ErrorList { return validateRBD(p.Child("rbd"), v.RBD.CephMonitors, v.RBD.RBDImage) }},
		{name: "cinder", set: v.Cinder != nil, check: func() field.ErrorList {
			errs := required(p.Child("cinder", "volumeID"), v.Cinder.VolumeID, nil)
			return append(errs, localSecret(p.Child("cinder", "secretRef"), v.Cinder.SecretRef)...)
		}},
		{name: "cephFS", set: v.CephFS != nil, check: func() field.ErrorList { return validateMonitors(p.Child("cephfs"), v.CephFS.Monitors) }},
		{name: "quobyte", set: v.Quobyte != nil, check: func() field.ErrorList { return validateQuobyte(p.Child("quobyte"), v.Quobyte) }},
		{name: "downwarAPI", set: v.DownwardAPI != nil, check: func() field.ErrorList {
			errs := validateMode(p.Child("downwardAPI", "defaultMode"), v.DownwardAPI.DefaultMode)
			return append(errs, validateDownward(p.Child("downwardAPI"), v.DownwardAPI.Items)...)
		}},
		{name: "fc", set: v.FC != nil, check: func() field.ErrorList { return validateFC(p.Child("fc"), v.FC) }},
		{name: "flexVolume", set: v.FlexVolume != nil, check: func() field.ErrorList {
			return validateFlex(p.Child("flexVolume"), v.FlexVolume.Driver, v.FlexVolume.Options)
		}},
		{name: "configMap", set: v.ConfigMap != nil, check: func() field.ErrorList {
			at := p.Child("configMap")
			errs := required(at.Child("name"), v.ConfigMap.Name, nil)
			errs = append(errs, validateMode(at.Child("defaultMode"), v.ConfigMap.DefaultMode)...)
			return append(errs, validateItems(at.Child("items"), v.ConfigMap.Items)...)
		}},
		{name: "azureFile", set: v.AzureFile != nil, check: func() field.ErrorList {
			return validateAzureFile(p.Child("azureFile"), v.AzureFile.SecretName, v.AzureFile.ShareName)
		}},
		{name: "vsphereVolume", set: v.VsphereVolume != nil, check: func() field.ErrorList {
			return required(p.Child("vsphereVolume", "volumePath"), v.VsphereVolume.VolumePath, nil)
		}},
		{name: "photonPersistentDisk", set: v.PhotonPersistentDisk != nil, check: func() field.ErrorList {
			return required(p.Child("photonPersistentDisk", "pdID"), v.PhotonPersistentDisk.PdID, nil)
		}},
		{name: "portworxVolume", set: v.PortworxVolume != nil, check: func() field.ErrorList {
			return required(p.Child("portworxVolume", "volumeID"), v.PortworxVolume.VolumeID, nil)
		}},
		{name: "azureDisk", set: v.AzureDisk != nil, check: func() field.ErrorList { return validateAzureDisk(p.Child("azureDisk"), v.AzureDisk) }},
		{name: "storageos", set: v.StorageOS != nil, check: func() field.ErrorList {
			errs := validateStorageOS(p.Child("storageos"), v.StorageOS.VolumeName, v.StorageOS.VolumeNamespace)
			return append(errs, localSecret(p.Child("storageos", "secretRef"), v.StorageOS.SecretRef)...)
		}},
		{name: "projected", set: v.Projected != nil, check: func() field.ErrorList { return validateProjected(p.Child("projected"), v.Projected) }},
		{name: "scaleIO", set: v.ScaleIO != nil, check: func() field.ErrorList {
			return validateScaleIO(p.Child("scaleIO"), v.ScaleIO.Gateway, v.ScaleIO.System, v.ScaleIO.VolumeName)
		}},
		{name: "csi", set: v.CSI != nil, check: func() field.ErrorList {
			at := p.Child("csi")
			errs := validateDriverName(at.Child("driver"), v.CSI.Driver)
			if ref := v.CSI.NodePublishSecretRef; ref != nil && ref.Name == "" {
				errs = append(errs, field.Required(at.Child("nodePublishSecretRef", "name"), ""))
			} else if ref != nil {
				errs = append(errs, invalids(at.Child("name"), ref.Name, subdomain(ref.Name))...)
			}
			return errs
		}},
		{name: "ephemeral", set: v.Ephemeral != nil, check: func() field.ErrorList { return validateEphemeral(p, v, pod) }},
		{name: "image", set: v.Image != nil, check: func() field.ErrorList {
			errs := required(p.Child("image", "reference"), v.Image.Reference, nil)
			return append(errs, oneOf(p.Child("image", "pullPolicy"), v.Image.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
		}},
	})
	if i := v.ISCSI; i != nil && i.InitiatorName != nil && len(v.Name+":"+i.TargetPortal) > 64 {
		errs = append(errs, field.Invalid(p.Child("name"), v.Name, longTarget))
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
			errs = append(errs, validatePodField(p.Child("fieldRef"), f.FieldRef, []string{
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

func validateEphemeral(p *field.Path, v *corev1.Volume, pod string) field.ErrorList {
	at := p.Child("ephemeral", "volumeClaimTemplate")
	t := v.Ephemeral.VolumeClaimTemplate
	if t == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := apivalidation.ValidateAnnotations(t.Annotations, at.Child("metadata", "annotations"))
	errs = append(errs, validateLabels(at.Child("metadata", "labels"), t.Labels)...)
	errs = append(errs, onlyLabelsAndAnnotations(at.Child("metadata"), &t.ObjectMeta)...)
	errs = append(errs, validateClaimSpec(at.Child("spec"), &t.Spec)...)
	if pod != "" && v.Name != "" {
		claim := pod + "-" + v.Name
		for _, m := range subdomain(claim) {
			errs = append(errs, field.Invalid(p.Child("name"), v.Name, fmt.Sprintf("PVC name %q: %v", claim, m)))
		}
	}
	return errs
}

// onlyLabelsAndAnnotations refuses what a template of objects cannot give them.
// The fields are named as upstream names them, by their Go names.
func onlyLabelsAndAnnotations(p *field.Path, m *metav1.ObjectMeta) field.ErrorList {
	var errs field.ErrorList
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name != "Labels" && name != "Annotations" && !v.Field(i).IsZero() {
			errs = append(errs, field.Forbidden(p.Child(strings.ToLower(name[:1])+name[1:]), "cannot be set"))
		}
	}
	return errs
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
