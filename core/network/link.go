package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is the network namespace that plays the node.
type host struct {
	ns netns.NsHandle // -1: the process' own
	*netlink.Handle
}

func openHost(path string) (*host, error) {
	h := &host{ns: netns.None()}
	if path != "" {
		ns, err := netns.GetFromPath(path)
		if err != nil {
			return nil, fmt.Errorf("cannot open network namespace %q: %w", path, err)
		}
		h.ns = ns
	}
	var err error
	if h.ns.IsOpen() {
		h.Handle, err = netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	} else {
		h.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	}
	if err != nil {
		h.close()
		return nil, fmt.Errorf("cannot open netlink: %w", err)
	}
	return h, nil
}

func (h *host) close() {
	if h.Handle != nil {
		h.Handle.Close()
	}
	if h.ns.IsOpen() {
		h.ns.Close()
	}
}

// fd is the namespace's descriptor, 0 for the process' own.
func (h *host) fd() int {
	if h.ns.IsOpen() {
		return int(h.ns)
	}
	return 0
}

// sysctl sets a dot-separated setting in the namespace.
func (h *host) sysctl(name, value string) error {
	set := func() error {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) == value {
			return nil
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("cannot set sysctl %s=%s: %w", name, value, err)
		}
		return nil
	}
	if !h.ns.IsOpen() {
		return set()
	}
	return within(h.ns, set)
}

// within runs f on a thread of its own in the namespace. The thread ends with
// its goroutine, so that no other code ever runs in the wrong namespace.
func within(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("cannot enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// mtu is the MTU of the default route's interface, or Ethernet's where there
// is no such route.
func (h *host) mtu() (int, error) {
	const ethernet = 1500
	routes, err := h.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("cannot list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		link, err := h.LinkByIndex(r.LinkIndex)
		if err != nil {
			return 0, fmt.Errorf("cannot find interface of the default route: %w", err)
		}
		return link.Attrs().MTU, nil
	}
	return ethernet, nil
}

// ensureBridge creates or adopts the bridge with the gateway address.
func (h *host) ensureBridge(name string, gateway netip.Prefix, mtu int) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, mtu
		// A bridge without an address of its own takes its lowest port's and
		// changes it as ports come and go.
		attrs.HardwareAddr = macOf(gateway.Addr())
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("cannot create bridge %q: %w", name, err)
		}
		link, err = h.LinkByName(name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find bridge %q: %w", name, err)
	}
	if _, ok := link.(*netlink.Bridge); !ok {
		return nil, fmt.Errorf("cannot use interface %q: it is a %s, not a bridge; remove it or choose another name", name, link.Type())
	}
	addrs, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("cannot list addresses of %q: %w", name, err)
	}
	want := ipNet(gateway)
	for _, a := range addrs {
		if a.IPNet.String() == want.String() {
			continue
		}
		if err := h.AddrDel(link, &a); err != nil {
			return nil, fmt.Errorf("cannot remove old address %s of %q: %w", a.IPNet, name, err)
		}
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: want}); err != nil {
		return nil, fmt.Errorf("cannot give %s to %q: %w", gateway, name, err)
	}
	if link.Attrs().MTU != mtu {
		if err := h.LinkSetMTU(link, mtu); err != nil {
			return nil, fmt.Errorf("cannot set MTU of %q to %d: %w", name, mtu, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("cannot bring up %q: %w", name, err)
	}
	return link, nil
}

// removeLink removes an interface; one that is not there is fine.
func (h *host) removeLink(name string) error {
	link, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("cannot remove interface %q: %w", name, err)
	}
	return nil
}

// plug connects the sandbox' namespace to the bridge and gives it its address.
// It returns the sandbox end's MAC address.
func (h *host) plug(bridge netlink.Link, l *Lease, gateway netip.Addr, mtu int) (net.HardwareAddr, error) {
	ns, err := netns.GetFromPath(l.Namespace)
	if err != nil {
		return nil, namespaceError{fmt.Errorf("cannot open sandbox namespace %q: %w", l.Namespace, err)}
	}
	defer ns.Close()
	sandbox, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot enter sandbox namespace %q: %w", l.Namespace, err)
	}
	defer sandbox.Close()

	mac := macOf(l.Address)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = l.HostInterface, mtu, bridge.Attrs().Index
	attrs.Flags = net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: l.IfName, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns)), PeerMTU: uint32(mtu)}
	err = h.LinkAdd(veth)
	if errors.Is(err, syscall.EEXIST) {
		// Left by an ADD that was cut short.
		if err := h.removeLink(l.HostInterface); err != nil {
			return nil, err
		}
		err = h.LinkAdd(veth)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot create veth pair %s–%s: %w", l.HostInterface, l.IfName, err)
	}
	if err := h.LinkSetHairpin(veth, true); err != nil {
		return nil, fmt.Errorf("cannot set hairpin mode of %s: %w", l.HostInterface, err)
	}
	return mac, configure(sandbox, l.IfName, l.Address, gateway)
}

