package kind

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// validatePodUpdate lets only those parts of a running pod change that nodes
// can follow.
func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validatePodAnnotations(field.NewPath("metadata", "annotations"), p.Annotations, &p.Spec)
	errs = append(errs, validatePodSpec(spec, &p.Spec, p.Name)...)
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
			errs = append(errs, field.Forbidden(spec.Child("schedulingGates").Index(i).Child("name"), "only deletion is allowed, but found new scheduling gate '"+g.Name+"'"))
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
	case now != nil && (*now < 0 || *now > math.MaxInt32):
		return field.ErrorList{field.Invalid(p, *now, validation.InclusiveRangeError(0, math.MaxInt32))}
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
	// The volumes were checked when the pod was made.
	volumes, _ := validateVolumes(field.NewPath("spec", "volumes"), p.Spec.Volumes, p.Name)
	errs := newPodScope(&p.Spec, volumes).ephemeralContainers(at, &p.Spec)
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
	errs := validatePodSpec(spec, &p.Spec, p.Name)
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
	st, was := &p.Status, &old.Status
	var errs field.ErrorList
	for i, c := range st.Conditions {
		at := at.Child("conditions").Index(i)
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(at.Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer"))
		}
		switch c.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized:
		default:
			errs = append(errs, invalids(at.Child("Type"), string(c.Type), validation.IsQualifiedName(string(c.Type)))...)
		}
	}
	if n := st.NominatedNodeName; n != "" && n != was.NominatedNodeName {
		errs = append(errs, invalids(at.Child("nominatedNodeName"), n, subdomain(n))...)
		if old.Spec.NodeName != "" {
			errs = append(errs, field.Forbidden(at.Child("nominatedNodeName"), "may not be set on pods that are already bound to a node"))
		}
	}
	if st.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(at.Child("observedGeneration"), st.ObservedGeneration, "must be a non-negative integer"))
	}
	errs = append(errs, unchanged(at.Child("qosClass"), st.QOSClass, was.QOSClass)...)
	// A container that has ended for good does not run again.
	for i := range was.ContainerStatuses {
		o := &was.ContainerStatuses[i]
		if o.State.Terminated == nil || old.Spec.RestartPolicy == corev1.RestartPolicyAlways ||
			old.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && o.State.Terminated.ExitCode != 0 || mayRestart(&old.Spec, o) {
			continue
		}
		for _, n := range st.ContainerStatuses {
			if n.Name == o.Name && n.State.Terminated == nil {
				errs = append(errs, field.Forbidden(at.Child("containerStatuses").Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	var ips, before []string
	for _, ip := range st.PodIPs {
		ips = append(ips, ip.IP)
	}
	for _, ip := range was.PodIPs {
		before = append(before, ip.IP)
	}
	errs = append(errs, validateFamilies(at.Child("podIPs"), ips, before)...)
	ips, before = nil, nil
	for _, ip := range st.HostIPs {
		ips = append(ips, ip.IP)
	}
	for _, ip := range was.HostIPs {
		before = append(before, ip.IP)
	}
	if len(ips) > 0 && st.HostIP != ips[0] {
		errs = append(errs, field.Invalid(at.Child("hostIPs").Index(0).Child("ip"), ips[0], "must be equal to `hostIP`"))
	}
	errs = append(errs, validateFamilies(at.Child("hostIPs"), ips, before)...)
	errs = append(errs, validateAllocated(at.Child("containerStatuses"), st.ContainerStatuses, p.Spec.Containers)...)
	errs = append(errs, validateAllocated(at.Child("initContainerStatuses"), st.InitContainerStatuses, p.Spec.InitContainers)...)
	for i, c := range st.EphemeralContainerStatuses {
		if len(c.AllocatedResourcesStatus) > 0 {
			errs = append(errs, field.Forbidden(at.Child("ephemeralContainerStatuses").Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status"))
		}
	}
	return append(errs, validateClaimStatuses(at.Child("resourceClaimStatuses"), st.ResourceClaimStatuses, p.Spec.ResourceClaims)...)
}

// validateFamilies checks that there is at most one address of each family.
func validateFamilies(p *field.Path, ips, before []string) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(p.Index(i), ip, true, before)...)
	}
	if len(ips) < 2 {
		return errs
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		errs = append(errs, field.InternalError(p, fmt.Errorf("failed to check for dual stack with error:%v", err)))
	}
	if !dual || len(ips) > 2 {
		errs = append(errs, field.Invalid(p, ips, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// validateAllocated checks that the health of a device is that of one which the
// container asked for (KEP-4680).
func validateAllocated(p *field.Path, statuses []corev1.ContainerStatus, containers []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	for i := range statuses {
		k := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == statuses[i].Name })
		if k < 0 {
			continue
		}
		r := &containers[k].Resources
		for j, a := range statuses[i].AllocatedResourcesStatus {
			at := p.Index(i).Child("allocatedResourcesStatus").Index(j)
			_, found := r.Requests[a.Name]
			what := "must match one of the container's resource requests"
			if name, ok := strings.CutPrefix(string(a.Name), "claim:"); ok {
				what = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
				found = slices.ContainsFunc(r.Claims, func(c corev1.ResourceClaim) bool {
					return name == c.Name && c.Request == "" || name == c.Name+"/"+c.Request
				})
			}
			if !found {
				errs = append(errs, field.Invalid(at.Child("name"), a.Name, what))
			}
			errs = append(errs, validateHealth(at.Child("resources"), a.Resources)...)
		}
	}
	return errs
}

func validateHealth(p *field.Path, resources []corev1.ResourceHealth) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.ResourceID]bool{}
	for i, r := range resources {
		if seen[r.ResourceID] {
			errs = append(errs, field.Duplicate(p.Index(i).Child("resourceID"), r.ResourceID))
		}
		seen[r.ResourceID] = true
		errs = append(errs, supported(p.Index(i).Child("health"), r.Health, corev1.ResourceHealthStatusHealthy,
			corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)...)
	}
	return errs
}

func validateClaimStatuses(p *field.Path, statuses []corev1.PodResourceClaimStatus, claims []corev1.PodResourceClaim) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range statuses {
		at := p.Index(i)
		if !slices.ContainsFunc(claims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen[s.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), s.Name))
		}
		seen[s.Name] = true
		if n := s.ResourceClaimName; n != nil {
			errs = append(errs, invalids(at.Child("resourceClaimName"), *n, subdomain(*n))...)
		}
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
