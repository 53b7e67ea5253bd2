package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// deprecatedNodeLabels are labels that nodes no longer have, and what to say
// of one.
func deprecatedNodeLabels() map[string]string {
	return map[string]string{
		"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
		"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
		"failure-domain.beta.kubernetes.io/region":      `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
		"failure-domain.beta.kubernetes.io/zone":        `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
		"beta.kubernetes.io/instance-type":              `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
		"app.kubernetes.io/created-by":                  "deprecated since v1.9",
		"scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
		"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
	}
}

// podWarnings points out what is accepted but hardly meant. p is nil for a pod
// and leads to the template otherwise.
func podWarnings(p *field.Path, meta *metav1.ObjectMeta, s *corev1.PodSpec) []string {
	var warnings []string
	warn := func(at *field.Path, format string, args ...any) {
		warnings = append(warnings, at.String()+": "+fmt.Sprintf(format, args...))
	}
	spec := p.Child("spec")
	labels := deprecatedNodeLabels()
	for _, key := range sortedKeys(s.NodeSelector) {
		if old := labels[key]; old != "" {
			warn(spec.Child("nodeSelector").Key(key), "%s", old)
		}
	}
	warnings = append(warnings, nodeAffinityWarnings(spec.Child("affinity", "nodeAffinity"), s.Affinity)...)
	for i, c := range s.TopologySpreadConstraints {
		at := spec.Child("topologySpreadConstraints").Index(i)
		if old := labels[c.TopologyKey]; old != "" {
			warn(at.Child("topologyKey"), "%s is %s", c.TopologyKey, old)
		}
		if c.LabelSelector == nil {
			warn(at.Child("labelSelector"), nothingSelected)
		}
	}
	annotations := p.Child("metadata", "annotations")
	for _, a := range []struct{ key, old string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := meta.Annotations[a.key]; ok {
			warn(annotations.Key(a.key), "%s", a.old)
		}
	}
	warnings = append(warnings, volumeWarnings(spec.Child("volumes"), s.Volumes)...)
	ips := map[string]bool{}
	for i, a := range s.HostAliases {
		if ips[a.IP] {
			warn(spec.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		ips[a.IP] = true
	}
	secrets := map[string]bool{}
	for i, ref := range s.ImagePullSecrets {
		if secrets[ref.Name] {
			warn(spec.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", ref.Name)
		}
		secrets[ref.Name] = true
	}
	for i, ref := range s.ImagePullSecrets {
		if ref.Name == "" {
			warn(spec.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", ref.Name)
		}
	}
	warnings = append(warnings, fractionWarnings(spec.Child("overhead"), s.Overhead)...)
	const seccompPod, seccompContainer = "seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/"
	const seccomp = `non-functional in v1.27+; use the "seccompProfile" field instead`
	if _, ok := meta.Annotations[seccompPod]; ok && (s.SecurityContext == nil || s.SecurityContext.SeccompProfile == nil) {
		warn(annotations.Key(seccompPod), seccomp)
	}
	eachContainer(spec, s, func(at *field.Path, c *corev1.Container) {
		if _, ok := meta.Annotations[seccompContainer+c.Name]; ok && (c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil) {
			warn(annotations.Key(seccompContainer+c.Name), seccomp)
		}
		key := corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		if _, ok := meta.Annotations[key]; ok && p != nil && (c.SecurityContext == nil || c.SecurityContext.AppArmorProfile == nil) &&
			(s.SecurityContext == nil || s.SecurityContext.AppArmorProfile == nil) {
			warn(annotations.Key(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			warnings = append(warnings, fractionWarning(at.Child("resources", "limits"), c.Resources.Limits, name)...)
			warnings = append(warnings, fractionWarning(at.Child("resources", "requests"), c.Resources.Requests, name)...)
		}
		env := map[string]bool{}
		for i, e := range c.Env {
			// A value that adds to the one before is meant.
			ref := "$(" + e.Name + ")"
			if env[e.Name] && (e.ValueFrom != nil || e.Value == ref || !strings.Contains(e.Value, ref)) {
				warn(at.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
			}
			env[e.Name] = true
		}
	})
	warnings = append(warnings, portWarnings(spec, s)...)
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		warn(spec.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	warnings = append(warnings, podAffinityWarnings(spec.Child("affinity"), s.Affinity)...)
	if s.DNSConfig != nil {
		for i, ns := range s.DNSConfig.Nameservers {
			warnings = append(warnings, validation.GetWarningsForIP(spec.Child("dnsConfig", "nameservers").Index(i), ns)...)
		}
	}
	for i, a := range s.HostAliases {
		warnings = append(warnings, validation.GetWarningsForIP(spec.Child("hostAliases").Index(i).Child("ip"), a.IP)...)
	}
	return warnings
}

func podCreateWarnings(p *corev1.Pod) []string {
	var warnings []string
	if msgs := validation.IsDNS1123Label(p.Name); p.Name != "" && len(msgs) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(warnings, podWarnings(nil, &p.ObjectMeta, &p.Spec)...)
}

const nothingSelected = "a null labelSelector results in matching no pod"

func nodeAffinityWarnings(p *field.Path, a *corev1.Affinity) []string {
	if a == nil || a.NodeAffinity == nil {
		return nil
	}
	var warnings []string
	if r := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		for i := range r.NodeSelectorTerms {
			warnings = append(warnings, nodeTermWarnings(p.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i), &r.NodeSelectorTerms[i], false)...)
		}
	}
	for i := range a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
		t := &a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference
		warnings = append(warnings, nodeTermWarnings(p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"), t, true)...)
	}
	return warnings
}

func nodeTermWarnings(p *field.Path, t *corev1.NodeSelectorTerm, values bool) []string {
	var warnings []string
	labels := deprecatedNodeLabels()
	for i, e := range t.MatchExpressions {
		at := p.Child("matchExpressions").Index(i)
		if old := labels[e.Key]; old != "" {
			warnings = append(warnings, fmt.Sprintf("%s: %s is %s", at.Child("key"), e.Key, old))
		}
		if !values {
			continue
		}
		for j, v := range e.Values {
			for _, m := range validation.IsValidLabelValue(v) {
				warnings = append(warnings, fmt.Sprintf("%s: %s is invalid, %s", at.Child("values").Index(j), v, m))
			}
		}
	}
	return warnings
}

func podAffinityWarnings(p *field.Path, a *corev1.Affinity) []string {
	if a == nil {
		return nil
	}
	var warnings []string
	look := func(p *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i, t := range required {
			if t.LabelSelector == nil {
				warnings = append(warnings, fmt.Sprintf("%s: %s", p.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), nothingSelected))
			}
		}
		for i, t := range preferred {
			if t.PodAffinityTerm.LabelSelector == nil {
				warnings = append(warnings, fmt.Sprintf("%s: %s", p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), nothingSelected))
			}
		}
	}
	if t := a.PodAffinity; t != nil {
		look(p.Child("podAffinity"), t.RequiredDuringSchedulingIgnoredDuringExecution, t.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if t := a.PodAntiAffinity; t != nil {
		look(p.Child("podAntiAffinity"), t.RequiredDuringSchedulingIgnoredDuringExecution, t.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return warnings
}

// eachContainer visits init, regular and ephemeral containers.
func eachContainer(spec *field.Path, s *corev1.PodSpec, visit func(*field.Path, *corev1.Container)) {
	for i := range s.InitContainers {
		visit(spec.Child("initContainers").Index(i), &s.InitContainers[i])
	}
	for i := range s.Containers {
		visit(spec.Child("containers").Index(i), &s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		visit(spec.Child("ephemeralContainers").Index(i), &c)
	}
}

// portWarnings finds ports that are there twice, in whichever containers.
func portWarnings(spec *field.Path, s *corev1.PodSpec) []string {
	type seen struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	var warnings, names []string
	ports, named := map[string][]seen{}, map[string]*field.Path{}
	eachContainer(spec, s, func(at *field.Path, c *corev1.Container) {
		for i, port := range c.Ports {
			at := at.Child("ports").Index(i)
			if port.HostIP != "" && port.HostPort == 0 {
				warnings = append(warnings, fmt.Sprintf("%s: hostIP set without hostPort: %+v", at, port))
			}
			key := fmt.Sprintf("%d/%s", port.ContainerPort, port.Protocol)
			for _, other := range ports[key] {
				what := ""
				switch {
				case port.HostIP == other.port.HostIP && port.HostPort == other.port.HostPort:
					what = "duplicate"
				case port.HostPort == 0 || other.port.HostPort == 0:
					what = "overlapping"
				case port.HostPort == other.port.HostPort && (port.HostIP == "") != (other.port.HostIP == ""):
					what = "dangerously ambiguous"
				default:
					continue
				}
				warnings = append(warnings, fmt.Sprintf("%s: %s port definition with %s", at, what, other.at))
			}
			ports[key] = append(ports[key], seen{at, port})
			if port.Name == "" {
				continue
			}
			if other := named[port.Name]; other != nil {
				names = append(names, fmt.Sprintf("%s: duplicate port name %q with %s, services and probes that select ports by name will use %s", at, port.Name, other, other))
			} else {
				named[port.Name] = at
			}
		}
	})
	return append(warnings, names...)
}

func fractionWarnings(p *field.Path, list corev1.ResourceList) []string {
	return append(fractionWarning(p, list, corev1.ResourceMemory), fractionWarning(p, list, corev1.ResourceEphemeralStorage)...)
}

// fractionWarning points out parts of a byte.
func fractionWarning(p *field.Path, list corev1.ResourceList, name corev1.ResourceName) []string {
	if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
		return []string{fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", p.Key(string(name)), q.String())}
	}
	return nil
}

func volumeWarnings(p *field.Path, volumes []corev1.Volume) []string {
	var warnings []string
	for i := range volumes {
		v, at := &volumes[i], p.Index(i)
		for _, old := range []struct {
			set         bool
			name, since string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.set {
				warnings = append(warnings, fmt.Sprintf("%s: %s", at.Child(old.name), old.since))
			}
		}
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			warnings = append(warnings, claimSpecWarnings(at.Child("ephemeral", "volumeClaimTemplate", "spec"), &v.Ephemeral.VolumeClaimTemplate.Spec)...)
		}
	}
	for i := range volumes {
		warnings = append(warnings, overlapWarnings(&volumes[i])...)
	}
	return warnings
}

func claimSpecWarnings(p *field.Path, s *corev1.PersistentVolumeClaimSpec) []string {
	return append(fractionWarning(p.Child("resources", "requests"), s.Resources.Requests, corev1.ResourceStorage),
		fractionWarning(p.Child("resources", "limits"), s.Resources.Limits, corev1.ResourceStorage)...)
}

// A volumeFile is a path inside a volume and what puts it there.
type volumeFile struct{ path, source string }

func (f volumeFile) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// overlapWarnings finds files of a volume that hide each other.
func overlapWarnings(v *corev1.Volume) []string {
	var warnings []string
	var files []volumeFile
	what := ""
	add := func(path, source string) {
		f := volumeFile{strings.TrimRight(path, "/"), source}
		for _, other := range files {
			if f.path != "" && other.path != "" &&
				(strings.HasPrefix(other.path+"/", f.path+"/") || strings.HasPrefix(f.path+"/", other.path+"/")) {
				warnings = append(warnings, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", v.Name, what, f, other))
			}
		}
		files = append(files, f)
	}
	keys := func(items []corev1.KeyToPath, source string) {
		for _, item := range items {
			add(item.Path, source)
		}
	}
	switch {
	case v.ConfigMap != nil:
		what = fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name)
		keys(v.ConfigMap.Items, "")
	case v.Secret != nil:
		what = fmt.Sprintf("Secret %q", v.Secret.SecretName)
		keys(v.Secret.Items, "")
	case v.DownwardAPI != nil:
		what = "DownwardAPI"
		for _, item := range v.DownwardAPI.Items {
			add(item.Path, "")
		}
	case v.Projected != nil:
		what = "Projected"
		for i := range v.Projected.Sources {
			switch s := &v.Projected.Sources[i]; {
			case s.ConfigMap != nil:
				keys(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))
			case s.Secret != nil:
				keys(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))
			case s.DownwardAPI != nil:
				for _, item := range s.DownwardAPI.Items {
					add(item.Path, "DownwardAPI")
				}
			case s.ServiceAccountToken != nil:
				add(s.ServiceAccountToken.Path, "ServiceAccountToken")
			case s.ClusterTrustBundle != nil:
				add(s.ClusterTrustBundle.Path, fmt.Sprintf("ClusterTrustBundle %q", deref(s.ClusterTrustBundle.Name)+deref(s.ClusterTrustBundle.SignerName)))
			case s.PodCertificate != nil:
				add(s.PodCertificate.CertificateChainPath, "PodCertificate chain")
				add(s.PodCertificate.KeyPath, "PodCertificate key")
				add(s.PodCertificate.CredentialBundlePath, "PodCertificate credential bundle")
			default:
				warnings = append(warnings, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			}
		}
	}
	return warnings
}
