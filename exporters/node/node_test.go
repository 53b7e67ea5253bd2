package node

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

func start(t testing.TB, cfg Config) *Exporter {
	t.Helper()
	e, err := New(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The families that dashboards and rules ask for and that any Linux has.
func TestFamilies(t *testing.T) {
	e := start(t, Config{})
	list, err := e.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range list {
		byName[f.GetName()] = f
	}
	for _, name := range strings.Fields(`
		node_cpu_seconds_total node_memory_MemTotal_bytes node_memory_MemAvailable_bytes node_load1 node_load5 node_load15
		node_disk_io_time_seconds_total node_filesystem_avail_bytes node_filesystem_size_bytes node_network_receive_bytes_total
		node_boot_time_seconds node_context_switches_total node_vmstat_pgmajfault node_uname_info node_time_seconds
		node_sockstat_TCP_inuse node_netstat_Tcp_CurrEstab node_filefd_allocated node_procs_running node_forks_total
		node_timex_offset_seconds node_tcp_connection_states node_processes_pids
		node_interrupts_total node_network_up node_exporter_build_info node_scrape_collector_success`) {
		if byName[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for _, m := range byName["node_scrape_collector_success"].GetMetric() {
		for _, l := range m.GetLabel() {
			if slices.Contains([]string{"cpu", "meminfo", "loadavg", "filesystem", "netdev", "stat"}, l.GetValue()) && m.GetGauge().GetValue() != 1 {
				t.Errorf("collector %s failed", l.GetValue())
			}
		}
	}
}

func TestHandlerServesText(t *testing.T) {
	rec := httptest.NewRecorder()
	start(t, Config{}).Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), "\nnode_load1 ") {
		t.Fatalf("status %d, body %.200q", rec.Code, rec.Body.String())
	}
}

func TestUnknownCollectorIsRefused(t *testing.T) {
	if _, err := New(Config{Collectors: []string{"flux_capacitor"}}, slog.New(slog.NewTextHandler(io.Discard, nil))); err == nil {
		t.Fatal("an unknown collector was accepted")
	}
}

// Two exporters in one process must not trip over kingpin's globals.
func TestTwice(t *testing.T) {
	a, b := start(t, Config{}), start(t, Config{})
	for _, e := range []*Exporter{a, b} {
		if _, err := e.Gather(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkGather(b *testing.B) {
	e := start(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
