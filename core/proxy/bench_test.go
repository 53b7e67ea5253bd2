package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/network/nettest"
)

// cluster makes services with ten endpoints each.
func cluster(n int) (services []*corev1.Service, slices []*discoveryv1.EndpointSlice) {
	for i := range n {
		s := service(fmt.Sprintf("s%05d", i), netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)}).String(), func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] })
		var list []discoveryv1.Endpoint
		for e := range 10 {
			list = append(list, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 244, byte(e), byte(i)}).String()}})
		}
		services, slices = append(services, s), append(slices, sliceOf(s, "", list...))
	}
	return services, slices
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			services, slices := cluster(n)
			b.ReportAllocs()
			for b.Loop() {
				Plan(services, slices, Node{Name: nodeName})
			}
		})
	}
}

// BenchmarkOneEndpoint is the plan and the diff of one endpoint's change.
func BenchmarkOneEndpoint(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			services, slices := cluster(n)
			t := Plan(services, slices, Node{Name: nodeName})
			key := types.NamespacedName{Namespace: "default", Name: services[0].Name}
			without := slices[0].DeepCopy()
			without.Endpoints = without.Endpoints[1:]
			states := []*discoveryv1.EndpointSlice{slices[0], without}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				ports, _ := PlanService(services[0], []*discoveryv1.EndpointSlice{states[i%2]}, Node{Name: nodeName})
				if len(t.Set(key, ports)) != 1 {
					b.Fatal("no change")
				}
			}
		})
	}
}

// BenchmarkKernel writes to the kernel: everything, and one endpoint's change.
func BenchmarkKernel(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		services, slices := cluster(n)
		t := Plan(services, slices, Node{Name: nodeName})
		b.Run(fmt.Sprintf("replace/services=%d", n), func(b *testing.B) {
			backend := NewNFTables(nettest.New(b).FD(), nil)
			for b.Loop() {
				if err := backend.Replace(b.Context(), t); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("one/services=%d", n), func(b *testing.B) {
			backend := NewNFTables(nettest.New(b).FD(), nil)
			if err := backend.Replace(b.Context(), t); err != nil {
				b.Fatal(err)
			}
			key := types.NamespacedName{Namespace: "default", Name: services[0].Name}
			without := slices[0].DeepCopy()
			without.Endpoints = without.Endpoints[1:]
			states := []*discoveryv1.EndpointSlice{slices[0], without}
			i := 0
			for b.Loop() {
				i++
				ports, _ := PlanService(services[0], []*discoveryv1.EndpointSlice{states[i%2]}, Node{Name: nodeName})
				if err := backend.Apply(b.Context(), t, t.Set(key, ports)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
