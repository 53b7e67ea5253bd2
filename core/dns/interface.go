package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// ensureInterface creates or adopts the interface that holds the address: a
// dummy, or where the kernel has none a bridge without ports, which is as
// quiet.
func ensureInterface(name string, addr netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		err = netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
		if errors.Is(err, syscall.EOPNOTSUPP) {
			err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
		}
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("cannot create interface %q: %w", name, err)
		}
		link, err = netlink.LinkByName(name)
	}
	if err != nil {
		return fmt.Errorf("cannot find interface %q: %w", name, err)
	}
	if t := link.Type(); t != "dummy" && t != "bridge" {
		return fmt.Errorf("cannot use interface %q: it is of type %q, not a dummy; remove it or choose another name", name, t)
	}
	ip := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ip}); err != nil {
		return fmt.Errorf("cannot give %s to %q: %w", addr, name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up %q: %w", name, err)
	}
	return nil
}

// Down removes the interface with the DNS address. Run must have ended.
func Down(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(cfg.Interface)
	if errors.As(err, &netlink.LinkNotFoundError{}) || cfg.Interface == "-" {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("cannot remove interface %q: %w", cfg.Interface, err)
	}
	return nil
}
