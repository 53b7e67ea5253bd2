package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/deployment"
	"binnacle.io/core/controller/endpointslice"
	"binnacle.io/core/controller/garbage"
	"binnacle.io/core/controller/namespace"
	"binnacle.io/core/controller/nodelifecycle"
	"binnacle.io/core/controller/replicaset"
	"binnacle.io/core/controller/serviceaccount"
	"binnacle.io/core/controller/volumeprotection"
	"binnacle.io/core/kind"
	"binnacle.io/core/scheduler"
	"binnacle.io/core/telemetry"
)

// start runs everything above the node.
func start(t *testing.T) (context.Context, *apitest.Server) {
	s := apitest.Start(t, apitest.WithHub(telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(t.Output(), nil)})),
		apitest.WithPlugins(func(client.Client) []admission.Plugin {
			return []admission.Plugin{admission.NewStorageObjectInUseProtection()}
		}))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s ended: %v", what, err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	tel := s.Hub.Component("controller-manager", "kube-controller-manager")
	m := controller.New(controller.Config{Identity: "test"}, s.Client, tel)
	for _, c := range []controller.Controller{
		deployment.New(), replicaset.New(), replicaset.NewReplicationController(), endpointslice.New(), endpointslice.NewEndpoints(),
		namespace.New(func() []client.Resource { return s.Kinds.Deletable(kind.Namespaced) }), serviceaccount.New(), serviceaccount.NewRootCA("PEM"),
		nodelifecycle.NewIPAM(netip.MustParsePrefix("10.244.0.0/16"), 24),
		volumeprotection.NewClaims(), volumeprotection.NewVolumes(), volumeprotection.NewClasses(),
	} {
		if err := m.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	run("controllers", m.Run)
	run("garbage collector", garbage.New(s.Client, s.Kinds, tel).Run)
	run("scheduler", scheduler.New(scheduler.Config{}, s.Client, s.Hub.Component("scheduler", "kube-scheduler")).Run)
	return ctx, s
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func mustCreate[T client.Object](t *testing.T, ctx context.Context, c client.Client, o T) T {
	t.Helper()
	out, err := client.Create(ctx, c, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func web(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
			},
		},
	}
}

func addNode(t *testing.T, ctx context.Context, c client.Client, name string) {
	n := mustCreate(t, ctx, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}).DeepCopy()
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.ResourceVersion = "" // the node lifecycle controller writes the spec meanwhile
	if _, err := client.UpdateStatus(ctx, c, n); err != nil {
		t.Fatal(err)
	}
}

// makeReady plays the agent.
func makeReady(t *testing.T, ctx context.Context, c client.Client, p *corev1.Pod, ip string) {
	_, err := client.Modify(ctx, c, p.Namespace, p.Name, "status", func(p *corev1.Pod) (bool, error) {
		p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func pods(ctx context.Context, c client.Client) []*corev1.Pod {
	list, _, err := client.ListOf[*corev1.Pod](ctx, c, client.ReadOptions{Namespace: "default"})
	if err != nil {
		panic(err)
	}
	return list
}

func TestFromDeploymentToEndpoint(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	addNode(t, ctx, c, "n1")
	mustCreate(t, ctx, c, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}},
	})
	mustCreate(t, ctx, c, web(3))
	eventually(t, "three pods on the node", func() error {
		bound := 0
		for _, p := range pods(ctx, c) {
			if p.Spec.NodeName == "n1" {
				bound++
			}
		}
		if bound != 3 {
			return fmt.Errorf("%d are bound", bound)
		}
		return nil
	})
	for i, p := range pods(ctx, c) {
		makeReady(t, ctx, c, p, fmt.Sprintf("10.244.0.%d", i+10))
	}
	eventually(t, "endpoints", func() error {
		list, _, err := client.ListOf[*discoveryv1.EndpointSlice](ctx, c, client.ReadOptions{Namespace: "default"})
		if err != nil {
			return err
		}
		for _, es := range list {
			if es.Labels[discoveryv1.LabelServiceName] == "web" && len(es.Endpoints) == 3 && *es.Ports[0].Port == 8080 {
				return nil
			}
		}
		return fmt.Errorf("%d slices, none with three endpoints on port 8080", len(list))
	})
	eventually(t, "the Deployment's status", func() error {
		d, err := client.Get[*appsv1.Deployment](ctx, c, "default", "web")
		if err != nil {
			return err
		}
		if d.Status.AvailableReplicas != 3 || d.Status.ObservedGeneration != d.Generation {
			return fmt.Errorf("status is %+v", d.Status)
		}
		return nil
	})
}

