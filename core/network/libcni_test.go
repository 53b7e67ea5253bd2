package network_test

import (
	"context"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"binnacle.io/core/network"
	"binnacle.io/core/network/nettest"
)

// The container runtimes' own library, the written configuration and the real
// plugin binary.
func TestLibCNI(t *testing.T) {
	n := newNode(t, "10.244.0.0/24")
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, network.PluginType), "binnacle.io/cmd/binnacle-cni")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	nw, _ := n.start()
	ctx := context.Background()
	list, err := libcni.LoadConfList(n.cfg.ConfDir(), "binnacle")
	if err != nil {
		t.Fatal(err)
	}
	c := libcni.NewCNIConfigWithCacheDir([]string{bin}, t.TempDir(), nil)
	if _, err := c.ValidateNetworkList(ctx, list); err != nil {
		t.Fatal(err)
	}
	if err := c.GetStatusNetworkList(ctx, list); err != nil {
		t.Fatal(err)
	}
	pod := nettest.New(t)
	// The plugin is another process: it only passes the path on.
	rt := &libcni.RuntimeConf{ContainerID: "c1", NetNS: pod.Path(), IfName: "eth0",
		Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web"}},
		CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""}}}}
	start := time.Now()
	res, err := c.AddNetworkList(ctx, list, rt)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ADD through the plugin took %s", time.Since(start))
	r, err := current.GetResult(res)
	if err != nil || len(r.IPs) != 1 || r.IPs[0].Address.String() != "10.244.0.2/32" {
		t.Fatalf("result %v, %v", res, err)
	}
	pod.Serve(netip.MustParseAddrPort("10.244.0.2:80"), "web")
	n.ask(n.outside, "tcp", addrPort("192.0.2.2:8080"), "web 192.0.2.1")
	if err := c.CheckNetworkList(ctx, list, rt); err != nil {
		t.Error(err)
	}
	if err := c.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}}); err != nil {
		t.Error(err)
	}
	if l := nw.Leases(); len(l) != 1 || l[0].PodName != "web" {
		t.Errorf("leases after GC: %+v", l)
	}
	if err := c.DelNetworkList(ctx, list, rt); err != nil {
		t.Error(err)
	}
	if l := nw.Leases(); len(l) != 0 {
		t.Errorf("leases after DEL: %+v", l)
	}
	rt.NetNS = "/nowhere"
	if _, err := c.AddNetworkList(ctx, list, rt); err == nil || !strings.Contains(err.Error(), `cannot open sandbox namespace "/nowhere"`) {
		t.Errorf("error of a failed ADD: %v", err)
	}
}
