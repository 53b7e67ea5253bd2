package kind

import (
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func persistentVolumeKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.PersistentVolume, corev1.PersistentVolumeList](gv, "persistentvolumes", "pv").inCluster()
	k.Default = do1(defaultVolumeObject)
	k.PrepareCreate = do1(func(v *corev1.PersistentVolume) {
		made := v.CreationTimestamp
		v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &made}
	})
	k.PrepareUpdate = do2(func(v, old *corev1.PersistentVolume) { v.Status = *old.Status.DeepCopy() })
	k.Validate = check1(validateVolumeObject)
	k.ValidateUpdate = check2(validateVolumeObjectUpdate)
	k.Warnings = warn1(volumeObjectWarnings)
	k.Columns = volumeColumns()
	k.Subresources = []Subresource{status(func(v, old *corev1.PersistentVolume) {
		v.Spec = *old.Spec.DeepCopy()
		was, is := old.Status.LastPhaseTransitionTime, v.Status.LastPhaseTransitionTime
		switch {
		case old.Status.Phase == v.Status.Phase && is == nil:
			v.Status.LastPhaseTransitionTime = was.DeepCopy()
		case old.Status.Phase != v.Status.Phase && (is == nil || is.Equal(was)):
			now := metav1.Now()
			v.Status.LastPhaseTransitionTime = &now
		}
	}, nil)}
	return k
}

