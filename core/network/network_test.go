package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"binnacle.io/core/network"
	"binnacle.io/core/network/nettest"
	"binnacle.io/core/telemetry"
)

// node is a node namespace with an outside network behind eth0.
type node struct {
	*nettest.Namespace
	t       *testing.T
	outside *nettest.Namespace
	cfg     network.Config
	tel     *telemetry.Component
}

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix     { return netip.MustParsePrefix(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func newNode(t *testing.T, podCIDR string) *node {
	t.Helper()
	n := &node{t: t, Namespace: nettest.New(t), outside: nettest.New(t)}
	nettest.Join(n.Namespace, n.outside, "eth0", "eth0", prefix("192.0.2.2/24"), prefix("192.0.2.1/24"))
	n.DefaultRoute(addr("192.0.2.1"))
	n.cfg = network.Config{Node: "node", PodCIDR: prefix(podCIDR), DataDir: t.TempDir(), RunDir: t.TempDir(), Namespace: n.Path()}
	return n
}

// start runs a Network until the test or the returned stop ends it.
func (n *node) start() (*network.Network, func()) {
	n.t.Helper()
	n.tel = telemetry.Discard()
	nw, err := network.New(n.cfg, nil, nil, n.tel)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- nw.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
	n.t.Cleanup(stop)
	select {
	case <-nw.Ready():
	case err := <-done:
		n.t.Fatalf("Run ended early: %v", err)
	case <-time.After(10 * time.Second):
		n.t.Fatal("not ready")
	}
	return nw, stop
}

type result struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
	IPs  []struct {
		Address string `json:"address"`
		Gateway string `json:"gateway"`
	} `json:"ips"`
	Interfaces []struct {
		Name, Sandbox string
	} `json:"interfaces"`
	SupportedVersions []string `json:"supportedVersions"`
}

// cni makes one call as the plugin does.
func (n *node) cni(verb, container, netns string, extra map[string]any) result {
	n.t.Helper()
	conf := map[string]any{"cniVersion": "1.1.0", "name": "binnacle", "type": network.PluginType}
	for k, v := range extra {
		conf[k] = v
	}
	body, err := json.Marshal(conf)
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := net.Dial("unix", n.cfg.Socket())
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	env := map[string]string{"CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": "eth0", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + container}
	if err := json.NewEncoder(c).Encode(network.Request{Env: env, Config: body}); err != nil {
		n.t.Fatal(err)
	}
	var resp network.Response
	if err := json.NewDecoder(c).Decode(&resp); err != nil {
		n.t.Fatal(err)
	}
	var r result
	if len(resp.Result) > 0 {
		if err := json.Unmarshal(resp.Result, &r); err != nil {
			n.t.Fatal(err)
		}
	}
	if resp.Failed != (r.Msg != "") {
		n.t.Fatalf("failed=%v with %s", resp.Failed, resp.Result)
	}
	return r
}

// pod adds a sandbox and returns it with its address.
func (n *node) pod(name string, extra map[string]any) (*nettest.Namespace, netip.Addr) {
	n.t.Helper()
	ns := nettest.New(n.t)
	r := n.cni("ADD", name, ns.Path(), extra)
	if r.Msg != "" || len(r.IPs) != 1 {
		n.t.Fatalf("ADD %s: %+v", name, r)
	}
	return ns, netip.MustParsePrefix(r.IPs[0].Address).Addr()
}

func (n *node) ask(from *nettest.Namespace, network string, to netip.AddrPort, want string) {
	n.t.Helper()
	got, err := from.Ask(network, to)
	if err != nil || got != want {
		n.t.Errorf("%s to %s: got %q, %v; want %q", network, to, got, err, want)
	}
}

func TestPodsReachEachOtherAndOutside(t *testing.T) {
	n := newNode(t, "10.244.3.0/24")
	n.start()
	a, ipA := n.pod("a", nil)
	b, ipB := n.pod("b", nil)
	if ipA != addr("10.244.3.2") || ipB != addr("10.244.3.3") {
		t.Errorf("addresses %s, %s", ipA, ipB)
	}
	a.Serve(netip.AddrPortFrom(ipA, 80), "a")
	b.Serve(netip.AddrPortFrom(ipB, 80), "b")
	n.outside.Serve(addrPort("192.0.2.1:80"), "outside")

	n.ask(a, "tcp", netip.AddrPortFrom(ipB, 80), "b "+ipA.String()) // not masqueraded
	n.ask(b, "tcp", netip.AddrPortFrom(ipA, 80), "a "+ipB.String())
	n.ask(a, "tcp", netip.AddrPortFrom(ipA, 80), "a "+ipA.String()) // loopback is up
	n.ask(n.Namespace, "tcp", netip.AddrPortFrom(ipA, 80), "a 10.244.3.1")
	n.ask(a, "tcp", addrPort("192.0.2.1:80"), "outside 192.0.2.2") // masqueraded
	n.ask(a, "udp", addrPort("192.0.2.1:80"), "outside 192.0.2.2")

	// Every packet between pods passes the node: the hop count shows it.
	routes, err := a.Link.RouteList(nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.Contains(ipB.AsSlice()) && r.Gw == nil {
			t.Errorf("pod reaches %s directly by %s", ipB, r)
		}
	}
	if r := n.cni("CHECK", "a", a.Path(), nil); r.Msg != "" {
		t.Errorf("CHECK: %+v", r)
	}
}

func TestRepeatedCallsAndErrors(t *testing.T) {
	n := newNode(t, "10.244.0.0/29") // five pods
	nw, _ := n.start()
	a, ip := n.pod("a", nil)
	again := n.cni("ADD", "a", a.Path(), nil)
	if len(again.IPs) != 1 || again.IPs[0].Address != ip.String()+"/32" {
		t.Errorf("repeated ADD: %+v", again)
	}

	for _, name := range []string{"b", "c", "d", "e"} {
		n.pod(name, nil)
	}
	full := n.cni("ADD", "f", nettest.New(t).Path(), nil)
	if full.Code != 11 || !strings.Contains(full.Msg, "no free address in pod CIDR 10.244.0.0/29") {
		t.Errorf("exhausted: %+v", full)
	}
	for range 2 {
		if r := n.cni("DEL", "a", a.Path(), nil); r.Msg != "" {
			t.Errorf("DEL: %+v", r)
		}
	}
	if r := n.cni("DEL", "never-seen", "", nil); r.Msg != "" {
		t.Errorf("DEL of unknown: %+v", r)
	}
	if r := n.cni("CHECK", "a", a.Path(), nil); r.Code != 3 {
		t.Errorf("CHECK of unknown: %+v", r)
	}
	if _, got := n.pod("g", nil); got != ip {
		t.Errorf("freed address %s was not used again: got %s", ip, got)
	}
	n.cni("DEL", "g", "", nil)
	if r := n.cni("ADD", "h", "/nowhere", nil); r.Code != 8 || !strings.Contains(r.Msg, "/nowhere") {
		t.Errorf("bad namespace: %+v", r)
	}
	if got := len(nw.Leases()); got != 4 {
		t.Errorf("%d leases after a failed ADD, want 4", got)
	}
	if r := n.cni("ADD", "i", a.Path(), map[string]any{"cniVersion": "9.9.9"}); r.Code != 1 {
		t.Errorf("version: %+v", r)
	}
	if r := n.cni("DANCE", "i", a.Path(), nil); r.Code != 4 {
		t.Errorf("verb: %+v", r)
	}
	if r := n.cni("ADD", "", a.Path(), nil); r.Code != 4 || !strings.Contains(r.Msg, "CNI_CONTAINERID") {
		t.Errorf("missing variable: %+v", r)
	}
	if r := n.cni("STATUS", "", "", nil); r.Msg != "" {
		t.Errorf("STATUS: %+v", r)
	}
	if r := n.cni("VERSION", "", "", nil); !slices.Contains(r.SupportedVersions, "1.0.0") {
		t.Errorf("VERSION: %+v", r)
	}
	if r := n.cni("GC", "", "", map[string]any{"cni.dev/valid-attachments": []map[string]string{{"containerID": "b", "ifname": "eth0"}}}); r.Msg != "" {
		t.Errorf("GC: %+v", r)
	}
	if l := nw.Leases(); len(l) != 1 || l[0].ContainerID != "b" {
		t.Errorf("leases after GC: %+v", l)
	}
	want := `
# HELP binnacle_network_ipam_addresses Pod addresses of this node by state.
# TYPE binnacle_network_ipam_addresses gauge
binnacle_network_ipam_addresses{state="free"} 4
binnacle_network_ipam_addresses{state="used"} 1
`
	if err := testutil.GatherAndCompare(n.tel.Registry, strings.NewReader(want), "binnacle_network_ipam_addresses"); err != nil {
		t.Error(err)
	}
}

func TestRestartAdopts(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	_, stop := n.start()
	a, ipA := n.pod("a", map[string]any{"runtimeConfig": map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}}})
	a.Serve(netip.AddrPortFrom(ipA, 80), "a")
	bridge, err := n.Link.LinkByName("binnacle0")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	// A crash while recording a lease leaves half a file.
	if err := os.WriteFile(filepath.Join(n.cfg.DataDir, "network", "leases", "10.244.0.9"), []byte(`{"containerID":"x`), 0o600); err != nil {
		t.Fatal(err)
	}
	n.ask(n.outside, "tcp", addrPort("192.0.2.2:8080"), "a 192.0.2.1") // pods outlive the agent
	nw, _ := n.start()
	after, err := n.Link.LinkByName("binnacle0")
	if err != nil || after.Attrs().Index != bridge.Attrs().Index {
		t.Errorf("bridge was not adopted: %v", err)
	}
	if l := nw.Leases(); len(l) != 1 || l[0].Address != ipA {
		t.Errorf("leases: %+v", l)
	}
	n.ask(n.outside, "tcp", addrPort("192.0.2.2:8080"), "a 192.0.2.1")
	if _, ipB := n.pod("b", nil); ipB == ipA {
		t.Errorf("address %s given twice", ipB)
	}
}