// configure gives the sandbox' interface its address and routes.
func configure(sandbox *netlink.Handle, name string, addr, gateway netip.Addr) error {
	lo, err := sandbox.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find loopback in sandbox: %w", err)
	}
	if err := sandbox.LinkSetUp(lo); err != nil {
		return fmt.Errorf("cannot bring up loopback in sandbox: %w", err)
	}
	link, err := sandbox.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find %s in sandbox: %w", name, err)
	}
	if err := sandbox.AddrReplace(link, &netlink.Addr{IPNet: hostNet(addr)}); err != nil {
		return fmt.Errorf("cannot give %s to %s in sandbox: %w", addr, name, err)
	}
	if err := sandbox.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up %s in sandbox: %w", name, err)
	}
	for _, r := range routes(link.Attrs().Index, gateway) {
		if err := sandbox.RouteReplace(&r); err != nil {
			return fmt.Errorf("cannot add route %s in sandbox: %w", r, err)
		}
	}
	return nil
}

// routes of a sandbox: the gateway on the link, everything else through it.
func routes(index int, gateway netip.Addr) []netlink.Route {
	return []netlink.Route{
		{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: hostNet(gateway)},
		{LinkIndex: index, Scope: netlink.SCOPE_UNIVERSE, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: gateway.AsSlice()},
	}
}

// check tells what is missing of a plugged sandbox.
func (h *host) check(bridge netlink.Link, l *Lease, gateway netip.Addr) error {
	link, err := h.LinkByName(l.HostInterface)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", l.HostInterface, err)
	}
	if link.Attrs().MasterIndex != bridge.Attrs().Index {
		return fmt.Errorf("interface %s is not on bridge %s", l.HostInterface, bridge.Attrs().Name)
	}
	ns, err := netns.GetFromPath(l.Namespace)
	if err != nil {
		return namespaceError{fmt.Errorf("cannot open sandbox namespace %q: %w", l.Namespace, err)}
	}
	defer ns.Close()
	sandbox, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot enter sandbox namespace %q: %w", l.Namespace, err)
	}
	defer sandbox.Close()
	inner, err := sandbox.LinkByName(l.IfName)
	if err != nil {
		return fmt.Errorf("cannot find %s in sandbox: %w", l.IfName, err)
	}
	if inner.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("interface %s in sandbox is down", l.IfName)
	}
	addrs, err := sandbox.AddrList(inner, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("cannot list addresses of %s in sandbox: %w", l.IfName, err)
	}
	found := false
	for _, a := range addrs {
		found = found || a.IP.Equal(l.Address.AsSlice())
	}
	if !found {
		return fmt.Errorf("interface %s in sandbox lacks address %s", l.IfName, l.Address)
	}
	list, err := sandbox.RouteList(inner, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("cannot list routes of %s in sandbox: %w", l.IfName, err)
	}
	for _, r := range list {
		if r.Gw.Equal(gateway.AsSlice()) {
			return nil
		}
	}
	return fmt.Errorf("sandbox has no route through %s", gateway)
}

// namespaceError says that a sandbox' namespace cannot be used.
type namespaceError struct{ error }

func (e namespaceError) Unwrap() error { return e.error }

// hostInterface names the node's end of an attachment's veth pair, the same
// each time, so that a cut-short ADD or DEL finds it again.
func hostInterface(a Attachment) string {
	sum := sha256.Sum256([]byte(a.ContainerID + "\x00" + a.IfName))
	return "bn" + hex.EncodeToString(sum[:6])
}

// macOf derives a locally administered MAC address from an IPv4 address.
func macOf(a netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x0a, 0x58}, a.AsSlice()...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func hostNet(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }
