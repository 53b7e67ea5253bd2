package proxy

// poolNumbers numbers the chains that balance. Numbers are used again, so
// that they stay as dense as the chains are many. The zero value is empty.
type poolNumbers struct {
	byChain map[string]uint32
	free    []uint32
	next    uint32
}

// number returns a chain's number, a new one at the first call.
func (p *poolNumbers) number(chain string) uint32 {
	if n, ok := p.byChain[chain]; ok {
		return n
	}
	var n uint32
	if k := len(p.free); k > 0 {
		n, p.free = p.free[k-1], p.free[:k-1]
	} else {
		n = p.next
		p.next++
	}
	if p.byChain == nil {
		p.byChain = map[string]uint32{}
	}
	p.byChain[chain] = n
	return n
}

// release gives a chain's number back.
func (p *poolNumbers) release(chain string) {
	if n, ok := p.byChain[chain]; ok {
		delete(p.byChain, chain)
		p.free = append(p.free, n)
	}
}