func TestHostPorts(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.start()
	ports := func(p ...map[string]any) map[string]any {
		return map[string]any{"runtimeConfig": map[string]any{"portMappings": p}}
	}
	a, ip := n.pod("a", ports(map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, map[string]any{"hostPort": 8081, "containerPort": 80, "protocol": "udp", "hostIP": "192.0.2.2"}))
	a.Serve(netip.AddrPortFrom(ip, 80), "a")
	b, ipB := n.pod("b", nil)
	n.ask(n.outside, "tcp", addrPort("192.0.2.2:8080"), "a 192.0.2.1")
	n.ask(n.outside, "udp", addrPort("192.0.2.2:8081"), "a 192.0.2.1")
	n.ask(n.Namespace, "tcp", addrPort("192.0.2.2:8080"), "a 192.0.2.2")
	n.ask(b, "tcp", addrPort("192.0.2.2:8080"), "a "+ipB.String())
	n.ask(a, "tcp", addrPort("192.0.2.2:8080"), "a 10.244.0.1") // hairpin

	taken := n.cni("ADD", "c", nettest.New(t).Path(), ports(map[string]any{"hostPort": 8080, "containerPort": 81, "protocol": "tcp"}))
	if !strings.Contains(taken.Msg, "it is taken by pod default/a") {
		t.Errorf("taken port: %+v", taken)
	}
	n.ask(n.outside, "tcp", addrPort("192.0.2.2:8080"), "a 192.0.2.1")
	bad := n.cni("ADD", "d", nettest.New(t).Path(), ports(map[string]any{"hostPort": 1, "containerPort": 1, "protocol": "ipx"}))
	if bad.Code != 7 {
		t.Errorf("protocol: %+v", bad)
	}
	n.cni("DEL", "a", "", nil)
	if got, err := n.outside.Ask("tcp", addrPort("192.0.2.2:8080")); err == nil {
		t.Errorf("host port still answers %q", got)
	}
}

