package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Family is an address family with what differs between the two in rules.
type Family struct {
	Table nftables.TableFamily
	// NAT is the family number in nat expressions.
	NAT uint32
	// Addr is the type of an address in set keys.
	Addr nftables.SetDatatype
	// size of an address in bytes, and where it lies in the packet
	size, saddr, daddr uint32
}

// IPv4 is the family of ip tables.
func IPv4() Family {
	return Family{Table: nftables.TableFamilyIPv4, NAT: unix.NFPROTO_IPV4, Addr: nftables.TypeIPAddr, size: 4, saddr: 12, daddr: 16}
}

// IPv6 is the family of ip6 tables.
func IPv6() Family {
	return Family{Table: nftables.TableFamilyIPv6, NAT: unix.NFPROTO_IPV6, Addr: nftables.TypeIP6Addr, size: 16, saddr: 8, daddr: 24}
}

// reg0 is the first 32-bit register (NFT_REG32_00). Registers of a
// concatenation follow each other.
const reg0 = unix.NFT_REG32_00

// words is the number of 32-bit registers an address takes.
func (f Family) words() uint32 { return f.size / 4 }

// NewConn returns a connection to the network namespace of the given
// descriptor; 0 means the process' own. Its buffers hold the requests and the
// acknowledgements of a transaction of some hundred thousand messages.
func NewConn(namespace int) (*nftables.Conn, error) {
	const buffer = 256 << 20 // bytes; a limit, allocated as used
	return nftables.New(nftables.WithNetNSFd(namespace), nftables.WithSockOptions(
		func(c *netlink.Conn) error { return c.SetReadBuffer(buffer) },
		func(c *netlink.Conn) error { return c.SetWriteBuffer(buffer) },
	))
}

// Statement is a part of a rule.
type Statement = []expr.Any

// Rule joins statements.
func Rule(parts ...Statement) []expr.Any {
	var r []expr.Any
	for _, p := range parts {
		r = append(r, p...)
	}
	return r
}

// Saddr loads the source address to word w of the key registers.
func (f Family) Saddr(w uint32) Statement { return f.load(f.saddr, w) }

// Daddr loads the destination address to word w of the key registers.
func (f Family) Daddr(w uint32) Statement { return f.load(f.daddr, w) }

func (f Family) load(offset, w uint32) Statement {
	return Statement{&expr.Payload{DestRegister: reg0 + w, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}}
}

// L4Proto loads the transport protocol's number to word w.
func L4Proto(w uint32) Statement {
	return Statement{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0 + w}}
}

