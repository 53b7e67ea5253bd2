package network_test

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/network"
	"binnacle.io/core/proxy"
	"binnacle.io/core/telemetry"
)

// A Service between two pods of one node is where a bridge loses replies: they
// must pass the node's reverse translation, whether br_netfilter makes bridged
// packets pass it or not.
func TestServiceBetweenPodsOfOneNode(t *testing.T) {
	for _, call := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+call, func(t *testing.T) {
			n := newNode(t, "10.244.0.0/24")
			if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
				n.Sysctl("net/bridge/bridge-nf-call-iptables", call)
			} else if call == "1" {
				t.Skip("br_netfilter is not loaded")
			}
			n.start()
			a, ipA := n.pod("a", nil)
			b, ipB := n.pod("b", nil)
			b.Serve(netip.AddrPortFrom(ipB, 80), "b")
			a.Serve(netip.AddrPortFrom(ipA, 80), "a")
			tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
			svc := func(name, ip string) *corev1.Service {
				return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip,
					Ports: []corev1.ServicePort{{Name: "t", Port: 80, Protocol: tcp}, {Name: "u", Port: 80, Protocol: udp}}}}
			}
			slice := func(name string, ip netip.Addr) *discoveryv1.EndpointSlice {
				return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
					AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("t"), Port: new(int32(80)), Protocol: &tcp}, {Name: new("u"), Port: new(int32(80)), Protocol: &udp}},
					Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip.String()}, NodeName: new("node")}}}
			}
			table := proxy.Plan([]*corev1.Service{svc("b", "10.96.0.20"), svc("a", "10.96.0.21")}, []*discoveryv1.EndpointSlice{slice("b", ipB), slice("a", ipA)}, proxy.Node{Name: "node"})
			backend := proxy.NewNFTables(n.FD(), []netip.Prefix{prefix("10.244.0.0/16")})
			if err := backend.Replace(context.Background(), table); err != nil {
				t.Fatal(err)
			}
			for _, protocol := range []string{"tcp", "udp"} {
				for range 3 {
					n.ask(a, protocol, addrPort("10.96.0.20:80"), "b "+ipA.String())
					n.ask(a, protocol, addrPort("10.96.0.21:80"), "a 10.244.0.1") // hairpin
					n.ask(n.Namespace, protocol, addrPort("10.96.0.20:80"), "b 10.244.0.1")
				}
			}
		})
	}
}

func TestPodCIDRComesFromTheNode(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.cfg.PodCIDR = netip.Prefix{}
	api := apitest.Start(t)
	nw, err := network.New(n.cfg, api.Client, nil, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- nw.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	deadline := time.After(20 * time.Second)
	for {
		if _, err := os.Stat(n.cfg.Socket()); err == nil {
			break
		}
		select {
		case <-deadline:
			t.Fatal("no socket")
		case <-time.After(time.Millisecond):
		}
	}
	if r := n.cni("STATUS", "", "", nil); r.Code != 50 {
		t.Errorf("STATUS before the pod CIDR: %+v", r)
	}
	if r := n.cni("ADD", "a", n.outside.Path(), nil); r.Code != 11 {
		t.Errorf("ADD before the pod CIDR: %+v", r)
	}
	if _, err := client.Create(ctx, api.Client, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Modify(ctx, api.Client, "", "node", "", func(o *corev1.Node) (bool, error) {
		o.Spec.PodCIDR, o.Spec.PodCIDRs = "10.244.9.0/24", []string{"10.244.9.0/24"}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-nw.Ready():
	case <-deadline:
		t.Fatal("not ready")
	}
	if _, ip := n.pod("a", nil); ip != addr("10.244.9.2") {
		t.Errorf("address %s", ip)
	}
}
