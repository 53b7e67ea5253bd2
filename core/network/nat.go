package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"syscall"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"binnacle.io/core/network/nft"
)

// nat is the nftables table: masquerade for traffic that leaves the cluster's
// pod addresses, and hostPorts. Its rules are constant; a hostPort is an
// element of a map.
type nat struct {
	namespace int // descriptor, 0 for the process' own
	fam       nft.Family
	table     *nftables.Table
	// anywhere maps (protocol, port) on any address of the node to a pod,
	// address (address, protocol, port). hairpin holds the pods with
	// hostPorts, to masquerade what they send themselves.
	anywhere, address, hairpin *nftables.Set
}

func newNAT(namespace int) *nat {
	fam := nft.IPv4()
	t := &nftables.Table{Name: TableName, Family: fam.Table}
	return &nat{
		namespace: namespace, fam: fam, table: t,
		anywhere: &nftables.Set{Table: t, Name: "hostports", IsMap: true, Concatenation: true, KeyType: nft.ProtoPortType(), DataType: fam.EndpointType()},
		address:  &nftables.Set{Table: t, Name: "hostports-by-address", IsMap: true, Concatenation: true, KeyType: fam.AddrProtoPortType(), DataType: fam.EndpointType()},
		hairpin:  &nftables.Set{Table: t, Name: "hairpin", Concatenation: true, KeyType: fam.AddrPairType()},
	}
}

// install replaces the table, in one transaction, by the rules for the
// prefixes and the hostPorts of the leases.
func (n *nat) install(podCIDR, clusterCIDR netip.Prefix, leases []*Lease) error {
	c, err := nft.NewConn(n.namespace)
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	c.AddTable(n.table) // so that deleting it never fails
	c.DelTable(n.table)
	c.AddTable(n.table)
	for _, s := range []*nftables.Set{n.anywhere, n.address, n.hairpin} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("cannot define set %q: %w", s.Name, err)
		}
	}
	hostports := c.AddChain(&nftables.Chain{Table: n.table, Name: "hostports"})
	add := func(ch *nftables.Chain, parts ...nft.Statement) {
		c.AddRule(&nftables.Rule{Table: n.table, Chain: ch, Exprs: nft.Rule(parts...)})
	}
	add(hostports, n.fam.AddrProtoPort(), nft.MapEndpoint(n.address), n.fam.DNAT())
	add(hostports, nft.ProtoPort(), nft.MapEndpoint(n.anywhere), n.fam.DNAT())
	// After the Services (core/proxy, -100): a hostPort must not shadow them.
	after := nftables.ChainPriorityRef(-95)
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		ch := c.AddChain(&nftables.Chain{Table: n.table, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: after})
		add(ch, nft.DaddrLocal(), n.fam.DaddrNotIn(netip.MustParsePrefix("127.0.0.0/8")), nft.Jump("hostports"))
	}
	post := c.AddChain(&nftables.Chain{Table: n.table, Name: "postrouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	add(post, nft.DNATed(), n.fam.SaddrDaddr(), nft.In(n.hairpin), nft.Masquerade())
	add(post, n.fam.SaddrNotIn(podCIDR), nft.Return())
	add(post, n.fam.DaddrIn(clusterCIDR), nft.Return())
	add(post, n.fam.DaddrIn(netip.MustParsePrefix("224.0.0.0/4")), nft.Return())
	add(post, nft.Masquerade())
	for _, l := range leases {
		if err := n.change(l, func(s *nftables.Set, e []nftables.SetElement) error { return nft.AddElements(c, s, e) }); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot install nftables table %q: %w", TableName, err)
	}
	return nil
}

// intact tells whether the table's rules are all there.
func (n *nat) intact() (bool, error) {
	have, err := nft.RuleCounts(n.namespace, n.table)
	if err != nil {
		return false, err
	}
	return maps.Equal(have, map[string]int{"hostports": 2, "prerouting": 1, "output": 1, "postrouting": 5}), nil
}

// open makes a lease's hostPorts reachable.
func (n *nat) open(l *Lease) error {
	if len(l.HostPorts) == 0 {
		return nil
	}
	c, err := nft.NewConn(n.namespace)
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	if err := n.change(l, func(s *nftables.Set, e []nftables.SetElement) error { return nft.AddElements(c, s, e) }); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot open host ports %v: %w", l.HostPorts, err)
	}
	return nil
}

// shut takes a lease's hostPorts back. Ports that are not open are fine.
func (n *nat) shut(l *Lease) error {
	if len(l.HostPorts) == 0 {
		return nil
	}
	// One transaction per element: a missing one must not keep the others.
	return n.change(l, func(s *nftables.Set, elements []nftables.SetElement) error {
		for _, e := range elements {
			c, err := nft.NewConn(n.namespace)
			if err != nil {
				return fmt.Errorf("cannot open nftables: %w", err)
			}
			if err := c.SetDeleteElements(s, []nftables.SetElement{e}); err != nil {
				return fmt.Errorf("cannot encode host ports of %s: %w", l.Address, err)
			}
			if err := c.Flush(); err != nil && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("cannot close host ports of %s: %w", l.Address, err)
			}
		}
		return nil
	})
}

// change calls f with the elements of a lease's hostPorts, per set.
func (n *nat) change(l *Lease, f func(*nftables.Set, []nftables.SetElement) error) error {
	var anywhere, address []nftables.SetElement
	for _, p := range l.HostPorts {
		proto, err := protocol(p.Protocol)
		if err != nil {
			return err
		}
		to := nft.EndpointValue(netip.AddrPortFrom(l.Address, p.ContainerPort))
		if !p.any() {
			ip, err := netip.ParseAddr(p.HostIP)
			if err != nil {
				return fmt.Errorf("cannot map host port %d: %w", p.HostPort, err)
			}
			address = append(address, nftables.SetElement{Key: nft.AddrProtoPortKey(ip, proto, p.HostPort), Val: to})
		} else {
			anywhere = append(anywhere, nftables.SetElement{Key: nft.ProtoPortKey(proto, p.HostPort), Val: to})
		}
	}
	if len(anywhere) > 0 {
		if err := f(n.anywhere, anywhere); err != nil {
			return err
		}
	}
	if len(address) > 0 {
		if err := f(n.address, address); err != nil {
			return err
		}
	}
	if len(anywhere)+len(address) > 0 {
		return f(n.hairpin, []nftables.SetElement{{Key: nft.AddrPairKey(l.Address, l.Address)}})
	}
	return nil
}

// remove deletes the table.
func (n *nat) remove() error {
	c, err := nft.NewConn(n.namespace)
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	c.AddTable(n.table)
	c.DelTable(n.table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot remove nftables table %q: %w", TableName, err)
	}
	return nil
}

func protocol(name string) (byte, error) {
	switch name {
	case "tcp", "TCP", "":
		return unix.IPPROTO_TCP, nil
	case "udp", "UDP":
		return unix.IPPROTO_UDP, nil
	case "sctp", "SCTP":
		return unix.IPPROTO_SCTP, nil
	}
	return 0, fmt.Errorf("cannot map host port of protocol %q: it is not tcp, udp or sctp", name)
}