// Dport loads the destination port to word w.
func Dport(w uint32) Statement {
	return Statement{&expr.Payload{DestRegister: reg0 + w, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

// AddrProtoPort loads "daddr . l4proto . dport" as a key.
func (f Family) AddrProtoPort() Statement {
	return Rule(f.Daddr(0), L4Proto(f.words()), Dport(f.words()+1))
}

// ProtoPort loads "l4proto . dport" as a key.
func ProtoPort() Statement { return Rule(L4Proto(0), Dport(1)) }

// SaddrDaddr loads "saddr . daddr" as a key.
func (f Family) SaddrDaddr() Statement { return Rule(f.Saddr(0), f.Daddr(f.words())) }

// Vmap goes where the verdict map says for the loaded key; without an entry
// the rule does not match.
func Vmap(s *nftables.Set) Statement {
	return Statement{&expr.Lookup{SourceRegister: reg0, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}}
}

// In matches when the loaded key is in the set.
func In(s *nftables.Set) Statement {
	return Statement{&expr.Lookup{SourceRegister: reg0, SetName: s.Name, SetID: s.ID}}
}

// endpointWord is where a mapped "addr . port" lies: after any key.
const endpointWord = 8

// MapEndpoint maps the loaded key to an "addr . port" for DNAT.
func MapEndpoint(s *nftables.Set) Statement {
	return Statement{&expr.Lookup{SourceRegister: reg0, DestRegister: reg0 + endpointWord, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}}
}

// PoolRandom loads "pool . index" as a key: a constant, and a random number
// below n.
func PoolRandom(pool uint32, n int) Statement {
	return Statement{
		&expr.Immediate{Register: reg0, Data: binaryutil.NativeEndian.PutUint32(pool)},
		&expr.Numgen{Register: reg0 + 1, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
	}
}

// OneIn matches one time in n, at random.
func OneIn(n int) Statement {
	return Statement{
		&expr.Numgen{Register: reg0, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: make([]byte, 4)},
	}
}

// DNATTo sends the connection to a fixed endpoint.
func (f Family) DNATTo(e netip.AddrPort) Statement {
	return Statement{
		&expr.Immediate{Register: unix.NFT_REG_2, Data: e.Addr().AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_3, Data: binaryutil.BigEndian.PutUint16(e.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.NAT, RegAddrMin: unix.NFT_REG_2, RegProtoMin: unix.NFT_REG_3},
	}
}

// DNAT sends the connection to the mapped "addr . port".
func (f Family) DNAT() Statement {
	return Statement{&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.NAT, RegAddrMin: reg0 + endpointWord, RegProtoMin: reg0 + endpointWord + f.words()}}
}

// Remember adds the loaded key to a dynamic set or refreshes it there.
func Remember(s *nftables.Set) Statement {
	return Statement{&expr.Dynset{Operation: unix.NFT_DYNSET_OP_UPDATE, SrcRegKey: reg0, SetName: s.Name, SetID: s.ID}}
}

// Masquerade takes the outgoing interface's address and a random port.
func Masquerade() Statement { return Statement{&expr.Masq{FullyRandom: true}} }

// Goto, Jump and Return, Drop, Accept end a rule.
func Goto(chain string) Statement {
	return Statement{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// Jump goes on after the rule when chain returns.
func Jump(chain string) Statement {
	return Statement{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// Return leaves the chain.
func Return() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictReturn}} }

// Drop drops the packet silently.
func Drop() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictDrop}} }

// ProtoIs and ProtoIsNot match the transport protocol.
func ProtoIs(proto byte) Statement { return protoCmp(expr.CmpOpEq, proto) }

// ProtoIsNot matches every other transport protocol.
func ProtoIsNot(proto byte) Statement { return protoCmp(expr.CmpOpNeq, proto) }

func protoCmp(op expr.CmpOp, proto byte) Statement {
	return append(L4Proto(0), &expr.Cmp{Op: op, Register: reg0, Data: []byte{proto}})
}

// TCPReset answers with a reset; only for TCP.
func TCPReset() Statement {
	return Statement{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
}

// PortUnreachable answers with the family's ICMP port unreachable.
func (f Family) PortUnreachable() Statement {
	code := uint8(3) // ICMP_PORT_UNREACH
	if f.size == 16 {
		code = 4 // ICMPV6_PORT_UNREACH
	}
	return Statement{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
}

// StateNew matches the first packets of a connection.
func StateNew() Statement {
	return Statement{
		&expr.Ct{Register: reg0, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

// DNATed matches connections whose destination was translated.
func DNATed() Statement {
	const ipsDstNAT = 1 << 5 // IPS_DST_NAT
	return Statement{
		&expr.Ct{Register: reg0, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

// SetMark sets the given bit of the packet mark and leaves the others.
func SetMark(bit uint32) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg0},
	}
}

// ClearMark clears the given bit of the packet mark.
func ClearMark(bit uint32) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: make([]byte, 4)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg0},
	}
}

// Marked matches packets with the bit in their mark.
func Marked(bit uint32) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

// DaddrLocal matches packets for any address of this machine.
func DaddrLocal() Statement {
	return local(&expr.Fib{Register: reg0, ResultADDRTYPE: true, FlagDADDR: true})
}

// SaddrLocal matches packets from any address of this machine.
func SaddrLocal() Statement {
	return local(&expr.Fib{Register: reg0, ResultADDRTYPE: true, FlagSADDR: true})
}

func local(fib *expr.Fib) Statement {
	return Statement{fib, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}
}

// SaddrIn, SaddrNotIn, DaddrIn and DaddrNotIn match a prefix of the family.
func (f Family) SaddrIn(p netip.Prefix) Statement { return f.prefix(f.saddr, expr.CmpOpEq, p) }

// SaddrNotIn matches sources outside the prefix.
func (f Family) SaddrNotIn(p netip.Prefix) Statement { return f.prefix(f.saddr, expr.CmpOpNeq, p) }

// DaddrIn matches destinations in the prefix.
func (f Family) DaddrIn(p netip.Prefix) Statement { return f.prefix(f.daddr, expr.CmpOpEq, p) }

// DaddrNotIn matches destinations outside the prefix.
func (f Family) DaddrNotIn(p netip.Prefix) Statement { return f.prefix(f.daddr, expr.CmpOpNeq, p) }

func (f Family) prefix(offset uint32, op expr.CmpOp, p netip.Prefix) Statement {
	s := f.load(offset, 0)
	if p.Bits() < int(f.size)*8 {
		mask := make([]byte, f.size)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		s = append(s, &expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: f.size, Mask: mask, Xor: make([]byte, f.size)})
	}
	return append(s, &expr.Cmp{Op: op, Register: reg0, Data: p.Masked().Addr().AsSlice()})
}