// TestHostPortFollowsThePod asks from one port again and again, as UDP clients
// do: whoever has the host port answers.
func TestHostPortFollowsThePod(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.start()
	conf := map[string]any{"runtimeConfig": map[string]any{"portMappings": []map[string]any{{"hostPort": 8082, "containerPort": 80, "protocol": "udp"}}}}
	ask := func(want string) {
		t.Helper()
		const from = 4000
		got, err := n.outside.AskFrom("udp", addrPort("192.0.2.2:8082"), from)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	ask("") // the flow is there before the pod
	a, ip := n.pod("a", conf)
	a.Serve(netip.AddrPortFrom(ip, 80), "a")
	ask("a 192.0.2.1")
	n.cni("DEL", "a", "", nil)
	b, ip := n.pod("b", conf)
	b.Serve(netip.AddrPortFrom(ip, 80), "b")
	ask("b 192.0.2.1")
}

func TestLeakedLeaseIsTakenBack(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.cfg.Reconcile = 20 * time.Millisecond
	nw, _ := n.start()
	ns := nettest.New(t)
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.Symlink(ns.Path(), path); err != nil {
		t.Fatal(err)
	}
	if r := n.cni("ADD", "a", path, nil); r.Msg != "" {
		t.Fatalf("%+v", r)
	}
	n.pod("b", nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ns.Close() // the kernel removes the veth pair with it
	deadline := time.After(10 * time.Second)
	for len(nw.Leases()) != 1 {
		select {
		case <-deadline:
			t.Fatalf("leases: %d", len(nw.Leases()))
		case <-time.After(10 * time.Millisecond):
		}
	}
	if l := nw.Leases(); l[0].ContainerID != "b" {
		t.Errorf("kept %+v", l[0])
	}
}

func TestRulesAreRepaired(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.cfg.Reconcile = 20 * time.Millisecond
	n.start()
	a, ip := n.pod("a", map[string]any{"runtimeConfig": map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}}})
	a.Serve(netip.AddrPortFrom(ip, 80), "a")
	c, err := nftables.New(nftables.WithNetNSFd(n.FD()))
	if err != nil {
		t.Fatal(err)
	}
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for {
		if got, err := n.outside.Ask("tcp", addrPort("192.0.2.2:8080")); err == nil && got == "a 192.0.2.1" {
			return
		}
		select {
		case <-deadline:
			t.Fatal("rules were not put back")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestConcurrentAdds(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.start()
	const pods = 40
	var namespaces [pods]*nettest.Namespace
	for i := range namespaces {
		namespaces[i] = nettest.New(t)
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var took []time.Duration
	var wg sync.WaitGroup
	for i, ns := range namespaces {
		wg.Go(func() {
			start := time.Now()
			r := n.cni("ADD", fmt.Sprintf("p%d", i), ns.Path(), nil)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(start))
			if len(r.IPs) != 1 || seen[r.IPs[0].Address] {
				t.Errorf("ADD p%d: %+v", i, r)
				return
			}
			seen[r.IPs[0].Address] = true
		})
	}
	wg.Wait()
	slices.Sort(took)
	t.Logf("ADD, %d at once: median %s, slowest %s", pods, took[pods/2], took[pods-1])
}

func TestSecondInstanceRefuses(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	n.start()
	nw, err := network.New(n.cfg, nil, nil, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := nw.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("second instance: %v", err)
	}
}

func TestDown(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	_, stop := n.start()
	n.pod("a", nil)
	stop()
	for range 2 {
		if err := network.Down(n.cfg); err != nil {
			t.Fatal(err)
		}
	}
	links, err := n.Link.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" && name != "eth0" {
			t.Errorf("interface %s is left", name)
		}
	}
	c, err := nftables.New(nftables.WithNetNSFd(n.FD()))
	if err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("tables left: %v, %v", tables, err)
	}
	if _, err := os.Stat(filepath.Join(n.cfg.ConfDir(), "10-binnacle.conflist")); !os.IsNotExist(err) {
		t.Errorf("conflist is left: %v", err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for want, cfg := range map[string]network.Config{
		"Node or PodCIDR is needed": {},
		"is not IPv4":               {PodCIDR: prefix("fd00::/64")},
		"too small":                 {PodCIDR: prefix("10.0.0.0/30")},
		"longer than 15":            {Node: "n", Bridge: "a-name-that-is-too-long"},
		"without an API client":     {Node: "n"},
	} {
		if _, err := network.New(cfg, nil, nil, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}

func BenchmarkAddDel(b *testing.B) {
	ns, node := nettest.New(b), nettest.New(b)
	cfg := network.Config{Node: "node", PodCIDR: prefix("10.244.0.0/24"), DataDir: b.TempDir(), RunDir: b.TempDir(), Namespace: node.Path()}
	nw, err := network.New(cfg, nil, nil, telemetry.Discard())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- nw.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-nw.Ready()
	call := func(verb string) {
		c, err := net.Dial("unix", cfg.Socket())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		env := map[string]string{"CNI_COMMAND": verb, "CNI_CONTAINERID": "c", "CNI_NETNS": ns.Path(), "CNI_IFNAME": "eth0"}
		if err := json.NewEncoder(c).Encode(network.Request{Env: env, Config: json.RawMessage(`{"cniVersion":"1.1.0"}`)}); err != nil {
			b.Fatal(err)
		}
		var resp network.Response
		if err := json.NewDecoder(c).Decode(&resp); err != nil || resp.Failed {
			b.Fatalf("%s: %v %s", verb, err, resp.Result)
		}
	}
	var add time.Duration
	for b.Loop() {
		start := time.Now()
		call("ADD")
		add += time.Since(start)
		call("DEL")
	}
	b.ReportMetric(float64(add.Microseconds())/float64(b.N), "µs/ADD")
}
