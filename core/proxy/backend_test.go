package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/network/nettest"
)

// The suite every backend passes: a node with three pods, a client outside,
// and real connections.

func TestNFTables(t *testing.T) {
	suite(t, func(namespace int) Backend {
		return NewNFTables(namespace, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")})
	})
}

// world is one node's surroundings. Pod i has address 10.244.i.2; "away" plays
// a pod of another node, reached through the client's network.
type world struct {
	t       *testing.T
	node    *nettest.Namespace
	client  *nettest.Namespace // 192.0.2.1, the node is 192.0.2.2
	pods    []*nettest.Namespace
	backend Backend
	table   *Table
}

const nodeName = "node"

func newWorld(t *testing.T, backend func(int) Backend) *world {
	t.Helper()
	w := &world{t: t, node: nettest.New(t), client: nettest.New(t), table: NewTable()}
	w.node.Sysctl("net/ipv4/ip_forward", "1")
	w.node.Sysctl("net/ipv4/conf/all/send_redirects", "0")
	nettest.Join(w.node, w.client, "eth0", "eth0", prefix("192.0.2.2/24"), prefix("192.0.2.1/24"))
	w.node.DefaultRoute(netip.MustParseAddr("192.0.2.1"))
	w.client.DefaultRoute(netip.MustParseAddr("192.0.2.2"))
	for i := range 3 {
		pod := nettest.New(t)
		nettest.Join(w.node, pod, fmt.Sprintf("pod%d", i), "eth0", prefix(fmt.Sprintf("10.244.%d.1/24", i)), prefix(fmt.Sprintf("10.244.%d.2/24", i)))
		pod.DefaultRoute(netip.MustParseAddr(fmt.Sprintf("10.244.%d.1", i)))
		pod.Serve(netip.MustParseAddrPort(fmt.Sprintf("10.244.%d.2:8080", i)), fmt.Sprintf("pod%d", i))
		w.pods = append(w.pods, pod)
	}
	w.backend = backend(w.node.FD())
	if err := w.backend.Replace(t.Context(), w.table); err != nil {
		t.Fatal(err)
	}
	return w
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// set programs a Service with its endpoints.
func (w *world) set(svc *corev1.Service, endpoints ...discoveryv1.Endpoint) {
	w.t.Helper()
	var list []*discoveryv1.EndpointSlice
	if endpoints != nil {
		list = append(list, sliceOf(svc, "", endpoints...))
	}
	ports, _ := PlanService(svc, list, Node{Name: nodeName})
	w.apply(svc, ports)
}

func (w *world) apply(svc *corev1.Service, ports []*Port) {
	w.t.Helper()
	changes := w.table.Set(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, ports)
	if err := w.backend.Apply(w.t.Context(), w.table, changes); err != nil {
		w.t.Fatal(err)
	}
	w.sound()
}

// sound checks that the kernel has what the backend believes.
func (w *world) sound() {
	w.t.Helper()
	drift, err := w.backend.Audit(w.t.Context())
	if err != nil || len(drift) > 0 {
		w.t.Fatalf("audit: %v, %q", err, drift)
	}
}

// reach asks until each of want answered, and fails on any other answer.
func (w *world) reach(from *nettest.Namespace, network, to string, want ...string) {
	w.t.Helper()
	seen := map[string]bool{}
	for range 200 {
		got, err := from.Ask(network, netip.MustParseAddrPort(to))
		if err != nil {
			w.t.Fatalf("%s %s: %v", network, to, err)
		}
		expected := false
		for _, x := range want {
			expected = expected || got == x
		}
		if !expected {
			w.t.Fatalf("%s %s: answered %q, want one of %q", network, to, got, want)
		}
		if seen[got] = true; len(seen) == len(want) {
			return
		}
	}
	w.t.Fatalf("%s %s: only %v answered, want all of %q", network, to, seen, want)
}

func (w *world) refused(from *nettest.Namespace, network, to string) {
	w.t.Helper()
	start := time.Now()
	got, err := from.Ask(network, netip.MustParseAddrPort(to))
	// A datagram refused on its way out of the node's own socket is EPERM.
	own := from == w.node && network == "udp" && errors.Is(err, syscall.EPERM)
	if !errors.Is(err, syscall.ECONNREFUSED) && !own || time.Since(start) > time.Second {
		w.t.Errorf("%s %s: %q, %v after %s; want a refusal at once", network, to, got, err, time.Since(start))
	}
}

func (w *world) dropped(from *nettest.Namespace, network, to string) {
	w.t.Helper()
	got, err := from.Ask(network, netip.MustParseAddrPort(to))
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		w.t.Errorf("%s %s: %q, %v; want no answer", network, to, got, err)
	}
}

func service(name, ip string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)},
				{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(8080)},
			},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func nodePort(p int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = p, p
	}
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

