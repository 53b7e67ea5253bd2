package admission

import (
	"encoding/binary"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// cidr returns the range of a family.
func (p *Services) cidr(family corev1.IPFamily) (netip.Prefix, bool) {
	for _, c := range p.cfg.CIDRs {
		if familyOf(c.Addr()) == family {
			return c, true
		}
	}
	return netip.Prefix{}, false
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// firstUsable leaves out the network's own address and, for IPv4, broadcast.
func firstUsable(cidr netip.Prefix) (netip.Addr, uint64) {
	size := uint64(1) << (cidr.Addr().BitLen() - cidr.Bits())
	if cidr.Addr().Is4() {
		return cidr.Addr().Next(), size - 2
	}
	return cidr.Addr().Next(), size - 1
}

func usable(cidr netip.Prefix, ip netip.Addr) bool {
	if !cidr.Contains(ip) || ip == cidr.Addr() {
		return false
	}
	first, size := firstUsable(cidr)
	return ip.Compare(offset(first, size-1)) <= 0
}

// offset returns the address n after first.
func offset(first netip.Addr, n uint64) netip.Addr {
	if first.Is4() {
		b := first.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := first.As16()
	low := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(b[8:], low+n)
	if low+n < low {
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+1)
	}
	return netip.AddrFrom16(b)
}

// staticBand is the number of places at the start of a range that are given
// out last, so that people can ask for them: KEP-3070 (addresses) and
// KEP-3668 (node ports): a step-th of the range, at least least, at most most;
// none of a range not larger than least.
func staticBand(size, least, step, most uint64) uint64 {
	if size <= least {
		return 0
	}
	return min(max(least, size/step), most)
}

// draw chooses a free place, at random above the band and, when there is
// none, within it.
func draw(size, band uint64, random func(uint64) uint64, free func(uint64) bool) (uint64, bool) {
	scan := func(from, n uint64) (uint64, bool) {
		if n == 0 {
			return 0, false
		}
		start := random(n)
		for i := range n {
			if at := from + (start+i)%n; free(at) {
				return at, true
			}
		}
		return 0, false
	}
	if at, ok := scan(band, size-band); ok {
		return at, true
	}
	return scan(0, band)
}
