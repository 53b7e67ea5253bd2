package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Key types. Addresses are the family's.

// AddrProtoPortType is the type "addr . inet_proto . inet_service".
func (f Family) AddrProtoPortType() nftables.SetDatatype {
	return nftables.MustConcatSetType(f.Addr, nftables.TypeInetProto, nftables.TypeInetService)
}

// ProtoPortType is the type "inet_proto . inet_service".
func ProtoPortType() nftables.SetDatatype {
	return nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
}

// AddrPairType is the type "addr . addr".
func (f Family) AddrPairType() nftables.SetDatatype {
	return nftables.MustConcatSetType(f.Addr, f.Addr)
}

// EndpointType is the type "addr . inet_service" of DNAT targets.
func (f Family) EndpointType() nftables.SetDatatype {
	return nftables.MustConcatSetType(f.Addr, nftables.TypeInetService)
}

// AddrProtoPortKey encodes an element of AddrProtoPortType.
func AddrProtoPortKey(a netip.Addr, proto byte, port uint16) []byte {
	return append(a.AsSlice(), ProtoPortKey(proto, port)...)
}

// ProtoPortKey encodes an element of ProtoPortType.
func ProtoPortKey(proto byte, port uint16) []byte {
	return append([]byte{proto, 0, 0, 0}, portWord(port)...)
}

// AddrPairKey encodes an element of AddrPairType.
func AddrPairKey(a, b netip.Addr) []byte { return append(a.AsSlice(), b.AsSlice()...) }

// EndpointValue encodes a value of EndpointType.
func EndpointValue(e netip.AddrPort) []byte { return append(e.Addr().AsSlice(), portWord(e.Port())...) }

// PoolIndexType is the type of what PoolRandom loads. Its parts are called
// marks because nft(8) knows their length; it aborts on an integer in a
// concatenation.
func PoolIndexType() nftables.SetDatatype {
	return nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeMark)
}

// PoolIndexKey encodes an element of PoolIndexType.
func PoolIndexKey(pool uint32, i int) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, pool), uint32(i))
}

func portWord(port uint16) []byte { return []byte{byte(port >> 8), byte(port), 0, 0} }

// GotoElement is an element of a verdict map.
func GotoElement(key []byte, chain string) nftables.SetElement {
	return nftables.SetElement{Key: key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// chunk bounds the elements of one message: a netlink attribute is at most
// 64 KiB long, an element with the longest chain name 250 bytes.
const chunk = 200

// AddElements adds any number of elements to a named set.
func AddElements(c *nftables.Conn, s *nftables.Set, elements []nftables.SetElement) error {
	for len(elements) > 0 {
		n := min(chunk, len(elements))
		if err := c.SetAddElements(s, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

// DeleteElements removes any number of elements from a named set. All must be
// there, else the transaction fails.
func DeleteElements(c *nftables.Conn, s *nftables.Set, elements []nftables.SetElement) error {
	for len(elements) > 0 {
		n := min(chunk, len(elements))
		if err := c.SetDeleteElements(s, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}
