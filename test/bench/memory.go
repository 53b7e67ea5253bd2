package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

const (
	watchers  = 10 // while memory at rest is taken
	informers = 20 // that ask for the initial state at once
	protobuf  = "application/vnd.kubernetes.protobuf"
)

// cluster is one side as this command uses it.
type cluster struct {
	rest    *rest.Config
	clients []kubernetes.Interface // each with a connection of its own
	pids    []int
}

func open(kubeconfig, selectors string) (*cluster, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot use kubeconfig %s: %w", kubeconfig, err)
	}
	cfg.QPS, cfg.ContentType, cfg.DisableCompression = -1, protobuf, true
	c := &cluster{rest: cfg}
	if c.pids, err = processes(selectors); err != nil {
		return nil, err
	}
	for range 4 {
		h, err := c.connection()
		if err != nil {
			return nil, err
		}
		k, err := kubernetes.NewForConfigAndClient(cfg, h)
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, k)
	}
	return c, nil
}

func (c *cluster) close() {
	for _, k := range c.clients {
		if r, ok := k.CoreV1().RESTClient().(*rest.RESTClient); ok && r.Client != nil {
			r.Client.CloseIdleConnections()
		}
	}
}

// connection returns an HTTP client that shares no connection with others.
func (c *cluster) connection() (*http.Client, error) {
	tls, err := rest.TLSConfigFor(c.rest)
	if err != nil {
		return nil, err
	}
	t, err := rest.HTTPWrappersForConfig(c.rest, &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true, DisableCompression: true})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// dryCreate returns what the server answers to a creation that is not to be.
func (c *cluster) dryCreate(ctx context.Context, path string, o runtime.Object) ([]byte, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return c.clients[0].CoreV1().RESTClient().Post().AbsPath(path).Param("dryRun", metav1.DryRunAll).
		SetHeader("Content-Type", "application/json").SetHeader("Accept", protobuf).Body(body).DoRaw(ctx)
}

// memory takes the memory at rest with many pods and some watchers, and what
// many initial states at once add to it.
func (b *bench) memory(ctx context.Context) error {
	pods, settle := 10000, 100*time.Second // longer than either keeps events
	if b.quick {
		pods, settle = 2000, 3*time.Second
	}
	for side, of := range [2]struct{ kubeconfig, procs string }{{b.upstream, b.upstreamProc}, {b.binnacle, b.binnacleProc}} {
		start, cpu := time.Now(), ownCPU()
		c, err := open(of.kubeconfig, of.procs)
		if err != nil {
			return err
		}
		err = b.memoryOf(ctx, c, side, pods, settle)
		c.close()
		if err != nil {
			return err
		}
		b.add("memory/tool_cpu", "cores", side, (ownCPU()-cpu).Seconds()/time.Since(start).Seconds())
	}
	return nil
}

