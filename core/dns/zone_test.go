package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/plugin/test"
	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
)

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// testRecords is a small cluster.
func testRecords() *records {
	r := newRecords()
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	r.replaceNamespaces([]*corev1.Namespace{{ObjectMeta: meta("", "default")}, {ObjectMeta: meta("", "empty")}})
	r.replaceServices([]*corev1.Service{
		{ObjectMeta: meta("default", "web"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.20", ClusterIPs: []string{"10.96.0.20", "fd00:96::20"}, Ports: []corev1.ServicePort{{Name: "http", Protocol: tcp, Port: 80}, {Name: "dns", Protocol: udp, Port: 53}}}},
		{ObjectMeta: meta("default", "one"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.21", Ports: []corev1.ServicePort{{Protocol: tcp, Port: 8080}}}},
		{ObjectMeta: meta("default", "db"), Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Name: "sql", Protocol: tcp, Port: 5432}}}},
		{ObjectMeta: meta("default", "nobody"), Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Name: "sql", Protocol: tcp, Port: 5432}}}},
		{ObjectMeta: meta("default", "ext"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.org"}},
	})
	slice := func(svc, name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		m := meta("default", name)
		m.Labels = map[string]string{discoveryv1.LabelServiceName: svc}
		return &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("sql"), Protocol: &tcp, Port: new(int32(5432))}}, Endpoints: endpoints}
	}
	r.replaceSlices([]*discoveryv1.EndpointSlice{
		slice("db", "db-1", discoveryv1.Endpoint{Addresses: []string{"10.244.0.2"}, Hostname: new("db-0")}, discoveryv1.Endpoint{Addresses: []string{"10.244.0.3"}},
			discoveryv1.Endpoint{Addresses: []string{"10.244.0.4"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}}),
		slice("web", "web-1", discoveryv1.Endpoint{Addresses: []string{"10.244.0.9"}}),
	})
	return r
}

func testZone(r *records) *zone {
	z := &zone{records: r, zones: []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}, domain: "cluster.local.", ttl: 5, pods: true, self: netip.MustParseAddr("10.96.0.10"), lookup: upstream.New()}
	z.fall.SetZonesFromArgs([]string{"in-addr.arpa", "ip6.arpa"})
	z.next = plugin.HandlerFunc(func(_ context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
		m := new(mdns.Msg)
		m.SetRcode(r, mdns.RcodeRefused) // tells that the next plugin was asked
		return mdns.RcodeRefused, w.WriteMsg(m)
	})
	return z
}

// query renders an answer: rcode, then the answer's records, then the extra
// section's.
func query(t *testing.T, z *zone, name, qtype string) string {
	t.Helper()
	m := new(mdns.Msg)
	m.SetQuestion(name, mdns.StringToType[qtype])
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := z.ServeDNS(context.Background(), rec, m)
	if err != nil {
		t.Fatalf("%s %s: %v", name, qtype, err)
	}
	if rec.Msg == nil {
		return mdns.RcodeToString[code]
	}
	if rec.Msg.Rcode == mdns.RcodeNameError || rec.Msg.Rcode == mdns.RcodeSuccess && len(rec.Msg.Answer) == 0 {
		if len(rec.Msg.Ns) != 1 || rec.Msg.Ns[0].Header().Rrtype != mdns.TypeSOA {
			t.Errorf("%s %s: negative answer without SOA", name, qtype)
		}
	}
	var parts []string
	for _, rr := range slices.Concat(rec.Msg.Answer, rec.Msg.Extra) {
		text := strings.TrimPrefix(rr.String(), rr.Header().String())
		if rr.Header().Name != name {
			text = rr.Header().Name + "=" + text
		}
		parts = append(parts, mdns.TypeToString[rr.Header().Rrtype]+" "+text)
	}
	return strings.Join(append([]string{mdns.RcodeToString[rec.Msg.Rcode]}, parts...), "; ")
}

