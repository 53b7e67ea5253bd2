package cgroup

import (
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite golden files")

const podDir = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"

func inventory() Fixed {
	started := time.Unix(1760000100, 0)
	return Fixed{
		{ID: "bbbb", Namespace: "shop", Pod: "web-0", PodUID: "11111111-2222-3333-4444-555555555555", Image: "binnacle.io/pause:1", Sandbox: true, SandboxPID: 77, CgroupPath: podDir + "/bbbb", StartedAt: started},
		{ID: "aaaa", Namespace: "shop", Pod: "web-0", PodUID: "11111111-2222-3333-4444-555555555555", Name: "web", Image: "shop/web:1", CgroupPath: podDir + "/aaaa", StartedAt: started.Add(time.Second)},
		{ID: "gone", Namespace: "shop", Pod: "old-0", Name: "web", Image: "shop/web:0", CgroupPath: "/kubepods/podgone/gone", StartedAt: started},
	}
}

// tree unpacks a fixture and returns a Config that reads it.
func unpack(t testing.TB, name string) Config {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := txtar.Write(a, dir); err != nil {
		t.Fatal(err)
	}
	return Config{Root: filepath.Join(dir, "cg"), Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys")}
}

func get(t testing.TB, h http.Handler, url string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", url, nil))
	if rec.Code != 200 {
		t.Fatalf("%s: status %d: %s", url, rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// changing masks what is not the same on each machine and in each second.
var changing = regexp.MustCompile(`(?m)^(container_last_seen\{[^}]*\}|container_start_time_seconds\{[^}]*(?:id="/(?:kubepods[^"]{0,54})?",image="",name="")[^}]*\}) .*$|(machine_id|system_uuid|osVersion)="[^"]*"| \d{13}$`)

func golden(t *testing.T, name, got string) {
	t.Helper()
	got = changing.ReplaceAllStringFunc(got, func(s string) string {
		switch {
		case strings.HasPrefix(s, "container_"):
			return s[:strings.LastIndexByte(s, ' ')] + " MASKED"
		case strings.HasPrefix(s, " "):
			return " TIMESTAMP"
		}
		return s[:strings.IndexByte(s, '=')] + `="MASKED"`
	})
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from %s:\n%s", name, file, firstDifference(string(want), got))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "-" + w[i] + "\n+" + g[i]
		}
	}
	return "one is longer"
}

func TestTextFormats(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			e, err := NewExporter(unpack(t, version), "node-1", "0.1", inventory(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			golden(t, version+"-cadvisor", get(t, e.Handler(), "/metrics/cadvisor"))
			golden(t, version+"-resource", get(t, e.ResourceHandler(), "/metrics/resource"))
		})
	}
}

func TestSummary(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			cfg := unpack(t, version)
			h := NewHistory()
			e, err := NewExporter(cfg, "node-1", "0.1", inventory(), h)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			now := time.Now()
			inv := inventory()
			for i, cpu := range []uint64{1e9, 3e9} {
				h.Add([]Sample{{Container: &inv[1], Time: now.Add(time.Duration(i-1) * 4 * time.Second), Usage: Usage{CPU: cpu}}})
			}
			var s stats.Summary
			if err := json.Unmarshal([]byte(get(t, e.SummaryHandler(), "/stats/summary")), &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Pods) != 2 || s.Node.NodeName != "node-1" || s.Node.StartTime.Unix() != 1760000000 {
				t.Fatalf("summary is %+v", s)
			}
			p := s.Pods[1]
			if p.PodRef.Name != "web-0" || p.PodRef.UID != inv[0].PodUID || len(p.Containers) != 1 || p.Containers[0].Name != "web" {
				t.Fatalf("pod is %+v", p)
			}
			c := p.Containers[0]
			if *c.CPU.UsageCoreNanoSeconds != 4_250_000_000 || *c.CPU.UsageNanoCores != 500_000_000 || *p.CPU.UsageNanoCores != 500_000_000 {
				t.Errorf("container's CPU is %d, %d, pod's %d", *c.CPU.UsageCoreNanoSeconds, *c.CPU.UsageNanoCores, *p.CPU.UsageNanoCores)
			}
			if *c.Memory.WorkingSetBytes != 39_000_000 || *c.Memory.AvailableBytes != 268435456-39_000_000 || *c.Swap.SwapUsageBytes != 2048 {
				t.Errorf("container's memory is %+v", c.Memory)
			}
			if p.Network.Name != "eth0" || *p.Network.RxBytes != 2000 || *p.Network.TxErrors != 3 {
				t.Errorf("pod's network is %+v", p.Network)
			}
			if *s.Node.Memory.WorkingSetBytes != (3000000-500000)*1024 || *s.Node.Rlimit.MaxPID != 32768 {
				t.Errorf("node is %+v", s.Node)
			}
			var lean stats.Summary
			if err := json.Unmarshal([]byte(get(t, e.SummaryHandler(), "/stats/summary?only_cpu_and_memory=true")), &lean); err != nil {
				t.Fatal(err)
			}
			if lean.Node.Fs != nil || lean.Pods[1].Network != nil {
				t.Error("only_cpu_and_memory has more than that")
			}
		})
	}
}

