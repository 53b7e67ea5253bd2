package dashboards_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/alerting"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/deployment"
	"binnacle.io/core/controller/replicaset"
	"binnacle.io/core/events"
	"binnacle.io/core/scheduler"
	"binnacle.io/core/telemetry"
	"binnacle.io/dashboards"
	"binnacle.io/exporters/cgroup"
	nodeexporter "binnacle.io/exporters/node"
	"binnacle.io/metrics"
	"binnacle.io/metrics/autoscale"
	"binnacle.io/tracing"
)

// nodeName is the one node of the stage; its agent and its containers' use of
// CPU and memory are played, everything else is real.
const nodeName = "harbour-1"

// stage is a cluster without a container runtime, with the page in front.
type stage struct {
	t      testing.TB
	ctx    context.Context
	api    *apitest.Server
	client client.Client
	url    string
	ui     *telemetry.Component
	agent  *agent
	server *http.Server
	addr   string
	routes http.Handler
}

func newStage(t testing.TB) *stage {
	t.Helper()
	hub := telemetry.NewHub(telemetry.Config{Node: nodeName, Log: slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})})
	api := apitest.Start(t, apitest.WithHub(hub))
	ctx, cancel := context.WithCancel(context.Background())
	s := &stage{t: t, ctx: ctx, api: api, client: api.Client, agent: &agent{client: api.Client, load: map[string]float64{}}}
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	run := func(what string, f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s ended: %v", what, err)
			}
		})
	}

	traces, err := tracing.New(tracing.Config{}, hub.Component("tracing", "tracing"))
	must(t, err)
	hub.AddSpanProcessor(traces.Processor())
	run("tracing", traces.Run)

	controllers := hub.Component("controller-manager", "kube-controller-manager")
	manager := controller.New(controller.Config{Identity: "test"}, api.Client, controllers)
	must(t, manager.Add(deployment.New()))
	must(t, manager.Add(replicaset.New()))
	run("controllers", manager.Run)
	run("scheduler", scheduler.New(scheduler.Config{}, api.Client, hub.Component("scheduler", "kube-scheduler")).Run)
	s.agent.tel = hub.Component("agent", "kubelet")
	s.agent.events = events.NewRecorder(events.Config{Component: "kubelet", Host: nodeName}, api.Client, s.agent.tel)
	run("agent events", s.agent.events.Run)
	run("agent", s.agent.run)

	tel := hub.Component("metrics", "prometheus-k8s")
	machine, err := nodeexporter.New(nodeexporter.Config{Collectors: []string{"cpu", "meminfo"}}, tel.Log)
	must(t, err)
	history := cgroup.NewHistory()
	m, err := metrics.New(metrics.Config{Dir: t.TempDir(), Node: nodeName, Interval: time.Second}, hub, api.Client,
		&metrics.Containers{Inventory: s.agent, Source: s.agent, History: history}, tel,
		metrics.Source{Job: "node-exporter", Gatherer: machine})
	must(t, err)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		must(t, m.Close())
	})
	run("metrics", m.Run)

	alerts, err := alerting.New(alerting.Config{DataDir: t.TempDir(), NoDefaultRules: true, EvaluationInterval: time.Second},
		alerting.Deps{Queryable: m.Queryable(), Engine: m.Engine(), Appendable: m.Appendable()}, hub.Component("alerting", "alertmanager-main"))
	must(t, err)
	must(t, alerts.SetRules("stage", []byte(rules)))
	run("alerting", alerts.Run)

	rec := events.NewRecorder(events.Config{Component: "horizontal-pod-autoscaler"}, api.Client, controllers)
	run("autoscaler events", rec.Run)
	scaling := autoscale.New(autoscale.Config{CPUInitialization: time.Second, InitialReadinessDelay: time.Second}, api.Client, history, m, rec, controllers)
	run("autoscaling", scaling.Run)

	s.ui = hub.Component("dashboards", "binnacle-ui")
	mux := http.NewServeMux()
	mux.Handle("/", dashboards.Handler(dashboards.Deps{
		Client: api.Client, Metrics: m, Traces: traces, Rules: alerts, Alertmanager: alerts.Handler(), Decisions: scaling,
		Telemetry: s.ui, Interval: 200 * time.Millisecond,
	}))
	mux.Handle("/api/v1/", m.Handler())
	mux.Handle("/alertmanager/", alerts.Handler())
	s.routes = mux
	s.listen("127.0.0.1:0")
	t.Cleanup(s.hangUp)
	return s
}

