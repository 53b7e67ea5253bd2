package node

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/podstate"
)

// admit decides whether a pod that was not here before fits the node, and
// notes the answer on its worker. It answers nil or why not. Pods are admitted
// one after the other, so that two do not take the same room.
func (a *Agent) admit(w *worker, pod *corev1.Pod) *podstate.Failure {
	a.admission.Lock()
	defer a.admission.Unlock()
	f := enforceable(pod)
	if f == nil {
		f = admit(pod, a.active(), a.machine.allocatable)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rejected, w.admitted = f, f == nil
	return f
}

// active returns the pods that hold resources.
func (a *Agent) active() []*corev1.Pod {
	var out []*corev1.Pod
	for _, w := range a.allWorkers() {
		pod, v := w.snapshot()
		w.mu.Lock()
		holds := w.admitted
		w.mu.Unlock()
		phase := pod.Status.Phase
		if holds && !v.terminal && phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			out = append(out, pod)
		}
	}
	return out
}

func admit(pod *corev1.Pod, others []*corev1.Pod, allocatable corev1.ResourceList) *podstate.Failure {
	if max, ok := allocatable[corev1.ResourcePods]; ok && int64(len(others)+1) > max.Value() {
		return outOf(corev1.ResourcePods, 1, int64(len(others)), max.Value())
	}
	for name, req := range podspec.Requests(pod) {
		if req.IsZero() {
			continue
		}
		capacity := allocatable[name]
		used := capacity.DeepCopy()
		used.Sub(used)
		for _, o := range others {
			r := podspec.Requests(o)[name]
			used.Add(r)
		}
		sum := used.DeepCopy()
		sum.Add(req)
		if sum.Cmp(capacity) > 0 {
			if name == corev1.ResourceCPU {
				return outOf(name, req.MilliValue(), used.MilliValue(), capacity.MilliValue())
			}
			return outOf(name, req.Value(), used.Value(), capacity.Value())
		}
	}
	for _, o := range others {
		if conflict(pod, o) {
			return &podstate.Failure{Reason: "NodePorts", Message: "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
		}
	}
	return nil
}

func outOf(name corev1.ResourceName, requested, used, capacity int64) *podstate.Failure {
	return &podstate.Failure{Reason: "OutOf" + string(name),
		Message: fmt.Sprintf("Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
}

// conflict reports whether two pods want the same port of the node.
func conflict(a, b *corev1.Pod) bool {
	taken := map[string][]string{} // protocol/port → addresses
	for _, p := range hostPorts(b) {
		k := fmt.Sprintf("%s/%d", p.Protocol, p.HostPort)
		taken[k] = append(taken[k], p.HostIP)
	}
	for _, p := range hostPorts(a) {
		for _, ip := range taken[fmt.Sprintf("%s/%d", p.Protocol, p.HostPort)] {
			if wild(ip) || wild(p.HostIP) || ip == p.HostIP {
				return true
			}
		}
	}
	return false
}

func wild(ip string) bool { return ip == "" || strings.Trim(ip, "0.:") == "" }

func hostPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort > 0 {
				if p.Protocol == "" {
					p.Protocol = corev1.ProtocolTCP
				}
				out = append(out, p)
			}
		}
	}
	return out
}

// safeSysctls are what a pod may set on any node, upstream's list. What is not
// in it may harm the node or other pods.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

// enforceable refuses a pod whose security settings this node would have to
// ignore or must not grant. The words are upstream's.
func enforceable(pod *corev1.Pod) *podstate.Failure {
	if sc := pod.Spec.SecurityContext; sc != nil {
		for _, s := range sc.Sysctls {
			name := strings.ReplaceAll(s.Name, "/", ".")
			why := ""
			switch {
			case !slices.Contains(safeSysctls, name):
				why = "not allowlisted"
			case pod.Spec.HostNetwork && strings.HasPrefix(name, "net."):
				why = "not allowed with host net enabled"
			case pod.Spec.HostIPC && strings.HasPrefix(name, "kernel."):
				why = "not allowed with host ipc enabled"
			default:
				continue
			}
			return &podstate.Failure{Reason: "SysctlForbidden", Message: fmt.Sprintf("Pod was rejected: forbidden sysctl: %q %s", name, why)}
		}
	}
	if wantsAppArmor(pod) {
		return &podstate.Failure{Reason: "AppArmor", Message: "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"}
	}
	return nil
}

// wantsAppArmor reports whether anything in the pod must be confined by
// AppArmor, which the bundled containerd leaves alone.
func wantsAppArmor(pod *corev1.Pod) bool {
	confines := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if sc := pod.Spec.SecurityContext; sc != nil && confines(sc.AppArmorProfile) {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && confines(sc.AppArmorProfile) {
				return true
			}
		}
	}
	for k, v := range pod.Annotations { // before there was a field
		if strings.HasPrefix(k, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) && v != "" && v != corev1.DeprecatedAppArmorBetaProfileNameUnconfined {
			return true
		}
	}
	return false
}
