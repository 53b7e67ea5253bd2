package nft

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// RuleCounts returns the number of rules of each chain of a table that has
// any. A table that is not there has none. One dump serves all chains.
func RuleCounts(namespace int, t *nftables.Table) (map[string]int, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: namespace})
	if err != nil {
		return nil, fmt.Errorf("cannot open nftables: %w", err)
	}
	defer conn.Close()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")}})
	if err != nil {
		return nil, fmt.Errorf("cannot encode rule dump: %w", err)
	}
	// struct nfgenmsg: family, version 0, resource 0
	header := []byte{byte(t.Family), unix.NFNETLINK_V0, 0, 0}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append(header, attrs...),
	})
	if errors.Is(err, os.ErrNotExist) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot dump rules of table %q: %w", t.Name, err)
	}
	counts := map[string]int{}
	for _, m := range replies {
		if len(m.Data) < len(header) {
			return nil, fmt.Errorf("cannot read rule of table %q: %d bytes", t.Name, len(m.Data))
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[len(header):])
		if err != nil {
			return nil, fmt.Errorf("cannot read rule of table %q: %w", t.Name, err)
		}
		for ad.Next() {
			if ad.Type() == unix.NFTA_RULE_CHAIN {
				counts[ad.String()]++
			}
		}
		if err := ad.Err(); err != nil {
			return nil, fmt.Errorf("cannot read rule of table %q: %w", t.Name, err)
		}
	}
	return counts, nil
}
