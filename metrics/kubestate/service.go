package kubestate

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

func service(e *emitter, s *corev1.Service) {
	e.base = []string{"namespace", s.Namespace, "service", s.Name, "uid", string(s.UID)}
	e.one("kube_service_info", "cluster_ip", s.Spec.ClusterIP, "external_name", s.Spec.ExternalName,
		"external_traffic_policy", string(s.Spec.ExternalTrafficPolicy), "load_balancer_ip", s.Spec.LoadBalancerIP)
	e.time("kube_service_created", s.CreationTimestamp)
	e.one("kube_service_spec_type", "type", string(s.Spec.Type))
	e.labels("kube_service_labels", s.Labels)
	for _, ip := range s.Spec.ExternalIPs {
		e.one("kube_service_spec_external_ip", "external_ip", ip)
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		e.one("kube_service_status_load_balancer_ingress", "ip", in.IP, "hostname", in.Hostname)
	}
}

func endpoints(e *emitter, o *corev1.Endpoints) {
	e.base = []string{"namespace", o.Namespace, "endpoint", o.Name}
	e.one("kube_endpoint_info")
	e.time("kube_endpoint_created", o.CreationTimestamp)
	e.labels("kube_endpoint_labels", o.Labels)
	address := func(a corev1.EndpointAddress, ports []corev1.EndpointPort, ready string) {
		for _, p := range ports {
			e.one("kube_endpoint_address", "ip", a.IP, "ready", ready, "port_name", p.Name,
				"port_number", strconv.Itoa(int(p.Port)), "port_protocol", string(p.Protocol))
		}
	}
	for _, s := range o.Subsets {
		for _, a := range s.Addresses {
			address(a, s.Ports, "true")
		}
		for _, a := range s.NotReadyAddresses {
			address(a, s.Ports, "false")
		}
		for _, p := range s.Ports {
			e.one("kube_endpoint_ports", "port_name", p.Name, "port_protocol", string(p.Protocol), "port_number", strconv.Itoa(int(p.Port)))
		}
	}
}

func endpointSlice(e *emitter, s *discoveryv1.EndpointSlice) {
	e.base = []string{"namespace", s.Namespace, "endpointslice", s.Name}
	e.one("kube_endpointslice_info", "addresstype", string(s.AddressType))
	e.time("kube_endpointslice_created", s.CreationTimestamp)
	e.labels("kube_endpointslice_labels", s.Labels)
	b := func(v *bool) string {
		if v == nil {
			return ""
		}
		return strconv.FormatBool(*v)
	}
	for _, ep := range s.Endpoints {
		for _, a := range ep.Addresses {
			kv := []string{"address", a, "ready", b(ep.Conditions.Ready), "serving", b(ep.Conditions.Serving), "terminating", b(ep.Conditions.Terminating)}
			if ep.Hostname != nil {
				kv = append(kv, "hostname", *ep.Hostname)
			}
			if r := ep.TargetRef; r != nil {
				kv = append(kv, "targetref_kind", r.Kind, "targetref_name", r.Name, "targetref_namespace", r.Namespace)
			}
			if ep.NodeName != nil {
				kv = append(kv, "endpoint_nodename", *ep.NodeName)
			}
			if ep.Zone != nil {
				kv = append(kv, "endpoint_zone", *ep.Zone)
			}
			e.one("kube_endpointslice_endpoints", kv...)
		}
	}
	for _, p := range s.Ports {
		kv := []string{}
		if p.Name != nil {
			kv = append(kv, "port_name", *p.Name)
		}
		if p.Protocol != nil {
			kv = append(kv, "port_protocol", string(*p.Protocol))
		}
		if p.Port != nil {
			kv = append(kv, "port_number", strconv.Itoa(int(*p.Port)))
		}
		e.one("kube_endpointslice_ports", kv...)
	}
}

func ingress(e *emitter, i *networkingv1.Ingress) {
	e.base = []string{"namespace", i.Namespace, "ingress", i.Name}
	class := ""
	if i.Spec.IngressClassName != nil {
		class = *i.Spec.IngressClassName
	}
	e.one("kube_ingress_info", "ingressclass", class)
	e.time("kube_ingress_created", i.CreationTimestamp)
	e.labels("kube_ingress_labels", i.Labels)
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			kv := []string{"host", r.Host, "path", p.Path}
			if p.PathType != nil {
				kv = append(kv, "path_type", string(*p.PathType))
			}
			if s := p.Backend.Service; s != nil {
				port := s.Port.Name
				if port == "" {
					port = strconv.Itoa(int(s.Port.Number))
				}
				kv = append(kv, "service_name", s.Name, "service_port", port)
			}
			e.one("kube_ingress_path", kv...)
		}
	}
	for _, t := range i.Spec.TLS {
		for _, h := range t.Hosts {
			e.one("kube_ingress_tls", "tls_host", h, "secret_name", t.SecretName)
		}
	}
}

func networkPolicy(e *emitter, n *networkingv1.NetworkPolicy) {
	e.base = []string{"namespace", n.Namespace, "networkpolicy", n.Name}
	e.time("kube_networkpolicy_created", n.CreationTimestamp)
	e.labels("kube_networkpolicy_labels", n.Labels)
	e.add("kube_networkpolicy_spec_ingress_rules", float64(len(n.Spec.Ingress)))
	e.add("kube_networkpolicy_spec_egress_rules", float64(len(n.Spec.Egress)))
}
