package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is what the plan depends on of the node it is for.
type Node struct {
	Name string
	// Local are service addresses that this node answers itself.
	Local []netip.Addr
}

// PortName names one port of a Service in one address family.
type PortName struct {
	Namespace, Service, Port string
	IPv6                     bool
}

func (n PortName) String() string {
	s := n.Namespace + "/" + n.Service
	if n.Port != "" {
		s += ":" + n.Port
	}
	if n.IPv6 {
		s += " (IPv6)"
	}
	return s
}

func (n PortName) compare(m PortName) int {
	return cmp.Or(cmp.Compare(n.Namespace, m.Namespace), cmp.Compare(n.Service, m.Service), cmp.Compare(n.Port, m.Port), compareBool(n.IPv6, m.IPv6))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// FrontendKind says how clients address a port.
type FrontendKind string

// The kinds of frontends.
const (
	ClusterIP    FrontendKind = "ClusterIP"
	NodePort     FrontendKind = "NodePort"
	ExternalIP   FrontendKind = "ExternalIP"
	LoadBalancer FrontendKind = "LoadBalancer"
)

// Frontend is an address at which clients reach a port. Addr is invalid for a
// NodePort, which is on every address of the node.
type Frontend struct {
	Kind FrontendKind
	Addr netip.Addr
	Port uint16
}

// Endpoint is where a connection may go.
type Endpoint struct {
	netip.AddrPort
	// Local endpoints run on this node.
	Local bool
}

// Port is one row of the desired table.
type Port struct {
	PortName
	Protocol  corev1.Protocol
	Frontends []Frontend
	// Affinity keeps a client at its endpoint for this long after its last
	// connection; 0 is off.
	Affinity time.Duration
	// Cluster are all usable endpoints, Internal those for ClusterIPs, and
	// External those for traffic from outside to the other frontends.
	Cluster, Internal, External []Endpoint
	// ExternalLocal keeps the client's address: no masquerade.
	ExternalLocal bool
	// SourceRanges restrict the clients of LoadBalancer frontends, if any.
	SourceRanges []netip.Prefix
}

// equal tells whether two rows are the same.
func (p *Port) equal(q *Port) bool {
	return p.PortName == q.PortName && p.Protocol == q.Protocol && p.Affinity == q.Affinity && p.ExternalLocal == q.ExternalLocal &&
		slices.Equal(p.Frontends, q.Frontends) && slices.Equal(p.SourceRanges, q.SourceRanges) &&
		slices.Equal(p.Cluster, q.Cluster) && slices.Equal(p.Internal, q.Internal) && slices.Equal(p.External, q.External)
}

// Decision explains what became of a Service's part.
type Decision struct {
	// Subject is a port, a frontend address or an endpoint.
	Subject string `json:"subject"`
	// Pod is the endpoint's target, if it has one.
	Pod    string `json:"pod,omitempty"`
	Used   bool   `json:"used"`
	Reason string `json:"reason"`
}

// Plan makes the desired table of all Services.
func Plan(services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, node Node) *Table {
	bySvc := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for _, s := range endpointSlices {
		k := serviceOf(s)
		bySvc[k] = append(bySvc[k], s)
	}
	t := NewTable()
	for _, svc := range services {
		k := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		ports, _ := PlanService(svc, bySvc[k], node)
		t.Set(k, ports)
	}
	return t
}

// serviceOf names the Service an EndpointSlice belongs to.
func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// planner collects the rows and the reasons for one Service.
type planner struct {
	svc    *corev1.Service
	slices []*discoveryv1.EndpointSlice
	node   Node
	why    []Decision
}

func (p *planner) say(subject, pod string, used bool, format string, args ...any) {
	p.why = append(p.why, Decision{Subject: subject, Pod: pod, Used: used, Reason: fmt.Sprintf(format, args...)})
}

// PlanService makes one Service's rows, ordered, and says why they are so.
func PlanService(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, node Node) ([]*Port, []Decision) {
	p := &planner{svc: svc, slices: slices.Clone(endpointSlices), node: node}
	name := svc.Namespace + "/" + svc.Name
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		p.say(name, "", false, "type ExternalName is answered by DNS")
		return nil, p.why
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		p.say(name, "", false, "headless: clients connect to the endpoints")
		return nil, p.why
	case svc.Spec.ClusterIP == "":
		p.say(name, "", false, "no ClusterIP is allocated yet")
		return nil, p.why
	case svc.Labels["service.kubernetes.io/service-proxy-name"] != "":
		p.say(name, "", false, "label service.kubernetes.io/service-proxy-name gives it to another proxy")
		return nil, p.why
	}
	slices.SortFunc(p.slices, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	var ports []*Port
	for _, v6 := range []bool{false, true} {
		for i := range svc.Spec.Ports {
			if port := p.port(&svc.Spec.Ports[i], v6); port != nil {
				ports = append(ports, port)
			}
		}
	}
	return ports, p.why
}

func (p *planner) port(sp *corev1.ServicePort, v6 bool) *Port {
	svc := p.svc
	port := &Port{
		PortName: PortName{Namespace: svc.Namespace, Service: svc.Name, Port: sp.Name, IPv6: v6},
		Protocol: cmp.Or(sp.Protocol, corev1.ProtocolTCP),
	}
	port.Frontends = p.frontends(sp, v6)
	if len(port.Frontends) == 0 {
		return nil
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		port.Affinity = 3 * time.Hour
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			port.Affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	if len(svc.Spec.LoadBalancerSourceRanges) > 0 {
		port.SourceRanges = p.sourceRanges(v6)
	}
	port.ExternalLocal = svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	internalLocal := svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	all, local := p.endpoints(sp, port.Protocol, v6)
	port.Cluster, port.Internal, port.External = all, all, all
	if internalLocal {
		port.Internal = local
	}
	if port.ExternalLocal {
		port.External = local
	}
	subject := port.PortName.String()
	switch {
	case len(all) == 0:
		p.say(subject, "", false, "no endpoint is usable: connections are refused")
	case internalLocal && len(local) == 0:
		p.say(subject, "", false, "internalTrafficPolicy is Local and no endpoint is on node %s: connections to the ClusterIP are dropped", p.node.Name)
	case port.ExternalLocal && len(local) == 0:
		p.say(subject, "", false, "externalTrafficPolicy is Local and no endpoint is on node %s: connections from outside are dropped", p.node.Name)
	}
	return port
}

// frontends lists the addresses of a port in one family.
func (p *planner) frontends(sp *corev1.ServicePort, v6 bool) []Frontend {
	svc := p.svc
	var list []Frontend
	add := func(kind FrontendKind, text string) {
		addr, err := netip.ParseAddr(text)
		addr = addr.Unmap()
		switch {
		case err != nil:
			p.say(text, "", false, "%s is not an IP address", kind)
		case addr.Is6() != v6:
		case slices.Contains(p.node.Local, addr):
			p.say(text, "", false, "%s is answered by this node itself", kind)
		case slices.ContainsFunc(list, func(f Frontend) bool { return f.Addr == addr }):
		default:
			list = append(list, Frontend{Kind: kind, Addr: addr, Port: uint16(sp.Port)})
		}
	}
	clusterIPs := svc.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{svc.Spec.ClusterIP}
	}
	for _, ip := range clusterIPs {
		add(ClusterIP, ip)
	}
	for _, ip := range svc.Spec.ExternalIPs {
		add(ExternalIP, ip)
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if in.IP == "" {
				continue
			}
			if in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
				p.say(in.IP, "", false, "ipMode Proxy: the load balancer must see the traffic itself")
				continue
			}
			add(LoadBalancer, in.IP)
		}
	}
	// A node port exists in each family the Service has.
	families := slices.ContainsFunc(svc.Spec.ClusterIPs, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6() == v6
	}) || len(list) > 0
	if sp.NodePort != 0 && families {
		list = append(list, Frontend{Kind: NodePort, Port: uint16(sp.NodePort)})
	}
	return list
}

