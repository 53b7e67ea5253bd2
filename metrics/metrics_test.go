package metrics

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/promql"
	"go.uber.org/goleak"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
	"binnacle.io/exporters/cgroup"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// klog, which client-go's scheme pulls in, flushes for ever.
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}

func newHub() *telemetry.Hub {
	return telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(io.Discard, nil)})
}

// run starts m and stops it with the test.
func run(t testing.TB, m *Metrics) *Metrics {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return m
}

func start(t testing.TB, cfg Config, hub *telemetry.Hub, c client.Client, containers *Containers, sources ...Source) *Metrics {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	m, err := New(cfg, hub, c, containers, hub.Component("metrics", "prometheus-k8s"), sources...)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, m)
}

// eventually waits until the expression has the value of want's form:
// "label=value … value", series separated by "; ".
func eventually(t testing.TB, m *Metrics, expr string, ok func(promql.Vector) bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := m.Query(t.Context(), expr, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if ok(v) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s is %v", expr, v)
		}
	}
}

func is(want float64) func(promql.Vector) bool {
	return func(v promql.Vector) bool { return len(v) == 1 && v[0].F == want }
}

func none(v promql.Vector) bool { return len(v) == 0 }

func body(t testing.TB, h http.Handler, url string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", url, nil))
	if rec.Code != 200 {
		t.Fatalf("%s: status %d: %s", url, rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// component is an "apiserver" with one metric of each kind.
func component(hub *telemetry.Hub) *prometheus.CounterVec {
	c := hub.Component("api", "apiserver")
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total", Help: "Requests."}, []string{"verb", "code"})
	requests.WithLabelValues("GET", "200").Add(7)
	seconds := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "apiserver_request_duration_seconds", Help: "Time.", Buckets: []float64{.1, 1}})
	seconds.Observe(.05)
	seconds.Observe(.5)
	seconds.Observe(5)
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "apiserver_size_bytes", Help: "Size.", Objectives: map[float64]float64{.5: .1}})
	summary.Observe(3)
	c.Registry.MustRegister(requests, seconds, summary)
	return requests
}

func TestComponentsAreGathered(t *testing.T) {
	hub := newHub()
	component(hub)
	// A second component of the same job belongs to the same target.
	more := hub.Component("api-audit", "apiserver")
	more.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "apiserver_audit_depth", Help: "Depth."}, func() float64 { return 2 }))
	extra := prometheus.NewRegistry()
	extra.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "etcd_server_has_leader", Help: "Leader."}, func() float64 { return 1 }))
	m := start(t, Config{Node: "node-1", Address: "192.0.2.1", Interval: time.Second}, hub, nil, nil, Source{Job: "etcd", Gatherer: extra})
	for expr, want := range map[string]float64{
		`up{job="apiserver",instance="192.0.2.1:6443"}`:                                      1,
		`count(up{job="apiserver"})`:                                                         1,
		`apiserver_request_total{job="apiserver",verb="GET",code="200",namespace="default"}`: 7,
		`apiserver_request_duration_seconds_bucket{le="1.0"}`:                                2,
		`apiserver_request_duration_seconds_bucket{le="+Inf"}`:                               3,
		`apiserver_request_duration_seconds_sum`:                                             5.55,
		`apiserver_size_bytes{quantile="0.5"}`:                                               3,
		`apiserver_audit_depth{job="apiserver"}`:                                             2,
		`etcd_server_has_leader{job="etcd",instance="192.0.2.1:2379"}`:                       1,
		`prometheus_build_info{job="prometheus-k8s"}`:                                        1,
		`scrape_samples_scraped{job="etcd"}`:                                                 1,
		`count(prometheus_tsdb_head_series)`:                                                 1,
	} {
		eventually(t, m, expr, is(want))
	}
	// Components made while running join.
	late := hub.Component("late", "kube-scheduler")
	late.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "scheduler_pending_pods", Help: "Pending."}, func() float64 { return 4 }))
	eventually(t, m, `scheduler_pending_pods{job="kube-scheduler"}`, is(4))
	if !m.Ready() {
		t.Error("not ready after everything was gathered")
	}
}

func TestStaleness(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "things", Help: "Things."}, []string{"name"})
	reg.MustRegister(g)
	g.WithLabelValues("a").Set(1)
	g.WithLabelValues("b").Set(1)
	var broken atomic.Bool
	m := start(t, Config{}, newHub(), nil, nil, Source{Job: "things", Interval: time.Second, Gatherer: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		if broken.Load() {
			return nil, fmt.Errorf("broken")
		}
		return reg.Gather()
	})})
	eventually(t, m, `count(things)`, is(2))
	g.DeleteLabelValues("a")
	eventually(t, m, `things{name="a"}`, none)
	eventually(t, m, `things{name="b"}`, is(1))
	broken.Store(true)
	eventually(t, m, `things`, none)
	eventually(t, m, `up{job="things"}`, is(0))
	broken.Store(false)
	eventually(t, m, `things{name="b"}`, is(1))
	eventually(t, m, `up{job="things"}`, is(1))
}

// busy samples containers that use the given cores.
type busy struct {
	began time.Time
	cores float64
}

func (b busy) Sample(dst []cgroup.Sample, list []cgroup.Container) []cgroup.Sample {
	now := time.Now()
	for i := range list {
		dst = append(dst, cgroup.Sample{Container: &list[i], Time: now, Usage: cgroup.Usage{
			CPU: uint64(b.cores * float64(now.Sub(b.began))), Memory: 2000, WorkingSet: 1000,
		}})
	}
	return dst
}

