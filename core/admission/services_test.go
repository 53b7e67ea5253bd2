package admission_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

func service(name string, f func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: named("default", name),
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	if f != nil {
		f(&s.Spec)
	}
	return s
}

func modify(t *testing.T, c client.Client, name string, f func(*corev1.ServiceSpec)) (*corev1.Service, error) {
	t.Helper()
	return client.Modify(t.Context(), c, "default", name, "", func(s *corev1.Service) (bool, error) { f(&s.Spec); return true, nil })
}

func TestServiceAddresses(t *testing.T) {
	s := apitest.Start(t)
	ctx, c := t.Context(), s.Client
	cidr := netip.MustParsePrefix("10.96.0.0/12")

	a := create(t, c, service("a", nil))
	ip, err := netip.ParseAddr(a.Spec.ClusterIP)
	if err != nil || !cidr.Contains(ip) || !slices.Equal(a.Spec.ClusterIPs, []string{a.Spec.ClusterIP}) {
		t.Errorf("address %+v", a.Spec)
	}
	if !slices.Equal(a.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv4Protocol}) || *a.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack ||
		*a.Spec.InternalTrafficPolicy != corev1.ServiceInternalTrafficPolicyCluster {
		t.Errorf("families %+v", a.Spec)
	}
	asked := create(t, c, service("asked", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }))
	if asked.Spec.ClusterIP != "10.96.0.10" {
		t.Errorf("asked for 10.96.0.10, got %s", asked.Spec.ClusterIP)
	}
	for _, tc := range []struct {
		name string
		f    func(*corev1.ServiceSpec)
		want string
	}{
		{"taken", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }, `Service "x" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated`},
		{"the API server's", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.1" }, "provided IP is already allocated"},
		{"outside", func(s *corev1.ServiceSpec) { s.ClusterIP = "192.0.2.1" }, "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12"},
		{"network", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.0" }, "is not in the valid range"},
		{"dual stack", func(s *corev1.ServiceSpec) {
			p := corev1.IPFamilyPolicyRequireDualStack
			s.IPFamilyPolicy = &p
		}, `spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`},
		{"IPv6", func(s *corev1.ServiceSpec) { s.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }, `spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`},
	} {
		_, err := client.Create(ctx, c, service("x", tc.f))
		refused(t, tc.name, err, 422, tc.want)
	}
	headless := create(t, c, service("headless", func(s *corev1.ServiceSpec) { s.ClusterIP = "None" }))
	if !slices.Equal(headless.Spec.ClusterIPs, []string{"None"}) || len(headless.Spec.IPFamilies) != 1 {
		t.Errorf("headless %+v", headless.Spec)
	}
	bare := create(t, c, service("bare", func(s *corev1.ServiceSpec) { s.ClusterIP, s.Selector = "None", nil }))
	if *bare.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyRequireDualStack || len(bare.Spec.IPFamilies) != 2 {
		t.Errorf("headless without selector %+v", bare.Spec)
	}
	named := create(t, c, service("named", func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "example.com" }))
	if named.Spec.ClusterIP != "" || len(named.Spec.ClusterIPs) != 0 || len(named.Spec.IPFamilies) != 0 {
		t.Errorf("external name %+v", named.Spec)
	}

	// A replacement that does not know the address keeps it.
	next := service("a", func(s *corev1.ServiceSpec) { s.Ports[0].Port = 81 })
	if kept, err := client.Update(ctx, c, next); err != nil || kept.Spec.ClusterIP != a.Spec.ClusterIP {
		t.Errorf("replaced: %v %+v", err, kept)
	}
	if _, err := modify(t, c, "a", func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.96.0.11", nil }); err == nil {
		t.Error("an address was changed")
	}

	// A change of type gives the address back, and a later one takes another.
	if ext, err := modify(t, c, "asked", func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "example.com" }); err != nil || ext.Spec.ClusterIP != "" || len(ext.Spec.IPFamilies) != 0 {
		t.Errorf("to external name: %v %+v", err, ext)
	}
	create(t, c, service("heir", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }))
	if back, err := modify(t, c, "asked", func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeClusterIP, "" }); err != nil || back.Spec.ClusterIP == "" || back.Spec.ClusterIP == "10.96.0.10" {
		t.Errorf("and back: %v %+v", err, back)
	}
	if err := client.Delete[*corev1.Service](ctx, c, "default", "heir", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, c, service("heir2", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }))

	// A dry run reserves nothing, a refused write neither.
	r := client.Resource{Resource: "services"}
	dry := service("dry", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.99" })
	if _, err := c.Create(ctx, r, client.KeyOf(dry), dry, client.WriteOptions{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	bad := service("bad", func(s *corev1.ServiceSpec) { s.ClusterIP, s.Ports[0].Port = "10.96.0.99", 70000 })
	if _, err := client.Create(ctx, c, bad); err == nil {
		t.Error("port 70000 was accepted")
	}
	create(t, c, service("wet", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.99" }))
}

func TestNodePorts(t *testing.T) {
	s := apitest.Start(t)
	ctx, c := t.Context(), s.Client
	port := func(n int32) func(*corev1.ServiceSpec) {
		return func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, n }
	}
	create(t, c, service("a", port(30001)))
	_, err := client.Create(ctx, c, service("b", port(30001)))
	refused(t, "taken", err, 422, `Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated`)
	_, err = client.Create(ctx, c, service("b", port(29999)))
	refused(t, "outside", err, 422, `spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the valid range. The range of valid ports is 30000-32767`)

	drawn := create(t, c, service("b", port(0)))
	if n := drawn.Spec.Ports[0].NodePort; n < 30086 || n > 32767 {
		t.Errorf("drew %d, want one above the static band", n)
	}
	if kept, err := client.Update(ctx, c, service("b", func(s *corev1.ServiceSpec) {
		port(0)(s)
		s.Ports = append(s.Ports, corev1.ServicePort{Name: "more", Port: 81})
	})); err != nil || kept.Spec.Ports[0].NodePort != drawn.Spec.Ports[0].NodePort || kept.Spec.Ports[1].NodePort == 0 {
		t.Errorf("replaced: %v %+v", err, kept)
	}
	dns := create(t, c, service("dns", func(s *corev1.ServiceSpec) {
		s.Type = corev1.ServiceTypeNodePort
		s.Ports = []corev1.ServicePort{{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 53}, {Name: "tcp", Protocol: corev1.ProtocolTCP, Port: 53}}
	}))
	if p := dns.Spec.Ports; p[0].NodePort == 0 || p[0].NodePort != p[1].NodePort {
		t.Errorf("two protocols: %+v", p)
	}
	if plain, err := modify(t, c, "a", func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeClusterIP }); err != nil || plain.Spec.Ports[0].NodePort != 0 {
		t.Errorf("to ClusterIP: %v %+v", err, plain)
	}
	create(t, c, service("heir", port(30001)))

	local := create(t, c, service("lb", func(s *corev1.ServiceSpec) {
		s.Type, s.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	}))
	hc := local.Spec.HealthCheckNodePort
	if hc == 0 || local.Spec.Ports[0].NodePort == 0 || hc == local.Spec.Ports[0].NodePort {
		t.Errorf("load balancer %+v", local.Spec)
	}
	_, err = client.Create(ctx, c, service("x", port(hc)))
	refused(t, "a health check's", err, 422, "provided port is already allocated")
	no := false
	none := create(t, c, service("lb2", func(s *corev1.ServiceSpec) {
		s.Type, s.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, &no
	}))
	if none.Spec.Ports[0].NodePort != 0 {
		t.Errorf("load balancer without node ports %+v", none.Spec)
	}
}

// TestServicesConcurrently: of many who ask at once nobody gets what another
// has, and of those who ask for one port exactly one gets it.
func TestServicesConcurrently(t *testing.T) {
	s := apitest.Start(t)
	ctx, c := t.Context(), s.Client
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		ips  = map[string]string{}
		port = map[int32]string{}
		won  int
	)
	for i := range 60 {
		wg.Go(func() {
			o, err := client.Create(ctx, c, service(fmt.Sprintf("s%d", i), func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort }))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if other, ok := ips[o.Spec.ClusterIP]; ok {
				t.Errorf("%s and %s have address %s", o.Name, other, o.Spec.ClusterIP)
			}
			if other, ok := port[o.Spec.Ports[0].NodePort]; ok {
				t.Errorf("%s and %s have node port %d", o.Name, other, o.Spec.Ports[0].NodePort)
			}
			ips[o.Spec.ClusterIP], port[o.Spec.Ports[0].NodePort] = o.Name, o.Name
		})
		wg.Go(func() {
			_, err := client.Create(ctx, c, service(fmt.Sprintf("p%d", i), func(s *corev1.ServiceSpec) {
				s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30001
			}))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !strings.Contains(err.Error(), "provided port is already allocated") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d Services got port 30001", won)
	}
}

// TestSmallRange: every address of a range is given out, then no more.
func TestSmallRange(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p, err := admission.NewServices(admission.ServicesConfig{CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/29"), netip.MustParsePrefix("fd00::/125")}}, c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	prefer := corev1.IPFamilyPolicyPreferDualStack
	seen := map[string]bool{}
	var first *admission.Attributes
	for i := range 6 {
		o := service(fmt.Sprintf("s%d", i), func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = &prefer })
		a := attributes(t, c, o, nil)
		if i == 0 {
			first = a
		}
		if err := admit(t, p, a); err != nil {
			t.Fatal(err)
		}
		if len(o.Spec.ClusterIPs) != 2 || seen[o.Spec.ClusterIPs[0]] || seen[o.Spec.ClusterIPs[1]] {
			t.Errorf("addresses %v after %v", o.Spec.ClusterIPs, seen)
		}
		seen[o.Spec.ClusterIPs[0]], seen[o.Spec.ClusterIPs[1]] = true, true
	}
	refused(t, "full", admit(t, p, attributes(t, c, service("x", nil), nil)), 500, "failed to allocate a serviceIP: range is full")
	first.Done(false)
	if err := admit(t, p, attributes(t, c, service("x", nil), nil)); err != nil {
		t.Errorf("an address that was given back is not given out: %v", err)
	}
	for _, bad := range []admission.ServicesConfig{
		{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.97.0.0/16")}},
		{FirstNodePort: 2, LastNodePort: 1},
	} {
		if _, err := admission.NewServices(bad, c, telemetry.Discard()); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
