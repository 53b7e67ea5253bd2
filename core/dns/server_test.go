package dns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/dns"
)

type recorded struct {
	mu     sync.Mutex
	events []string
}

func (r *recorded) EventRef(_ corev1.ObjectReference, kind, reason, _ string, _ ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, kind+" "+reason)
}

// freePort finds a port that is free for UDP and TCP on loopback.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// eventually waits for f to hold.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !f() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestServer(t *testing.T) {
	api := apitest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	// A forwarder that answers one name, and one that never does.
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	forwarder := &mdns.Server{PacketConn: pc, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, r *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(r)
		if rr, err := mdns.NewRR(r.Question[0].Name + " 60 IN A 192.0.2.7"); err == nil && r.Question[0].Qtype == mdns.TypeA {
			m.Answer = []mdns.RR{rr}
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- forwarder.ActivateAndServe() }()
	defer func() {
		if err := forwarder.Shutdown(); err != nil {
			t.Error(err)
		}
		<-served
	}()

	if _, err := client.Create(ctx, api.Client, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.77", Ports: []corev1.ServicePort{{Port: 80}}}}); err != nil {
		t.Fatal(err)
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freePort(t)
	events := &recorded{}
	tel := api.Hub.Component("dns", "coredns")
	s, err := dns.New(dns.Config{Address: addr, Interface: "-", ResolvConf: resolv}, api.Client, events, tel)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	select {
	case <-s.ReadyChannel():
	case err := <-done:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("not ready")
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	ask := func(network, name string, qtype uint16) string {
		m := new(mdns.Msg)
		m.SetQuestion(name, qtype)
		c := &mdns.Client{Net: network, Timeout: 5 * time.Second}
		r, _, err := c.Exchange(m, addr.String())
		if err != nil {
			return err.Error()
		}
		out := mdns.RcodeToString[r.Rcode]
		for _, rr := range r.Answer {
			out += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
		}
		return out
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := ask(network, "web.default.svc.cluster.local.", mdns.TypeA); got != "NOERROR 10.96.0.77" {
			t.Errorf("%s: %s", network, got)
		}
	}
	// A denial is not remembered: a Service is found as soon as it is there.
	if got := ask("udp", "late.default.svc.cluster.local.", mdns.TypeA); got != "NXDOMAIN" {
		t.Errorf("before it exists: %s", got)
	}
	late := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "late"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.78", Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := client.Create(ctx, api.Client, late); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new Service", func() bool { return ask("udp", "late.default.svc.cluster.local.", mdns.TypeA) == "NOERROR 10.96.0.78" })

	bigAnswer(t, api.Client, addr)

	if got := ask("udp", "www.example.org.", mdns.TypeA); got != "SERVFAIL" { // no forwarder
		t.Errorf("without forwarder: %s", got)
	}

	cm, err := client.Get[*corev1.ConfigMap](ctx, api.Client, dns.ConfigMapNamespace, dns.ConfigMapName)
	if err != nil || !strings.Contains(cm.Data[dns.CorefileKey], "binnacle cluster.local") {
		t.Fatalf("default ConfigMap: %v %v", cm, err)
	}
	set := func(corefile string) {
		t.Helper()
		if _, err := client.Modify(ctx, api.Client, dns.ConfigMapNamespace, dns.ConfigMapName, "", func(c *corev1.ConfigMap) (bool, error) {
			c.Data[dns.CorefileKey] = corefile
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	// Upstream's own Corefile works; the forwarder is ours.
	set(`.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . ` + pc.LocalAddr().String() + ` {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`)
	eventually(t, "reload", func() bool { return ask("udp", "www.example.org.", mdns.TypeA) == "NOERROR 192.0.2.7" })
	set(".:53 {\n  nonsense\n}\n")
	eventually(t, "event", func() bool {
		events.mu.Lock()
		defer events.mu.Unlock()
		return len(events.events) == 1 && events.events[0] == "Warning BadCorefile"
	})
	if got := ask("udp", "www.example.org.", mdns.TypeA); got != "NOERROR 192.0.2.7" {
		t.Errorf("after a bad Corefile: %s", got)
	}
	// An ExternalName is followed through the forwarder.
	if _, err := client.Create(ctx, api.Client, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "ext"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.org"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ExternalName", func() bool {
		return ask("tcp", "ext.default.svc.cluster.local.", mdns.TypeA) == "NOERROR www.example.org. 192.0.2.7"
	})

	// A forwarder that never answers costs little, and then nothing.
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	set(strings.ReplaceAll(dns.DefaultCorefile("cluster.local", silent.LocalAddr().String()), "errors", "log"))
	eventually(t, "silent forwarder", func() bool {
		start := time.Now()
		got := ask("udp", "www.example.com.", mdns.TypeA)
		if took := time.Since(start); took > 3*time.Second {
			t.Fatalf("silent forwarder: %s after %s", got, took)
		}
		return got == "SERVFAIL"
	})

	names := map[string]bool{}
	families, err := s.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, want := range []string{"coredns_dns_requests_total", "coredns_dns_request_duration_seconds", "coredns_dns_responses_total", "coredns_cache_entries", "coredns_proxy_request_duration_seconds", "binnacle_dns_corefile_reloads_total"} {
		if !names[want] {
			t.Errorf("metric %s is missing", want)
		}
	}
}

// bigAnswer asks for more addresses than fit a datagram: the answer by UDP is
// cut and says so, that by TCP is whole.
func bigAnswer(t *testing.T, c client.Client, addr netip.AddrPort) {
	t.Helper()
	const endpoints = 100
	meta := metav1.ObjectMeta{Namespace: "default", Name: "big"}
	ports := []corev1.ServicePort{{Port: 80}}
	if _, err := client.Create(t.Context(), c, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: ports}}); err != nil {
		t.Fatal(err)
	}
	meta.Labels = map[string]string{discoveryv1.LabelServiceName: "big"}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
	for i := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.1.%d", i+1)}})
	}
	if _, err := client.Create(t.Context(), c, slice); err != nil {
		t.Fatal(err)
	}
	ask := func(network string) *mdns.Msg {
		m := new(mdns.Msg)
		m.SetQuestion("big.default.svc.cluster.local.", mdns.TypeA)
		r, _, err := (&mdns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(m, addr.String())
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		return r
	}
	eventually(t, "the whole answer by TCP", func() bool {
		r := ask("tcp")
		return len(r.Answer) == endpoints && !r.Truncated
	})
	if r := ask("udp"); !r.Truncated || len(r.Answer) >= endpoints {
		t.Errorf("by UDP: truncated %v, %d answers", r.Truncated, len(r.Answer))
	}
}
