package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/google/nftables"

	"binnacle.io/core/network/nft"
)

// TableName is the name of the nftables tables, one per address family.
const TableName = "binnacle-proxy"

// masqueradeMark is the bit of the packet mark that asks for masquerade; the
// same as upstream's, which other software leaves alone.
const masqueradeMark = 0x4000

// NFTables is the nftables backend.
type NFTables struct {
	clusterCIDRs []netip.Prefix
	families     [2]*familyTable // IPv4, IPv6
}

// NewNFTables returns a backend for the network namespace of the given
// descriptor (0: the process' own). Sources outside the cluster CIDRs are
// masqueraded. Nothing is written before the first Replace.
func NewNFTables(namespace int, clusterCIDRs []netip.Prefix) *NFTables {
	return &NFTables{
		clusterCIDRs: clusterCIDRs,
		families:     [2]*familyTable{newFamilyTable(nft.IPv4(), namespace), newFamilyTable(nft.IPv6(), namespace)},
	}
}

// familyTable is the table of one address family and what is in it.
type familyTable struct {
	fam       nft.Family
	namespace int
	table     *nftables.Table
	sets      map[setName]*nftables.Set
	installed bool
	programs  map[PortName]program
	shared    map[element]int // number of rows that need it
	pools     poolNumbers
}

func newFamilyTable(fam nft.Family, namespace int) *familyTable {
	t := &nftables.Table{Name: TableName, Family: fam.Table}
	f := &familyTable{fam: fam, namespace: namespace, table: t}
	f.sets = f.fixedSets()
	return f
}

// fixedSets are the sets that are always there.
func (f *familyTable) fixedSets() map[setName]*nftables.Set {
	t, fam := f.table, f.fam
	verdicts := func(name setName, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: string(name), IsMap: true, Concatenation: true, KeyType: key, DataType: nftables.TypeVerdict}
	}
	return map[setName]*nftables.Set{
		services:         verdicts(services, fam.AddrProtoPortType()),
		refusals:         verdicts(refusals, fam.AddrProtoPortType()),
		nodePorts:        verdicts(nodePorts, nft.ProtoPortType()),
		nodePortRefusals: verdicts(nodePortRefusals, nft.ProtoPortType()),
		clusterIPs:       {Table: t, Name: string(clusterIPs), KeyType: fam.Addr},
		hairpin:          {Table: t, Name: string(hairpin), Concatenation: true, KeyType: fam.AddrPairType()},
	}
}

// ensureSet adds a map of endpoints when it is first needed.
func (f *familyTable) ensureSet(c *nftables.Conn, name setName) error {
	if f.sets[name] != nil {
		return nil
	}
	s := &nftables.Set{Table: f.table, Name: string(name), IsMap: true, Concatenation: true, KeyType: nft.PoolIndexType(), DataType: f.fam.EndpointType()}
	if err := c.AddSet(s, nil); err != nil {
		return fmt.Errorf("cannot define map %q: %w", name, err)
	}
	f.sets[name] = s
	return nil
}

func (b *NFTables) family(v6 bool) *familyTable {
	if v6 {
		return b.families[1]
	}
	return b.families[0]
}

// cidr is the cluster CIDR of a family, invalid when there is none.
func (b *NFTables) cidr(v6 bool) netip.Prefix {
	for _, c := range b.clusterCIDRs {
		if c.Addr().Is6() == v6 {
			return c.Masked()
		}
	}
	return netip.Prefix{}
}