// listen serves the page; hangUp breaks all connections.
func (s *stage) listen(addr string) {
	l, err := net.Listen("tcp", addr)
	must(s.t, err)
	s.addr, s.url = l.Addr().String(), "http://"+l.Addr().String()
	server := &http.Server{Handler: s.routes, BaseContext: func(net.Listener) context.Context { return s.ctx }}
	s.server = server
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	s.t.Cleanup(func() { _ = server.Close(); <-done })
}

func (s *stage) hangUp() { _ = s.server.Close() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create[T client.Object](s *stage, o T) T {
	s.t.Helper()
	out, err := client.Create(s.t.Context(), s.client, o)
	must(s.t, err)
	return out
}

const rules = `
groups:
- name: stage
  interval: 1s
  rules:
  - alert: KubePodNotReady
    expr: sum by (namespace, pod) (kube_pod_status_phase{phase="Pending"} * on (namespace, pod) group_left () kube_pod_info{node!=""}) > 0
    labels: {severity: warning}
    annotations:
      summary: Pod is not ready.
      description: 'Pod {{ $labels.namespace }}/{{ $labels.pod }} has been placed on a node and does not become ready.'
  - alert: KubeNodeMemoryHigh
    expr: sum(node_memory_MemTotal_bytes) > 1
    for: 1h
    labels: {severity: warning}
    annotations: {summary: Memory of the node is scarce.}
  - alert: Watchdog
    expr: vector(1)
    labels: {severity: none}
    annotations: {summary: Alerting works from end to end.}
`

// populate makes a node, a small shop and a broken pod.
func (s *stage) populate() {
	n := create(s, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{
		"node-role.kubernetes.io/control-plane": "", "kubernetes.io/hostname": nodeName,
	}}}).DeepCopy()
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	n.Status.Capacity = n.Status.Allocatable
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.10"}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
	n.Status.NodeInfo = corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", ContainerRuntimeVersion: "containerd://2.4.0", OSImage: "Debian", KernelVersion: "6.12.0"}
	_, err := client.UpdateStatus(s.t.Context(), s.client, n)
	must(s.t, err)
	create(s, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	create(s, deploy("default", "guestbook-store", "guestbook-store:1", 1, "50m", "64Mi", "200m", "128Mi"))
	create(s, deploy("default", "guestbook-frontend", "guestbook-frontend:1", 2, "100m", "48Mi", "500m", "96Mi"))
	create(s, deploy("shop", "cart", "shop/cart:2.1", 2, "80m", "96Mi", "", ""))
	create(s, deploy("shop", "payments", "registry.invalid/payments:latest", 1, "50m", "64Mi", "", ""))
	create(s, deploy("shop", "reports", "shop/reports:1", 1, "16", "64Mi", "", "")) // fits nowhere
	create(s, &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "guestbook-frontend"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "guestbook-frontend"},
			MinReplicas:    new(int32(2)), MaxReplicas: 8,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(60))},
			}}},
		},
	})
}

func deploy(namespace, name, image string, replicas int32, cpu, memory, cpuLimit, memoryLimit string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	res := corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}}
	if cpuLimit != "" {
		res.Limits = corev1.ResourceList{"cpu": resource.MustParse(cpuLimit), "memory": resource.MustParse(memoryLimit)}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: image, Resources: res, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			},
		},
	}
}

// agent plays the node: pods placed on it run at once unless their image has
// the registry registry.invalid, and use CPU as load says.
type agent struct {
	client client.Client
	tel    *telemetry.Component
	events *events.Recorder

	mu      sync.Mutex
	load    map[string]float64 // cores over all pods of an app label
	running []*played
	serial  atomic.Int64
	last    time.Time
}

type played struct {
	cgroup.Container
	app    string
	cpu    float64 // nanoseconds
	memory float64
}

func (a *agent) setLoad(app string, cores float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.load[app] = cores
}

