package admission

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func needsClusterIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func needsNodePort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func needsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func needsExternalTraffic(s *corev1.Service) bool {
	return needsNodePort(s) || s.Spec.Type != corev1.ServiceTypeExternalName && len(s.Spec.ExternalIPs) > 0
}

func allocatesNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort ||
		s.Spec.Type == corev1.ServiceTypeLoadBalancer && (s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts)
}

func headless(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

// clusterIPs returns the addresses a Service holds.
func clusterIPs(s *corev1.Service) []netip.Addr {
	if !needsClusterIP(s) {
		return nil
	}
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	var ips []netip.Addr
	for _, t := range texts {
		if ip, err := netip.ParseAddr(t); err == nil {
			ips = append(ips, ip)
		}
	}
	return ips
}

// nodePorts returns the node ports a Service holds, its health check's too.
func nodePorts(s *corev1.Service) []int32 {
	var ports []int32
	if needsNodePort(s) {
		for i := range s.Spec.Ports {
			if p := s.Spec.Ports[i].NodePort; p != 0 {
				ports = append(ports, p)
			}
		}
	}
	if p := s.Spec.HealthCheckNodePort; p != 0 && needsHealthCheckPort(s) {
		ports = append(ports, p)
	}
	return ports
}

// normalizeClusterIPs makes clusterIP and clusterIPs agree for clients that
// know only the former. old is nil for a new Service.
func normalizeClusterIPs(s, old *corev1.Service) {
	if old == nil {
		if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}
		return
	}
	if s.Spec.ClusterIP == old.Spec.ClusterIP {
		return
	}
	same := slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs)
	switch {
	case s.Spec.ClusterIP == "" && same:
		s.Spec.ClusterIPs = nil
	case s.Spec.ClusterIP != "" && same && len(s.Spec.ClusterIPs) > 0:
		s.Spec.ClusterIPs = append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs[1:]...)
	case s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0:
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// keepAllocated fills in what a client that replaces a Service did not know:
// addresses, and node ports by the name of the port.
func keepAllocated(s, old *corev1.Service) {
	if needsClusterIP(s) && needsClusterIP(old) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if needsNodePort(s) && needsNodePort(old) {
		keepNodePorts(s, old)
	}
	if needsHealthCheckPort(s) && needsHealthCheckPort(old) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func keepNodePorts(s, old *corev1.Service) {
	type use struct {
		protocol corev1.Protocol
		port     int32
	}
	taken := map[use]bool{}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			taken[use{p.Protocol, p.NodePort}] = true
		}
	}
	had := map[string]int32{}
	for _, p := range old.Spec.Ports {
		had[p.Name] = p.NodePort
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		port := had[p.Name]
		if p.NodePort != 0 || port == 0 || taken[use{p.Protocol, port}] {
			continue
		}
		p.NodePort = port
		taken[use{p.Protocol, port}] = true
	}
}

// dropUnneeded clears what the new type does not have, unless the client has
// set it to something new: then validation is to say so.
func dropUnneeded(s, old *corev1.Service) {
	if needsClusterIP(old) && !needsClusterIP(s) {
		if s.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		if slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = nil
		}
		if samePtr(s.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) {
			s.Spec.IPFamilyPolicy = nil
		}
		if samePtr(s.Spec.InternalTrafficPolicy, old.Spec.InternalTrafficPolicy) {
			s.Spec.InternalTrafficPolicy = nil
		}
	}
	if needsNodePort(old) && !needsNodePort(s) {
		had := map[int32]bool{}
		for _, p := range old.Spec.Ports {
			had[p.NodePort] = true
		}
		for i := range s.Spec.Ports {
			if had[s.Spec.Ports[i].NodePort] {
				s.Spec.Ports[i].NodePort = 0
			}
		}
	}
	if needsHealthCheckPort(old) && !needsHealthCheckPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	wasLB, isLB := old.Spec.Type == corev1.ServiceTypeLoadBalancer, s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if wasLB && !isLB {
		if samePtr(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if samePtr(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
	}
	if needsExternalTraffic(old) && !needsExternalTraffic(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
}

func samePtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// families fills in ipFamilyPolicy and ipFamilies by the rules of KEP-563 and
// refuses what this cluster does not have.
func (p *Services) families(s, old *corev1.Service) field.ErrorList {
	if !needsClusterIP(s) {
		return nil
	}
	spec := field.NewPath("spec")
	if old != nil && needsClusterIP(old) {
		if s.Spec.IPFamilyPolicy == nil {
			s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
		}
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = slices.Clone(old.Spec.IPFamilies)
		}
	}
	if errs := p.familiesByAddress(s); len(errs) > 0 {
		return errs
	}
	own := familyOf(p.cfg.CIDRs[0].Addr())
	both := len(p.cfg.CIDRs) == 2
	if headless(s) && len(s.Spec.Selector) == 0 {
		return headlessFamilies(s, own)
	}
	policy := corev1.IPFamilyPolicySingleStack
	if s.Spec.IPFamilyPolicy != nil {
		policy = *s.Spec.IPFamilyPolicy
	}
	var errs field.ErrorList
	if policy == corev1.IPFamilyPolicyRequireDualStack && !both {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), policy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.Spec.IPFamilies {
		if _, ok := p.cidr(f); !ok {
			errs = append(errs, field.Invalid(spec.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if policy == corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 2 {
		if old == nil || !samePtr(old.Spec.IPFamilyPolicy, s.Spec.IPFamilyPolicy) {
			if old != nil && slices.Equal(old.Spec.IPFamilies, s.Spec.IPFamilies) && slices.Equal(old.Spec.ClusterIPs, s.Spec.ClusterIPs) {
				// Going back to one family gives the second one up.
				s.Spec.IPFamilies, s.Spec.ClusterIPs = s.Spec.IPFamilies[:1], s.Spec.ClusterIPs[:1]
				return errs
			}
		}
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), policy,
			"must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified"))
	}
	if len(errs) > 0 {
		return errs
	}
	s.Spec.IPFamilyPolicy = &policy
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{own}
	}
	if policy != corev1.IPFamilyPolicySingleStack && both && len(s.Spec.IPFamilies) == 1 {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other(s.Spec.IPFamilies[0]))
	}
	return nil
}

// familiesByAddress takes the families from the addresses a client asks for.
func (p *Services) familiesByAddress(s *corev1.Service) field.ErrorList {
	if headless(s) {
		return nil
	}
	for i, text := range s.Spec.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			continue // validation says it better
		}
		if i >= len(s.Spec.IPFamilies) {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, familyOf(ip))
		} else if s.Spec.IPFamilies[i] != familyOf(ip) {
			return field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), text,
				fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", s.Spec.IPFamilies[i], i))}
		}
	}
	return nil
}

// headlessFamilies are those of a Service whose endpoints somebody else
// writes: all families, since nobody allocates anything.
func headlessFamilies(s *corev1.Service, own corev1.IPFamily) field.ErrorList {
	if s.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicyRequireDualStack
		if len(s.Spec.IPFamilies) == 1 {
			policy = corev1.IPFamilyPolicySingleStack
		}
		s.Spec.IPFamilyPolicy = &policy
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{own}
	}
	if *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 1 {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other(s.Spec.IPFamilies[0]))
	}
	return nil
}

func other(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}
