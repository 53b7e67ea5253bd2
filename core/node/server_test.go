package node_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	spdytransport "k8s.io/client-go/transport/spdy"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/node"
	"binnacle.io/core/node/nodetest"
)

// TestServer asks a node's server what upstream's clients ask a kubelet.
func TestServer(t *testing.T) {
	s := apitest.Start(t)
	n := nodetest.Start(t, s.Client, nil, func(c *node.Config) { c.ClientCAs = s.PKI.Pool() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, err := n.Agent.Addr(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cert := s.PKI.APIServerKubeletClient.TLS()
	known := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}}}
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(known.CloseIdleConnections)
	t.Cleanup(stranger.CloseIdleConnections)
	get := func(c *http.Client, path string) (int, string) {
		t.Helper()
		r, err := c.Get("https://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	if code, _ := get(stranger, "/pods"); code != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", code)
	}
	if code, body := get(known, "/healthz"); code != 200 || body != "ok" {
		t.Errorf("health: %d %s", code, body)
	}

	p := pod("web", "lines", "5")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "second", Image: nodetest.Image, Args: []string{"sleep"}, Stdin: true})
	create(t, s.Client, p)
	await(t, s.Client, "web", "ready", ready)
	eventually(t, "the log", func() bool {
		_, body := get(known, "/containerLogs/default/web/main")
		return body == "line 0\nline 1\nline 2\nline 3\nline 4\n"
	})
	for path, want := range map[string]string{
		"/containerLogs/default/web/main?tailLines=2":                    "line 3\nline 4\n",
		"/containerLogs/default/web/main?limitBytes=9":                   "line 0\nli",
		"/containerLogs/default/web/main?previous=true":                  "previous terminated container \"main\" in pod \"web\" not found\n",
		"/containerLogs/default/none/main":                               "pod \"none\" does not exist\n",
		"/containerLogs/default/web/none":                                "container \"none\" not found in pod \"web\"\n",
		"/containerLogs/default/web/main?sinceTime=2999-01-01T00:00:00Z": "",
	} {
		if _, body := get(known, path); body != want {
			t.Errorf("%s answers %q, want %q", path, body, want)
		}
	}
	if _, body := get(known, "/pods"); !strings.Contains(body, `"kind":"PodList"`) || !strings.Contains(body, `"phase":"Running"`) {
		t.Errorf("pods: %.300s", body)
	}
	for _, wl := range n.Agent.Running() {
		if wl.Pod != "web" || !anyExists("/sys/fs/cgroup/memory"+wl.Cgroup, "/sys/fs/cgroup"+wl.Cgroup) {
			t.Errorf("workload %+v has no cgroup", wl)
		}
	}
	_, metrics := get(known, "/metrics")
	for _, want := range []string{"kubelet_running_pods 1", `kubelet_running_containers{container_state="running"} 2`, `kubelet_node_name{node="node"} 1`,
		"kubelet_pod_start_duration_seconds_count 1", "kubelet_pod_worker_duration_seconds_count", `kubelet_runtime_operations_total{operation_type="run_podsandbox"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}

	cfg := &rest.Config{Host: "https://" + addr, TLSClientConfig: rest.TLSClientConfig{Insecure: true,
		CertData: s.PKI.APIServerKubeletClient.CertPEM, KeyData: s.PKI.APIServerKubeletClient.KeyPEM}}
	u := &url.URL{Scheme: "https", Host: addr, Path: "/exec/default/web/main", RawQuery: url.Values{
		"command": {"/app", "copy"}, "input": {"1"}, "output": {"1"}, "error": {"1"}}.Encode()}
	spdy, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, u.String())
	if err != nil {
		t.Fatal(err)
	}
	for name, ex := range map[string]remotecommand.Executor{"SPDY": spdy, "WebSocket": ws} {
		var out, stderr bytes.Buffer
		err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("through and back"), Stdout: &out, Stderr: &stderr})
		if err != nil || out.String() != "through and back" {
			t.Errorf("%s: %q %q %v", name, out.String(), stderr.String(), err)
		}
	}
	q := u.Query()
	q["command"] = []string{"/app", "exit", "9"}
	q.Del("input")
	u.RawQuery = q.Encode()
	fails, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	if err := fails.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard}); err == nil || !strings.Contains(err.Error(), "exit code 9") {
		t.Errorf("exit code: %v", err)
	}
	port := freePort(t)
	create(t, s.Client, pod("listens", "serve", "127.0.0.1:"+port))
	await(t, s.Client, "listens", "ready", ready)
	target := &url.URL{Scheme: "https", Host: addr, Path: "/portForward/default/listens"}
	rt, up, err := spdytransport.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	forward(t, spdytransport.NewDialer(up, &http.Client{Transport: rt}, http.MethodPost, target), port)
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(target, cfg)
	if err != nil {
		t.Fatal(err)
	}
	forward(t, tunnel, port)
	remove(t, s.Client, "listens")
	remove(t, s.Client, "web")
}

// forward forwards a free local port to port of a pod and asks it something.
func forward(t *testing.T, dialer httpstream.Dialer, port string) {
	t.Helper()
	stop, open := make(chan struct{}), make(chan struct{})
	fw, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:" + port}, stop, open, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- fw.ForwardPorts() }()
	select {
	case <-open:
	case err := <-done:
		t.Fatalf("port forward ended: %v", err)
	}
	local, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer through the forwarded port", func() bool {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ok", local[0].Local))
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return err == nil && string(b) == "ok\n"
	})
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func anyExists(paths ...string) bool {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return true
		}
	}
	return false
}
