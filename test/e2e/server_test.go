package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"binnacle.io/test/server"
)

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
	// The checkout may be closed to others.
	program := filepath.Join(dir, "binnacle")
	if out, err := exec.Command("cp", filepath.Join(shared.bin, "binnacle"), program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s, err := server.Start(t.Context(), server.Config{Program: program, Dir: dir, UID: nobody})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})

	kubectl := func(args ...string) string {
		t.Helper()
		c := exec.Command(filepath.Join(shared.bin, "kubectl"), append([]string{"--kubeconfig", s.Kubeconfig}, args...)...)
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
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("ended with %v\n%s", err, s.Output())
	}
}