func TestAnswers(t *testing.T) {
	z := testZone(testRecords())
	for _, c := range []struct{ name, qtype, want string }{
		{"web.default.svc.cluster.local.", "A", "NOERROR; A 10.96.0.20"},
		{"WEB.Default.svc.cluster.LOCAL.", "A", "NOERROR; A 10.96.0.20"},
		{"web.default.svc.cluster.local.", "AAAA", "NOERROR; AAAA fd00:96::20"},
		{"one.default.svc.cluster.local.", "AAAA", "NOERROR"},
		{"web.default.svc.cluster.local.", "MX", "NOERROR"},
		{"_http._tcp.web.default.svc.cluster.local.", "SRV", "NOERROR; SRV 0 50 80 web.default.svc.cluster.local.; SRV 0 50 80 web.default.svc.cluster.local."},
		{"_http._udp.web.default.svc.cluster.local.", "SRV", "NXDOMAIN"},
		{"_tcp.web.default.svc.cluster.local.", "A", "NOERROR"},
		{"_sctp.web.default.svc.cluster.local.", "A", "NXDOMAIN"},
		{"db.default.svc.cluster.local.", "A", "NOERROR; A 10.244.0.2; A 10.244.0.3"},
		{"db-0.db.default.svc.cluster.local.", "A", "NOERROR; A 10.244.0.2"},
		{"10-244-0-3.db.default.svc.cluster.local.", "A", "NOERROR; A 10.244.0.3"},
		{"10-244-0-4.db.default.svc.cluster.local.", "A", "NXDOMAIN"}, // not ready
		{"_sql._tcp.db.default.svc.cluster.local.", "SRV", "NOERROR; SRV 0 50 5432 db-0.db.default.svc.cluster.local.; SRV 0 50 5432 10-244-0-3.db.default.svc.cluster.local.; A db-0.db.default.svc.cluster.local.=10.244.0.2; A 10-244-0-3.db.default.svc.cluster.local.=10.244.0.3"},
		{"nobody.default.svc.cluster.local.", "A", "NXDOMAIN"}, // no endpoint is ready
		{"_sql._tcp.nobody.default.svc.cluster.local.", "SRV", "NXDOMAIN"},
		{"missing.default.svc.cluster.local.", "A", "NXDOMAIN"},
		{"default.svc.cluster.local.", "A", "NOERROR"},
		{"empty.svc.cluster.local.", "A", "NOERROR"},
		{"nowhere.svc.cluster.local.", "A", "NXDOMAIN"},
		{"web.nowhere.svc.cluster.local.", "A", "NXDOMAIN"},
		{"svc.cluster.local.", "A", "NOERROR"},
		{"web.default.cluster.local.", "A", "NXDOMAIN"},
		{"www.example.org.default.svc.cluster.local.", "A", "NXDOMAIN"}, // search path
		{"ext.default.svc.cluster.local.", "CNAME", "NOERROR; CNAME www.example.org."},
		{"ext.default.svc.cluster.local.", "TXT", "NOERROR; CNAME www.example.org."},
		{"1-2-3-4.default.pod.cluster.local.", "A", "NOERROR; A 1.2.3.4"},
		{"fd00--1.default.pod.cluster.local.", "AAAA", "NOERROR; AAAA fd00::1"},
		{"1-2-3.default.pod.cluster.local.", "A", "NXDOMAIN"},
		{"1-2-3-4.nowhere.pod.cluster.local.", "A", "NXDOMAIN"},
		{"dns-version.cluster.local.", "TXT", `NOERROR; TXT "1.1.0"`},
		{"cluster.local.", "NS", "NOERROR; NS ns.dns.cluster.local.; A ns.dns.cluster.local.=10.96.0.10"},
		{"ns.dns.cluster.local.", "A", "NOERROR; A 10.96.0.10"},
		{"cluster.local.", "A", "NOERROR"},
		{"20.0.96.10.in-addr.arpa.", "PTR", "NOERROR; PTR web.default.svc.cluster.local."},
		{"0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.", "PTR", "NOERROR; PTR web.default.svc.cluster.local."},
		{"2.0.244.10.in-addr.arpa.", "PTR", "NOERROR; PTR db-0.db.default.svc.cluster.local."},
		{"9.0.244.10.in-addr.arpa.", "PTR", "REFUSED"}, // not headless: falls through
		{"20.0.96.10.in-addr.arpa.", "A", "NOERROR"},
		{"1.1.1.1.in-addr.arpa.", "PTR", "REFUSED"},
		{"example.org.", "A", "REFUSED"},
	} {
		got := query(t, z, c.name, c.qtype)
		if strings.HasPrefix(c.name, "_http._tcp.web") {
			// The Service has two addresses: the target comes once, its
			// addresses follow.
			if got != "NOERROR; SRV 0 100 80 web.default.svc.cluster.local.; A web.default.svc.cluster.local.=10.96.0.20; AAAA web.default.svc.cluster.local.=fd00:96::20" {
				t.Errorf("%s %s: %s", c.name, c.qtype, got)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.name, c.qtype, got, c.want)
		}
	}
}

