package dns

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"binnacle.io/core/network/nettest"
)

func TestInterface(t *testing.T) {
	ns := nettest.New(t)
	addr := netip.MustParseAddr("10.96.0.10")
	err := ns.Do(func() error {
		for range 2 { // again after a restart
			if err := ensureInterface("binnacle-dns", addr); err != nil {
				return err
			}
		}
		link, err := netlink.LinkByName("binnacle-dns")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.96.0.10/32" {
			t.Errorf("addresses %v, %v", addrs, err)
		}
		// It answers, also without a carrier.
		l, err := net.Listen("tcp", "10.96.0.10:53")
		if err != nil {
			return err
		}
		defer l.Close()
		c, err := net.DialTimeout("tcp", "10.96.0.10:53", time.Second)
		if err != nil {
			return err
		}
		c.Close()
		if err := ensureInterface("lo", addr); err == nil || !strings.Contains(err.Error(), "not a dummy") {
			t.Errorf("foreign interface: %v", err)
		}
		for range 2 {
			if err := Down(Config{}); err != nil {
				return err
			}
		}
		if _, err := netlink.LinkByName("binnacle-dns"); !errors.As(err, &netlink.LinkNotFoundError{}) {
			t.Errorf("interface is left: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
