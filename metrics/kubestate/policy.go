package kubestate

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

func namespace(e *emitter, n *corev1.Namespace) {
	e.base = []string{"namespace", n.Name}
	e.time("kube_namespace_created", n.CreationTimestamp)
	e.labels("kube_namespace_labels", n.Labels)
	e.oneOf("kube_namespace_status_phase", "phase", string(n.Status.Phase), "Active", "Terminating")
	for _, c := range n.Status.Conditions {
		e.condition("kube_namespace_status_condition", string(c.Status), "condition", string(c.Type))
	}
}

func configMap(e *emitter, c *corev1.ConfigMap) {
	e.base = []string{"namespace", c.Namespace, "configmap", c.Name}
	e.one("kube_configmap_info")
	e.time("kube_configmap_created", c.CreationTimestamp)
	e.labels("kube_configmap_labels", c.Labels)
}

func secret(e *emitter, s *corev1.Secret) {
	e.base = []string{"namespace", s.Namespace, "secret", s.Name}
	e.one("kube_secret_info")
	e.one("kube_secret_type", "type", string(s.Type))
	e.time("kube_secret_created", s.CreationTimestamp)
	e.labels("kube_secret_labels", s.Labels)
}

func serviceAccount(e *emitter, s *corev1.ServiceAccount) {
	e.base = []string{"namespace", s.Namespace, "serviceaccount", s.Name, "uid", string(s.UID)}
	e.one("kube_serviceaccount_info")
	e.time("kube_serviceaccount_created", s.CreationTimestamp)
}

func resourceQuota(e *emitter, q *corev1.ResourceQuota) {
	e.base = []string{"namespace", q.Namespace, "resourcequota", q.Name}
	e.time("kube_resourcequota_created", q.CreationTimestamp)
	for kind, list := range map[string]corev1.ResourceList{"hard": q.Status.Hard, "used": q.Status.Used} {
		for _, r := range sortedKeys(list) {
			v := list[r]
			e.add("kube_resourcequota", v.AsApproximateFloat64(), "resource", string(r), "type", kind)
		}
	}
}

func limitRange(e *emitter, l *corev1.LimitRange) {
	e.base = []string{"namespace", l.Namespace, "limitrange", l.Name}
	e.time("kube_limitrange_created", l.CreationTimestamp)
	for _, item := range l.Spec.Limits {
		for constraint, list := range map[string]corev1.ResourceList{
			"min": item.Min, "max": item.Max, "default": item.Default,
			"defaultRequest": item.DefaultRequest, "maxLimitRequestRatio": item.MaxLimitRequestRatio,
		} {
			for _, r := range sortedKeys(list) {
				v := list[r]
				e.add("kube_limitrange", v.AsApproximateFloat64(), "resource", string(r), "type", string(item.Type), "constraint", constraint)
			}
		}
	}
}

func podDisruptionBudget(e *emitter, p *policyv1.PodDisruptionBudget) {
	e.base = []string{"namespace", p.Namespace, "poddisruptionbudget", p.Name}
	e.time("kube_poddisruptionbudget_created", p.CreationTimestamp)
	e.labels("kube_poddisruptionbudget_labels", p.Labels)
	e.add("kube_poddisruptionbudget_status_current_healthy", float64(p.Status.CurrentHealthy))
	e.add("kube_poddisruptionbudget_status_desired_healthy", float64(p.Status.DesiredHealthy))
	e.add("kube_poddisruptionbudget_status_pod_disruptions_allowed", float64(p.Status.DisruptionsAllowed))
	e.add("kube_poddisruptionbudget_status_expected_pods", float64(p.Status.ExpectedPods))
	e.add("kube_poddisruptionbudget_status_observed_generation", float64(p.Status.ObservedGeneration))
}

func lease(e *emitter, l *coordinationv1.Lease) {
	e.base = []string{"namespace", l.Namespace, "lease", l.Name}
	if h := l.Spec.HolderIdentity; h != nil {
		owner := controller(l.OwnerReferences)
		if owner.Name == "" && len(l.OwnerReferences) > 0 {
			owner = l.OwnerReferences[0]
		}
		e.one("kube_lease_owner", "owner_kind", owner.Kind, "owner_name", owner.Name, "lease_holder", *h)
	}
	if r := l.Spec.RenewTime; r != nil {
		e.add("kube_lease_renew_time", float64(r.Unix()))
	}
}