func sliceOf(svc *corev1.Service, suffix string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name + suffix, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
	}
	for _, p := range svc.Spec.Ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: new(p.TargetPort.IntVal)})
	}
	return s
}

// pod is the endpoint of pod i on this node.
func pod(i int) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.2", i)}, NodeName: new(nodeName), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}
}

// away is pod i said to be on another node.
func away(i int) discoveryv1.Endpoint {
	e := pod(i)
	e.NodeName = new("other")
	return e
}

func suite(t *testing.T, backend func(namespace int) Backend) {
	start := func(t *testing.T) *world { return newWorld(t, backend) }

	t.Run("cluster IP", func(t *testing.T) {
		w := start(t)
		w.set(service("web", "10.96.0.20"), pod(1), pod(2))
		for _, network := range []string{"tcp", "udp"} {
			w.reach(w.pods[0], network, "10.96.0.20:80", "pod1 10.244.0.2", "pod2 10.244.0.2")
			w.reach(w.node, network, "10.96.0.20:80", "pod1 10.244.1.1", "pod2 10.244.2.1")
			w.reach(w.client, network, "10.96.0.20:80", "pod1 10.244.1.1", "pod2 10.244.2.1") // masqueraded
		}
		w.refused(w.pods[0], "tcp", "10.96.0.20:81") // a port it does not have
		w.refused(w.node, "udp", "10.96.0.20:81")
	})

	t.Run("endpoints come and go", func(t *testing.T) {
		w := start(t)
		web := service("web", "10.96.0.20", nodePort(30001))
		w.set(web)
		for _, network := range []string{"tcp", "udp"} {
			w.refused(w.pods[0], network, "10.96.0.20:80")
			w.refused(w.node, network, "10.96.0.20:80")
			w.refused(w.client, network, "192.0.2.2:30001")
		}
		w.set(web, pod(1))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod1 10.244.0.2")
		w.set(web, pod(1), pod(2))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod1 10.244.0.2", "pod2 10.244.0.2")
		w.set(web, pod(2))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod2 10.244.0.2")
		w.set(web)
		w.refused(w.pods[0], "tcp", "10.96.0.20:80")
		w.apply(web, nil)
		w.set(service("next", "10.96.0.20", nodePort(30001)), pod(0)) // address and port used again
		w.reach(w.client, "tcp", "192.0.2.2:30001", "pod0 10.244.0.1")
	})

	t.Run("hairpin", func(t *testing.T) {
		w := start(t)
		w.set(service("web", "10.96.0.20"), pod(0))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod0 10.244.0.1")
		w.reach(w.pods[1], "tcp", "10.96.0.20:80", "pod0 10.244.1.2")
		// Another Service with the same endpoint keeps it when this one goes.
		w.set(service("other", "10.96.0.21"), pod(0))
		w.apply(service("web", "10.96.0.20"), nil)
		w.reach(w.pods[0], "tcp", "10.96.0.21:80", "pod0 10.244.0.1")
	})

	t.Run("node port", func(t *testing.T) {
		w := start(t)
		w.set(service("web", "10.96.0.20", nodePort(30001)), pod(1), away(2))
		for _, network := range []string{"tcp", "udp"} {
			w.reach(w.client, network, "192.0.2.2:30001", "pod1 10.244.1.1", "pod2 10.244.2.1") // masqueraded
			w.reach(w.pods[0], network, "10.244.0.1:30001", "pod1 10.244.1.1", "pod2 10.244.2.1")
			w.reach(w.node, network, "192.0.2.2:30001", "pod1 10.244.1.1", "pod2 10.244.2.1")
		}
		w.refused(w.client, "tcp", "192.0.2.2:30002")
		w.refused(w.node, "tcp", "127.0.0.1:30001") // not on loopback
	})

	t.Run("external traffic policy Local", func(t *testing.T) {
		w := start(t)
		w.set(service("web", "10.96.0.20", nodePort(30001), externalLocal), pod(1), away(2))
		w.reach(w.client, "tcp", "192.0.2.2:30001", "pod1 192.0.2.1") // the client's own address
		// From inside the cluster all endpoints serve.
		w.reach(w.pods[0], "tcp", "192.0.2.2:30001", "pod1 10.244.0.2", "pod2 10.244.0.2")
		w.reach(w.node, "tcp", "192.0.2.2:30001", "pod1 10.244.1.1", "pod2 10.244.2.1")
		w.set(service("web", "10.96.0.20", nodePort(30001), externalLocal), away(2))
		w.dropped(w.client, "tcp", "192.0.2.2:30001")
		w.reach(w.pods[0], "tcp", "192.0.2.2:30001", "pod2 10.244.0.2")
	})

	t.Run("internal traffic policy Local", func(t *testing.T) {
		w := start(t)
		w.set(service("web", "10.96.0.20", nodePort(30001), internalLocal), pod(1), away(2))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod1 10.244.0.2")
		w.reach(w.client, "tcp", "192.0.2.2:30001", "pod1 10.244.1.1", "pod2 10.244.2.1")
		w.set(service("web", "10.96.0.20", internalLocal), away(2))
		w.dropped(w.pods[0], "tcp", "10.96.0.20:80")
	})

	t.Run("external and load balancer addresses", func(t *testing.T) {
		w := start(t)
		lb := func(ranges ...string) *corev1.Service {
			return service("web", "10.96.0.20", nodePort(30001), func(s *corev1.Service) {
				s.Spec.Type = corev1.ServiceTypeLoadBalancer
				s.Spec.ExternalIPs = []string{"203.0.113.1"}
				s.Spec.LoadBalancerSourceRanges = ranges
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.2"}}
			})
		}
		w.set(lb(), pod(1))
		w.reach(w.client, "tcp", "203.0.113.1:80", "pod1 10.244.1.1")
		w.reach(w.client, "udp", "203.0.113.2:80", "pod1 10.244.1.1")
		w.set(lb("198.51.100.0/24"), pod(1))
		w.dropped(w.client, "tcp", "203.0.113.2:80")
		w.reach(w.client, "tcp", "203.0.113.1:80", "pod1 10.244.1.1")
		w.set(lb("198.51.100.0/24", "192.0.2.0/28"), pod(1))
		w.reach(w.client, "tcp", "203.0.113.2:80", "pod1 10.244.1.1")

		// The address stays with the Service that comes first by name.
		other := service("also", "10.96.0.21", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.1"} })
		w.set(other, pod(2))
		w.reach(w.client, "tcp", "203.0.113.1:80", "pod2 10.244.2.1")
		w.apply(other, nil)
		w.reach(w.client, "tcp", "203.0.113.1:80", "pod1 10.244.1.1")
	})

	t.Run("session affinity", func(t *testing.T) {
		w := start(t)
		sticky := service("web", "10.96.0.20", nodePort(30001), func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(60))}}
		})
		w.set(sticky, pod(0), pod(1), pod(2))
		first, err := w.client.Ask("tcp", netip.MustParseAddrPort("192.0.2.2:30001"))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			w.reach(w.client, "tcp", "192.0.2.2:30001", first)
			w.reach(w.client, "tcp", "10.96.0.20:80", first) // one memory for all frontends
		}
		// Its endpoint goes: another one is found and kept.
		var rest []discoveryv1.Endpoint
		for i := range 3 {
			if !strings.HasPrefix(first, fmt.Sprintf("pod%d ", i)) {
				rest = append(rest, pod(i))
			}
		}
		w.set(sticky, rest...)
		second, err := w.client.Ask("tcp", netip.MustParseAddrPort("192.0.2.2:30001"))
		if err != nil || second == first {
			t.Fatalf("after removal: %q, %v", second, err)
		}
		w.set(sticky, pod(0), pod(1), pod(2))
		for range 20 {
			w.reach(w.client, "tcp", "192.0.2.2:30001", second)
		}
		w.set(service("web", "10.96.0.20", nodePort(30001)), pod(0), pod(1), pod(2))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod0 10.244.0.1", "pod1 10.244.0.2", "pod2 10.244.0.2")
	})

	t.Run("replace, repair, remove", func(t *testing.T) {
		w := start(t)
		w.set(service("web", "10.96.0.20"), pod(1))
		again := backend(w.node.FD()) // another process
		if err := again.Replace(t.Context(), w.table); err != nil {
			t.Fatal(err)
		}
		w.backend = again
		w.sound()
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod1 10.244.0.2")
		if err := again.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := again.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("many endpoints", func(t *testing.T) {
		w := start(t)
		var list []discoveryv1.Endpoint
		for i := range 3000 {
			e := away(0)
			e.Addresses = []string{netip.AddrFrom4([4]byte{10, 244, byte(10 + i/250), byte(1 + i%250)}).String()}
			list = append(list, e)
		}
		w.set(service("big", "10.96.0.20"), list...)
		w.set(service("big", "10.96.0.20"), pod(1))
		w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod1 10.244.0.2")
	})

	t.Run("IPv6", func(t *testing.T) {
		w := start(t)
		a, b := nettest.New(t), nettest.New(t)
		w.node.Sysctl("net/ipv6/conf/all/forwarding", "1")
		nettest.Join(w.node, a, "six0", "eth0", prefix("fd00:1::1/64"), prefix("fd00:1::2/64"))
		nettest.Join(w.node, b, "six1", "eth0", prefix("fd00:2::1/64"), prefix("fd00:2::2/64"))
		a.DefaultRoute(netip.MustParseAddr("fd00:1::1"))
		b.DefaultRoute(netip.MustParseAddr("fd00:2::1"))
		b.Serve(netip.MustParseAddrPort("[fd00:2::2]:8080"), "b")
		svc := service("six", "fd00:96::1")
		slice := sliceOf(svc, "", discoveryv1.Endpoint{Addresses: []string{"fd00:2::2"}, NodeName: new(nodeName)})
		slice.AddressType = discoveryv1.AddressTypeIPv6
		ports, _ := PlanService(svc, []*discoveryv1.EndpointSlice{slice}, Node{Name: nodeName})
		w.apply(svc, ports)
		w.reach(a, "tcp", "[fd00:96::1]:80", "b fd00:1::2")
		w.reach(b, "tcp", "[fd00:96::1]:80", "b fd00:2::1") // hairpin
		w.set(svc)
		w.refused(a, "tcp", "[fd00:96::1]:80")
		w.refused(a, "udp", "[fd00:96::1]:80")
	})
}

// Administrators look at the rules with nft(8); some of its versions abort on
// sets they cannot print.
func TestToolsCanListTheRules(t *testing.T) {
	tool, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("nft is not installed")
	}
	w := newWorld(t, func(ns int) Backend { return NewNFTables(ns, nil) })
	w.set(service("web", "10.96.0.20", nodePort(30001), func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), pod(0))
	w.reach(w.pods[2], "tcp", "10.96.0.20:80", "pod0 10.244.2.2")
	err = w.node.Do(func() error {
		for _, args := range [][]string{{"list", "tables"}, {"list", "ruleset"}, {"-j", "list", "ruleset"}} {
			out, err := exec.Command(tool, args...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), TableName) {
				t.Errorf("nft %v: %v\n%s", args, err, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAuditFindsDrift(t *testing.T) {
	w := newWorld(t, func(ns int) Backend { return NewNFTables(ns, nil) })
	web := service("web", "10.96.0.20")
	w.set(web, pod(1))
	c, err := nftables.New(nftables.WithNetNSFd(w.node.FD()))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Name: TableName, Family: unix.NFPROTO_IPV4}
	drifts := func() string {
		t.Helper()
		d, err := w.backend.Audit(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(d, "\n")
	}
	c.FlushChain(&nftables.Chain{Table: table, Name: "prerouting"})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := drifts(); got != "chain prerouting has 0 rules, not 2" {
		t.Errorf("flushed chain: %s", got)
	}
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := drifts(); !strings.Contains(got, "set services is missing") {
		t.Errorf("deleted table: %s", got)
	}
	if err := w.backend.Replace(t.Context(), w.table); err != nil {
		t.Fatal(err)
	}
	w.sound()
	w.reach(w.pods[0], "tcp", "10.96.0.20:80", "pod1 10.244.0.2")
}
