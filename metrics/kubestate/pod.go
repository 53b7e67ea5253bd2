package kubestate

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// podReasons are the pod status reasons for which upstream shows zeros as well.
var podReasons = []string{"Evicted", "NodeAffinity", "NodeLost", "Shutdown", "UnexpectedAdmissionError", "SchedulingGated"}

func pod(e *emitter, p *corev1.Pod) {
	e.base = []string{"namespace", p.Namespace, "pod", p.Name, "uid", string(p.UID)}
	owner := controller(p.OwnerReferences)
	e.one("kube_pod_info", "host_ip", p.Status.HostIP, "pod_ip", p.Status.PodIP, "node", p.Spec.NodeName,
		"created_by_kind", owner.Kind, "created_by_name", owner.Name, "priority_class", p.Spec.PriorityClassName,
		"host_network", strconv.FormatBool(p.Spec.HostNetwork))
	for _, ip := range p.Status.PodIPs {
		family := "4"
		if strings.Contains(ip.IP, ":") {
			family = "6"
		}
		e.one("kube_pod_ips", "ip", ip.IP, "ip_family", family)
	}
	e.labels("kube_pod_labels", p.Labels)
	e.owners("kube_pod_owner", p.OwnerReferences)
	e.time("kube_pod_created", p.CreationTimestamp)
	e.timePtr("kube_pod_deletion_timestamp", p.DeletionTimestamp)
	e.timePtr("kube_pod_start_time", p.Status.StartTime)
	e.oneOf("kube_pod_restart_policy", "type", string(p.Spec.RestartPolicy), string(p.Spec.RestartPolicy))
	e.oneOf("kube_pod_status_qos_class", "qos_class", string(p.Status.QOSClass), "BestEffort", "Burstable", "Guaranteed")
	podStatus(e, p)
	for _, t := range p.Spec.Tolerations {
		kv := []string{"key", t.Key, "operator", string(t.Operator), "value", t.Value, "effect", string(t.Effect)}
		if t.TolerationSeconds != nil {
			kv = append(kv, "toleration_seconds", strconv.FormatInt(*t.TolerationSeconds, 10))
		}
		e.one("kube_pod_tolerations", kv...)
	}
	for _, v := range p.Spec.Volumes {
		if c := v.PersistentVolumeClaim; c != nil {
			e.one("kube_pod_spec_volumes_persistentvolumeclaims_info", "volume", v.Name, "persistentvolumeclaim", c.ClaimName)
			e.flag("kube_pod_spec_volumes_persistentvolumeclaims_readonly", c.ReadOnly, "volume", v.Name, "persistentvolumeclaim", c.ClaimName)
		}
	}
	for _, c := range p.Spec.Containers {
		e.resources("kube_pod_container_resource_requests", c.Resources.Requests, "container", c.Name, "node", p.Spec.NodeName)
		e.resources("kube_pod_container_resource_limits", c.Resources.Limits, "container", c.Name, "node", p.Spec.NodeName)
	}
	for _, c := range p.Spec.InitContainers {
		e.resources("kube_pod_init_container_resource_requests", c.Resources.Requests, "container", c.Name, "node", p.Spec.NodeName)
		e.resources("kube_pod_init_container_resource_limits", c.Resources.Limits, "container", c.Name, "node", p.Spec.NodeName)
	}
	for i := range p.Status.ContainerStatuses {
		containerStatus(e, p, "kube_pod_container_", &p.Status.ContainerStatuses[i], p.Spec.Containers)
	}
	for i := range p.Status.InitContainerStatuses {
		containerStatus(e, p, "kube_pod_init_container_", &p.Status.InitContainerStatuses[i], p.Spec.InitContainers)
	}
}