func certificateSigningRequest(e *emitter, c *certificatesv1.CertificateSigningRequest) {
	e.base = []string{"certificatesigningrequest", c.Name, "signer_name", c.Spec.SignerName}
	e.time("kube_certificatesigningrequest_created", c.CreationTimestamp)
	e.add("kube_certificatesigningrequest_cert_length", float64(len(c.Status.Certificate)))
	approved, denied := 0.0, 0.0
	for _, cond := range c.Status.Conditions {
		switch cond.Type {
		case certificatesv1.CertificateApproved:
			approved = 1
		case certificatesv1.CertificateDenied:
			denied = 1
		}
	}
	e.add("kube_certificatesigningrequest_condition", approved, "condition", "approved")
	e.add("kube_certificatesigningrequest_condition", denied, "condition", "denied")
}

func horizontalPodAutoscaler(e *emitter, h *autoscalingv2.HorizontalPodAutoscaler) {
	e.base = []string{"namespace", h.Namespace, "horizontalpodautoscaler", h.Name}
	ref := h.Spec.ScaleTargetRef
	e.one("kube_horizontalpodautoscaler_info", "scaletargetref_api_version", ref.APIVersion, "scaletargetref_kind", ref.Kind, "scaletargetref_name", ref.Name)
	e.time("kube_horizontalpodautoscaler_created", h.CreationTimestamp)
	e.labels("kube_horizontalpodautoscaler_labels", h.Labels)
	e.add("kube_horizontalpodautoscaler_metadata_generation", float64(h.Generation))
	e.add("kube_horizontalpodautoscaler_spec_max_replicas", float64(h.Spec.MaxReplicas))
	e.int32Ptr("kube_horizontalpodautoscaler_spec_min_replicas", h.Spec.MinReplicas)
	e.add("kube_horizontalpodautoscaler_status_current_replicas", float64(h.Status.CurrentReplicas))
	e.add("kube_horizontalpodautoscaler_status_desired_replicas", float64(h.Status.DesiredReplicas))
	e.timePtr("kube_horizontalpodautoscaler_status_last_scale_time", h.Status.LastScaleTime)
	for _, c := range h.Status.Conditions {
		e.condition("kube_horizontalpodautoscaler_status_condition", string(c.Status), "condition", string(c.Type))
	}
	target := func(name, metric string, t autoscalingv2.MetricTarget) {
		if t.Value != nil {
			e.add(name, t.Value.AsApproximateFloat64(), "metric_name", metric, "metric_target_type", "value")
		}
		if t.AverageValue != nil {
			e.add(name, t.AverageValue.AsApproximateFloat64(), "metric_name", metric, "metric_target_type", "average")
		}
		if t.AverageUtilization != nil {
			e.add(name, float64(*t.AverageUtilization), "metric_name", metric, "metric_target_type", "utilization")
		}
	}
	const spec, status = "kube_horizontalpodautoscaler_spec_target_metric", "kube_horizontalpodautoscaler_status_target_metric"
	for _, m := range h.Spec.Metrics {
		switch {
		case m.Resource != nil:
			target(spec, string(m.Resource.Name), m.Resource.Target)
		case m.ContainerResource != nil:
			target(spec, string(m.ContainerResource.Name), m.ContainerResource.Target)
		case m.Pods != nil:
			target(spec, m.Pods.Metric.Name, m.Pods.Target)
		case m.Object != nil:
			target(spec, m.Object.Metric.Name, m.Object.Target)
		case m.External != nil:
			target(spec, m.External.Metric.Name, m.External.Target)
		}
	}
	current := func(metric string, v autoscalingv2.MetricValueStatus) {
		target(status, metric, autoscalingv2.MetricTarget{Value: v.Value, AverageValue: v.AverageValue, AverageUtilization: v.AverageUtilization})
	}
	for _, m := range h.Status.CurrentMetrics {
		switch {
		case m.Resource != nil:
			current(string(m.Resource.Name), m.Resource.Current)
		case m.ContainerResource != nil:
			current(string(m.ContainerResource.Name), m.ContainerResource.Current)
		case m.Pods != nil:
			current(m.Pods.Metric.Name, m.Pods.Current)
		case m.Object != nil:
			current(m.Object.Metric.Name, m.Object.Current)
		case m.External != nil:
			current(m.External.Metric.Name, m.External.Current)
		}
	}
}
