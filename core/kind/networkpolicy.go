package kind

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func networkPolicyKind(gv schema.GroupVersion) *Kind {
	k := define[networkingv1.NetworkPolicy, networkingv1.NetworkPolicyList](gv, "networkpolicies", "netpol")
	k.Default = do1(defaultNetworkPolicy)
	k.PrepareCreate = do1(func(n *networkingv1.NetworkPolicy) { n.Generation = 1 })
	k.PrepareUpdate = do2(func(n, old *networkingv1.NetworkPolicy) { raise(n, old, &n.Spec, &old.Spec) })
	k.Validate = check1(validateNetworkPolicy)
	k.ValidateUpdate = check2(func(n, _ *networkingv1.NetworkPolicy) field.ErrorList { return validateNetworkPolicy(n) })
	k.Columns = named[*networkingv1.NetworkPolicy]().
		text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"], func(n *networkingv1.NetworkPolicy) string {
			return selectorText(&n.Spec.PodSelector)
		}).
		age()
	return k
}

func defaultNetworkPolicy(n *networkingv1.NetworkPolicy) {
	s := &n.Spec
	ports := func(ports []networkingv1.NetworkPolicyPort) {
		for i := range ports {
			orPointer(&ports[i].Protocol, corev1.ProtocolTCP)
		}
	}
	for i := range s.Ingress {
		ports(s.Ingress[i].Ports)
	}
	for i := range s.Egress {
		ports(s.Egress[i].Ports)
	}
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func validateNetworkPolicy(n *networkingv1.NetworkPolicy) field.ErrorList {
	p, s := field.NewPath("spec"), &n.Spec
	errs := validateSelector(p.Child("podSelector"), &s.PodSelector)
	for i, in := range s.Ingress {
		at := p.Child("ingress").Index(i)
		errs = append(errs, validatePolicyPorts(at.Child("ports"), in.Ports)...)
		errs = append(errs, validatePeers(at.Child("from"), in.From)...)
	}
	for i, out := range s.Egress {
		at := p.Child("egress").Index(i)
		errs = append(errs, validatePolicyPorts(at.Child("ports"), out.Ports)...)
		errs = append(errs, validatePeers(at.Child("to"), out.To)...)
	}
	if len(s.PolicyTypes) > 2 {
		errs = append(errs, field.Invalid(p.Child("policyTypes"), &s.PolicyTypes, "may not specify more than two policyTypes"))
		return errs
	}
	for i, t := range s.PolicyTypes {
		errs = append(errs, supported(p.Child("policyTypes").Index(i), t, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)...)
	}
	return errs
}

func validatePolicyPorts(p *field.Path, ports []networkingv1.NetworkPolicyPort) field.ErrorList {
	var errs field.ErrorList
	for i, port := range ports {
		at := p.Index(i)
		if port.Protocol != nil {
			errs = append(errs, supported(at.Child("protocol"), *port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		}
		if port.Port == nil {
			if port.EndPort != nil {
				errs = append(errs, field.Required(at.Child("port"), "must be specified when `endPort` is specified"))
			}
			continue
		}
		errs = append(errs, portNumberOrName(at.Child("port"), *port.Port)...)
		if port.EndPort == nil {
			continue
		}
		if port.Port.Type == intstr.String {
			errs = append(errs, field.Invalid(at.Child("endPort"), *port.EndPort, "may not be specified when `port` is non-numeric"))
			continue
		}
		if *port.EndPort < port.Port.IntVal {
			errs = append(errs, field.Invalid(at.Child("endPort"), port.Port.IntVal, "must be greater than or equal to `port`"))
		}
		errs = append(errs, portNumber(at.Child("endPort"), *port.EndPort)...)
	}
	return errs
}

func validatePeers(p *field.Path, peers []networkingv1.NetworkPolicyPeer) field.ErrorList {
	var errs field.ErrorList
	for i := range peers {
		peer, at := &peers[i], p.Index(i)
		errs = append(errs, validateSelector(at.Child("podSelector"), peer.PodSelector)...)
		errs = append(errs, validateSelector(at.Child("namespaceSelector"), peer.NamespaceSelector)...)
		selected := peer.PodSelector != nil || peer.NamespaceSelector != nil
		switch {
		case !selected && peer.IPBlock == nil:
			errs = append(errs, field.Required(at, "must specify a peer"))
		case selected && peer.IPBlock != nil:
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
			fallthrough
		case peer.IPBlock != nil:
			errs = append(errs, validateIPBlock(at.Child("ipBlock"), peer.IPBlock)...)
		}
	}
	return errs
}

func validateIPBlock(p *field.Path, b *networkingv1.IPBlock) field.ErrorList {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(p.Child("cidr"), "")}
	}
	errs := validation.IsValidCIDRForLegacyField(p.Child("cidr"), b.CIDR, true, nil)
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return errs
	}
	for i, e := range b.Except {
		at := p.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, e, true, nil)...)
		part, err := netip.ParsePrefix(e)
		if err == nil && (!whole.Contains(part.Addr()) || part.Bits() <= whole.Bits()) {
			errs = append(errs, field.Invalid(at, e, fmt.Sprintf("must be a strict subset of `%s`", p.Child("cidr"))))
		}
	}
	return errs
}
