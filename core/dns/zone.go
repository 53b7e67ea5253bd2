package dns

import (
	"context"
	"net/netip"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// zone is the CoreDNS plugin that answers for the cluster's domain and the
// reverse zones.
type zone struct {
	next    plugin.Handler
	records *records
	zones   []string // fully qualified, as in the Corefile
	domain  string   // the first that is not reverse
	ttl     uint32
	pods    bool // answer for pod names by their form
	fall    fall.F
	self    netip.Addr
	lookup  *upstream.Upstream
}

// version of the DNS specification that is followed.
const specVersion = "1.1.0"

// Name implements plugin.Handler.
func (z *zone) Name() string { return "binnacle" }

// ServeDNS implements plugin.Handler.
func (z *zone) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	origin := plugin.Zones(z.zones).Matches(state.Name())
	if origin == "" {
		return plugin.NextOrFailure(z.Name(), z.next, ctx, w, r)
	}
	if !z.records.ready() {
		return mdns.RcodeServerFailure, nil
	}
	a := z.answer(ctx, state, origin)
	if !a.exists && z.fall.Through(state.Name()) {
		return plugin.NextOrFailure(z.Name(), z.next, ctx, w, r)
	}
	m := new(mdns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	m.Answer, m.Extra = a.records, a.extra
	if !a.exists {
		m.Rcode = mdns.RcodeNameError
	}
	if len(a.records) == 0 {
		m.Ns = []mdns.RR{z.soa(origin)}
	}
	return mdns.RcodeSuccess, w.WriteMsg(m)
}

// answer says whether a name exists and what it has of the type asked.
type answer struct {
	exists  bool
	records []mdns.RR
	extra   []mdns.RR
}

func (z *zone) answer(ctx context.Context, state request.Request, origin string) answer {
	name := strings.ToLower(state.QName())
	if ip := dnsutil.ExtractAddressFromReverse(name); ip != "" && isReverse(origin) {
		return z.pointer(state, ip)
	}
	if name == origin {
		switch state.QType() {
		case mdns.TypeSOA:
			return answer{exists: true, records: []mdns.RR{z.soa(origin)}}
		case mdns.TypeNS:
			ns := &mdns.NS{Hdr: z.header(state.QName(), mdns.TypeNS), Ns: "ns.dns." + z.domain}
			return answer{exists: true, records: []mdns.RR{ns}, extra: z.addresses(ns.Ns, []netip.Addr{z.self}, mdns.TypeA)}
		}
		return answer{exists: true}
	}
	if isReverse(origin) {
		return answer{} // below a reverse zone but no address
	}
	labels := strings.Split(strings.TrimSuffix(strings.TrimSuffix(name, origin), "."), ".")
	kind, rest := labels[len(labels)-1], labels[:len(labels)-1]
	switch kind {
	case "svc":
		return z.service(ctx, state, rest)
	case "pod":
		return z.pod(state, rest)
	case "dns-version":
		if len(rest) > 0 {
			return answer{}
		}
		a := answer{exists: true}
		if state.QType() == mdns.TypeTXT {
			a.records = []mdns.RR{&mdns.TXT{Hdr: z.header(state.QName(), mdns.TypeTXT), Txt: []string{specVersion}}}
		}
		return a
	case "dns":
		if len(rest) == 0 {
			return answer{exists: true}
		}
		if len(rest) == 1 && rest[0] == "ns" {
			return answer{exists: true, records: z.addresses(state.QName(), []netip.Addr{z.self}, state.QType())}
		}
	}
	return answer{}
}

// service answers [_port _proto | endpoint] service namespace.
func (z *zone) service(ctx context.Context, state request.Request, labels []string) answer {
	n := len(labels)
	if n == 0 {
		return answer{exists: true} // svc.cluster.local
	}
	namespace := labels[n-1]
	if !z.records.namespace(namespace) {
		return answer{}
	}
	if n == 1 {
		return answer{exists: true}
	}
	var port, proto, host string
	switch {
	case n == 3:
		host = labels[0]
	case n == 4 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		port, proto = labels[0][1:], labels[1][1:]
	case n > 3:
		return answer{}
	}
	key := types.NamespacedName{Namespace: namespace, Name: labels[n-2]}
	svc, endpoints := z.records.lookup(key, host != "")
	if n == 3 && strings.HasPrefix(host, "_") {
		// _tcp.service.namespace is on the way to the ports.
		return answer{exists: svc != nil && hasProtocol(svc, host[1:])}
	}
	if svc == nil {
		return answer{}
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if n != 2 {
			return answer{}
		}
		return z.external(ctx, state, svc)
	}
	targets := z.targets(svc, endpoints, host)
	if host != "" && len(targets) == 0 {
		return answer{}
	}
	if headless(svc) && len(targets) == 0 {
		return answer{} // without ready endpoints it has no name (DNS specification 1.1.0, 2.4.1)
	}
	a := answer{exists: port == ""}
	seen := map[string]bool{}
	for _, t := range targets {
		for _, p := range t.ports {
			if port != "" && (p.name != port || p.proto != proto) {
				continue
			}
			a.exists = true
			if state.QType() != mdns.TypeSRV || port == "" && p.name == "" && len(t.ports) > 1 {
				continue
			}
			srv := &mdns.SRV{Hdr: z.header(state.QName(), mdns.TypeSRV), Weight: 100, Port: p.number, Target: t.name}
			if k := srv.String(); !seen[k] {
				seen[k] = true
				a.records = append(a.records, srv)
			}
			if !seen[t.name+t.addr.String()] {
				seen[t.name+t.addr.String()] = true
				a.extra = append(a.extra, z.address(t.name, t.addr))
			}
		}
		if port == "" && state.QType() != mdns.TypeSRV || port != "" && a.exists {
			a.records = append(a.records, z.addresses(state.QName(), []netip.Addr{t.addr}, state.QType())...)
		}
	}
	if n := len(a.records); n > 0 && state.QType() == mdns.TypeSRV {
		for _, rr := range a.records {
			rr.(*mdns.SRV).Weight = uint16(max(1, 100/n))
		}
	}
	return a
}

// target is an address a Service's name stands for.
type target struct {
	name  string
	addr  netip.Addr
	ports []targetPort
}

type targetPort struct {
	name, proto string
	number      uint16
}

// targets of a Service: its ClusterIPs, or the endpoints when it is headless
// or one of them is asked for by host.
func (z *zone) targets(svc *corev1.Service, endpoints []endpoint, host string) []target {
	base := svc.Name + "." + svc.Namespace + ".svc." + z.domain
	var list []target
	if host == "" && !headless(svc) {
		var ports []targetPort
		for _, p := range svc.Spec.Ports {
			ports = append(ports, targetPort{strings.ToLower(p.Name), strings.ToLower(string(p.Protocol)), uint16(p.Port)})
		}
		for _, ip := range clusterIPs(svc) {
			list = append(list, target{base, ip, ports})
		}
		return list
	}
	for _, e := range endpoints {
		if host != "" && e.host != host {
			continue
		}
		t := target{name: e.host + "." + base, addr: e.addr}
		for _, p := range e.ports {
			if p.Port == nil {
				continue
			}
			tp := targetPort{proto: "tcp", number: uint16(*p.Port)}
			if p.Name != nil {
				tp.name = strings.ToLower(*p.Name)
			}
			if p.Protocol != nil {
				tp.proto = strings.ToLower(string(*p.Protocol))
			}
			t.ports = append(t.ports, tp)
		}
		list = append(list, t)
	}
	return list
}

func hasProtocol(svc *corev1.Service, proto string) bool {
	for _, p := range svc.Spec.Ports {
		if strings.EqualFold(string(p.Protocol), proto) {
			return true
		}
	}
	return false
}

// external answers with a CNAME and what its target has.
func (z *zone) external(ctx context.Context, state request.Request, svc *corev1.Service) answer {
	target := mdns.Fqdn(svc.Spec.ExternalName)
	a := answer{exists: true, records: []mdns.RR{&mdns.CNAME{Hdr: z.header(state.QName(), mdns.TypeCNAME), Target: target}}}
	if t := state.QType(); t == mdns.TypeA || t == mdns.TypeAAAA {
		// A failure of the lookup leaves the CNAME, which is still right.
		if m, err := z.lookup.Lookup(ctx, state, target, t); err == nil && m != nil {
			a.records = append(a.records, m.Answer...)
		}
	}
	return a
}

// pod answers dashed-address namespace.
func (z *zone) pod(state request.Request, labels []string) answer {
	n := len(labels)
	if n == 0 {
		return answer{exists: true}
	}
	if !z.pods || n > 2 || !z.records.namespace(labels[n-1]) {
		return answer{}
	}
	if n == 1 {
		return answer{exists: true}
	}
	ip, ok := undashed(labels[0])
	if !ok {
		return answer{}
	}
	return answer{exists: true, records: z.addresses(state.QName(), []netip.Addr{ip}, state.QType())}
}

// pointer answers a reverse lookup.
func (z *zone) pointer(state request.Request, text string) answer {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return answer{}
	}
	svc, host, ok := z.records.reverse(ip.Unmap())
	if !ok {
		return answer{}
	}
	a := answer{exists: true}
	if state.QType() == mdns.TypePTR {
		name := svc.Name + "." + svc.Namespace + ".svc." + z.domain
		if host != "" {
			name = host + "." + name
		}
		a.records = []mdns.RR{&mdns.PTR{Hdr: z.header(state.QName(), mdns.TypePTR), Ptr: name}}
	}
	return a
}

// addresses returns the records of the type asked.
func (z *zone) addresses(name string, ips []netip.Addr, qtype uint16) []mdns.RR {
	var list []mdns.RR
	for _, ip := range ips {
		if ip.Is4() && qtype == mdns.TypeA || ip.Is6() && qtype == mdns.TypeAAAA {
			list = append(list, z.address(name, ip))
		}
	}
	return list
}

func (z *zone) address(name string, ip netip.Addr) mdns.RR {
	if ip.Is4() {
		return &mdns.A{Hdr: z.header(name, mdns.TypeA), A: ip.AsSlice()}
	}
	return &mdns.AAAA{Hdr: z.header(name, mdns.TypeAAAA), AAAA: ip.AsSlice()}
}

func (z *zone) header(name string, rrtype uint16) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: rrtype, Class: mdns.ClassINET, Ttl: z.ttl}
}

// soa goes with negative answers; its minimum bounds how long they are kept.
func (z *zone) soa(origin string) mdns.RR {
	return &mdns.SOA{
		Hdr: z.header(origin, mdns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: z.ttl,
	}
}