func TestOwnersGoDependentsFollow(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	mustCreate(t, ctx, c, web(2))
	eventually(t, "two pods", func() error {
		if n := len(pods(ctx, c)); n != 2 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	if err := client.Delete[*appsv1.Deployment](ctx, c, "default", "web", client.DeleteOptions{Propagation: metav1.DeletePropagationForeground}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything gone", func() error {
		rs, _, err := client.ListOf[*appsv1.ReplicaSet](ctx, c, client.ReadOptions{Namespace: "default"})
		if err != nil {
			return err
		}
		_, err = client.Get[*appsv1.Deployment](ctx, c, "default", "web")
		if n := len(pods(ctx, c)); n > 0 || len(rs) > 0 || !apierrors.IsNotFound(err) {
			return fmt.Errorf("%d pods, %d replica sets, deployment: %v", n, len(rs), err)
		}
		return nil
	})
}

func TestOrphansStay(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	mustCreate(t, ctx, c, web(1))
	eventually(t, "a pod", func() error {
		if n := len(pods(ctx, c)); n != 1 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	if err := client.Delete[*appsv1.Deployment](ctx, c, "default", "web", client.DeleteOptions{Propagation: metav1.DeletePropagationOrphan}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a ReplicaSet without owner", func() error {
		_, err := client.Get[*appsv1.Deployment](ctx, c, "default", "web")
		rs, _, lerr := client.ListOf[*appsv1.ReplicaSet](ctx, c, client.ReadOptions{Namespace: "default"})
		if lerr != nil {
			return lerr
		}
		if !apierrors.IsNotFound(err) || len(rs) != 1 || len(rs[0].OwnerReferences) != 0 {
			return fmt.Errorf("deployment: %v; %d replica sets", err, len(rs))
		}
		return nil
	})
}

func TestNamespaceIsEmptiedAndGoes(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	mustCreate(t, ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "short"}})
	eventually(t, "the default service account and the CA", func() error {
		_, err := client.Get[*corev1.ServiceAccount](ctx, c, "short", "default")
		if err != nil {
			return err
		}
		_, err = client.Get[*corev1.ConfigMap](ctx, c, "short", "kube-root-ca.crt")
		return err
	})
	held := mustCreate(t, ctx, c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "short", Name: "held", Finalizers: []string{"example.com/held"}}})
	if err := client.Delete[*corev1.Namespace](ctx, c, "", "short", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace says what it waits for", func() error {
		ns, err := client.Get[*corev1.Namespace](ctx, c, "", "short")
		if err != nil {
			return err
		}
		for _, cond := range ns.Status.Conditions {
			if cond.Type == corev1.NamespaceFinalizersRemaining && cond.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions: %+v", ns.Status.Conditions)
	})
	if _, err := client.Create(ctx, c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "short", Name: "late"}}); !apierrors.IsForbidden(err) {
		t.Errorf("creating in a namespace that goes: %v, want Forbidden", err)
	}
	if _, err := client.Patch[*corev1.ConfigMap](ctx, c, held.Namespace, held.Name, types.JSONPatchType,
		[]byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func() error {
		if _, err := client.Get[*corev1.Namespace](ctx, c, "", "short"); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %v", err)
		}
		return nil
	})
}

func TestUnschedulablePodSaysWhyAndRecovers(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	p := web(1).Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "big"}, Spec: *p.Spec.DeepCopy()}
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](0)
	eventually(t, "the namespace is ready", func() error {
		_, err := client.Create(ctx, c, pod)
		return err
	})
	condition := func(want string) func() error {
		return func() error {
			p, err := client.Get[*corev1.Pod](ctx, c, "default", "big")
			if err != nil {
				return err
			}
			if c := controller.PodCondition(p, corev1.PodScheduled); c == nil || c.Message != want {
				return fmt.Errorf("condition is %+v", c)
			}
			return nil
		}
	}
	eventually(t, "no node", condition("no nodes available to schedule pods"))
	addNode(t, ctx, c, "n1")
	eventually(t, "bound once there is a node", func() error {
		p, err := client.Get[*corev1.Pod](ctx, c, "default", "big")
		if err == nil && p.Spec.NodeName != "n1" {
			err = fmt.Errorf("node is %q", p.Spec.NodeName)
		}
		return err
	})
	eventually(t, "the node has a pod CIDR", func() error {
		n, err := client.Get[*corev1.Node](ctx, c, "", "n1")
		if err == nil && n.Spec.PodCIDR != "10.244.0.0/24" {
			err = fmt.Errorf("pod CIDR is %q", n.Spec.PodCIDR)
		}
		return err
	})
}
