package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// staleFlows matches the UDP flows that a set of changes makes wrong. UDP has
// no end of connection: a flow keeps its translation as long as packets come.
// It implements netlink.CustomConntrackFilter.
type staleFlows map[frontendKey]*staleEndpoints

type staleEndpoints struct {
	// serving endpoints keep their flows; those translated to others go.
	serving []netip.AddrPort
	// untranslated flows, too, began when there was no endpoint.
	untranslated bool
}

// stale finds what changes make wrong: pure. A row that is new may have flows
// from before this process started.
func stale(changes []Change) staleFlows {
	flows := staleFlows{}
	for _, c := range changes {
		if c.Old != nil && c.Old.Protocol != corev1.ProtocolUDP || c.New != nil && c.New.Protocol != corev1.ProtocolUDP {
			continue
		}
		s := &staleEndpoints{}
		if c.New != nil {
			for _, e := range c.New.Cluster {
				s.serving = append(s.serving, e.AddrPort)
			}
		}
		gone := false
		if c.Old != nil {
			gone = slices.ContainsFunc(c.Old.Cluster, func(e Endpoint) bool { return !slices.Contains(s.serving, e.AddrPort) })
		}
		s.untranslated = (c.Old == nil || len(c.Old.Cluster) == 0) && len(s.serving) > 0
		if c.Old != nil && !gone && !s.untranslated {
			continue
		}
		for _, p := range []*Port{c.Old, c.New} {
			if p != nil {
				flows.add(p, s)
			}
		}
	}
	return flows
}

func (f staleFlows) add(p *Port, s *staleEndpoints) {
	for _, fe := range p.Frontends {
		f[keyOf(p, fe)] = s
	}
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	src, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	dst, src = dst.Unmap(), src.Unmap()
	s := f[frontendKey{dst, dst.Is6(), flow.Forward.DstPort, corev1.ProtocolUDP}]
	if s == nil {
		s = f[frontendKey{netip.Addr{}, dst.Is6(), flow.Forward.DstPort, corev1.ProtocolUDP}]
	}
	if s == nil {
		return false
	}
	if src == dst {
		return s.untranslated
	}
	return !slices.Contains(s.serving, netip.AddrPortFrom(src, flow.Reverse.SrcPort))
}

// forget deletes the stale flows and returns how many there were.
func forget(h *netlink.Handle, flows staleFlows) (uint, error) {
	var total uint
	families := map[netlink.InetFamily]bool{}
	for k := range flows {
		if k.v6 {
			families[unix.AF_INET6] = true
		} else {
			families[unix.AF_INET] = true
		}
	}
	for f := range families {
		n, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, f, flows)
		total += n
		if err != nil {
			return total, fmt.Errorf("cannot delete stale UDP flows: %w", err)
		}
	}
	return total, nil
}
