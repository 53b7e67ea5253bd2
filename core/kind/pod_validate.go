package kind

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePod(p *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validatePodAnnotations(field.NewPath("metadata", "annotations"), p.Annotations, &p.Spec)
	errs = append(errs, validatePodSpec(spec, &p.Spec, p.Name)...)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// validatePodTemplate checks what controllers make pods from.
func validatePodTemplate(t *corev1.PodTemplateSpec, p *field.Path) field.ErrorList {
	errs := validateLabels(p.Child("labels"), t.Labels)
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, p.Child("annotations"))...)
	errs = append(errs, validatePodAnnotations(p.Child("annotations"), t.Annotations, &t.Spec)...)
	errs = append(errs, validatePodSpec(p.Child("spec"), &t.Spec, "")...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(p.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

func validatePodAnnotations(p *field.Path, annotations map[string]string, s *corev1.PodSpec) field.ErrorList {
	if _, ok := annotations[corev1.MirrorPodAnnotationKey]; ok && s.NodeName == "" {
		return field.ErrorList{field.Invalid(p.Key(corev1.MirrorPodAnnotationKey), s.NodeName, "must set spec.nodeName if mirror pod annotation is set")}
	}
	return nil
}

// validatePodSpec checks a pod, or a template with no name of a pod.
func validatePodSpec(p *field.Path, s *corev1.PodSpec, pod string) field.ErrorList {
	volumes, errs := validateVolumes(p.Child("volumes"), s.Volumes, pod)
	scope := newPodScope(s, volumes)
	errs = append(errs, validatePodClaims(p.Child("resourceClaims"), s.ResourceClaims)...)
	errs = append(errs, scope.containers(p.Child("containers"), s.Containers)...)
	errs = append(errs, scope.initContainers(p.Child("initContainers"), s.InitContainers, s.Containers)...)
	errs = append(errs, scope.ephemeralContainers(p.Child("ephemeralContainers"), s)...)
	if s.Resources != nil {
		errs = append(errs, validatePodResources(p.Child("resources"), s)...)
	}
	errs = append(errs, oneOf(p.Child("restartPolicy"), s.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, oneOf(p.Child("dnsPolicy"), s.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	errs = append(errs, validateLabels(p.Child("nodeSelector"), s.NodeSelector)...)
	errs = append(errs, validatePodSecurityContext(p.Child("securityContext"), s)...)
	errs = append(errs, validateHostNetwork(p, s, pod == "")...)
	errs = append(errs, validateAffinity(p.Child("affinity"), s.Affinity)...)
	errs = append(errs, validateDNSConfig(p.Child("dnsConfig"), s)...)
	for i, g := range s.ReadinessGates {
		errs = append(errs, invalids(p.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType),
			validation.IsQualifiedName(string(g.ConditionType)))...)
	}
	errs = append(errs, validateSchedulingGates(p.Child("schedulingGates"), s.SchedulingGates)...)
	errs = append(errs, validateSpreadConstraints(p.Child("topologySpreadConstraints"), s.TopologySpreadConstraints)...)
	errs = append(errs, validateHostUsers(p.Child("hostUsers"), s)...)
	if s.ServiceAccountName != "" {
		errs = append(errs, invalids(p.Child("serviceAccountName"), s.ServiceAccountName, subdomain(s.ServiceAccountName))...)
	}
	if s.NodeName != "" {
		errs = append(errs, invalids(p.Child("nodeName"), s.NodeName, subdomain(s.NodeName))...)
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		errs = append(errs, field.Invalid(p.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if s.Hostname != "" {
		errs = append(errs, invalids(p.Child("hostname"), s.Hostname, validation.IsDNS1123Label(s.Hostname))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, invalids(p.Child("subdomain"), s.Subdomain, validation.IsDNS1123Label(s.Subdomain))...)
	}
	errs = append(errs, validateHostnameOverride(p.Child("hostnameOverride"), s)...)
	errs = append(errs, validateTolerations(p.Child("tolerations"), s.Tolerations)...)
	errs = append(errs, validateHostAliases(p.Child("hostAliases"), s.HostAliases)...)
	if s.PriorityClassName != "" {
		errs = append(errs, invalids(p.Child("priorityClassName"), s.PriorityClassName, subdomain(s.PriorityClassName))...)
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, invalids(p.Child("runtimeClassName"), *s.RuntimeClassName, subdomain(*s.RuntimeClassName))...)
	}
	if s.PreemptionPolicy != nil {
		errs = append(errs, supported(p.Child("preemptionPolicy"), *s.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	errs = append(errs, validateResources(p.Child("overhead"), &corev1.ResourceRequirements{Limits: s.Overhead}, nil)...)
	if s.OS != nil {
		if s.OS.Name == "" {
			errs = append(errs, field.Required(p.Child("os", "name"), ""))
		} else {
			errs = append(errs, supported(p.Child("os"), s.OS.Name, corev1.Linux, corev1.Windows)...)
		}
	}
	return errs
}

// validatePodResources checks KEP-2837's resources of the whole pod.
func validatePodResources(p *field.Path, s *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for part, list := range map[string]corev1.ResourceList{"limits": s.Resources.Limits, "requests": s.Resources.Requests} {
		for name := range list {
			if name != corev1.ResourceCPU && name != corev1.ResourceMemory && !isHugePages(name) {
				errs = append(errs, field.NotSupported(p.Child(part), name, []string{"cpu", "hugepages-", "memory"}))
			}
		}
	}
	if len(s.Resources.Claims) > 0 {
		errs = append(errs, field.Forbidden(p.Child("claims"), "claims cannot be set for Resources at pod-level"))
	}
	return append(errs, validateResources(p, s.Resources, nil)...)
}

func validatePodClaims(p *field.Path, claims []corev1.PodResourceClaim) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, c := range claims {
		at := p.Index(i)
		errs = append(errs, required(at.Child("name"), c.Name, validation.IsDNS1123Label)...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen[c.Name] = c.Name != ""
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if n := c.ResourceClaimName; n != nil {
			errs = append(errs, invalids(at.Child("resourceClaimName"), *n, subdomain(*n))...)
		}
		if n := c.ResourceClaimTemplateName; n != nil {
			errs = append(errs, invalids(at.Child("resourceClaimTemplateName"), *n, subdomain(*n))...)
		}
	}
	return errs
}

func validatePodSecurityContext(p *field.Path, s *corev1.PodSpec) field.ErrorList {
	sc := s.SecurityContext
	if sc == nil {
		return nil
	}
	var errs field.ErrorList
	group := func(p *field.Path, id *int64) {
		if id != nil {
			errs = append(errs, invalids(p, *id, validation.IsValidGroupID(*id))...)
		}
	}
	group(p.Child("fsGroup"), sc.FSGroup)
	if sc.RunAsUser != nil {
		errs = append(errs, invalids(p.Child("runAsUser"), *sc.RunAsUser, validation.IsValidUserID(*sc.RunAsUser))...)
	}
	group(p.Child("runAsGroup"), sc.RunAsGroup)
	for i := range sc.SupplementalGroups {
		group(p.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i])
	}
	if sc.SupplementalGroupsPolicy != nil {
		errs = append(errs, supported(p.Child("supplementalGroupsPolicy"), *sc.SupplementalGroupsPolicy,
			corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if s.ShareProcessNamespace != nil && s.HostPID && *s.ShareProcessNamespace {
		errs = append(errs, field.Invalid(p.Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	seen := map[string]bool{}
	for i, sys := range sc.Sysctls {
		at := p.Child("sysctls").Index(i).Child("name")
		switch {
		case sys.Name == "":
			errs = append(errs, field.Required(at, ""))
		case !validSysctl(sys.Name):
			errs = append(errs, field.Invalid(at, sys.Name, fmt.Sprintf("must have at most %d characters and match regex %s", 253, "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$")))
		case seen[sys.Name]:
			errs = append(errs, field.Duplicate(at, sys.Name))
		}
		seen[sys.Name] = true
	}
	if sc.FSGroupChangePolicy != nil {
		errs = append(errs, supported(p.Child("fsGroupChangePolicy"), *sc.FSGroupChangePolicy, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	errs = append(errs, validateSeccomp(p.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, validateAppArmor(p.Child("appArmorProfile"), sc.AppArmorProfile)...)
	if sc.SELinuxChangePolicy != nil {
		errs = append(errs, supported(p.Child("seLinuxChangePolicy"), *sc.SELinuxChangePolicy,
			corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	}
	return errs
}

func validSysctl(name string) bool {
	if len(name) > 253 {
		return false
	}
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '/' }) {
		if len(validation.IsDNS1123Label(strings.ReplaceAll(part, "_", "-"))) > 0 {
			return false
		}
	}
	return !strings.ContainsAny(name[:1]+name[len(name)-1:], "./")
}

func validateHostUsers(p *field.Path, s *corev1.PodSpec) field.ErrorList {
	if s.HostUsers == nil || *s.HostUsers {
		return nil
	}
	var errs field.ErrorList
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(p, "when `hostUsers` is false, `hostNetwork` may not be true"))
	}
	if s.HostPID {
		errs = append(errs, field.Forbidden(p.Child("HostPID"), "when `hostUsers` is false"))
	}
	if s.HostIPC {
		errs = append(errs, field.Forbidden(p.Child("HostIPC"), "when `hostUsers` is false"))
	}
	return errs
}

func validateDNSConfig(p *field.Path, s *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if s.DNSPolicy == corev1.DNSNone {
		if s.DNSConfig == nil {
			return field.ErrorList{field.Required(p, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))}
		}
		if len(s.DNSConfig.Nameservers) == 0 {
			return field.ErrorList{field.Required(p.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))}
		}
	}
	c := s.DNSConfig
	if c == nil {
		return nil
	}
	const maxNameservers, maxSearches, maxSearchChars = 3, 32, 2048
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(p.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, ns := range c.Nameservers {
		errs = append(errs, validation.IsValidIPForLegacyField(p.Child("nameservers").Index(i), ns, true, nil)...)
	}
	if len(c.Searches) > maxSearches {
		errs = append(errs, field.Invalid(p.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchChars {
		errs = append(errs, field.Invalid(p.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchChars)))
	}
	for i, search := range c.Searches {
		if search == "." {
			continue
		}
		errs = append(errs, invalids(p.Child("searches").Index(i), search,
			validation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(search, ".")))...)
	}
	for i, o := range c.Options {
		if o.Name == "" {
			errs = append(errs, field.Required(p.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

func validateHostAliases(p *field.Path, aliases []corev1.HostAlias) field.ErrorList {
	var errs field.ErrorList
	for i, a := range aliases {
		errs = append(errs, validation.IsValidIPForLegacyField(p.Index(i).Child("ip"), a.IP, true, nil)...)
		for j, h := range a.Hostnames {
			errs = append(errs, invalids(p.Index(i).Child("hostnames").Index(j), h, validation.IsDNS1123Subdomain(h))...)
		}
	}
	return errs
}

// validateHostNetwork wants the ports of a pod on its host's network to be the
// host's; a template may leave them out.
func validateHostNetwork(p *field.Path, s *corev1.PodSpec, template bool) field.ErrorList {
	if !s.HostNetwork {
		return nil
	}
	var errs field.ErrorList
	for i := range s.Containers {
		for j, port := range s.Containers[i].Ports {
			if port.HostPort != port.ContainerPort && !(template && port.HostPort == 0) {
				errs = append(errs, field.Invalid(p.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"), port.HostPort,
					"must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

// validateHostnameOverride checks KEP-4762's name of the host.
func validateHostnameOverride(p *field.Path, s *corev1.PodSpec) field.ErrorList {
	if s.HostnameOverride == nil {
		return nil
	}
	var errs field.ErrorList
	if deref(s.SetHostnameAsFQDN) {
		errs = append(errs, field.Forbidden(p, "may not be specified when setHostnameAsFQDN is true"))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(p, "may not be specified when hostNetwork is true"))
	}
	if len(*s.HostnameOverride) > 64 {
		errs = append(errs, field.TooLong(p, "", 64))
	}
	return append(errs, invalids(p, *s.HostnameOverride, validation.IsDNS1123Subdomain(*s.HostnameOverride))...)
}

func validateSchedulingGates(p *field.Path, gates []corev1.PodSchedulingGate) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, g := range gates {
		errs = append(errs, invalids(p.Index(i), g.Name, validation.IsQualifiedName(g.Name))...)
		if seen[g.Name] {
			errs = append(errs, field.Duplicate(p.Index(i), g.Name))
		}
		seen[g.Name] = true
	}
	return errs
}

// ephemeralContainers are added to running pods for a look inside.
func (scope *podScope) ephemeralContainers(p *field.Path, s *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	names, others := map[string]bool{}, map[string]bool{}
	for _, cs := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range cs {
			names[cs[i].Name], others[cs[i].Name] = true, true
		}
	}
	for i := range s.EphemeralContainers {
		e, at := &s.EphemeralContainers[i], p.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, scope.container(at, &c)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
		if e.TargetContainerName != "" && !others[e.TargetContainerName] {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		const never = "cannot be set for an Ephemeral Container"
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"ports", len(c.Ports) > 0},
			{"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil},
			{"lifecycle", c.Lifecycle != nil},
			{"resources", len(c.Resources.Limits)+len(c.Resources.Requests)+len(c.Resources.Claims) > 0},
			{"resizePolicy", len(c.ResizePolicy) > 0},
			{"restartPolicy", c.RestartPolicy != nil},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(at.Child(f.name), never))
			}
		}
		for j, m := range c.VolumeMounts {
			if m.SubPath != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPath"), never))
			}
			if m.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPathExpr"), never))
			}
		}
	}
	return errs
}
