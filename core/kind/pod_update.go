package kind

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodUpdate lets only those parts of a running pod change that nodes
// can follow.
func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validatePodAnnotations(field.NewPath("metadata", "annotations"), p.Annotations, &p.Spec)
	errs = append(errs, validatePodSpec(spec, &p.Spec)...)
	if len(p.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(spec.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(spec.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, validateDeadlineUpdate(spec.Child("activeDeadlineSeconds"), p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)...)
	errs = append(errs, validateAddedTolerations(spec.Child("tolerations"), p.Spec.Tolerations, old.Spec.Tolerations)...)
	for i, g := range p.Spec.SchedulingGates {
		if !slices.Contains(old.Spec.SchedulingGates, g) {
			errs = append(errs, field.Forbidden(spec.Child("schedulingGates").Index(i), "only deletion is allowed, but found new scheduling gate '"+g.Name+"'"))
		}
	}
	if old.Spec.NodeName == "" && p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}

	same := p.Spec.DeepCopy()
	for i := range same.Containers {
		same.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range same.InitContainers {
		same.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	same.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	same.Tolerations = old.Spec.Tolerations
	same.SchedulingGates = old.Spec.SchedulingGates
	if deref(old.Spec.TerminationGracePeriodSeconds) < 0 && deref(same.TerminationGracePeriodSeconds) == 1 {
		same.TerminationGracePeriodSeconds = old.Spec.TerminationGracePeriodSeconds
	}
	if gated := len(old.Spec.SchedulingGates) > 0; gated {
		// KEP-3838: as long as nobody has looked at it, where it may run
		// can be narrowed.
		errs = append(errs, validateGatedUpdate(spec, same, &old.Spec)...)
	}
	if !apiequality.Semantic.DeepEqual(*same, old.Spec) {
		errs = append(errs, field.Forbidden(spec, fmt.Sprintf("pod updates may not change fields other than %s\n%v",
			"`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
			diff.Diff(old.Spec, *same))))
	}
	return errs
}

// validateGatedUpdate checks that the placement only got narrower and then
// makes it equal to the old one.
func validateGatedUpdate(p *field.Path, s, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for k, v := range old.NodeSelector {
		if s.NodeSelector[k] != v {
			errs = append(errs, field.Invalid(p.Child("nodeSelector"), s.NodeSelector, "only additions are allowed to spec.nodeSelector"))
			break
		}
	}
	s.NodeSelector = old.NodeSelector
	terms := func(a *corev1.Affinity) *corev1.NodeSelector {
		if a == nil || a.NodeAffinity == nil {
			return nil
		}
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	if before, now := terms(old.Affinity), terms(s.Affinity); before != nil {
		at := p.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
		if now == nil || len(now.NodeSelectorTerms) != len(before.NodeSelectorTerms) {
			errs = append(errs, field.Invalid(at.Child("nodeSelectorTerms"), now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
		} else {
			for i := range before.NodeSelectorTerms {
				for _, r := range before.NodeSelectorTerms[i].MatchExpressions {
					if !slices.ContainsFunc(now.NodeSelectorTerms[i].MatchExpressions, func(n corev1.NodeSelectorRequirement) bool {
						return apiequality.Semantic.DeepEqual(n, r)
					}) {
						errs = append(errs, field.Invalid(at.Child("nodeSelectorTerms").Index(i), now.NodeSelectorTerms[i], "only additions are allowed (no changes or deletions)"))
						break
					}
				}
			}
		}
	}
	if s.Affinity != nil {
		// Anything else of the affinity must stay as it was.
		na := s.Affinity.NodeAffinity
		if na == nil {
			na = &corev1.NodeAffinity{}
		}
		na.RequiredDuringSchedulingIgnoredDuringExecution = terms(old.Affinity)
		if na.RequiredDuringSchedulingIgnoredDuringExecution == nil && len(na.PreferredDuringSchedulingIgnoredDuringExecution) == 0 &&
			(old.Affinity == nil || old.Affinity.NodeAffinity == nil) {
			s.Affinity.NodeAffinity = nil
		}
		if old.Affinity == nil && s.Affinity.NodeAffinity == nil && s.Affinity.PodAffinity == nil && s.Affinity.PodAntiAffinity == nil {
			s.Affinity = nil
		}
	}
	return errs
}

func validateDeadlineUpdate(p *field.Path, now, old *int64) field.ErrorList {
	switch {
	case now == nil && old != nil:
		return field.ErrorList{field.Invalid(p, now, "must not update from a positive integer to nil value")}
	case now != nil && *now < 0:
		return field.ErrorList{field.Invalid(p, *now, notNegative)}
	case now != nil && old != nil && *now > *old:
		return field.ErrorList{field.Invalid(p, *now, "must be less than or equal to previous value")}
	}
	return nil
}

// validateAddedTolerations lets tolerations be added and their seconds change.
func validateAddedTolerations(p *field.Path, now, old []corev1.Toleration) field.ErrorList {
	timeless := func(t corev1.Toleration) corev1.Toleration {
		t.TolerationSeconds = nil
		return t
	}
	for _, o := range old {
		if !slices.ContainsFunc(now, func(n corev1.Toleration) bool { return timeless(n) == timeless(o) }) {
			return field.ErrorList{field.Forbidden(p, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return validateTolerations(p, now)
}

func validateEphemeralContainersUpdate(p, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("spec", "ephemeralContainers")
	errs := newPodScope(&p.Spec).ephemeralContainers(at, &p.Spec)
	now := map[string]*corev1.EphemeralContainer{}
	for i := range p.Spec.EphemeralContainers {
		now[p.Spec.EphemeralContainers[i].Name] = &p.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		o := &old.Spec.EphemeralContainers[i]
		switch n := now[o.Name]; {
		case n == nil:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", o.Name)))
		case !apiequality.Semantic.DeepEqual(*n, *o):
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", o.Name, diff.Diff(o, n))))
		}
	}
	return errs
}

func validatePodResize(p, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validatePodSpec(spec, &p.Spec)
	if QOSClass(&p.Spec) != old.Status.QOSClass && old.Status.QOSClass != "" {
		errs = append(errs, field.Invalid(spec, old.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	for i := range old.Spec.Containers {
		o, n := old.Spec.Containers[i].Resources, p.Spec.Containers[i].Resources
		at := spec.Child("containers").Index(i).Child("resources")
		for part, lists := range map[string][2]corev1.ResourceList{"limits": {o.Limits, n.Limits}, "requests": {o.Requests, n.Requests}} {
			for name, q := range lists[0] {
				now, ok := lists[1][name]
				switch resizable := name == corev1.ResourceCPU || name == corev1.ResourceMemory; {
				case !ok && resizable:
					errs = append(errs, field.Forbidden(at.Child(part), "resource "+part+" cannot be removed"))
				case !resizable && (!ok || now.Cmp(q) != 0):
					errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable"))
				}
			}
		}
	}
	return errs
}

func validatePodStatus(p, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("status")
	var errs field.ErrorList
	if p.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(at.Child("nodeName"), "may not be changed directly"))
	}
	if n := p.Status.NominatedNodeName; n != "" {
		errs = append(errs, invalids(at.Child("nominatedNodeName"), n, subdomain(n))...)
	}
	// A container that has ended for good does not run again.
	for i := range old.Status.ContainerStatuses {
		o := &old.Status.ContainerStatuses[i]
		if o.State.Terminated == nil || old.Spec.RestartPolicy == corev1.RestartPolicyAlways ||
			old.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && o.State.Terminated.ExitCode != 0 || mayRestart(&old.Spec, o) {
			continue
		}
		for _, n := range p.Status.ContainerStatuses {
			if n.Name == o.Name && n.State.Terminated == nil {
				errs = append(errs, field.Forbidden(at.Child("containerStatuses").Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	for i, ip := range p.Status.PodIPs {
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("podIPs").Index(i), ip.IP, true, nil)...)
	}
	if len(p.Status.PodIPs) > 2 {
		errs = append(errs, field.Invalid(at.Child("podIPs"), p.Status.PodIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func mayRestart(s *corev1.PodSpec, st *corev1.ContainerStatus) bool {
	for i := range s.Containers {
		if c := &s.Containers[i]; c.Name == st.Name {
			return c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0
		}
	}
	return false
}

// podSpecWarnings points out what is accepted but hardly meant.
func podSpecWarnings(p *field.Path, s *corev1.PodSpec) []string {
	var warnings []string
	for _, l := range []struct{ old, now string }{
		{"beta.kubernetes.io/arch", "kubernetes.io/arch"},
		{"beta.kubernetes.io/os", "kubernetes.io/os"},
		{"beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"},
		{"failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"},
		{"failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"},
	} {
		if _, ok := s.NodeSelector[l.old]; ok {
			since := "v1.14"
			if strings.Contains(l.now, "region") || strings.Contains(l.now, "zone") || strings.Contains(l.now, "instance-type") {
				since = "v1.17"
			}
			warnings = append(warnings, fmt.Sprintf("%s: deprecated since %s; use %q instead", p.Child("nodeSelector").Key(l.old), since, l.now))
		}
	}
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		warnings = append(warnings, fmt.Sprintf("%s: must be >= 0; negative values are invalid and will be treated as 1", p.Child("terminationGracePeriodSeconds")))
	}
	for i, v := range s.Volumes {
		if v.GitRepo != nil {
			warnings = append(warnings, fmt.Sprintf("%s: deprecated in v1.11, and disabled by default in v1.33+", p.Child("volumes").Index(i).Child("gitRepo")))
		}
		if v.Glusterfs != nil {
			warnings = append(warnings, fmt.Sprintf("%s: deprecated in v1.25, non-functional in v1.26+", p.Child("volumes").Index(i).Child("glusterfs")))
		}
		if v.RBD != nil {
			warnings = append(warnings, fmt.Sprintf("%s: deprecated in v1.28, non-functional in v1.31+", p.Child("volumes").Index(i).Child("rbd")))
		}
		if v.CephFS != nil {
			warnings = append(warnings, fmt.Sprintf("%s: deprecated in v1.28, non-functional in v1.31+", p.Child("volumes").Index(i).Child("cephfs")))
		}
	}
	warnings = append(warnings, containerWarnings(p.Child("initContainers"), s.InitContainers)...)
	return append(warnings, containerWarnings(p.Child("containers"), s.Containers)...)
}

func containerWarnings(p *field.Path, cs []corev1.Container) []string {
	var warnings []string
	for i := range cs {
		at := p.Index(i)
		for _, part := range []struct {
			name string
			list corev1.ResourceList
		}{{"limits", cs[i].Resources.Limits}, {"requests", cs[i].Resources.Requests}} {
			for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
				if q, ok := part.list[name]; ok && q.MilliValue()%1000 != 0 {
					warnings = append(warnings, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer",
						at.Child("resources", part.name).Key(string(name)), q.String()))
				}
			}
		}
		env := map[string]bool{}
		for j, e := range cs[i].Env {
			if env[e.Name] {
				warnings = append(warnings, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", at.Child("env").Index(j), e.Name))
			}
			env[e.Name] = true
		}
		ports := map[string]int{}
		for j, port := range cs[i].Ports {
			key := fmt.Sprintf("%d/%s/%s/%d", port.ContainerPort, port.Protocol, port.HostIP, port.HostPort)
			if other, ok := ports[key]; ok {
				warnings = append(warnings, fmt.Sprintf("%s: duplicate port definition with %s", at.Child("ports").Index(j), at.Child("ports").Index(other)))
				continue
			}
			ports[key] = j
		}
	}
	return warnings
}
