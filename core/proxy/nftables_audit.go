package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"binnacle.io/core/network/nft"
)

// Audit implements Backend. It compares the names of chains, the number of
// their rules, and the keys of the shared sets.
func (b *NFTables) Audit(context.Context) ([]string, error) {
	var drift []string
	for _, f := range b.families {
		if !f.installed {
			continue
		}
		d, err := f.audit()
		if err != nil {
			return nil, err
		}
		drift = append(drift, d...)
	}
	return drift, nil
}

func (f *familyTable) audit() ([]string, error) {
	var drift []string
	want := map[string]int{}
	for _, ch := range f.fixedChains() {
		want[ch.Name] = len(ch.rules)
	}
	elements := map[setName]map[string]bool{}
	for name := range f.sets {
		elements[name] = map[string]bool{}
	}
	for _, p := range f.programs {
		for _, ch := range p.chains {
			for _, s := range ch.body {
				want[ch.name] += s.rules()
			}
			s, balances := ch.pool()
			if !balances {
				continue
			}
			id := f.pools.number(ch.name)
			for i := range s.endpoints {
				elements[endpointsOf(id)][string(nft.PoolIndexKey(id, i))] = true
			}
		}
		for e := range p.elements {
			elements[e.set][e.key] = true
		}
	}
	for e := range f.shared {
		elements[e.set][e.key] = true
	}
	have, err := nft.RuleCounts(f.namespace, f.table)
	if err != nil {
		return nil, err
	}
	for name, n := range want {
		if got := have[name]; got != n {
			drift = append(drift, fmt.Sprintf("chain %s has %d rules, not %d", name, got, n))
		}
	}
	for name, got := range have {
		if _, ok := want[name]; !ok {
			drift = append(drift, fmt.Sprintf("chain %s has %d rules but is not ours", name, got))
		}
	}
	c, err := nft.NewConn(f.namespace)
	if err != nil {
		return nil, fmt.Errorf("cannot open nftables: %w", err)
	}
	for name, keys := range elements {
		got, err := c.GetSetElements(f.sets[name])
		if err != nil {
			if strings.Contains(err.Error(), "no such file") {
				drift = append(drift, fmt.Sprintf("set %s is missing", name))
				continue
			}
			return nil, fmt.Errorf("cannot read set %q: %w", name, err)
		}
		for _, e := range got {
			if !keys[string(e.Key)] {
				drift = append(drift, fmt.Sprintf("set %s has a foreign element %x", name, e.Key))
			}
			delete(keys, string(e.Key))
		}
		for k := range keys {
			drift = append(drift, fmt.Sprintf("set %s lacks element %x", name, k))
		}
	}
	slices.Sort(drift)
	return drift, nil
}