func (b busy) Node() (cgroup.Usage, time.Time, error) {
	now := time.Now()
	return cgroup.Usage{CPU: uint64(2 * b.cores * float64(now.Sub(b.began))), WorkingSet: 5000}, now, nil
}

type switchable struct{ list atomic.Pointer[cgroup.Fixed] }

func (s *switchable) Containers() []cgroup.Container { return *s.list.Load() }

func webContainer() cgroup.Container {
	return cgroup.Container{ID: "id1", Namespace: "shop", Pod: "web-0", PodUID: "u1", Name: "web", Image: "web:1", CgroupPath: "/kubepods/podu1/id1", StartedAt: time.Now()}
}

func TestContainersAreSampledEachSecond(t *testing.T) {
	inv := &switchable{}
	inv.list.Store(&cgroup.Fixed{webContainer()})
	containers := &Containers{Inventory: inv, Source: busy{time.Now(), .5}, History: cgroup.NewHistory()}
	m := start(t, Config{Node: "node-1", ContainerInterval: 100 * time.Millisecond}, newHub(), nil, containers)
	eventually(t, m, `round(100*rate(container_cpu_usage_seconds_total{job="kubelet",metrics_path="/metrics/cadvisor",namespace="shop",pod="web-0",container="web",image="web:1",node="node-1",cpu="total"}[5s]))`, is(50))
	eventually(t, m, `container_memory_working_set_bytes{pod="web-0"}`, is(1000))
	if r, ok := containers.History.Container("id1", time.Second); !ok || r.Cores < .45 || r.Cores > .55 {
		t.Errorf("history says %+v, %t", r, ok)
	}
	inv.list.Store(&cgroup.Fixed{})
	eventually(t, m, `container_memory_working_set_bytes`, none)
}

func TestScraping(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "outside_total{path=%q} 3\n", r.URL.Path)
	}))
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	file := filepath.Join(t.TempDir(), "more.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "scrape_configs:\n- job_name: filed\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs:\n  - targets: [%q]\n", address), 0o600); err != nil {
		t.Fatal(err)
	}
	m := start(t, Config{
		Targets:           []Target{{Job: "outside", Addresses: []string{address}, Path: "/custom", Interval: time.Second, Labels: map[string]string{"team": "a"}}},
		ScrapeConfigFiles: []string{file},
	}, newHub(), nil, nil)
	eventually(t, m, `outside_total{job="outside",path="/custom",team="a"}`, is(3))
	eventually(t, m, `outside_total{job="filed",path="/metrics"}`, is(3))
	eventually(t, m, `up{job="outside"}`, is(1))
	var targets struct {
		Data struct {
			ActiveTargets []struct {
				ScrapePool, ScrapeURL, Health string
				Labels                        map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(body(t, m.Handler(), "/api/v1/targets")), &targets); err != nil {
		t.Fatal(err)
	}
	pools := map[string]string{}
	for _, a := range targets.Data.ActiveTargets {
		pools[a.ScrapePool] = a.Health
	}
	for _, p := range []string{"outside", "filed", "prometheus-k8s"} {
		if pools[p] != "up" {
			t.Errorf("target of %s is %q (all %v)", p, pools[p], pools)
		}
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no directory"},
		{Config{Dir: "x", Retention: time.Minute}, "shortest retention"},
		{Config{Dir: "x", Interval: time.Millisecond}, "shortest are"},
		{Config{Dir: "x", Targets: []Target{{Job: "a", Addresses: []string{"h:1/metrics"}}}}, "not a valid hostname"},
		{Config{Dir: "x", Targets: []Target{{Job: "a"}, {Job: "a"}}}, "multiple scrape configs"},
		{Config{Dir: "x", ScrapeConfigFiles: []string{"testdata/bad-scrape.yaml"}}, "bad-scrape.yaml"},
		{Config{Dir: "/dev/null/x"}, "cannot make metrics directory"},
	} {
		if tt.cfg.Dir == "x" {
			tt.cfg.Dir = t.TempDir()
		}
		hub := newHub()
		m, err := New(tt.cfg, hub, nil, nil, hub.Component("metrics", "prometheus-k8s"))
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

func TestRestartKeepsSamples(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	before := time.Now()
	t.Run("first", func(t *testing.T) {
		hub := newHub()
		component(hub)
		m := start(t, cfg, hub, nil, nil)
		eventually(t, m, `apiserver_request_total`, is(7))
		before = time.Now()
	})
	hub := newHub()
	m, err := New(cfg, hub, nil, nil, hub.Component("metrics", "prometheus-k8s"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if v, err := m.Query(t.Context(), `apiserver_request_total`, before); err != nil || len(v) != 1 || v[0].F != 7 {
		t.Fatalf("after a restart: %v, %v", v, err)
	}
	if m.Close() != nil || m.Close() != nil {
		t.Error("closing twice failed")
	}
}

// Every expression of the list must parse and evaluate over what a fresh
// server has gathered.
func TestQueries(t *testing.T) {
	hub := newHub()
	component(hub)
	m := start(t, Config{Node: "node-1"}, hub, nil, nil)
	eventually(t, m, `count(up) > 1`, func(v promql.Vector) bool { return len(v) == 1 })
	f, err := os.Open("testdata/queries.promql")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		expr := strings.TrimSpace(s.Text())
		if expr == "" || strings.HasPrefix(expr, "#") {
			continue
		}
		n++
		if _, err := m.Query(t.Context(), expr, time.Now()); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
	if n < 20 {
		t.Errorf("only %d expressions were read", n)
	}
}
