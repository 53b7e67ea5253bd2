package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePorts finds n ports that nobody listens on.
func freePorts(t *testing.T, n int) []any {
	t.Helper()
	var ports []any
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// A control plane without a node needs neither root nor a container runtime.
func TestServerWithoutNode(t *testing.T) {
	if shared == nil {
		t.Skip("needs root, to become somebody else")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "binnacle-server-") // t.TempDir is not open to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "binnacle.yaml")
	text := fmt.Sprintf("dataDir: %[1]s/data\nrunDir: %[1]s/run\nkubeconfig: %[1]s/kubeconfig\naddress: 127.0.0.1\nnodeName: none\n", dir) +
		fmt.Sprintf("ports: {api: %d, observability: %d, otlpGRPC: %d, otlpHTTP: %d, controllers: %d, scheduler: %d}\n", freePorts(t, 6)...)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// The checkout may be closed to others.
	program := filepath.Join(dir, "binnacle")
	if out, err := exec.Command("cp", filepath.Join(shared.bin, "binnacle"), program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(program, "server", "--agent=false", "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output, exited := newLines(out), make(chan error, 1)
	go func() {
		output.wait()
		exited <- cmd.Wait()
	}()
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			cmd.Process.Kill()
			<-exited
		}
	})
	select {
	case <-output.contains("ready"):
	case err := <-exited:
		stopped = true
		t.Fatalf("ended: %v\n%s", err, output.text())
	case <-time.After(time.Minute):
		t.Fatalf("not ready within a minute:\n%s", output.text())
	}

	kubectl := func(args ...string) string {
		t.Helper()
		c := exec.Command(filepath.Join(shared.bin, "kubectl"), append([]string{"--kubeconfig", filepath.Join(dir, "kubeconfig")}, args...)...)
		b, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, b)
		}
		return string(b)
	}
	kubectl("create", "deployment", "waiting", "--image=binnacle.io/guestbook-frontend:1")
	eventually(t, 20*time.Second, "a pod that waits for a node", func() error {
		if got := kubectl("get", "pods", "-l", "app=waiting", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='PodScheduled')].message}"); !strings.Contains(got, "no nodes available") {
			return fmt.Errorf("condition says %q", got)
		}
		return nil
	})
	if got := strings.TrimSpace(kubectl("get", "nodes", "-o", "name")); got != "" {
		t.Errorf("nodes: %q, want none", got)
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		stopped = true
		if err != nil {
			t.Errorf("ended with %v\n%s", err, output.text())
		}
	case <-time.After(30 * time.Second):
		t.Errorf("did not end within 30 s:\n%s", output.text())
	}
}