// Replace implements Backend. The IPv6 table is only there when it has rows.
func (b *NFTables) Replace(_ context.Context, t *Table) error {
	next := [2]map[PortName]program{{}, {}}
	for _, n := range t.Names() {
		i := 0
		if n.IPv6 {
			i = 1
		}
		next[i][n] = b.render(t, t.Port(n))
	}
	for i, f := range b.families {
		if i == 1 && len(next[i]) == 0 && !f.installed {
			if err := f.remove(); err != nil {
				return err
			}
			continue
		}
		if err := f.replace(next[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *NFTables) render(t *Table, p *Port) program {
	return render(p, func(f Frontend) bool { return t.Owns(p, f) }, b.cidr(p.IPv6))
}

// Apply implements Backend.
func (b *NFTables) Apply(_ context.Context, t *Table, changes []Change) error {
	next := [2]map[PortName]program{{}, {}} // an empty program removes
	for _, c := range changes {
		i := 0
		if c.Name.IPv6 {
			i = 1
		}
		next[i][c.Name] = program{}
		if p := t.Port(c.Name); p != nil {
			next[i][c.Name] = b.render(t, p)
		}
	}
	for i, f := range b.families {
		switch {
		case len(next[i]) == 0:
		case !f.installed:
			if err := f.replace(next[i]); err != nil {
				return err
			}
		default:
			if err := f.apply(next[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove implements Backend.
func (b *NFTables) Remove(context.Context) error {
	for _, f := range b.families {
		if err := f.remove(); err != nil {
			return err
		}
	}
	return nil
}

func (f *familyTable) remove() error {
	c, err := nft.NewConn(f.namespace)
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	c.AddTable(f.table) // so that deleting it never fails
	c.DelTable(f.table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot remove nftables table %q: %w", TableName, err)
	}
	f.installed, f.programs, f.shared = false, nil, nil
	return nil
}

// replace installs the table with exactly these programs.
func (f *familyTable) replace(next map[PortName]program) error {
	c, err := nft.NewConn(f.namespace)
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	c.AddTable(f.table)
	c.DelTable(f.table)
	c.AddTable(f.table)
	f.sets = f.fixedSets()
	if err := f.skeleton(c); err != nil {
		return err
	}
	f.installed, f.programs, f.shared, f.pools = true, map[PortName]program{}, map[element]int{}, poolNumbers{}
	if err := f.change(c, next); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot replace nftables table %q with %d ports: %w", TableName, len(next), err)
	}
	f.commit(next)
	return nil
}

func (f *familyTable) apply(next map[PortName]program) error {
	c, err := nft.NewConn(f.namespace)
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	if err := f.change(c, next); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot change nftables table %q for %d ports: %w", TableName, len(next), err)
	}
	f.commit(next)
	return nil
}

// skeleton adds what does not depend on the rows.
func (f *familyTable) skeleton(c *nftables.Conn) error {
	for _, name := range slices.Sorted(maps.Keys(f.sets)) {
		if err := c.AddSet(f.sets[name], nil); err != nil {
			return fmt.Errorf("cannot define set %q: %w", name, err)
		}
	}
	for _, ch := range f.fixedChains() {
		added := c.AddChain(ch.Chain)
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: f.table, Chain: added, Exprs: r})
		}
	}
	return nil
}

type fixedChain struct {
	*nftables.Chain
	rules []nft.Statement
}

// fixedChains come in the order in which they refer to each other.
//
// New connections to what has no endpoints are refused before translation
// (-110), translated (-100), and what then still goes to a ClusterIP, a port
// it does not have, is refused (-90).
func (f *familyTable) fixedChains() []fixedChain {
	plain := func(name string, rules ...nft.Statement) fixedChain {
		return fixedChain{&nftables.Chain{Table: f.table, Name: name}, rules}
	}
	hook := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority, rules ...nft.Statement) fixedChain {
		return fixedChain{&nftables.Chain{Table: f.table, Name: name, Type: kind, Hooknum: hook, Priority: &priority}, rules}
	}
	const tcp = 6
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if f.fam.Table == nftables.TableFamilyIPv6 {
		loopback = netip.MustParsePrefix("::1/128")
	}
	onNode := nft.Rule(nft.DaddrLocal(), f.fam.DaddrNotIn(loopback))
	early := []nft.Statement{
		nft.Rule(nft.StateNew(), f.fam.AddrProtoPort(), nft.Vmap(f.sets[refusals])),
		nft.Rule(nft.StateNew(), onNode, nft.ProtoPort(), nft.Vmap(f.sets[nodePortRefusals])),
	}
	translate := []nft.Statement{
		nft.Rule(f.fam.AddrProtoPort(), nft.Vmap(f.sets[services])),
		nft.Rule(onNode, nft.ProtoPort(), nft.Vmap(f.sets[nodePorts])),
	}
	late := nft.Rule(nft.StateNew(), f.fam.Daddr(0), nft.In(f.sets[clusterIPs]), nft.Goto(chainRefuse))
	return []fixedChain{
		plain(chainRefuse, nft.Rule(nft.ProtoIs(tcp), nft.TCPReset()), f.fam.PortUnreachable()),
		plain(chainIgnore, nft.Drop()),
		hook("refuse-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -110, early...),
		hook("refuse-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -110, early...),
		hook("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100, translate...),
		hook("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100, translate...),
		hook("unknown-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -90, late),
		hook("unknown-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -90, late),
		hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100,
			nft.Rule(nft.Marked(masqueradeMark), nft.ClearMark(masqueradeMark), nft.Masquerade()),
			nft.Rule(nft.DNATed(), f.fam.SaddrDaddr(), nft.In(f.sets[hairpin]), nft.Masquerade())),
	}
}

// change adds to c what turns the present programs of next's rows into next.
// Order matters to the kernel: elements that refer to chains go before the
// chains, and come after them.
func (f *familyTable) change(c *nftables.Conn, next map[PortName]program) error {
	names := slices.SortedFunc(maps.Keys(next), PortName.compare)
	gone, come := map[setName][]nftables.SetElement{}, map[setName][]nftables.SetElement{}
	var flush, drop, add []chain
	var dropAffinity []string
	addAffinity := map[string]time.Duration{}
	delta := map[element]int{}
	for _, n := range names {
		old, new := f.programs[n], next[n]
		for e, to := range old.elements {
			if new.elements[e] != to {
				gone[e.set] = append(gone[e.set], nftables.SetElement{Key: []byte(e.key)})
			}
		}
		for e, to := range new.elements {
			if old.elements[e] != to {
				come[e.set] = append(come[e.set], nft.GotoElement([]byte(e.key), to))
			}
		}
		for e := range old.shared {
			delta[e]--
		}
		for e := range new.shared {
			delta[e]++
		}
		// Sets with another timeout are made anew, and so are their users.
		oldSets, newSets := old.affinity.sets(), new.affinity.sets()
		remade := old.affinity != nil && new.affinity != nil && old.affinity.timeout != new.affinity.timeout
		for name, timeout := range oldSets {
			if newSets[name] != timeout {
				dropAffinity = append(dropAffinity, name)
			}
		}
		for name, timeout := range newSets {
			if oldSets[name] != timeout {
				addAffinity[name] = timeout
			}
		}
		before := map[string]chain{}
		for _, ch := range old.chains {
			before[ch.name] = ch
		}
		for _, ch := range new.chains {
			was, exists := before[ch.name]
			delete(before, ch.name)
			if exists && !remade && reflect.DeepEqual(was, ch) {
				continue
			}
			if exists {
				flush = append(flush, ch)
			}
			add = append(add, ch)
			f.changePool(was, ch, gone, come)
		}
		for _, ch := range old.chains {
			if _, unused := before[ch.name]; unused {
				drop = append(drop, ch)
				f.changePool(ch, chain{}, gone, come)
				f.pools.release(ch.name)
			}
		}
	}
	for e, d := range delta {
		before := f.shared[e]
		switch {
		case before == 0 && d > 0:
			come[e.set] = append(come[e.set], nftables.SetElement{Key: []byte(e.key)})
		case before > 0 && before+d == 0:
			gone[e.set] = append(gone[e.set], nftables.SetElement{Key: []byte(e.key)})
		}
	}
	ref := func(name string) *nftables.Chain { return &nftables.Chain{Table: f.table, Name: name} }
	for set, elements := range gone {
		if err := nft.DeleteElements(c, f.sets[set], elements); err != nil {
			return fmt.Errorf("cannot encode elements of %q: %w", set, err)
		}
	}
	for _, ch := range slices.Concat(flush, drop) {
		c.FlushChain(ref(ch.name))
	}
	for _, ch := range drop {
		c.DelChain(ref(ch.name))
	}
	for _, name := range dropAffinity {
		c.DelSet(&nftables.Set{Table: f.table, Name: name})
	}
	for name, timeout := range addAffinity {
		// Dynamic sets are bounded; when full, clients are not remembered.
		const clients = 1 << 16
		s := &nftables.Set{Table: f.table, Name: name, Dynamic: true, HasTimeout: true, Timeout: timeout, Size: clients, KeyType: f.fam.Addr}
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("cannot define set %q: %w", name, err)
		}
	}
	for name := range come {
		if err := f.ensureSet(c, name); err != nil {
			return err
		}
	}
	for _, ch := range add {
		c.AddChain(ref(ch.name))
	}
	for _, ch := range add {
		for _, s := range ch.body {
			f.emit(c, ref(ch.name), s)
		}
	}
	for set, elements := range come {
		if err := nft.AddElements(c, f.sets[set], elements); err != nil {
			return fmt.Errorf("cannot encode elements of %q: %w", set, err)
		}
	}
	return nil
}

// changePool collects the elements by which the pools of two versions of a
// chain differ. A chain that is new gets a pool number.
func (f *familyTable) changePool(old, new chain, gone, come map[setName][]nftables.SetElement) {
	o, hadPool := old.pool()
	n, hasPool := new.pool()
	name := old.name
	if name == "" {
		name = new.name
	}
	if !hadPool && !hasPool {
		return
	}
	id := f.pools.number(name)
	endpoints := endpointsOf(id)
	for i := range max(len(o.endpoints), len(n.endpoints)) {
		inOld, inNew := i < len(o.endpoints), i < len(n.endpoints)
		if inOld && inNew && o.endpoints[i] == n.endpoints[i] {
			continue
		}
		if inOld {
			gone[endpoints] = append(gone[endpoints], nftables.SetElement{Key: nft.PoolIndexKey(id, i), Val: nft.EndpointValue(o.endpoints[i])})
		}
		if inNew {
			come[endpoints] = append(come[endpoints], nftables.SetElement{Key: nft.PoolIndexKey(id, i), Val: nft.EndpointValue(n.endpoints[i])})
		}
	}
}

// commit records what the kernel has now.
func (f *familyTable) commit(next map[PortName]program) {
	for n, p := range next {
		for e := range f.programs[n].shared {
			if f.shared[e]--; f.shared[e] == 0 {
				delete(f.shared, e)
			}
		}
		for e := range p.shared {
			f.shared[e]++
		}
		if p.elements == nil {
			delete(f.programs, n)
		} else {
			f.programs[n] = p
		}
	}
}

// emit adds the rules of a step.
func (f *familyTable) emit(c *nftables.Conn, ch *nftables.Chain, s step) {
	rule := func(parts ...nft.Statement) {
		c.AddRule(&nftables.Rule{Table: f.table, Chain: ch, Exprs: nft.Rule(parts...)})
	}
	switch s.op {
	case opMark:
		rule(nft.SetMark(masqueradeMark))
	case opMarkOutside:
		rule(f.fam.SaddrNotIn(s.prefix), nft.SetMark(masqueradeMark))
	case opGotoInside:
		rule(f.fam.SaddrIn(s.prefix), nft.Goto(s.chain))
	case opGotoLocal:
		rule(nft.SaddrLocal(), nft.SetMark(masqueradeMark), nft.Goto(s.chain))
	case opGoto:
		rule(nft.Goto(s.chain))
	case opDrop:
		rule(nft.Drop())
	case opBalance:
		pool := f.pools.number(ch.Name)
		pick := nft.Rule(nft.PoolRandom(pool, len(s.endpoints)), nft.MapEndpoint(f.sets[endpointsOf(pool)]))
		if s.affinity != "" {
			// The endpoint the client had before; else one that is drawn.
			clients := func(e netip.AddrPort) *nftables.Set {
				return &nftables.Set{Table: f.table, Name: clientsOf(s.affinity, e)}
			}
			for _, e := range s.endpoints {
				rule(f.fam.Saddr(0), nft.In(clients(e)), nft.Remember(clients(e)), f.fam.DNATTo(e))
			}
			for i, e := range s.endpoints {
				rule(nft.OneIn(len(s.endpoints)-i), f.fam.Saddr(0), nft.Remember(clients(e)), f.fam.DNATTo(e))
			}
		}
		rule(pick, f.fam.DNAT())
	}
}
