package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/node/cgroup"
	"binnacle.io/core/node/containerd"
	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/runtime"
	"binnacle.io/core/node/volume"
	"binnacle.io/core/telemetry"
)

// Agent runs a node. Build it with New, run it with Run.
type Agent struct {
	cfg     Config
	client  client.Client
	tel     *telemetry.Component
	events  *events.Recorder
	runtime Runtime
	closers []func() error

	supervisor *containerd.Supervisor // nil with a foreign runtime
	importer   *containerd.Importer

	machine *machine
	spec    *podspec.Node
	qos     *qosTree
	volumes *volume.Manager
	objects *objects
	metrics *metrics
	hooks   *http.Client
	health  *health

	began time.Time
	// lifetime is Run's context; workers and what they share end with it.
	lifetime context.Context

	mu      sync.Mutex
	workers map[types.UID]*worker // guarded by mu
	wg      sync.WaitGroup        // the workers
	// listed says that this node's pods were read from the API once.
	listed atomic.Bool

	// admission is held while a pod's room is looked for.
	admission sync.Mutex

	ready     chan struct{} // closed when pods can run
	listening chan struct{} // closed when the server has its address
	address   string
	tcpPort   int
}

// New checks the configuration and the machine. It starts nothing.
func New(cfg Config, c client.Client, tel *telemetry.Component) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.DataDir, cfg.podsDir(), cfg.podLogsDir(), cfg.containerLogsDir(), cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("cannot create directory: %w", err)
		}
	}
	a := &Agent{
		cfg: cfg, client: c, tel: tel, began: time.Now(),
		events:  events.NewRecorder(events.Config{Component: "kubelet", Host: cfg.Name}, c, tel),
		objects: newObjects(c), workers: map[types.UID]*worker{},
		ready: make(chan struct{}), listening: make(chan struct{}), lifetime: context.Background(),
		hooks: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}},
	}
	cri, err := runtime.Dial(cfg.Socket(), tel)
	if err != nil {
		return nil, err
	}
	a.runtime = cri
	a.closers = append(a.closers, cri.Close)
	a.importer = containerd.NewImporter(tel)
	if cfg.RuntimeEndpoint == "" {
		a.supervisor = containerd.New(cfg.containerd(), tel)
	}
	if a.machine, err = inspect(cfg); err != nil {
		return nil, err
	}
	resolv, err := os.ReadFile(cfg.ResolvConf)
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's resolver configuration: %w", err)
	}
	a.spec = &podspec.Node{
		Name: cfg.Name, LogDir: cfg.podLogsDir(), CgroupRoot: cfg.CgroupRoot,
		SeccompDir: filepath.Join(cfg.DataDir, "seccomp"),
		ClusterDNS: cfg.ClusterDNS, ClusterDomain: cfg.ClusterDomain, HostDNS: podspec.ParseResolv(string(resolv)),
		Allocatable: a.machine.allocatable, MemoryCapacity: a.machine.memory,
	}
	a.volumes = volume.New(cfg.podsDir(), a.objects)
	a.metrics = newMetrics(tel.Registry, cfg.Name, a.countRunning, a.countActive)
	a.health = newHealth()
	return a, nil
}

