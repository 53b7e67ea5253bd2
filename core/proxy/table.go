package proxy

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Table is the desired state of a node's proxy, neutral of how the kernel is
// told. It is not safe for concurrent use; its rows are immutable.
type Table struct {
	ports     map[PortName]*Port
	byService map[types.NamespacedName][]PortName
	// claims are the rows that want a frontend, in order: the first has it.
	// Only external addresses can have more than one.
	claims map[frontendKey][]PortName
}

type frontendKey struct {
	addr     netip.Addr
	v6       bool // for node ports, which have no address
	port     uint16
	protocol corev1.Protocol
}

func keyOf(p *Port, f Frontend) frontendKey {
	return frontendKey{f.Addr, p.IPv6, f.Port, p.Protocol}
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{ports: map[PortName]*Port{}, byService: map[types.NamespacedName][]PortName{}, claims: map[frontendKey][]PortName{}}
}

// Port returns a row, or nil.
func (t *Table) Port(n PortName) *Port { return t.ports[n] }

// Names returns the names of all rows in order.
func (t *Table) Names() []PortName {
	return slices.SortedFunc(maps.Keys(t.ports), PortName.compare)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.ports) }

// Owns tells whether a row has the frontend, rather than another that comes
// first by name.
func (t *Table) Owns(p *Port, f Frontend) bool {
	return t.owner(keyOf(p, f)) == p.PortName
}

// Change is a row before and after; nil is absent.
type Change struct {
	Name     PortName
	Old, New *Port
}

// Set replaces a Service's rows and returns what changed, in order. That
// includes rows of other Services that gain or lose a contended frontend,
// with the same row before and after.
func (t *Table) Set(service types.NamespacedName, ports []*Port) []Change {
	changed := map[PortName]Change{}
	next := map[PortName]*Port{}
	for _, p := range ports {
		next[p.PortName] = p
	}
	owners := map[frontendKey]PortName{} // before
	noteOwners := func(p *Port) {
		for _, f := range p.Frontends {
			owners[keyOf(p, f)] = t.owner(keyOf(p, f))
		}
	}
	for _, n := range t.byService[service] {
		old := t.ports[n]
		if p := next[n]; p != nil && p.equal(old) {
			delete(next, n)
			continue
		}
		changed[n] = Change{n, old, next[n]}
		noteOwners(old)
	}
	for n, p := range next {
		if _, ok := changed[n]; !ok {
			changed[n] = Change{n, nil, p}
		}
		noteOwners(p)
	}
	for n, c := range changed {
		if c.Old != nil {
			t.unclaim(c.Old)
			delete(t.ports, n)
		}
	}
	for n, p := range next {
		t.ports[n] = p
		t.claim(p)
	}
	for k, before := range owners {
		if after := t.owner(k); after != before {
			t.touch(before, changed)
			t.touch(after, changed)
		}
	}
	delete(t.byService, service)
	if len(ports) > 0 {
		names := make([]PortName, len(ports))
		for i, p := range ports {
			names[i] = p.PortName
		}
		t.byService[service] = names
	}
	return slices.SortedFunc(maps.Values(changed), func(a, b Change) int { return a.Name.compare(b.Name) })
}

// owner returns the row that has a frontend, or the zero name.
func (t *Table) owner(k frontendKey) PortName {
	if c := t.claims[k]; len(c) > 0 {
		return c[0]
	}
	return PortName{}
}

func (t *Table) claim(p *Port) {
	for _, f := range p.Frontends {
		k := keyOf(p, f)
		c := t.claims[k]
		if i, found := slices.BinarySearchFunc(c, p.PortName, PortName.compare); !found {
			t.claims[k] = slices.Insert(slices.Clip(c), i, p.PortName)
		}
	}
}

func (t *Table) unclaim(p *Port) {
	for _, f := range p.Frontends {
		k := keyOf(p, f)
		c := t.claims[k]
		i, found := slices.BinarySearchFunc(c, p.PortName, PortName.compare)
		switch {
		case !found:
		case len(c) == 1:
			delete(t.claims, k)
		default:
			t.claims[k] = slices.Delete(slices.Clone(c), i, i+1)
		}
	}
}

// touch adds an unchanged row to the changes.
func (t *Table) touch(n PortName, changed map[PortName]Change) {
	if _, ok := changed[n]; !ok {
		if p := t.ports[n]; p != nil {
			changed[n] = Change{n, p, p}
		}
	}
}