func (a *agent) run(ctx context.Context) error {
	w, err := client.WatchOf[*corev1.Pod](ctx, a.client, "", client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		p, ok := e.Object.(*corev1.Pod)
		if !ok || p.Spec.NodeName != nodeName {
			continue
		}
		switch {
		case e.Type == client.Deleted:
			a.end(p)
		case p.DeletionTimestamp != nil:
			zero := int64(0)
			if err := client.Delete[*corev1.Pod](ctx, a.client, p.Namespace, p.Name, client.DeleteOptions{UID: p.UID, GracePeriodSeconds: &zero}); err != nil && ctx.Err() == nil {
				return fmt.Errorf("cannot end %s: %w", p.Name, err)
			}
		case len(p.Status.ContainerStatuses) == 0:
			if err := a.begin(ctx, p); err != nil && ctx.Err() == nil {
				return fmt.Errorf("cannot begin %s: %w", p.Name, err)
			}
		}
	}
}

func (a *agent) begin(ctx context.Context, p *corev1.Pod) (err error) {
	ctx, span := a.tel.Tracer.Start(telemetry.FromObject(ctx, p), "pod sync")
	defer func() { telemetry.End(span, err) }()
	now, n := metav1.Now(), a.serial.Add(1)
	c := &p.Spec.Containers[0]
	_, err = client.Modify(ctx, a.client, p.Namespace, p.Name, "status", func(p *corev1.Pod) (bool, error) {
		p.Status.Phase, p.Status.StartTime = corev1.PodRunning, &now
		p.Status.PodIP = fmt.Sprintf("10.244.0.%d", n+1)
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
		ready := corev1.ConditionTrue
		status := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: true, Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}
		if strings.HasPrefix(c.Image, "registry.invalid/") {
			ready, p.Status.Phase, status.Ready, status.Started = corev1.ConditionFalse, corev1.PodPending, false, new(false)
			status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "ImagePullBackOff", Message: `Back-off pulling image "` + c.Image + `": no such host`,
			}}
		}
		p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type != corev1.PodScheduled })
		for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
			s := ready
			if t == corev1.PodInitialized {
				s = corev1.ConditionTrue
			}
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: s, LastTransitionTime: now})
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{status}
		return true, nil
	})
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.Image, "registry.invalid/") {
		a.events.Event(p, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: no such host", c.Image)
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = append(a.running, &played{
		Container: cgroup.Container{
			ID: fmt.Sprintf("%064x", n), Namespace: p.Namespace, Pod: p.Name, PodUID: string(p.UID), Name: c.Name, Image: c.Image,
			CgroupPath: "/kubepods/pod" + string(p.UID), StartedAt: now.Time,
		},
		app: p.Labels["app"], memory: c.Resources.Requests.Memory().AsApproximateFloat64() * .55,
	})
	return nil
}

func (a *agent) end(p *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = slices.DeleteFunc(a.running, func(c *played) bool { return c.PodUID == string(p.UID) })
}

// Containers is the inventory.
func (a *agent) Containers() []cgroup.Container {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]cgroup.Container, len(a.running))
	for i, c := range a.running {
		out[i] = c.Container
	}
	return out
}

// Sample lets time pass for all containers.
func (a *agent) Sample(dst []cgroup.Sample, _ []cgroup.Container) []cgroup.Sample {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	passed := time.Second
	if !a.last.IsZero() {
		passed = now.Sub(a.last)
	}
	a.last = now
	pods := map[string]float64{}
	for _, c := range a.running {
		pods[c.app]++
	}
	for i, c := range a.running {
		wave := 1 + .25*math.Sin(float64(now.UnixMilli())/3700+float64(i)*1.9) + .12*math.Sin(float64(now.UnixMilli())/900+float64(i))
		cores := .004*wave + a.load[c.app]/pods[c.app]*wave
		c.cpu += cores * float64(passed.Nanoseconds())
		c.memory *= 1 + .004*math.Sin(float64(now.UnixMilli())/5000+float64(i))
		container := c.Container
		dst = append(dst, cgroup.Sample{Container: &container, Time: now, Usage: cgroup.Usage{
			CPU: uint64(c.cpu), Memory: uint64(c.memory * 1.1), WorkingSet: uint64(c.memory),
		}})
	}
	return dst
}

// Node is not sampled: the page reads the machine's own exporter.
func (a *agent) Node() (cgroup.Usage, time.Time, error) { return cgroup.Usage{}, time.Now(), nil }
