package nettest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace with loopback up.
type Namespace struct {
	t  testing.TB
	ns netns.NsHandle
	// Link reaches the namespace's interfaces, addresses and routes.
	Link *netlink.Handle
}

// New creates a namespace that ends with the test.
func New(t testing.TB) *Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	type made struct {
		ns  netns.NsHandle
		err error
	}
	ch := make(chan made)
	go func() {
		runtime.LockOSThread() // the thread ends in the new namespace
		ns, err := netns.New()
		ch <- made{ns, err}
	}()
	m := <-ch
	if m.err != nil {
		t.Fatalf("cannot create network namespace: %v", m.err)
	}
	h, err := netlink.NewHandleAt(m.ns, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatalf("cannot open netlink: %v", err)
	}
	n := &Namespace{t: t, ns: m.ns, Link: h}
	t.Cleanup(func() { n.Close() })
	lo, err := h.LinkByName("lo")
	n.must(err)
	n.must(h.LinkSetUp(lo))
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		// Addresses are usable at once, not after duplicate detection.
		n.Sysctl("net/ipv6/conf/all/accept_dad", "0")
		n.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	}
	return n
}

// Close ends the namespace before the test does. It is safe twice.
func (n *Namespace) Close() {
	if n.ns.IsOpen() {
		n.Link.Close()
		n.ns.Close()
	}
}

// Path names the namespace within this process.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/self/fd/%d", int(n.ns)) }

// FD is the namespace's descriptor.
func (n *Namespace) FD() int { return int(n.ns) }

// Do runs f on a thread in the namespace.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(n.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// Sysctl writes a file below /proc/sys.
func (n *Namespace) Sysctl(file, value string) {
	n.t.Helper()
	n.must(n.Do(func() error { return os.WriteFile("/proc/sys/"+file, []byte(value), 0) }))
}

// Join connects a and b by a veth pair with the given addresses.
func Join(a, b *Namespace, nameA, nameB string, addrA, addrB netip.Prefix) {
	a.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	a.must(a.Link.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.ns))}))
	a.up(nameA, addrA)
	b.up(nameB, addrB)
}

func (n *Namespace) up(name string, addr netip.Prefix) {
	n.t.Helper()
	l, err := n.Link.LinkByName(name)
	n.must(err)
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	n.must(n.Link.AddrAdd(l, a))
	n.must(n.Link.LinkSetUp(l))
}

// DefaultRoute sends everything to gw.
func (n *Namespace) DefaultRoute(gw netip.Addr) {
	n.t.Helper()
	all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if gw.Is6() {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	n.must(n.Link.RouteAdd(&netlink.Route{Dst: all, Gw: gw.AsSlice()}))
}

// Serve answers every TCP connection on addr with "name peer-address" and
// every UDP datagram likewise, until the test ends.
func (n *Namespace) Serve(addr netip.AddrPort, name string) {
	n.t.Helper()
	var l net.Listener
	var p net.PacketConn
	n.must(n.Do(func() (err error) {
		if l, err = net.Listen("tcp", addr.String()); err != nil {
			return err
		}
		p, err = net.ListenPacket("udp", addr.String())
		return err
	}))
	done := make(chan struct{}, 2)
	n.t.Cleanup(func() { l.Close(); p.Close(); <-done; <-done })
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 64)
		for {
			_, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			fmt.Fprintf(writerTo{p, from}, "%s %s", name, from.(*net.UDPAddr).IP)
		}
	}()
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// Ask connects from the namespace and returns what a Serve answered.
func (n *Namespace) Ask(network string, to netip.AddrPort) (string, error) {
	return n.AskFrom(network, to, 0)
}

// AskFrom is Ask from a fixed source port.
func (n *Namespace) AskFrom(network string, to netip.AddrPort, port int) (string, error) {
	const patience = 2 * time.Second
	var answer string
	err := n.Do(func() error {
		d := net.Dialer{Timeout: patience}
		if port != 0 && network == "udp" {
			d.LocalAddr = &net.UDPAddr{Port: port}
		}
		c, err := d.DialContext(context.Background(), network, to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			buf := make([]byte, 128)
			k, err := c.Read(buf)
			answer = string(buf[:k])
			return err
		}
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	})
	return answer, err
}

func (n *Namespace) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}