func defaultVolumeObject(v *corev1.PersistentVolume) {
	s := &v.Spec
	orElse(&v.Status.Phase, corev1.VolumePending)
	orElse(&s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	orPointer(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Capacity)
	defaultPersistentSource(&s.PersistentVolumeSource)
}

func defaultPersistentSource(s *corev1.PersistentVolumeSource) {
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

func volumeObjectWarnings(v *corev1.PersistentVolume) []string {
	var warnings []string
	for _, a := range []struct{ key, now string }{
		{corev1.BetaStorageClassAnnotation, `deprecated since v1.8; use "storageClassName" attribute instead`},
		{corev1.MountOptionAnnotation, `deprecated since v1.31; use "mountOptions" attribute instead`},
	} {
		if _, ok := v.Annotations[a.key]; ok {
			warnings = append(warnings, fmt.Sprintf("metadata.annotations[%s]: %s", a.key, a.now))
		}
	}
	s := &v.Spec
	if s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		warnings = append(warnings, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if s.NodeAffinity != nil && s.NodeAffinity.Required != nil {
		for i := range s.NodeAffinity.Required.NodeSelectorTerms {
			at := field.NewPath("spec", "nodeAffinity", "required", "nodeSelectorTerms").Index(i)
			warnings = append(warnings, nodeTermWarnings(at, &s.NodeAffinity.Required.NodeSelectorTerms[i], false)...)
		}
	}
	for _, old := range []struct {
		set         bool
		name, since string
	}{
		{s.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{s.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{s.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{s.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{s.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{s.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if old.set {
			warnings = append(warnings, fmt.Sprintf("spec.%s: %s", old.name, old.since))
		}
	}
	return warnings
}

func validateVolumeObject(v *corev1.PersistentVolume) field.ErrorList {
	p, s := field.NewPath("spec"), &v.Spec
	errs := validateAccessModes(p.Child("accessModes"), s.AccessModes, "")
	at := p.Child("capacity")
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(at, s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range sortedNames(s.Capacity) {
		size := s.Capacity[name]
		if size.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), size.Value(), "must be a valid resource quantity"))
		}
		errs = append(errs, positiveQuantity(at.Key(string(name)), size)...)
	}
	if s.PersistentVolumeReclaimPolicy != "" {
		errs = append(errs, supported(p.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy,
			corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	if s.NodeAffinity != nil {
		errs = append(errs, validateVolumeAffinity(p.Child("nodeAffinity"), s.NodeAffinity)...)
	}
	errs = append(errs, oneVolume(p, persistentTypes(p, s, v.Name))...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(p.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, invalids(p.Child("storageClassName"), s.StorageClassName, subdomain(s.StorageClassName))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, supported(p.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	errs = append(errs, validateAttributesClass(p, s)...)
	if _, ok := v.Annotations[corev1.MountOptionAnnotation]; ok && !mountsWithOptions(s) {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations", corev1.MountOptionAnnotation), "may not specify mount options for this volume type"))
	}
	return errs
}

func validateAttributesClass(p *field.Path, s *corev1.PersistentVolumeSpec) field.ErrorList {
	if s.VolumeAttributesClassName == nil {
		return nil
	}
	at, name := p.Child("volumeAttributesClassName"), *s.VolumeAttributesClassName
	errs := invalids(at, name, subdomain(name))
	if name == "" {
		errs = field.ErrorList{field.Required(at, "an empty string is disallowed")}
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(p.Child("csi"), "has to be specified when using volumeAttributesClassName"))
	}
	return errs
}

// validateInlineVolume checks the volume that an attachment describes itself.
func validateInlineVolume(p *field.Path, s *corev1.PersistentVolumeSpec) field.ErrorList {
	const no = "may not be specified in the context of inline volumes"
	var errs field.ErrorList
	forbid := func(set bool, name, why string) {
		if set {
			errs = append(errs, field.Forbidden(p.Child(name), why))
		}
	}
	forbid(s.ClaimRef != nil, "claimRef", no)
	forbid(len(s.Capacity) > 0, "capacity", no)
	if s.CSI == nil {
		errs = append(errs, field.Required(p.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	errs = append(errs, validateAccessModes(p.Child("accessModes"), s.AccessModes, "")...)
	forbid(s.PersistentVolumeReclaimPolicy != "" && s.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain,
		"persistentVolumeReclaimPolicy", "may only be Retain in the context of inline volumes")
	forbid(s.NodeAffinity != nil, "nodeAffinity", no)
	errs = append(errs, oneVolume(p, persistentTypes(p, s, ""))...)
	forbid(s.StorageClassName != "", "storageClassName", no)
	forbid(s.VolumeMode != nil && *s.VolumeMode != corev1.PersistentVolumeFilesystem,
		"volumeMode", "may not specify volumeMode other than Filesystem in the context of inline volumes")
	return errs
}

func validateVolumeAffinity(p *field.Path, a *corev1.VolumeNodeAffinity) field.ErrorList {
	if a.Required == nil {
		return field.ErrorList{field.Required(p.Child("required"), "must specify required node constraints")}
	}
	return validateNodeSelector(p.Child("required"), a.Required)
}

// persistentTypes are the types of a PersistentVolume in upstream's order.
func persistentTypes(p *field.Path, s *corev1.PersistentVolumeSpec, name string) []volumeType {
	return []volumeType{
		{name: "hostPath", set: s.HostPath != nil, check: func() field.ErrorList { return validateHostPath(p.Child("hostPath"), s.HostPath) }},
		{name: "gcePersistentDisk", set: s.GCEPersistentDisk != nil, check: func() field.ErrorList { return validateGCEDisk(p.Child("persistentDisk"), s.GCEPersistentDisk) }},
		{name: "awsElasticBlockStore", set: s.AWSElasticBlockStore != nil, check: func() field.ErrorList {
			return validateAWSDisk(p.Child("awsElasticBlockStore"), s.AWSElasticBlockStore)
		}},
		{name: "glusterfs", set: s.Glusterfs != nil, check: func() field.ErrorList {
			errs := validateGlusterfs(p.Child("glusterfs"), s.Glusterfs.EndpointsName, s.Glusterfs.Path)
			at := p.Child("glusterfs", "endpointsNamespace")
			switch ns := s.Glusterfs.EndpointsNamespace; {
			case ns != nil && *ns == "":
				errs = append(errs, field.Invalid(at, "", "if the endpointnamespace is set, it must be a valid namespace name"))
			case ns != nil:
				errs = append(errs, invalids(at, *ns, validation.IsDNS1123Label(*ns))...)
			}
			return errs
		}},
		{name: "flocker", set: s.Flocker != nil, check: func() field.ErrorList { return validateFlocker(p.Child("flocker"), s.Flocker) }},
		{name: "nfs", set: s.NFS != nil, check: func() field.ErrorList { return validateNFS(p.Child("nfs"), s.NFS) }},
		{name: "rbd", set: s.RBD != nil, check: func() field.ErrorList { return validateRBD(p.Child("rbd"), s.RBD.CephMonitors, s.RBD.RBDImage) }},
		{name: "quobyte", set: s.Quobyte != nil, check: func() field.ErrorList { return validateQuobyte(p.Child("quobyte"), s.Quobyte) }},
		{name: "cephFS", set: s.CephFS != nil, check: func() field.ErrorList { return validateMonitors(p.Child("cephfs"), s.CephFS.Monitors) }},
		{name: "iscsi", set: s.ISCSI != nil, check: func() field.ErrorList { return validatePersistentISCSI(p.Child("iscsi"), s.ISCSI, name) }},
		{name: "cinder", set: s.Cinder != nil, check: func() field.ErrorList {
			errs := required(p.Child("cinder", "volumeID"), s.Cinder.VolumeID, nil)
			if ref := s.Cinder.SecretRef; ref != nil {
				errs = append(errs, required(p.Child("cinder", "secretRef", "name"), ref.Name, nil)...)
				errs = append(errs, required(p.Child("cinder", "secretRef", "namespace"), ref.Namespace, nil)...)
			}
			return errs
		}},
		{name: "fc", set: s.FC != nil, check: func() field.ErrorList { return validateFC(p.Child("fc"), s.FC) }},
		{name: "flexVolume", set: s.FlexVolume != nil, again: true, check: func() field.ErrorList {
			return validateFlex(p.Child("flexVolume"), s.FlexVolume.Driver, s.FlexVolume.Options)
		}},
		{name: "azureFile", set: s.AzureFile != nil, check: func() field.ErrorList {
			errs := validateAzureFile(p.Child("azureFile"), s.AzureFile.SecretName, s.AzureFile.ShareName)
			if ns := s.AzureFile.SecretNamespace; ns != nil {
				errs = append(errs, required(p.Child("azureFile", "secretNamespace"), *ns, nil)...)
			}
			return errs
		}},
		{name: "vsphereVolume", set: s.VsphereVolume != nil, check: func() field.ErrorList {
			return required(p.Child("vsphereVolume", "volumePath"), s.VsphereVolume.VolumePath, nil)
		}},
		{name: "photonPersistentDisk", set: s.PhotonPersistentDisk != nil, check: func() field.ErrorList {
			return required(p.Child("photonPersistentDisk", "pdID"), s.PhotonPersistentDisk.PdID, nil)
		}},
		{name: "portworxVolume", set: s.PortworxVolume != nil, check: func() field.ErrorList {
			return required(p.Child("portworxVolume", "volumeID"), s.PortworxVolume.VolumeID, nil)
		}},
		{name: "azureDisk", set: s.AzureDisk != nil, check: func() field.ErrorList { return validateAzureDisk(p.Child("azureDisk"), s.AzureDisk) }},
		{name: "scaleIO", set: s.ScaleIO != nil, check: func() field.ErrorList {
			return validateScaleIO(p.Child("scaleIO"), s.ScaleIO.Gateway, s.ScaleIO.System, s.ScaleIO.VolumeName)
		}},
		{name: "local", set: s.Local != nil, check: func() field.ErrorList {
			errs := required(p.Child("local", "path"), s.Local.Path, nil)
			if len(errs) == 0 {
				errs = noBacksteps(p.Child("local", "path"), s.Local.Path)
			}
			if s.NodeAffinity == nil {
				errs = append(errs, field.Required(p.Child("nodeAffinity"), "Local volume requires node affinity"))
			}
			return errs
		}},
		{name: "storageos", set: s.StorageOS != nil, check: func() field.ErrorList {
			errs := validateStorageOS(p.Child("storageos"), s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace)
			if ref := s.StorageOS.SecretRef; ref != nil {
				errs = append(errs, required(p.Child("storageos", "secretRef", "name"), ref.Name, nil)...)
				errs = append(errs, required(p.Child("storageos", "secretRef", "namespace"), ref.Namespace, nil)...)
			}
			return errs
		}},
		{name: "csi", set: s.CSI != nil, check: func() field.ErrorList { return validatePersistentCSI(p.Child("csi"), s.CSI) }},
	}
}

func validatePersistentISCSI(p *field.Path, s *corev1.ISCSIPersistentVolumeSource, volume string) field.ErrorList {
	const format = "must be valid format"
	errs := required(p.Child("targetPortal"), s.TargetPortal, nil)
	if s.InitiatorName != nil && len(volume+":"+s.TargetPortal) > 64 {
		errs = append(errs, field.Invalid(p.Child("targetportal"), s.TargetPortal, longTarget))
	}
	errs = append(errs, validateISCSITarget(p, s.IQN, format, s.Lun, s.DiscoveryCHAPAuth || s.SessionCHAPAuth, s.SecretRef != nil)...)
	if s.SecretRef != nil {
		errs = append(errs, required(p.Child("secretRef", "name"), s.SecretRef.Name, nil)...)
	}
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(p.Child("initiatorname"), *s.InitiatorName, format)...)
	}
	return errs
}

func validatePersistentCSI(p *field.Path, s *corev1.CSIPersistentVolumeSource) field.ErrorList {
	errs := validateDriverName(p.Child("driver"), s.Driver)
	errs = append(errs, required(p.Child("volumeHandle"), s.VolumeHandle, nil)...)
	for _, ref := range []struct {
		name string
		*corev1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if ref.SecretReference != nil {
			errs = append(errs, required(p.Child(ref.name, "name"), ref.Name, validation.IsDNS1123Subdomain)...)
			errs = append(errs, required(p.Child(ref.name, "namespace"), ref.Namespace, validation.IsDNS1123Label)...)
		}
	}
	return errs
}

// mountsWithOptions are the types that the old annotation for mount options was
// made for.
func mountsWithOptions(s *corev1.PersistentVolumeSpec) bool {
	return s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.NFS != nil || s.RBD != nil ||
		s.Quobyte != nil || s.ISCSI != nil || s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil ||
		s.AzureDisk != nil || s.PhotonPersistentDisk != nil
}

func validateVolumeObjectUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	errs := validateVolumeObject(v)
	source := v.Spec.PersistentVolumeSource.DeepCopy()
	if source.CSI != nil && old.Spec.CSI != nil && old.Spec.CSI.ControllerExpandSecretRef == nil {
		// It may come later: volumes were made before it was there.
		source.CSI.ControllerExpandSecretRef = nil
	}
	if !apiequality.Semantic.DeepEqual(*source, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(old.Spec.PersistentVolumeSource, *source))))
	}
	errs = append(errs, unchanged(field.NewPath("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)...)
	if old.Spec.NodeAffinity != nil && !sameAffinity(v.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, immutable+", except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
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
		text("VolumeAttributesClass", "VolumeAttributesClass of the pv", func(v *corev1.PersistentVolume) string {
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

// sameAffinity reports whether a is old, with stable labels or beta ones.
func sameAffinity(a, old *corev1.VolumeNodeAffinity) bool {
	if a == nil || a.Required == nil || old.Required == nil || len(a.Required.NodeSelectorTerms) != len(old.Required.NodeSelectorTerms) {
		return apiequality.Semantic.DeepEqual(a, old)
	}
	a = a.DeepCopy()
	for i, term := range a.Required.NodeSelectorTerms {
		was := old.Required.NodeSelectorTerms[i].MatchExpressions
		for j := range min(len(term.MatchExpressions), len(was)) {
			// A key that is left out is refused as such, not as a change.
			if key := &term.MatchExpressions[j].Key; *key == stableLabel(was[j].Key) {
				*key = was[j].Key
			}
		}
	}
	return apiequality.Semantic.DeepEqual(a, old)
}

// stableLabel is what took the place of a node's beta label; other labels have
// none.
func stableLabel(beta string) string {
	switch beta {
	case corev1.LabelFailureDomainBetaZone:
		return corev1.LabelTopologyZone
	case corev1.LabelFailureDomainBetaRegion:
		return corev1.LabelTopologyRegion
	case corev1.LabelInstanceType:
		return corev1.LabelInstanceTypeStable
	case "beta.kubernetes.io/os":
		return corev1.LabelOSStable
	case "beta.kubernetes.io/arch":
		return corev1.LabelArchStable
	}
	return ""
}