func (p *planner) sourceRanges(v6 bool) []netip.Prefix {
	ranges := []netip.Prefix{}
	for _, text := range p.svc.Spec.LoadBalancerSourceRanges {
		r, err := netip.ParsePrefix(text)
		if err != nil {
			p.say(text, "", false, "loadBalancerSourceRanges: not a CIDR")
			continue
		}
		if r.Addr().Is6() == v6 {
			ranges = append(ranges, r.Masked())
		}
	}
	if len(ranges) == 0 {
		// Ranges of the other family only: nobody of this one.
		zero := netip.IPv4Unspecified()
		if v6 {
			zero = netip.IPv6Unspecified()
		}
		ranges = append(ranges, netip.PrefixFrom(zero, zero.BitLen()))
	}
	return ranges
}

// candidate is an endpoint with the conditions that decide on its use.
type candidate struct {
	Endpoint
	pod                string
	ready, terminating bool
}

// endpoints picks a port's endpoints: all of the cluster and those of this
// node. In each of the two, ready ones are used if there are any, else those
// that still serve while they terminate (KEP-1669).
func (p *planner) endpoints(sp *corev1.ServicePort, protocol corev1.Protocol, v6 bool) (all, local []Endpoint) {
	family := discoveryv1.AddressTypeIPv4
	if v6 {
		family = discoveryv1.AddressTypeIPv6
	}
	found := map[netip.AddrPort]candidate{}
	for _, s := range p.slices {
		if s.AddressType != family || s.DeletionTimestamp != nil {
			continue
		}
		for _, ep := range s.Ports {
			if value(ep.Name, "") != sp.Name || value(ep.Protocol, corev1.ProtocolTCP) != protocol || ep.Port == nil {
				continue
			}
			for i := range s.Endpoints {
				p.consider(&s.Endpoints[i], uint16(*ep.Port), found)
			}
		}
	}
	candidates := make([]candidate, 0, len(found))
	for _, c := range found {
		candidates = append(candidates, c)
	}
	slices.SortFunc(candidates, func(a, b candidate) int { return a.AddrPort.Compare(b.AddrPort) })
	ready := func(c candidate) bool { return c.ready }
	readyLocal := func(c candidate) bool { return c.ready && c.Local }
	anyReady, anyReadyLocal := slices.ContainsFunc(candidates, ready), slices.ContainsFunc(candidates, readyLocal)
	for _, c := range candidates {
		subject := c.AddrPort.String()
		switch {
		case c.ready:
			p.say(subject, c.pod, true, "ready")
			all = append(all, c.Endpoint)
		case !anyReady:
			p.say(subject, c.pod, true, "terminating but serving, and no endpoint is ready")
			all = append(all, c.Endpoint)
		case c.Local && !anyReadyLocal:
			p.say(subject, c.pod, false, "terminating; used only where policy Local applies, no other is ready on this node")
		default:
			p.say(subject, c.pod, false, "terminating, and others are ready")
		}
		if c.Local && (c.ready || !anyReadyLocal) {
			local = append(local, c.Endpoint)
		}
	}
	return all, local
}

// consider adds an endpoint's addresses to the candidates unless it serves
// nobody. The same address in two slices counts once, the better one.
func (p *planner) consider(e *discoveryv1.Endpoint, port uint16, found map[netip.AddrPort]candidate) {
	pod := ""
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		pod = e.TargetRef.Namespace + "/" + e.TargetRef.Name
	}
	for _, text := range e.Addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			p.say(text, pod, false, "not an IP address")
			continue
		}
		c := candidate{pod: pod, ready: value(e.Conditions.Ready, true), terminating: value(e.Conditions.Terminating, false)}
		c.Endpoint = Endpoint{AddrPort: netip.AddrPortFrom(addr.Unmap(), port), Local: value(e.NodeName, "") == p.node.Name && p.node.Name != ""}
		serving := value(e.Conditions.Serving, c.ready)
		if !c.ready && !(serving && c.terminating) {
			p.say(c.AddrPort.String(), pod, false, "not ready")
			continue
		}
		if old, ok := found[c.AddrPort]; ok && (old.ready || !c.ready) {
			continue
		}
		found[c.AddrPort] = c
	}
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
