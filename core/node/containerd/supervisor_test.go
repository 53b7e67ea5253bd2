package containerd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"binnacle.io/core/telemetry"
)

// asAgent makes the test binary run a supervisor, to be killed.
const asAgent = "BINNACLE_TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(asAgent); dirs != "" {
		d := strings.Split(dirs, ":")
		s := New(Config{DataDir: d[0], RunDir: d[1], BinDir: d[2], SandboxImage: "x", CNIConfDir: filepath.Join(d[0], "cni")}, telemetry.Discard())
		go func() {
			<-s.Ready()
			fmt.Println("ready")
		}()
		if err := s.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
		return
	}
	os.Exit(m.Run())
}

func binDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	bin := os.Getenv("BINNACLE_BIN")
	if bin == "" {
		var err error
		if bin, err = filepath.Abs("../../../bin"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(bin, "containerd")); err != nil {
		t.Skipf("needs the bundled binaries: %v", err)
	}
	return bin
}

// TestOutlivesItsAgent kills an agent and lets the next ones adopt, replace
// and restart its containerd.
func TestOutlivesItsAgent(t *testing.T) {
	bin := binDir(t)
	run, err := os.MkdirTemp("/run", "bn")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{DataDir: t.TempDir(), RunDir: run, BinDir: bin, SandboxImage: "x"}
	cfg.CNIConfDir = filepath.Join(cfg.DataDir, "cni")
	t.Cleanup(func() {
		if err := Stop(context.Background(), cfg, telemetry.Discard()); err != nil {
			t.Error(err)
		}
		os.RemoveAll(run)
	})
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), asAgent+"="+cfg.DataDir+":"+run+":"+bin)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("agent says %q, %v", line, err)
	}
	first := pid(t, cfg)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agent.Wait()
	if syscall.Kill(first, 0) != nil {
		t.Fatal("containerd died with its agent")
	}

	supervise := func(cfg Config, f func(*Supervisor)) {
		t.Helper()
		s := New(cfg, telemetry.Discard())
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		select {
		case <-s.Ready():
		case err := <-done:
			t.Fatalf("supervisor ended: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("containerd does not answer")
		}
		f(s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// An agent killed before it wrote the file leaves none.
	if err := os.Remove(cfg.pidFile()); err != nil {
		t.Fatal(err)
	}
	supervise(cfg, func(s *Supervisor) {
		if got := pid(t, cfg); got != first {
			t.Errorf("containerd %d replaced %d, which ran well", got, first)
		}
		if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; {
			if p, err := readPid(cfg); err == nil && p != first && s.answers(context.Background(), time.Second) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("containerd was not started again")
			}
		}
	})
	if s := (&Supervisor{cfg: cfg}); s.answers(context.Background(), time.Second) {
		t.Error("containerd was not stopped")
	}
}

func pid(t *testing.T, cfg Config) int {
	t.Helper()
	p, err := readPid(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readPid(cfg Config) (int, error) {
	b, err := os.ReadFile(cfg.pidFile())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}

func TestMissingBinaries(t *testing.T) {
	s := New(Config{DataDir: t.TempDir(), RunDir: t.TempDir(), BinDir: t.TempDir(), CNIConfDir: t.TempDir()}, telemetry.Discard())
	err := s.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "cannot find the bundled container runtime") {
		t.Errorf("%v", err)
	}
}