func (b *bench) memoryOf(ctx context.Context, c *cluster, side, pods int, settle time.Duration) (err error) {
	namespaces := c.clients[0].CoreV1().Namespaces()
	ns, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-memory-"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		defer cancel()
		if failed := c.remove(late, ns.Name); err == nil {
			err = failed
		}
	}()
	if err := c.fill(ctx, ns.Name, pods); err != nil {
		return fmt.Errorf("cannot fill namespace %s: %w", ns.Name, err)
	}
	watching, stop := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	defer stop()
	ready := make(chan error, watchers)
	for range watchers {
		open.Go(func() { c.watch(watching, ns.Name, func(err error) { ready <- err }) })
	}
	for range watchers {
		if err := <-ready; err != nil {
			return fmt.Errorf("cannot watch: %w", err)
		}
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	rest, err := memoryOf(c.pids)
	if err != nil {
		return err
	}
	b.add("memory/rest", "MiB", side, mib(rest.resident))

	for range b.runs {
		if err := resetPeak(c.pids); err != nil {
			return err
		}
		before, err := memoryOf(c.pids)
		if err != nil {
			return err
		}
		if err := c.initialStates(ctx, ns.Name); err != nil {
			return err
		}
		after, err := memoryOf(c.pids)
		if err != nil {
			return err
		}
		b.add("memory/initial", "MiB", side, mib(after.peak-before.resident))
	}
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// fill creates pods as they are when they run.
func (c *cluster) fill(ctx context.Context, namespace string, n int) error {
	status, err := json.Marshal(map[string]any{"status": podStatus()})
	if err != nil {
		return err
	}
	return each(ctx, n, func(ctx context.Context, i int) error {
		pods := c.clients[i%len(c.clients)].CoreV1().Pods(namespace)
		p, err := pods.Create(ctx, pod(i), metav1.CreateOptions{})
		if err != nil {
			return err
		}
		_, err = pods.Patch(ctx, p.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
		return err
	})
}

// remove deletes a namespace and what is in it.
func (c *cluster) remove(ctx context.Context, namespace string) error {
	core := c.clients[0].CoreV1()
	now := metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}
	// One by one: upstream does not delete so large a collection in time.
	pods, err := core.Pods(namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err == nil {
		err = each(ctx, len(pods.Items), func(ctx context.Context, i int) error {
			err := c.clients[i%len(c.clients)].CoreV1().Pods(namespace).Delete(ctx, pods.Items[i].Name, now)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("cannot empty namespace %s: %w", namespace, err)
	}
	if err := core.Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot delete namespace %s: %w", namespace, err)
	}
	for {
		if _, err := core.Namespaces().Get(ctx, namespace, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			fmt.Fprintf(os.Stderr, "bench: namespace %s is still there\n", namespace)
			return ctx.Err()
		}
	}
}

// watch opens a watch, says so, and reads until ctx ends.
func (c *cluster) watch(ctx context.Context, namespace string, opened func(error)) {
	body, err := c.stream(ctx, namespace, "?watch=1&resourceVersion=0&timeoutSeconds=3600")
	opened(err)
	if err == nil {
		_, _ = io.Copy(io.Discard, body) // ends with ctx
		body.Close()
	}
}

// initialStates has the informers ask at once, each on its own connection, and
// reads until all have everything.
func (c *cluster) initialStates(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, informers)
	for range informers {
		go func() {
			body, err := c.stream(ctx, namespace, "?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=600")
			if err == nil {
				err = readUntil(body, []byte(metav1.InitialEventsAnnotationKey))
				body.Close()
			}
			done <- err
		}()
	}
	var failed error
	for range informers {
		if err := <-done; err != nil && failed == nil {
			failed = fmt.Errorf("cannot read the initial state: %w", err)
			cancel()
		}
	}
	return failed
}

func (c *cluster) stream(ctx context.Context, namespace, query string) (io.ReadCloser, error) {
	client, err := c.connection()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.rest.Host+"/api/v1/namespaces/"+namespace+"/pods"+query, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", protobuf+";stream=watch")
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		response.Body.Close()
		return nil, fmt.Errorf("GET %s: %s: %s", r.URL.Path, response.Status, text)
	}
	return closing{response.Body, client}, nil
}

// closing closes the connection with the body.
type closing struct {
	io.ReadCloser
	client *http.Client
}

func (c closing) Close() error {
	err := c.ReadCloser.Close()
	c.client.CloseIdleConnections()
	return err
}

// readUntil reads until mark has passed.
func readUntil(r io.Reader, mark []byte) error {
	buf := make([]byte, 64<<10)
	held := 0
	for {
		n, err := r.Read(buf[held:])
		if bytes.Contains(buf[:held+n], mark) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the stream ended early: %w", err)
		}
		// The mark may lie across two reads.
		keep := min(held+n, len(mark)-1)
		copy(buf, buf[held+n-keep:held+n])
		held = keep
	}
}
