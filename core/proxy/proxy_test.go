package proxy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/network/nettest"
	"binnacle.io/core/proxy"
	"binnacle.io/core/telemetry"
)

// spans keeps what ended.
type spans struct {
	mu  sync.Mutex
	all []sdktrace.ReadOnlySpan
}

func (s *spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (s *spans) OnEnd(sp sdktrace.ReadOnlySpan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, sp)
}
func (s *spans) Shutdown(context.Context) error   { return nil }
func (s *spans) ForceFlush(context.Context) error { return nil }

func (s *spans) named(name string) []sdktrace.ReadOnlySpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []sdktrace.ReadOnlySpan
	for _, sp := range s.all {
		if sp.Name() == name {
			list = append(list, sp)
		}
	}
	return list
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !f() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestProxyFollowsTheAPI(t *testing.T) {
	node, pod := nettest.New(t), nettest.New(t)
	node.Sysctl("net/ipv4/ip_forward", "1")
	nettest.Join(node, pod, "pod", "eth0", netip.MustParsePrefix("10.244.1.1/24"), netip.MustParsePrefix("10.244.1.2/24"))
	node.DefaultRoute(netip.MustParseAddr("10.244.1.2"))
	pod.DefaultRoute(netip.MustParseAddr("10.244.1.1"))
	pod.Serve(netip.MustParseAddrPort("10.244.1.2:8080"), "pod")

	api := apitest.Start(t)
	seen := &spans{}
	api.Hub.AddSpanProcessor(seen)
	tel := api.Hub.Component("proxy", "kube-proxy")
	cfg := proxy.Config{Node: "node", Namespace: node.Path(), Audit: 50 * time.Millisecond}
	p, err := proxy.New(cfg, api.Client, tel)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Healthy(); err == nil {
		t.Error("healthy before the first sync")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	defer stop()
	select {
	case <-p.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}

	// The API server records the trace of whoever changed the objects.
	ctx2, root := tel.Tracer.Start(ctx, "test")
	svc, err := client.Create(ctx2, api.Client, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.77", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
	if err != nil {
		t.Fatal(err)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Add(-time.Millisecond).Format(time.RFC3339Nano)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.2"}, NodeName: new("node"), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
	}
	stored, err := client.Create(ctx2, api.Client, slice)
	if err != nil {
		t.Fatal(err)
	}
	root.End()
	answers := func() bool {
		got, err := node.Ask("tcp", netip.MustParseAddrPort("10.96.0.77:80"))
		return err == nil && strings.HasPrefix(got, "pod ")
	}
	eventually(t, "cluster IP", answers)
	if stored.Annotations[telemetry.TraceAnnotation] == "" {
		t.Log("the API server recorded no trace; spans are not checked")
	} else {
		eventually(t, "span", func() bool {
			for _, s := range seen.named("program service") {
				if s.SpanContext().TraceID() == root.SpanContext().TraceID() {
					return true
				}
			}
			return false
		})
	}
	if n := testutil.CollectAndCount(tel.Registry, "kubeproxy_network_programming_duration_seconds"); n != 1 {
		t.Errorf("programming latency: %d series", n)
	}

	why := p.Explain(types.NamespacedName{Namespace: "default", Name: "web"})
	if len(why) != 1 || !why[0].Used || why[0].Subject != "10.244.1.2:8080" {
		t.Errorf("explanation: %+v", why)
	}
	w := httptest.NewRecorder()
	p.Plan().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/proxy/plan", nil))
	var rows []struct{ Name string }
	if err := json.Unmarshal(w.Body.Bytes(), &rows); err != nil || len(rows) == 0 {
		t.Errorf("plan: %v %s", err, w.Body)
	}
	w = httptest.NewRecorder()
	p.Healthz().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("healthz: %d %s", w.Code, w.Body)
	}

	// Somebody flushes the rules: the audit repairs them.
	c, err := nftables.New(nftables.WithNetNSFd(node.FD()))
	if err != nil {
		t.Fatal(err)
	}
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "repair", answers)

	if err := client.Delete[*corev1.Service](ctx, api.Client, "default", svc.Name, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deletion", func() bool {
		return p.Explain(types.NamespacedName{Namespace: "default", Name: "web"})[0].Reason == "no such Service" && !answers()
	})
	stop()
	if err := proxy.Down(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("tables left: %v %v", tables, err)
	}
}
