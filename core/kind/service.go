package kind

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func serviceKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Service, corev1.ServiceList](gv, "services", "svc").inAll()
	k.Prefix = "services/specs"
	k.Default = do1(defaultService)
	k.PrepareCreate = do1(func(s *corev1.Service) {
		s.Status = corev1.ServiceStatus{}
		normalizeClusterIPs(s, nil)
	})
	k.PrepareUpdate = do2(prepareServiceUpdate)
	k.ValidateName = apivalidation.NameIsDNSLabel
	k.Validate = check1(validateService)
	k.ValidateUpdate = check2(validateServiceUpdate)
	k.Warnings = warn1(serviceWarnings)
	k.Fields = select1(func(s *corev1.Service) fields.Set {
		return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	})
	k.Columns = serviceColumns()
	k.Subresources = []Subresource{
		{Name: "proxy", Body: gv.WithKind("ServiceProxyOptions"), Verbs: proxyVerbs()},
		status(func(s, old *corev1.Service) { s.Spec = *old.Spec.DeepCopy() }, validateServiceStatus),
	}
	return k
}

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	orElse(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		orPointer(&spec.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		orPointer(&spec.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		orPointer(&spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	}
	orElse(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		port := &spec.Ports[i]
		orElse(&port.Protocol, corev1.ProtocolTCP)
		if port.TargetPort == intstr.FromInt32(0) || port.TargetPort == intstr.FromString("") {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
	if spec.ExternalTrafficPolicy == "" && externallyAccessible(s) {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if spec.InternalTrafficPolicy == nil && (spec.Type == corev1.ServiceTypeNodePort ||
		spec.Type == corev1.ServiceTypeLoadBalancer || spec.Type == corev1.ServiceTypeClusterIP) {
		orPointer(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		orPointer(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if s.Status.LoadBalancer.Ingress[i].IP != "" {
				orPointer(&s.Status.LoadBalancer.Ingress[i].IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

// externallyAccessible services are reached from outside by node port, load
// balancer or external address.
func externallyAccessible(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeNodePort ||
		s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

// normalizeClusterIPs keeps clusterIP equal to clusterIPs[0], whichever of
// them a client knows.
func normalizeClusterIPs(s, old *corev1.Service) {
	spec := &s.Spec
	if old == nil {
		if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
		return
	}
	same := slices.Equal(spec.ClusterIPs, old.Spec.ClusterIPs)
	switch {
	case spec.ClusterIP == "" && old.Spec.ClusterIP != "" && same:
		spec.ClusterIPs = nil
	case spec.ClusterIP != old.Spec.ClusterIP && same && spec.ClusterIP != "":
		spec.ClusterIPs = []string{spec.ClusterIP}
	case spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 && len(old.Spec.ClusterIPs) == 0:
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// prepareServiceUpdate keeps what was allocated where the client's object does
// not say, and drops what the type no longer has.
func prepareServiceUpdate(s, old *corev1.Service) {
	s.Status = *old.Status.DeepCopy()
	normalizeClusterIPs(s, old)
	patchAllocated(s, old)
	dropTypeDependent(s, old)
}

func patchAllocated(s, old *corev1.Service) {
	needsIP := func(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }
	if needsIP(old) && needsIP(s) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if needsNodePorts(old) && needsNodePorts(s) {
		type portKey struct {
			protocol corev1.Protocol
			port     int32
		}
		allocated, used := map[portKey]int32{}, map[int32]bool{}
		for _, p := range old.Spec.Ports {
			allocated[portKey{p.Protocol, p.Port}] = p.NodePort
		}
		for _, p := range s.Spec.Ports {
			used[p.NodePort] = true
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			if was := allocated[portKey{p.Protocol, p.Port}]; p.NodePort == 0 && !used[was] {
				p.NodePort = was
				used[was] = true
			}
		}
	}
	if needsHealthCheckPort(old) && needsHealthCheckPort(s) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func needsNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func needsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// dropTypeDependent forgets what the new type does not have, unless the
// client changed it in the same request: then it meant it, and is told.
func dropTypeDependent(s, old *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName {
		if s.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		if slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = nil
		}
		if deref(s.Spec.IPFamilyPolicy) == deref(old.Spec.IPFamilyPolicy) {
			s.Spec.IPFamilyPolicy = nil
		}
		if deref(s.Spec.InternalTrafficPolicy) == deref(old.Spec.InternalTrafficPolicy) {
			s.Spec.InternalTrafficPolicy = nil
		}
	}
	if needsNodePorts(old) && !needsNodePorts(s) {
		was := map[int32]bool{}
		for _, p := range old.Spec.Ports {
			was[p.NodePort] = true
		}
		same := true
		for _, p := range s.Spec.Ports {
			same = same && (p.NodePort == 0 || was[p.NodePort])
		}
		for i := range s.Spec.Ports {
			if same {
				s.Spec.Ports[i].NodePort = 0
			}
		}
	}
	if needsHealthCheckPort(old) && !needsHealthCheckPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	if old.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if deref(s.Spec.AllocateLoadBalancerNodePorts) == deref(old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if deref(s.Spec.LoadBalancerClass) == deref(old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	if externallyAccessible(old) && !externallyAccessible(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
}

func serviceColumns() []Column {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return named[*corev1.Service]().
		text("Type", doc["type"], func(s *corev1.Service) string { return string(s.Spec.Type) }).
		text("Cluster-IP", doc["clusterIP"], func(s *corev1.Service) string {
			if len(s.Spec.ClusterIPs) > 0 {
				return s.Spec.ClusterIPs[0]
			}
			return orNone(s.Spec.ClusterIP)
		}).
		text("External-IP", doc["externalIPs"], externalIP).
		text("Port(s)", doc["ports"], servicePorts).
		age().
		text("Selector", doc["selector"], func(s *corev1.Service) string { return labelsText(s.Spec.Selector) }).wide()
}

func externalIP(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var out []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				out = append(out, in.IP)
			} else if in.Hostname != "" {
				out = append(out, in.Hostname)
			}
		}
		slices.Sort(out)
		out = append(slices.Compact(out), s.Spec.ExternalIPs...)
		if len(out) == 0 {
			return "<pending>"
		}
		return strings.Join(out, ",")
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orNone(s.Spec.ExternalIPs...)
	}
	return "<unknown>"
}

func servicePorts(s *corev1.Service) string {
	var out []string
	for _, p := range s.Spec.Ports {
		if p.NodePort > 0 {
			out = append(out, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			out = append(out, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return orNone(out...)
}