// Ready is closed once the container runtime answers, images are imported and
// pods can run.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Addr returns the address the server listens on, once it does.
func (a *Agent) Addr(ctx context.Context) (string, error) {
	select {
	case <-a.listening:
		return a.address, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Run runs the node until ctx ends. Pods go on after it; the bundled
// containerd is stopped.
func (a *Agent) Run(ctx context.Context) error {
	defer func() {
		for _, c := range a.closers {
			c()
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	// Workers and the server stop before containerd does.
	rtCtx, stopRuntime := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRuntime()
	rtDone := make(chan error, 1)
	if a.supervisor != nil {
		go func() { rtDone <- a.supervisor.Run(rtCtx) }()
	} else {
		close(rtDone)
	}
	g.Go(func() error {
		select {
		case err := <-rtDone:
			if a.supervisor != nil {
				rtDone <- nil
				if err == nil {
					err = errors.New("container runtime supervisor ended")
				}
				return err
			}
			return nil
		case <-gctx.Done():
			return nil
		}
	})
	g.Go(func() error { return a.events.Run(gctx) })
	g.Go(func() error { return a.serve(gctx) })
	g.Go(func() error { return a.runPods(gctx) })
	err := g.Wait()
	a.wg.Wait()
	a.objects.wait()
	stopRuntime()
	if a.supervisor != nil {
		err = errors.Join(err, <-rtDone)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// runPods brings the runtime up and then runs everything that needs it.
func (a *Agent) runPods(ctx context.Context) error {
	if err := a.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	a.lifetime = ctx
	if err := a.register(ctx); err != nil {
		return nil // ctx ended
	}
	g.Go(func() error { return a.followRuntime(ctx) })
	g.Go(func() error { return a.followPods(ctx) })
	g.Go(func() error { return a.heartbeat(ctx) })
	g.Go(func() error { return a.lease(ctx) })
	g.Go(func() error { return a.rotateLogs(ctx) })
	close(a.ready)
	return g.Wait()
}

func (a *Agent) prepare(ctx context.Context) error {
	tree, err := cgroup.Open()
	if err != nil {
		return err
	}
	cpus := a.machine.capacity[corev1.ResourceCPU]
	if a.qos, err = newQOSTree(a.cfg.CgroupRoot, tree, cpus.Value()); err != nil {
		return err
	}
	// A foreign runtime refuses what it cannot do.
	a.spec.Seccomp = a.supervisor == nil || seccompAvailable(ctx, filepath.Join(a.cfg.BinDir, "runc"))
	wait, cancel := context.WithTimeout(ctx, a.cfg.RuntimeTimeout)
	defer cancel()
	if a.supervisor != nil {
		select {
		case <-a.supervisor.Ready():
		case <-wait.Done():
			return fmt.Errorf("cannot run pods: the bundled containerd did not come up in %v", a.cfg.RuntimeTimeout)
		}
	}
	v, err := a.runtime.Version(wait)
	if err != nil {
		return fmt.Errorf("cannot run pods: container runtime at %q does not answer: %w", a.cfg.Socket(), err)
	}
	a.machine.info.ContainerRuntimeVersion = v.Name + "://" + v.Version
	if a.cfg.PodCIDR != "" {
		if err := a.runtime.SetPodCIDR(wait, a.cfg.PodCIDR); err != nil {
			return fmt.Errorf("cannot tell the container runtime the pod CIDR: %w", err)
		}
	}
	if err := a.importer.Import(ctx, a.cfg.Socket(), a.cfg.ImageDirs); err != nil {
		// The other images are there, and pods that need this one say so.
		a.tel.Log.Error("cannot import all images", "error", err)
	}
	return nil
}

// seccompAvailable asks runc whether it was built to confine by seccomp.
func seccompAvailable(ctx context.Context, runc string) bool {
	out, err := exec.CommandContext(ctx, runc, "features").Output()
	if err != nil {
		return false
	}
	var f struct {
		Linux struct {
			Seccomp struct {
				Enabled bool `json:"enabled"`
			} `json:"seccomp"`
		} `json:"linux"`
	}
	return json.Unmarshal(out, &f) == nil && f.Linux.Seccomp.Enabled
}

// handler returns the runtime handler of the pod's RuntimeClass, "" for the
// default one.
func (a *Agent) handler(ctx context.Context, pod *corev1.Pod) (string, error) {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return "", nil
	}
	rc, err := read[*nodev1.RuntimeClass](ctx, a.client, "", *pod.Spec.RuntimeClassName)
	if err != nil {
		return "", fmt.Errorf("cannot find the pod's runtime class: %w", err)
	}
	return rc.Handler, nil
}

func (a *Agent) allWorkers() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		out = append(out, w)
	}
	return out
}

func (a *Agent) worker(uid types.UID) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers[uid]
}

// ensureWorker returns the pod's worker, started if there was none.
func (a *Agent) ensureWorker(ctx context.Context, pod *corev1.Pod, removed bool) (w *worker, fresh bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[pod.UID]; w != nil {
		return w, false
	}
	w = a.newWorker(pod, removed)
	a.workers[pod.UID] = w
	a.wg.Go(func() {
		w.run(ctx)
		a.mu.Lock()
		delete(a.workers, pod.UID)
		a.mu.Unlock()
	})
	return w, true
}

func (a *Agent) countRunning() (int, map[string]int) {
	pods, containers := 0, map[string]int{"running": 0}
	for _, w := range a.allWorkers() {
		_, v := w.snapshot()
		for _, s := range v.sandboxes {
			if s.Ready {
				pods++
				break
			}
		}
		for _, c := range v.containers {
			containers[c.State.String()]++
		}
	}
	return pods, containers
}

func (a *Agent) countActive() int {
	n := 0
	for _, w := range a.allWorkers() {
		if _, v := w.snapshot(); !v.terminal {
			n++
		}
	}
	return n
}
