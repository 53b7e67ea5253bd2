package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kubectl runs bin/kubectl against the shared cluster.
func kubectl(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(shared.bin, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.kubeconfig)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func mustKubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); poll() {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, within, err)
}

const survivors = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: survivor, namespace: survivors}
spec:
  replicas: 2
  selector: {matchLabels: {app: survivor}}
  template:
    metadata: {labels: {app: survivor}}
    spec:
      containers:
      - name: web
        image: binnacle.io/guestbook-frontend:1
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`

// containers lists the pods' containers: name, ID and restarts.
func containers(t *testing.T) string {
	t.Helper()
	return mustKubectl(t, "-n", "survivors", "get", "pods", "--sort-by=.metadata.name",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.podIP}{"\n"}{end}`)
}

func startSurvivors(t *testing.T) {
	t.Helper()
	mustKubectl(t, "create", "namespace", "survivors")
	t.Cleanup(func() {
		if _, err := kubectl("delete", "namespace", "survivors", "--timeout=60s"); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(t.TempDir(), "survivors.yaml")
	if err := os.WriteFile(file, []byte(survivors), 0o644); err != nil {
		t.Fatal(err)
	}
	mustKubectl(t, "apply", "-f", file)
	mustKubectl(t, "-n", "survivors", "rollout", "status", "deployment/survivor", "--timeout=60s")
}

// TestStopAndStart: Ctrl-C ends the program and not the pods; starting again
// finds everything as it was.
func TestStopAndStart(t *testing.T) {
	needsNode(t)
	startSurvivors(t)
	before := containers(t)
	if err := shared.signal(os.Interrupt, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := shared.start(time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready again in %v", shared.readyIn)
	eventually(t, 20*time.Second, "the same containers", func() error {
		if after := containers(t); after != before {
			return fmt.Errorf("before:\n%safter:\n%s", before, after)
		}
		return nil
	})
	eventually(t, 20*time.Second, "all available", func() error {
		out, err := kubectl("-n", "survivors", "get", "deployment", "survivor", "-o", "jsonpath={.status.availableReplicas}")
		if err == nil && out != "2" {
			err = fmt.Errorf("available: %s", out)
		}
		return err
	})
}

// TestKill: SIGKILL at random moments loses no acknowledged write and no pod.
func TestKill(t *testing.T) {
	needsNode(t)
	startSurvivors(t)
	before := containers(t)
	acknowledged := map[string]bool{}
	for round := range 3 {
		acked := writeUntilDead(t, round)
		for _, name := range acked {
			acknowledged[name] = true
		}
		if err := shared.start(time.Minute); err != nil {
			t.Fatalf("after kill %d: %v", round, err)
		}
		stored := map[string]bool{}
		for _, name := range strings.Fields(mustKubectl(t, "-n", "survivors", "get", "configmaps", "-o", "name")) {
			stored[strings.TrimPrefix(name, "configmap/")] = true
		}
		for name := range acknowledged {
			if !stored[name] {
				t.Errorf("kill %d lost %s, which was acknowledged", round, name)
			}
		}
	}
	if len(acknowledged) == 0 {
		t.Fatal("no write was acknowledged: nothing was tested")
	}
	t.Logf("%d acknowledged writes survived", len(acknowledged))
	eventually(t, 20*time.Second, "the same containers", func() error {
		if after := containers(t); after != before {
			return fmt.Errorf("before:\n%safter:\n%s", before, after)
		}
		return nil
	})
}

// writeUntilDead creates ConfigMaps while the process is killed, and returns
// those that were acknowledged.
func writeUntilDead(t *testing.T, round int) (acked []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	dead := make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-dead:
					return
				default:
				}
				name := fmt.Sprintf("w-%d-%d-%d", round, w, i)
				if _, err := kubectl("-n", "survivors", "create", "configmap", name, "--from-literal=a=b", "--request-timeout=5s"); err == nil {
					mu.Lock()
					acked = append(acked, name)
					mu.Unlock()
				}
			}
		})
	}
	<-time.After(time.Second + time.Duration(rand.IntN(1000))*time.Millisecond)
	if err := shared.signal(os.Kill, 10*time.Second); err != nil {
		t.Error(err)
	}
	close(dead)
	wg.Wait()
	return acked
}

// TestRefusals: what stops up says so in one clear line.
func TestRefusals(t *testing.T) {
	needsNode(t)
	run := func(yaml string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "binnacle.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd := exec.Command(filepath.Join(shared.bin, "binnacle"), "up", "--config", file)
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil {
			t.Fatal("it started")
		}
		out := strings.TrimSpace(stderr.String())
		if strings.Count(out, "\n") > 0 {
			t.Errorf("more than one line:\n%s", out)
		}
		return out
	}
	notDir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, yaml, want string }{
		{"another instance", "dataDir: " + shared.data, "another binnacle (pid "},
		{"another instance with other data", "dataDir: " + t.TempDir(), "uses run directory /run/binnacle: stop it"},
		{"a taken port", "dataDir: " + t.TempDir() + "\nrunDir: " + t.TempDir(), "port 6443, for the API, is taken: stop what listens there"},
		{"a data directory that is a file", "dataDir: " + notDir, "cannot use data directory " + notDir},
		{"an unknown setting", "dataDirectory: /x", `unknown field "dataDirectory"`},
		{"programs that are missing", "dataDir: " + t.TempDir() + "\nrunDir: " + t.TempDir() + "\nbinDir: /nowhere", "containerd is missing in /nowhere: run make build"},
	} {
		if got := run(c.yaml); !strings.Contains(got, c.want) {
			t.Errorf("%s: said %q, want %q", c.what, got, c.want)
		}
	}
	if shared.cmd.Process.Signal(syscall.Signal(0)) != nil {
		t.Error("the running instance died of it")
	}
}
