package network

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// staleFlows matches the UDP flows to host ports that do not lead to their
// lease. UDP has no end of connection: a flow keeps its translation, or its
// having none, as long as packets come. It implements
// netlink.CustomConntrackFilter.
type staleFlows struct {
	lease *Lease
	// closing says that the lease goes: what leads to it is stale, too.
	closing bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
	src, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	dst, src = dst.Unmap(), src.Unmap()
	for _, p := range s.lease.HostPorts {
		if p.number() != unix.IPPROTO_UDP || p.HostPort != f.Forward.DstPort || !p.any() && p.HostIP != dst.String() {
			continue
		}
		here := src == s.lease.Address && f.Reverse.SrcPort == p.ContainerPort
		// A flow translated to somewhere else is another's: a Service may
		// have the same port number at its own address.
		return here == s.closing && (here || src == dst)
	}
	return false
}

// forgetFlows deletes the stale UDP flows of a lease's host ports.
func (h *host) forgetFlows(s staleFlows) error {
	for _, p := range s.lease.HostPorts {
		if p.number() != unix.IPPROTO_UDP {
			continue
		}
		if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, s); err != nil {
			return fmt.Errorf("cannot forget the flows of host port %d: %w", p.HostPort, err)
		}
		return nil
	}
	return nil
}
