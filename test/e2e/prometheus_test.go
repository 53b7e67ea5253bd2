package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOutsidePrometheus lets Debian's Prometheus scrape every endpoint.
func TestOutsidePrometheus(t *testing.T) {
	needsNode(t)
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed")
	}
	dir := t.TempDir()
	pki := filepath.Join(shared.data, "pki")
	secure := fmt.Sprintf("  scheme: https\n  tls_config: {ca_file: %s/ca.crt, cert_file: %s/admin.crt, key_file: %s/admin.key}\n", pki, pki, pki)
	var config strings.Builder
	config.WriteString("global: {scrape_interval: 1s}\nscrape_configs:\n")
	jobs := []struct{ name, target, path, more string }{
		{"apiserver", "127.0.0.1:6443", "/metrics", secure},
		{"kubelet", "127.0.0.1:10250", "/metrics", secure},
		{"cadvisor", "127.0.0.1:10250", "/metrics/cadvisor", secure},
		{"resource", "127.0.0.1:10250", "/metrics/resource", secure},
		{"probes", "127.0.0.1:10250", "/metrics/probes", secure},
		{"controllers", "127.0.0.1:10257", "/metrics", secure},
		{"scheduler", "127.0.0.1:10259", "/metrics", secure},
		{"proxy", "127.0.0.1:10249", "/metrics", ""},
		{"metrics", "127.0.0.1:9090", "/metrics", ""},
		{"etcd", "127.0.0.1:9090", "/metrics/etcd", ""},
		{"coredns", "127.0.0.1:9090", "/metrics/coredns", ""},
		{"alerting", "127.0.0.1:9090", "/metrics/alertmanager-main", ""},
		{"tracing", "127.0.0.1:9090", "/metrics/tracing", ""},
		{"kube-state", "127.0.0.1:9090", "/kube-state/metrics", ""},
		{"node", "127.0.0.1:9090", "/node-exporter/metrics", ""},
		{"federate", "127.0.0.1:9090", "/federate", "  params: {'match[]': ['{__name__=~\"container_.*\"}']}\n  honor_labels: true\n"},
	}
	for _, j := range jobs {
		fmt.Fprintf(&config, "- job_name: %s\n  metrics_path: %s\n  static_configs: [{targets: [%q]}]\n%s", j.name, j.path, j.target, j.more)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("prometheus: %v", err)
		}
	}()
	eventually(t, time.Minute, "all targets up", func() error {
		resp, err := http.Get("http://" + address + "/api/v1/targets")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var answer struct {
			Data struct {
				ActiveTargets []struct{ ScrapePool, Health, LastError string }
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return err
		}
		if n := len(answer.Data.ActiveTargets); n != len(jobs) {
			return fmt.Errorf("%d targets, want %d", n, len(jobs))
		}
		var bad []string
		for _, target := range answer.Data.ActiveTargets {
			if target.Health != "up" {
				bad = append(bad, fmt.Sprintf("%s: %s %s", target.ScrapePool, target.Health, target.LastError))
			}
		}
		if len(bad) > 0 {
			return fmt.Errorf("%s", strings.Join(bad, "\n"))
		}
		return nil
	})
}
