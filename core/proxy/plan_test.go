package proxy

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// update is shared by the golden tests of this package.
var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestPlan reads testdata/plan/*.txtar: "objects" are Services and
// EndpointSlices in YAML, "plan" is the table for node "node" and the reasons.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no plans", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			services, slices := objects(t, ar.Files[0].Data)
			node := Node{Name: "node", Local: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
			got := describe(Plan(services, slices, node)) + "--\n"
			for _, s := range services {
				var mine []*discoveryv1.EndpointSlice
				for _, e := range slices {
					if serviceOf(e) == (types.NamespacedName{Namespace: s.Namespace, Name: s.Name}) {
						mine = append(mine, e)
					}
				}
				_, why := PlanService(s, mine, node)
				for _, d := range why {
					got += fmt.Sprintf("%s: used=%v %s\n", strings.TrimSpace(d.Subject+" "+d.Pod), d.Used, d.Reason)
				}
			}
			if *update {
				ar.Files = []txtar.File{ar.Files[0], {Name: "plan", Data: []byte(got)}}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) != 2 || string(ar.Files[1].Data) != got {
				t.Errorf("plan is\n%s", got)
			}
		})
	}
}

func objects(t *testing.T, text []byte) (services []*corev1.Service, slices []*discoveryv1.EndpointSlice) {
	t.Helper()
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var meta runtime.TypeMeta
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatal(err)
		}
		switch meta.Kind {
		case "Service":
			var s corev1.Service
			if err := yaml.UnmarshalStrict(doc, &s); err != nil {
				t.Fatal(err)
			}
			services = append(services, &s)
		case "EndpointSlice":
			var s discoveryv1.EndpointSlice
			if err := yaml.UnmarshalStrict(doc, &s); err != nil {
				t.Fatal(err)
			}
			slices = append(slices, &s)
		default:
			t.Fatalf("kind %q", meta.Kind)
		}
	}
	return services, slices
}

// describe renders a table as text.
func describe(tab *Table) string {
	var b strings.Builder
	for _, n := range tab.Names() {
		p := tab.Port(n)
		fmt.Fprintf(&b, "%s %s", n, p.Protocol)
		if p.Affinity > 0 {
			fmt.Fprintf(&b, " affinity=%s", p.Affinity)
		}
		if p.ExternalLocal {
			b.WriteString(" external-local")
		}
		if p.SourceRanges != nil {
			fmt.Fprintf(&b, " from=%v", p.SourceRanges)
		}
		b.WriteByte('\n')
		for _, f := range p.Frontends {
			addr := "*"
			if f.Addr.IsValid() {
				addr = f.Addr.String()
			}
			lost := ""
			if !tab.Owns(p, f) {
				lost = " lost"
			}
			fmt.Fprintf(&b, "  %s %s %d%s\n", f.Kind, addr, f.Port, lost)
		}
		fmt.Fprintf(&b, "  cluster %v\n", texts(p.Cluster))
		if !reflect.DeepEqual(p.Internal, p.Cluster) {
			fmt.Fprintf(&b, "  internal %v\n", texts(p.Internal))
		}
		if !reflect.DeepEqual(p.External, p.Cluster) {
			fmt.Fprintf(&b, "  external %v\n", texts(p.External))
		}
	}
	return b.String()
}

// TestChangesLeadToThePlan is metamorphic: whatever the order of changes, the
// table is what a plan of the final objects gives, and the changes returned
// are exactly the differences.
func TestChangesLeadToThePlan(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		tab := NewTable()
		current := map[string]*corev1.Service{}
		endpoints := map[string][]discoveryv1.Endpoint{}
		for range 40 {
			name := fmt.Sprintf("s%d", r.IntN(4))
			before := snapshot(tab)
			key := types.NamespacedName{Namespace: "default", Name: name}
			var changes []Change
			if r.IntN(4) == 0 {
				delete(current, name)
				changes = tab.Set(key, nil)
			} else {
				svc := service(name, "10.96.1."+name[1:], func(s *corev1.Service) {
					if r.IntN(2) == 0 {
						s.Spec.ExternalIPs = []string{fmt.Sprintf("203.0.113.%d", r.IntN(2))}
					}
					if r.IntN(3) == 0 {
						s.Spec.Ports = s.Spec.Ports[:1]
					}
				})
				current[name] = svc
				endpoints[name] = nil
				for i := range r.IntN(3) {
					endpoints[name] = append(endpoints[name], pod(i))
				}
				ports, _ := PlanService(svc, []*discoveryv1.EndpointSlice{sliceOf(svc, "", endpoints[name]...)}, Node{Name: nodeName})
				changes = tab.Set(key, ports)
			}
			var services []*corev1.Service
			var slices []*discoveryv1.EndpointSlice
			for n, s := range current {
				services = append(services, s)
				slices = append(slices, sliceOf(s, "", endpoints[n]...))
			}
			if got, want := describe(tab), describe(Plan(services, slices, Node{Name: nodeName})); got != want {
				t.Fatalf("seed %d: table\n%s\nplan\n%s", seed, got, want)
			}
			after := snapshot(tab)
			changed := map[PortName]bool{}
			for _, c := range changes {
				changed[c.Name] = true
			}
			for n := range merge(before, after) {
				if before[n] != after[n] && !changed[n] {
					t.Fatalf("seed %d: %s changed from %q to %q and was not returned", seed, n, before[n], after[n])
				}
				if before[n] == after[n] && changed[n] {
					t.Fatalf("seed %d: %s was returned but did not change: %q", seed, n, after[n])
				}
			}
		}
	}
}

// snapshot is each row with the frontends it owns.
func snapshot(tab *Table) map[PortName]string {
	m := map[PortName]string{}
	for _, n := range tab.Names() {
		m[n] = fmt.Sprintf("%+v", tab.view(tab.Port(n)))
	}
	return m
}

func merge(a, b map[PortName]string) map[PortName]bool {
	m := map[PortName]bool{}
	for n := range a {
		m[n] = true
	}
	for n := range b {
		m[n] = true
	}
	return m
}

func TestStaleFlows(t *testing.T) {
	row := func(proto corev1.Protocol, endpoints ...string) *Port {
		p := &Port{PortName: PortName{Service: "dns"}, Protocol: proto, Frontends: []Frontend{{ClusterIP, netip.MustParseAddr("10.96.0.20"), 53}, {Kind: NodePort, Port: 30053}}}
		for _, e := range endpoints {
			p.Cluster = append(p.Cluster, Endpoint{AddrPort: netip.MustParseAddrPort(e)})
		}
		return p
	}
	udp, tcp := corev1.ProtocolUDP, corev1.ProtocolTCP
	for _, c := range []struct {
		name     string
		old, new *Port
		want     string
	}{
		{"tcp ends by itself", row(tcp, "10.0.0.1:53"), row(tcp), "none"},
		{"nothing gone", row(udp, "10.0.0.1:53"), row(udp, "10.0.0.1:53", "10.0.0.2:53"), "none"},
		{"one gone", row(udp, "10.0.0.1:53", "10.0.0.2:53"), row(udp, "10.0.0.2:53"), "serving=[10.0.0.2:53] untranslated=false"},
		{"all gone", row(udp, "10.0.0.1:53"), nil, "serving=[] untranslated=false"},
		{"first comes", row(udp), row(udp, "10.0.0.1:53"), "serving=[10.0.0.1:53] untranslated=true"},
		{"new with endpoint", nil, row(udp, "10.0.0.1:53"), "serving=[10.0.0.1:53] untranslated=true"},
		{"new without", nil, row(udp), "serving=[] untranslated=false"},
	} {
		flows := stale([]Change{{Old: c.old, New: c.new}})
		got := "none"
		for _, s := range flows {
			got = fmt.Sprintf("serving=%v untranslated=%v", s.serving, s.untranslated)
		}
		if got != c.want || len(flows) != 0 && len(flows) != 2 {
			t.Errorf("%s: %s for %d frontends, want %s", c.name, got, len(flows), c.want)
		}
	}
}