func TestChangesAreSeen(t *testing.T) {
	r := testRecords()
	z := testZone(r)
	svc := &corev1.Service{ObjectMeta: meta("default", "one"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.99"}}
	r.applyService(client.Modified, svc)
	if got := query(t, z, "21.0.96.10.in-addr.arpa.", "PTR"); got != "REFUSED" {
		t.Errorf("old address: %s", got)
	}
	if got := query(t, z, "99.0.96.10.in-addr.arpa.", "PTR"); got != "NOERROR; PTR one.default.svc.cluster.local." {
		t.Errorf("new address: %s", got)
	}
	r.applyService(client.Deleted, svc)
	if got := query(t, z, "one.default.svc.cluster.local.", "A"); got != "NXDOMAIN" {
		t.Errorf("deleted: %s", got)
	}
	m := meta("default", "db-1")
	m.Labels = map[string]string{discoveryv1.LabelServiceName: "db"}
	r.applySlice(client.Modified, &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.7"}}}})
	if got := query(t, z, "db.default.svc.cluster.local.", "A"); got != "NOERROR; A 10.244.0.7" {
		t.Errorf("changed endpoints: %s", got)
	}
	if got := query(t, z, "2.0.244.10.in-addr.arpa.", "PTR"); got != "REFUSED" {
		t.Errorf("gone endpoint: %s", got)
	}
	r.applyNamespace(client.Deleted, &corev1.Namespace{ObjectMeta: meta("", "empty")})
	if got := query(t, z, "empty.svc.cluster.local.", "A"); got != "NXDOMAIN" {
		t.Errorf("gone namespace: %s", got)
	}
}

func TestNothingIsDeniedBeforeItIsKnown(t *testing.T) {
	if got := query(t, testZone(newRecords()), "web.default.svc.cluster.local.", "A"); got != "SERVFAIL" {
		t.Errorf("got %s", got)
	}
}

func TestAdapt(t *testing.T) {
	listen := netip.MustParseAddrPort("127.0.0.1:5353")
	for _, c := range []struct{ text, want, err string }{
		{".:53 {\n errors\n}", "dns://", ""},
		{".:53 {\n bind 127.0.0.9\n}\nexample.org:1053 {\n whoami\n}", "example.org:1053", ""},
		{".:53 {\n forward . 127.0.0.1:5353\n}", "", "it is this server"},
		{".:53 {\n forward . /does/not/exist\n}", "no forwarder", ""},
		{"tls://.:853 {\n}", "", "only plain DNS"},
		{"", "", "no server block"},
		{".:53 {\n errors {\n", "", "cannot parse Corefile"},
	} {
		got, notes, err := adapt(c.text, listen)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if all := got + fmt.Sprint(notes); c.want != "dns://" && !strings.Contains(all, c.want) {
			t.Errorf("%q: %s", c.text, all)
		}
		if !strings.Contains(got, metricsDirective) || !strings.Contains(got, "bind") {
			t.Errorf("%q: not counted or not bound: %s", c.text, got)
		}
	}
	one, _, err := adapt(".:53 {\n errors\n}", listen)
	if want := ".:5353 {\n\tbind 127.0.0.1\n\terrors\n\tbinnacle_metrics\n}"; err != nil || one != want {
		t.Errorf("got %q, want %q", one, want)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, n := range []string{"web.default.svc.cluster.local.", "_a._b.c.d.svc.cluster.local.", "a.pod.cluster.local.", ".", "1.in-addr.arpa."} {
		f.Add(n, uint16(1))
	}
	z := testZone(testRecords())
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		m := new(mdns.Msg)
		m.SetQuestion(mdns.Fqdn(name), qtype)
		if qtype == mdns.TypeA || qtype == mdns.TypeAAAA {
			if strings.Contains(strings.ToLower(name), "ext.") {
				return // would look up outside
			}
		}
		rec := dnstest.NewRecorder(&test.ResponseWriter{})
		if _, err := z.ServeDNS(context.Background(), rec, m); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzAdapt(f *testing.F) {
	f.Add(".:53 {\n errors\n forward . /etc/resolv.conf {\n max_fails 1\n }\n}")
	f.Add("(a) {\n log\n}\n. {\n import a\n}")
	f.Add("dns://example.org:53, 10.0.0.0/8 {\n}")
	listen := netip.MustParseAddrPort("127.0.0.1:5353")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") && strings.ContainsAny(text, "/*") {
			return // would read files
		}
		out, _, err := adapt(text, listen)
		if err == nil && !strings.Contains(out, metricsDirective) {
			t.Errorf("not counted: %s", out)
		}
	})
}
