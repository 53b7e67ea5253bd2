package nodetest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"binnacle.io/core/client"
	"binnacle.io/core/node"
	"binnacle.io/core/telemetry"
)

// Node is a node agent on a containerd of its own. Everything it makes on the
// machine is removed when the test ends.
type Node struct {
	Config node.Config
	Agent  *node.Agent
	Tel    *telemetry.Component

	client client.Client
	hub    *telemetry.Hub
	cancel context.CancelFunc
	done   chan error
}

// Start starts a node and waits until pods can run on it.
func Start(t testing.TB, c client.Client, hub *telemetry.Hub, change func(*node.Config)) *Node {
	t.Helper()
	cfg := Config(t)
	if change != nil {
		change(&cfg)
	}
	n := &Node{Config: cfg, client: c, hub: hub}
	t.Cleanup(func() {
		n.Stop(t)
		if t.Failed() {
			if b, err := os.ReadFile(filepath.Join(cfg.DataDir, "containerd", "containerd.log")); err == nil && len(b) > 0 {
				t.Logf("containerd's log:\n%s", b[max(0, len(b)-4000):])
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := node.Down(ctx, cfg, telemetry.Discard()); err != nil {
			t.Errorf("cannot take the node down: %v", err)
		}
		os.RemoveAll(cfg.RunDir)
	})
	n.Run(t)
	return n
}

// Config is a configuration beside everything else on the machine. It skips
// the test where containers cannot run.
func Config(t testing.TB) node.Config {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	bin := os.Getenv("BINNACLE_BIN")
	if bin == "" {
		bin = filepath.Join(moduleRoot(t), "bin")
	}
	for _, b := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		if _, err := os.Stat(filepath.Join(bin, b)); err != nil {
			t.Skipf("needs the bundled binaries: %v", err)
		}
	}
	run, err := os.MkdirTemp("/run", "bn")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	return node.Config{
		Name: "node", DataDir: data, RunDir: run, LogDir: filepath.Join(data, "log"), BinDir: network(t, bin, data),
		ImageDirs: []string{Images(t)}, CgroupRoot: "/" + filepath.Base(run), Address: "127.0.0.1", Port: -1,
		ClusterDNS: []string{"10.96.0.10"}, Relist: 2 * time.Second,
	}
}

// Run starts the agent, again after Stop.
func (n *Node) Run(t testing.TB) {
	t.Helper()
	if n.hub == nil {
		n.hub = telemetry.NewHub(telemetry.Config{Log: logTo(t)})
	}
	n.Tel = n.hub.Component("kubelet", "kubelet")
	began := time.Now()
	var err error
	if n.Agent, err = node.New(n.Config, n.client, n.Tel); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	go func() { n.done <- n.Agent.Run(ctx) }()
	select {
	case <-n.Agent.Ready():
		t.Logf("pods can run %v after the agent's start", time.Since(began))
	case err := <-n.done:
		n.done <- err
		t.Fatalf("agent ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("agent did not get ready")
	}
}

// Stop stops the agent and its containerd; pods go on.
func (n *Node) Stop(t testing.TB) {
	if n.cancel == nil {
		return
	}
	n.cancel()
	select {
	case err := <-n.done:
		if err != nil {
			t.Errorf("agent ended: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("agent did not stop")
	}
	n.cancel = nil
}

func logTo(t testing.TB) slog.Handler {
	if testing.Verbose() {
		return slog.NewTextHandler(os.Stderr, nil)
	}
	return slog.NewTextHandler(io.Discard, nil)
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal(fmt.Errorf("cannot find the module: %w", err))
	return ""
}
