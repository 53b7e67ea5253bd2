package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// dingTalkSecret is what the receiver checks signatures with.
const dingTalkSecret = "SECe2e0000000000000000000000000000000000000000000000000000000000"

// cluster is the node under test.
type cluster struct {
	bin, data, received string
	kubeconfig, config  string
	readyIn             time.Duration

	cmd    *exec.Cmd
	output *lines
	exited chan error
}

func root() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}

// newCluster prepares the directories and configuration of a cluster.
func newCluster(dir string, receivers *receivers, registry string) (*cluster, error) {
	c := &cluster{
		bin: filepath.Join(root(), "bin"), data: filepath.Join(dir, "data"), received: receivers.dir,
		kubeconfig: filepath.Join(dir, "kubeconfig"), config: filepath.Join(dir, "binnacle.yaml"),
	}
	if _, err := os.Stat(filepath.Join(c.bin, "binnacle")); err != nil {
		return nil, fmt.Errorf("%w: run make build first", err)
	}
	hosts := filepath.Join(c.data, "containerd", "certs.d", "_default")
	if err := os.MkdirAll(hosts, 0o700); err != nil {
		return nil, err
	}
	files := map[string]string{
		filepath.Join(hosts, "hosts.toml"): fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", registry, registry),
		filepath.Join(dir, "alertmanager.yaml"): fmt.Sprintf(`
route:
  receiver: both
  group_by: [alertname, namespace]
  group_wait: 0s
  group_interval: 1s
receivers:
- name: both
  webhook_configs:
  - url: %s/webhook
    send_resolved: true
  dingtalk_configs:
  - url: %s/robot/send?access_token=e2e
    secret: %s
    send_resolved: true
`, receivers.url, receivers.url, dingTalkSecret),
		filepath.Join(dir, "rules.yaml"): `
groups:
- name: e2e
  interval: 1s
  rules:
  - alert: ContainerBusy
    expr: sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{namespace="alerts",container!=""}[10s])) > 0.2
    labels: {severity: warning}
    annotations: {summary: "{{ $labels.pod }} uses {{ $value | humanize }} cores"}
`,
		c.config: fmt.Sprintf("dataDir: %s\nkubeconfig: %s\nimageDirs: [%s]\nalerting: {file: %s, rules: [%s]}\nlogLevel: info\n",
			c.data, c.kubeconfig, filepath.Join(c.bin, "images"), filepath.Join(dir, "alertmanager.yaml"), filepath.Join(dir, "rules.yaml")),
	}
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// start runs binnacle up and waits until it says that it is ready.
func (c *cluster) start(within time.Duration) error {
	begun := time.Now()
	c.cmd = exec.Command(filepath.Join(c.bin, "binnacle"), "up", "--config", c.config)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.output = newLines(out)
	c.exited = make(chan error, 1)
	go func() {
		c.output.wait()
		c.exited <- c.cmd.Wait()
	}()
	select {
	case <-c.output.contains("ready"):
		c.readyIn = time.Since(begun)
		return nil
	case err := <-c.exited:
		c.exited <- err
		return fmt.Errorf("binnacle up ended: %v\n%s", err, c.output.text())
	case <-time.After(within):
		return fmt.Errorf("binnacle up was not ready within %v:\n%s", within, c.output.text())
	}
}

// signal ends the process and waits for it.
func (c *cluster) signal(s os.Signal, within time.Duration) error {
	if err := c.cmd.Process.Signal(s); err != nil {
		return err
	}
	select {
	case err := <-c.exited:
		c.exited <- err
		if s == os.Kill {
			return nil
		}
		return err
	case <-time.After(within):
		return fmt.Errorf("binnacle did not end within %v of %v:\n%s", within, s, c.output.text())
	}
}

// down ends the process, if it runs, and removes everything it left.
func (c *cluster) down() error {
	if c.cmd != nil && c.cmd.Process != nil {
		if err := c.signal(os.Interrupt, time.Minute); err != nil && !errors.Is(err, os.ErrProcessDone) {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(c.bin, "binnacle"), "down", "--config", c.config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("binnacle down: %w\n%s", err, out)
	}
	return nil
}

// lines collects a process' output.
type lines struct {
	mu    sync.Mutex
	all   []string
	seen  map[string]chan struct{}
	ended chan struct{}
}

func newLines(r io.Reader) *lines {
	l := &lines{seen: map[string]chan struct{}{}, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.add(s.Text())
		}
	}()
	return l
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
	for word, ch := range l.seen {
		if strings.HasSuffix(line, word) {
			close(ch)
			delete(l.seen, word)
		}
	}
}

// contains is closed once a line ends in word.
func (l *lines) contains(word string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := make(chan struct{})
	for _, line := range l.all {
		if strings.HasSuffix(line, word) {
			close(ch)
			return ch
		}
	}
	l.seen[word] = ch
	return ch
}

func (l *lines) wait() { <-l.ended }

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// receivers take notifications and keep them as files, one JSON a line.
type receivers struct {
	*httptest.Server
	url, dir string
}

func newReceivers(dir string) (*receivers, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &receivers{dir: dir}
	var mu sync.Mutex
	keep := func(file string, w http.ResponseWriter, req *http.Request, extra map[string]string, answer string) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var plain bytes.Buffer
		if err := json.Compact(&plain, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		line, err := json.Marshal(map[string]any{"at": time.Now(), "body": json.RawMessage(plain.Bytes()), "check": extra})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintf(f, "%s\n", line)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhook", func(w http.ResponseWriter, req *http.Request) { keep("webhook.jsonl", w, req, nil, "{}") })
	mux.HandleFunc("POST /robot/send", func(w http.ResponseWriter, req *http.Request) {
		signature := "wrong"
		if validSignature(req, dingTalkSecret, time.Now()) {
			signature = "valid"
		}
		keep("dingtalk.jsonl", w, req, map[string]string{"signature": signature}, `{"errcode":0,"errmsg":"ok"}`)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	r.Server.Start()
	r.url = r.Server.URL
	return r, nil
}

// the cluster of all scripts.
var shared *cluster

func TestMain(m *testing.M) { os.Exit(mainCode(m)) }

func mainCode(m *testing.M) int {
	if command := filepath.Base(os.Args[0]); commands[command] != nil {
		return runCommand(command)
	}
	flag.Parse()
	if listing := flag.Lookup("test.list"); testing.Short() || listing != nil && listing.Value.String() != "" || os.Geteuid() != 0 {
		fmt.Println("e2e: no node is started: -short, -list, or not root")
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "binnacle-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	code, err := withCluster(dir, m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return code
}

func withCluster(dir string, run func() int) (code int, err error) {
	r, err := newReceivers(filepath.Join(dir, "received"))
	if err != nil {
		return 1, err
	}
	defer r.Close()
	reg, err := startRegistry(filepath.Join(root(), "bin", "images"))
	if err != nil {
		return 1, err
	}
	defer reg.Close()
	if shared, err = newCluster(dir, r, reg.URL); err != nil {
		return 1, err
	}
	defer func() {
		if code != 0 || err != nil {
			saveLogs(shared)
		}
		err = errors.Join(err, shared.down())
	}()
	if err := shared.start(time.Minute); err != nil {
		return 1, err
	}
	fmt.Printf("e2e: ready in %.2f s\n", shared.readyIn.Seconds())
	return run(), nil
}

// saveLogs keeps what explains a failure where CI shows it.
func saveLogs(c *cluster) {
	for _, name := range []string{"log/binnacle.log", "containerd/containerd.log"} {
		b, err := os.ReadFile(filepath.Join(c.data, name))
		if err != nil {
			continue
		}
		const most = 16 << 10
		fmt.Fprintf(os.Stderr, "--- end of %s\n%s\n", name, b[max(0, len(b)-most):])
	}
}

// needsNode skips where TestMain started none.
func needsNode(t *testing.T) {
	t.Helper()
	if shared == nil {
		t.Skip("needs root, and is not short")
	}
}

// nodeIP is the address of this machine as the node reports it.
func nodeIP() string {
	out, err := exec.Command(filepath.Join(shared.bin, "kubectl"), "--kubeconfig", shared.kubeconfig, "get", "nodes",
		"-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`).Output()
	if err != nil {
		return err.Error()
	}
	return string(out)
}