func TestSampler(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			cfg := unpack(t, version)
			s, err := NewSampler(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			inv := inventory()
			got := s.Sample(nil, inv)
			if len(got) != 2 || got[0].Container.ID != "bbbb" || got[1].Usage != (Usage{CPU: 4_250_000_000, Memory: 40_000_000, WorkingSet: 39_000_000}) {
				t.Fatalf("samples are %+v", got)
			}
			// Files stay open: a change in place is seen, a removed container is dropped.
			name := filepath.Join(cfg.Root, podDir, "aaaa/memory.current")
			if version == "v1" {
				name = filepath.Join(cfg.Root, "memory", podDir, "aaaa/memory.usage_in_bytes")
			}
			if err := os.WriteFile(name, []byte("50000000\n"), 0); err != nil {
				t.Fatal(err)
			}
			if got = s.Sample(got[:0], inv); got[1].Memory != 50_000_000 {
				t.Errorf("memory is %d after the change", got[1].Memory)
			}
			if got = s.Sample(got[:0], inv[:1]); len(got) != 1 || s.Open() != 1 {
				t.Errorf("%d samples and %d open containers after one left", len(got), s.Open())
			}
			u, _, err := s.Node()
			if err != nil || u.Memory != 3000000*1024 {
				t.Errorf("node's usage is %+v, %v", u, err)
			}
			if want := map[string]uint64{"v1": 9_000_000_000, "v2": 1600 * 1e7}[version]; u.CPU != want {
				t.Errorf("node's CPU is %d, want %d", u.CPU, want)
			}
			if s.Close() != nil || s.Close() != nil || s.Open() != 0 {
				t.Error("closing twice failed or left files open")
			}
		})
	}
}

func TestSamplingDoesNotAllocate(t *testing.T) {
	s, err := NewSampler(unpack(t, "v1"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inv := inventory()[:2]
	buf := s.Sample(nil, inv)
	if n := testing.AllocsPerRun(100, func() { buf = s.Sample(buf[:0], inv) }); n > 0 {
		t.Errorf("%v allocations per round", n)
	}
}

func TestMissingControllerIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewSampler(Config{Root: dir}); err == nil || !strings.Contains(err.Error(), "memory controller of cgroup v1 below") {
		t.Fatalf("error is %v", err)
	}
}

func TestHistory(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	c := &Container{ID: "a", StartedAt: at(0)}
	type sample struct {
		at  int
		cpu uint64 // in seconds
	}
	for _, tt := range []struct {
		name    string
		started time.Time
		samples []sample
		window  time.Duration
		cores   float64
		over    time.Duration
		ok      bool
	}{
		{name: "nothing", ok: false},
		{name: "one sample of an old container says nothing", started: at(-100), samples: []sample{{50, 3}}, window: 15 * time.Second},
		{name: "one sample of a young container counts from its start", started: at(0), samples: []sample{{2, 1}}, window: 15 * time.Second, cores: .5, over: 2 * time.Second, ok: true},
		{name: "a window of many", started: at(-100), samples: []sample{{0, 0}, {5, 5}, {10, 20}, {15, 20}, {20, 30}}, window: 10 * time.Second, cores: 1, over: 10 * time.Second, ok: true},
		{name: "fewer samples than the window", started: at(-100), samples: []sample{{0, 0}, {5, 10}}, window: 60 * time.Second, cores: 2, over: 5 * time.Second, ok: true},
		{name: "a counter that went back", started: at(-100), samples: []sample{{0, 10}, {5, 1}}, window: 60 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHistory()
			c.StartedAt = tt.started
			for _, s := range tt.samples {
				h.Add([]Sample{{Container: c, Time: at(s.at), Usage: Usage{CPU: s.cpu * 1e9}}})
			}
			r, ok := h.Container("a", tt.window)
			if ok != tt.ok || r.Cores != tt.cores || r.Window != tt.over {
				t.Fatalf("rate is %v over %s, %t; want %v over %s, %t", r.Cores, r.Window, ok, tt.cores, tt.over, tt.ok)
			}
			h.Add(nil)
			if _, ok := h.Container("a", tt.window); ok {
				t.Error("a container that ended is still there")
			}
		})
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]uint64{"12\n": 12, "max\n": unlimited, "-1\n": unlimited, " 7": 7, "0": 0} {
		if v, ok := parseUint([]byte(in)); !ok || v != want {
			t.Errorf("parseUint(%q) = %d, %t", in, v, ok)
		}
	}
	if _, ok := parseUint([]byte("x")); ok {
		t.Error("x is no number")
	}
	if v, _ := field([]byte("rss_huge 1\nrss 2\n"), "rss"); v != 2 {
		t.Errorf("rss is %d", v)
	}
	if v := sharesOfWeight(1); v != 2 {
		t.Errorf("weight 1 is %d shares", v)
	}
}