func podStatus(e *emitter, p *corev1.Pod) {
	phase := string(p.Status.Phase)
	// Upstream calls a pod whose node is lost Unknown while it terminates.
	if p.DeletionTimestamp != nil && p.Status.Reason == "NodeLost" {
		phase = string(corev1.PodUnknown)
	}
	if phase != "" {
		e.oneOf("kube_pod_status_phase", "phase", phase, "Pending", "Succeeded", "Failed", "Unknown", "Running")
	}
	for _, reason := range podReasons {
		on := p.Status.Reason == reason
		for _, c := range p.Status.Conditions {
			on = on || c.Type == corev1.PodScheduled && c.Reason == reason
		}
		e.flag("kube_pod_status_reason", on, "reason", reason)
	}
	for _, c := range p.Status.Conditions {
		switch c.Type {
		case corev1.PodReady:
			podCondition(e, "kube_pod_status_ready", c.Status)
			if c.Status == corev1.ConditionTrue {
				e.time("kube_pod_status_ready_time", c.LastTransitionTime)
			}
		case corev1.PodScheduled:
			podCondition(e, "kube_pod_status_scheduled", c.Status)
			if c.Status == corev1.ConditionTrue {
				e.time("kube_pod_status_scheduled_time", c.LastTransitionTime)
			} else if c.Reason == corev1.PodReasonUnschedulable {
				e.one("kube_pod_status_unschedulable")
			}
		case corev1.PodInitialized:
			if c.Status == corev1.ConditionTrue {
				e.time("kube_pod_status_initialized_time", c.LastTransitionTime)
			}
		case corev1.ContainersReady:
			if c.Status == corev1.ConditionTrue {
				e.time("kube_pod_status_container_ready_time", c.LastTransitionTime)
			}
		}
	}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		var last float64
		for _, s := range p.Status.ContainerStatuses {
			if t := s.State.Terminated; t != nil {
				last = max(last, float64(t.FinishedAt.Unix()))
			}
		}
		if last > 0 {
			e.add("kube_pod_completion_time", last)
		}
	}
}

// podCondition uses the label name condition for the status, as upstream.
func podCondition(e *emitter, name string, status corev1.ConditionStatus) {
	for _, s := range []string{"true", "false", "unknown"} {
		e.flag(name, strings.EqualFold(string(status), s), "condition", s)
	}
}

func containerStatus(e *emitter, p *corev1.Pod, prefix string, s *corev1.ContainerStatus, spec []corev1.Container) {
	c := []string{"container", s.Name}
	image := ""
	if i := slices.IndexFunc(spec, func(c corev1.Container) bool { return c.Name == s.Name }); i >= 0 {
		image = spec[i].Image
	}
	e.one(prefix+"info", "container", s.Name, "image", s.Image, "image_spec", image, "image_id", s.ImageID, "container_id", s.ContainerID)
	e.flag(prefix+"status_ready", s.Ready, c...)
	e.add(prefix+"status_restarts_total", float64(s.RestartCount), c...)
	e.flag(prefix+"status_running", s.State.Running != nil, c...)
	e.flag(prefix+"status_waiting", s.State.Waiting != nil, c...)
	e.flag(prefix+"status_terminated", s.State.Terminated != nil, c...)
	if w := s.State.Waiting; w != nil && w.Reason != "" {
		e.one(prefix+"status_waiting_reason", append(c, "reason", w.Reason)...)
	}
	if t := s.State.Terminated; t != nil {
		e.one(prefix+"status_terminated_reason", append(c, "reason", t.Reason)...)
	}
	if r := s.State.Running; r != nil && prefix == "kube_pod_container_" {
		e.time("kube_pod_container_state_started", r.StartedAt, c...)
	}
	if t := s.LastTerminationState.Terminated; t != nil {
		e.one(prefix+"status_last_terminated_reason", append(c, "reason", t.Reason)...)
		if prefix == "kube_pod_container_" {
			e.add("kube_pod_container_status_last_terminated_exitcode", float64(t.ExitCode), c...)
			e.time("kube_pod_container_status_last_terminated_timestamp", t.FinishedAt, c...)
		}
	}
}
