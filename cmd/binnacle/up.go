package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
	"k8s.io/klog/v2"

	"binnacle.io/core/cluster/kubeconfig"
	"binnacle.io/core/telemetry"
)

// up starts everything in order, says where it is, waits, and stops it in
// reverse. Without an agent there is no node: no network, proxy and DNS either.
func up(ctx context.Context, cfg *Config, out *progress) (err error) {
	held, err := claimAll(cfg)
	if err != nil {
		return err
	}
	defer held.release()
	if err := preflight(cfg); err != nil {
		return err
	}
	logs, err := openLog(cfg)
	if err != nil {
		return err
	}
	defer logs.Close()

	m := &machine{cfg: cfg, out: out, sup: newSupervisor(), hub: telemetry.NewHub(telemetry.Config{Node: cfg.NodeName, Log: logs.handler})}
	defer func() {
		out.step("stopping")
		err = errors.Join(err, m.close())
		switch {
		case err != nil:
		case cfg.agent:
			out.step("stopped; pods go on. binnacle up takes them over again, binnacle down ends them")
		default:
			out.step("stopped")
		}
	}()
	phases := []func(context.Context) error{m.startTracing, m.startControlPlane, m.startMonitoring, m.startUI}
	switch {
	case !cfg.monitoring:
		phases = []func(context.Context) error{m.startControlPlane}
	case cfg.agent:
		phases = []func(context.Context) error{m.startTracing, m.startControlPlane, m.startNetwork, m.startMonitoring, m.startNode, m.startUI, m.waitReady}
	}
	for _, phase := range phases {
		if err := phase(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	out.step("ready")
	m.announce()
	return m.sup.wait(ctx)
}

// announce prints what to open.
func (m *machine) announce() {
	m.out.line("")
	if m.cfg.monitoring {
		m.out.line("  UI, PromQL    http://127.0.0.1:%d/", m.cfg.Ports.Observability)
	}
	m.out.line("  Kubernetes    https://%s:%d", m.cfg.Address, m.cfg.Ports.API)
	m.out.line("  kubeconfig    %s", m.cfg.Kubeconfig)
	if m.cfg.monitoring {
		m.out.line("  OTLP          127.0.0.1:%d (gRPC), 127.0.0.1:%d (HTTP)", m.cfg.Ports.OTLPGRPC, m.cfg.Ports.OTLPHTTP)
	}
	m.out.line("  log           %s", m.cfg.path("log", "binnacle.log"))
	m.out.line("")
	m.out.line("  export KUBECONFIG=%s; %s get nodes", m.cfg.Kubeconfig, filepath.Join(m.cfg.BinDir, "kubectl"))
	if m.cfg.agent {
		m.out.line("  Ctrl-C stops it; pods go on")
	} else {
		m.out.line("  Ctrl-C stops it")
	}
	m.out.line("")
}

// logFile is the rotated log of the process.
type logFile struct {
	io.Closer
	handler slog.Handler
}

func openLog(cfg *Config) (*logFile, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return nil, fmt.Errorf("cannot use logLevel %q: want debug, info, warn or error", cfg.LogLevel)
	}
	dir := cfg.path("log")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the log's directory: %w", err)
	}
	w := &lumberjack.Logger{Filename: filepath.Join(dir, "binnacle.log"), MaxSize: 50, MaxBackups: 3} // MB, files
	h := slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	slog.SetDefault(slog.New(h)) // what libraries log goes there too
	klog.SetSlogLogger(slog.New(h).With("component", "library"))
	return &logFile{w, h}, nil
}

// writeKubeconfig gives the administrator access.
func (m *machine) writeKubeconfig() error {
	c := kubeconfig.New("binnacle", fmt.Sprintf("https://%s:%d", m.cfg.Address, m.cfg.Ports.API), m.pki.CA, m.pki.Admin)
	if err := kubeconfig.Write(m.cfg.Kubeconfig, c); err != nil {
		return err
	}
	if !m.cfg.MergeKubeconfig {
		return nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("cannot merge the kubeconfig: %w", err)
	}
	return kubeconfig.Merge(filepath.Join(home, ".kube", "config"), c)
}

// readyWithin bounds the wait for the node after everything has been started.
const readyWithin = 2 * time.Minute
