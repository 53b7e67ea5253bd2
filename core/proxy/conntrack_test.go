package proxy

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A client that goes on sending from the same port reaches the new endpoint
// once the old flow is forgotten.
func TestUDPFlowsAreForgotten(t *testing.T) {
	w := newWorld(t, func(ns int) Backend { return NewNFTables(ns, []netip.Prefix{prefix("10.244.0.0/16")}) })
	svc := service("dns", "10.96.0.20")
	set := func(endpoints ...discoveryv1.Endpoint) []Change {
		t.Helper()
		ports, _ := PlanService(svc, []*discoveryv1.EndpointSlice{sliceOf(svc, "", endpoints...)}, Node{Name: nodeName})
		changes := w.table.Set(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, ports)
		if err := w.backend.Apply(t.Context(), w.table, changes); err != nil {
			t.Fatal(err)
		}
		return changes
	}
	ask := func() string {
		t.Helper()
		got, err := w.pods[0].AskFrom("udp", netip.MustParseAddrPort("10.96.0.20:80"), 5000)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	set(pod(1))
	if got := ask(); got != "pod1 10.244.0.2" {
		t.Fatal(got)
	}
	changes := set(pod(2))
	if got := ask(); got != "pod1 10.244.0.2" {
		t.Fatalf("the kernel forgot by itself: %s", got)
	}
	n, err := forget(w.node.Link, stale(changes))
	if err != nil || n != 1 {
		t.Fatalf("forgot %d flows: %v", n, err)
	}
	if got := ask(); got != "pod2 10.244.0.2" {
		t.Errorf("after forgetting: %s", got)
	}
	if n, err := forget(w.node.Link, stale([]Change{{New: w.table.Port(PortName{Namespace: "default", Service: "dns", Port: "udp"})}})); err != nil || n != 0 {
		t.Errorf("forgot %d good flows: %v", n, err)
	}
	if flows := stale([]Change{{Old: &Port{Protocol: corev1.ProtocolTCP}}}); len(flows) != 0 {
		t.Errorf("TCP flows: %v", flows)
	}
}
