package podspec

import (
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/node/runtime"
)

// maskedPaths and readonlyPaths hide the kernel's knobs from containers with
// the default procMount.
var (
	maskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// groups are the supplemental groups of all processes of the pod.
func groups(pod *corev1.Pod) []int64 {
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return nil
	}
	out := slices.Clone(sc.SupplementalGroups)
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	return out
}

// seccomp returns the profile of a container, or of the sandbox for nil.
func seccomp(pod *corev1.Pod, c *corev1.Container, n *Node) *cri.SecurityProfile {
	p := seccompProfile(pod, c)
	unconfined := &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
	if c == nil {
		// The sandbox's own process needs no more than the default.
		if p != nil && p.Type == corev1.SeccompProfileTypeUnconfined || !n.Seccomp {
			return unconfined
		}
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	}
	if p == nil {
		return unconfined
	}
	switch p.Type {
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile != nil {
			return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: filepath.Join(n.SeccompDir, *p.LocalhostProfile)}
		}
	case corev1.SeccompProfileTypeRuntimeDefault:
		if n.Seccomp {
			return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		}
	}
	return unconfined
}

// security returns a container's security context. img says whom the image
// runs as where the pod does not.
// seccompProfile returns what the container, else its pod, asks for; nil is
// nothing.
func seccompProfile(pod *corev1.Pod, c *corev1.Container) *corev1.SeccompProfile {
	if c != nil && c.SecurityContext != nil && c.SecurityContext.SeccompProfile != nil {
		return c.SecurityContext.SeccompProfile
	}
	if pod.Spec.SecurityContext != nil {
		return pod.Spec.SecurityContext.SeccompProfile
	}
	return nil
}

// Unconfined names the containers that ask for the runtime's seccomp profile
// on a node that cannot apply it.
func Unconfined(pod *corev1.Pod, n *Node) []string {
	var names []string
	if n.Seccomp {
		return nil
	}
	each(pod, func(c *corev1.Container) {
		if p := seccompProfile(pod, c); p != nil && p.Type == corev1.SeccompProfileTypeRuntimeDefault {
			names = append(names, c.Name)
		}
	})
	return names
}

func security(pod *corev1.Pod, c *corev1.Container, n *Node, img runtime.Image) (*cri.LinuxContainerSecurityContext, error) {
	psc, csc := pod.Spec.SecurityContext, c.SecurityContext
	if psc == nil {
		psc = &corev1.PodSecurityContext{}
	}
	if csc == nil {
		csc = &corev1.SecurityContext{}
	}
	privileged := isTrue(csc.Privileged)
	out := &cri.LinuxContainerSecurityContext{
		Privileged:         privileged,
		ReadonlyRootfs:     isTrue(csc.ReadOnlyRootFilesystem),
		NamespaceOptions:   namespaces(pod),
		SupplementalGroups: groups(pod),
		Seccomp:            seccomp(pod, c, n),
		NoNewPrivs:         csc.AllowPrivilegeEscalation != nil && !*csc.AllowPrivilegeEscalation && !privileged,
	}
	if p := psc.SupplementalGroupsPolicy; p != nil && *p == corev1.SupplementalGroupsPolicyStrict {
		out.SupplementalGroupsPolicy = cri.SupplementalGroupsPolicy_Strict
	}
	user, group := csc.RunAsUser, csc.RunAsGroup
	if user == nil {
		user = psc.RunAsUser
	}
	if group == nil {
		group = psc.RunAsGroup
	}
	switch {
	case user != nil:
		out.RunAsUser = &cri.Int64Value{Value: *user}
	case img.UID != nil:
		out.RunAsUser = &cri.Int64Value{Value: *img.UID}
	case img.User != "":
		out.RunAsUsername = img.User
	}
	if group != nil {
		out.RunAsGroup = &cri.Int64Value{Value: *group}
		if out.RunAsUser == nil && out.RunAsUsername == "" {
			out.RunAsUser = &cri.Int64Value{}
		}
	}
	nonRoot := csc.RunAsNonRoot
	if nonRoot == nil {
		nonRoot = psc.RunAsNonRoot
	}
	if isTrue(nonRoot) {
		switch {
		case user != nil && *user == 0:
			return nil, configError("container's runAsUser breaks non-root policy (pod: %q, container: %s)", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", c.Name)
		case user != nil:
		case img.UID != nil && *img.UID == 0, img.UID == nil && img.User == "":
			return nil, configError("container has runAsNonRoot and image will run as root (pod: %q, container: %s)", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", c.Name)
		case img.UID == nil:
			return nil, configError("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root (pod: %q, container: %s)", img.User, pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", c.Name)
		}
	}
	if caps := csc.Capabilities; caps != nil {
		out.Capabilities = &cri.Capability{AddCapabilities: capNames(caps.Add), DropCapabilities: capNames(caps.Drop)}
	}
	if !privileged && (csc.ProcMount == nil || *csc.ProcMount == corev1.DefaultProcMount) {
		out.MaskedPaths, out.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
	}
	if o := csc.SELinuxOptions; o != nil {
		out.SelinuxOptions = &cri.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
	} else if o := psc.SELinuxOptions; o != nil {
		out.SelinuxOptions = &cri.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
	}
	return out, nil
}

// capNames are names as CRI wants them: without CAP_.
func capNames(list []corev1.Capability) []string {
	var out []string
	for _, c := range list {
		out = append(out, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	return out
}
