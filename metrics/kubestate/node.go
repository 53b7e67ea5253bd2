package kubestate

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func node(e *emitter, n *corev1.Node) {
	e.base = []string{"node", n.Name}
	i := n.Status.NodeInfo
	internal := ""
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && internal == "" {
			internal = a.Address
		}
	}
	e.one("kube_node_info", "kernel_version", i.KernelVersion, "os_image", i.OSImage,
		"container_runtime_version", i.ContainerRuntimeVersion, "kubelet_version", i.KubeletVersion,
		"kubeproxy_version", "deprecated", "provider_id", n.Spec.ProviderID, "pod_cidr", n.Spec.PodCIDR,
		"system_uuid", i.SystemUUID, "internal_ip", internal)
	e.time("kube_node_created", n.CreationTimestamp)
	e.timePtr("kube_node_deletion_timestamp", n.DeletionTimestamp)
	e.labels("kube_node_labels", n.Labels)
	const role = "node-role.kubernetes.io/"
	for _, k := range sortedKeys(n.Labels) {
		if r, ok := strings.CutPrefix(k, role); ok {
			e.one("kube_node_role", "role", r)
		}
	}
	e.flag("kube_node_spec_unschedulable", n.Spec.Unschedulable)
	for _, t := range n.Spec.Taints {
		e.one("kube_node_spec_taint", "key", t.Key, "value", t.Value, "effect", string(t.Effect))
	}
	for _, c := range n.Status.Conditions {
		e.condition("kube_node_status_condition", string(c.Status), "condition", string(c.Type))
	}
	for _, a := range n.Status.Addresses {
		e.one("kube_node_status_addresses", "type", string(a.Type), "address", a.Address)
	}
	e.resources("kube_node_status_capacity", n.Status.Capacity)
	e.resources("kube_node_status_allocatable", n.Status.Allocatable)
}
