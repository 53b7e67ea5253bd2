package node_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/node/nodetest"
)

// pod returns a host-network pod of one container with the given arguments.
func pod(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{
			NodeName: "node", HostNetwork: true, TerminationGracePeriodSeconds: ptr(int64(2)),
			AutomountServiceAccountToken: ptr(false), ServiceAccountName: "default",
			Containers: []corev1.Container{{Name: "main", Image: nodetest.Image, Args: args}},
		},
	}
}

func ptr[T any](v T) *T { return &v }

// create stores a pod.
func create(t testing.TB, c client.Client, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	got, err := client.Create(context.Background(), c, p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// await waits until the pod is as ok says.
func await(t testing.TB, c client.Client, name string, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	w, err := client.WatchOf[*corev1.Pod](ctx, c, "", client.ReadOptions{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var last *corev1.Pod
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("pod %q did not become %s: %v; last:\n%s%s", name, what, err, describe(last), events(c))
		}
		if ev.Type == client.Bookmark && last == nil && ok(nil) {
			return nil
		}
		p, isPod := ev.Object.(*corev1.Pod)
		if !isPod || p.Name != name {
			continue
		}
		last = p
		if ev.Type == client.Deleted {
			p = nil
		}
		if ok(p) {
			return last
		}
	}
}

func describe(p *corev1.Pod) string {
	if p == nil {
		return "nothing\n"
	}
	s := fmt.Sprintf("phase %s %s %s\n", p.Status.Phase, p.Status.Reason, p.Status.Message)
	for _, cs := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		s += fmt.Sprintf("  %s: ready %v restarts %d state %s last %s\n", cs.Name, cs.Ready, cs.RestartCount, cs.State.String(), cs.LastTerminationState.String())
	}
	for _, c := range p.Status.Conditions {
		s += fmt.Sprintf("  %s=%s %s %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return s
}

func events(c client.Client) string {
	list, _, err := client.ListOf[*corev1.Event](context.Background(), c, client.ReadOptions{})
	if err != nil {
		return err.Error()
	}
	s := ""
	for _, e := range list {
		s += fmt.Sprintf("  event %s/%s %s %s: %s (%d)\n", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Type, e.Reason, e.Message, e.Count)
	}
	return s
}

func ready(p *corev1.Pod) bool {
	return p != nil && condition(p, corev1.PodReady) == corev1.ConditionTrue
}
func gone(p *corev1.Pod) bool { return p == nil }

func condition(p *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func remove(t testing.TB, c client.Client, name string) {
	t.Helper()
	if err := client.Delete[*corev1.Pod](context.Background(), c, "default", name, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, c, name, "gone", gone)
}

func TestPodRunsAndGoes(t *testing.T) {
	s := apitest.Start(t)
	spans := tracetest.NewSpanRecorder()
	s.Hub.AddSpanProcessor(spans)
	n := nodetest.Start(t, s.Client, s.Hub, nil)
	began := time.Now()
	ctx, root := s.Telemetry.Tracer.Start(context.Background(), "apply")
	if _, err := client.Create(ctx, s.Client, pod("web", "sleep")); err != nil {
		t.Fatal(err)
	}
	root.End()
	p := await(t, s.Client, "web", "ready", ready)
	t.Logf("ready after %v", time.Since(began))
	cs := p.Status.ContainerStatuses[0]
	if p.Status.Phase != corev1.PodRunning || !cs.Ready || cs.State.Running == nil || p.Status.PodIP == "" || p.Status.HostIP == "" {
		t.Errorf("unexpected status:\n%s", describe(p))
	}
	log := filepath.Join(n.Config.LogDir, "pods", "default_web_"+string(p.UID), "main", "0.log")
	eventually(t, "the log", func() bool {
		b, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(b), "stdout F started")
	})
	list, _, err := client.ListOf[*corev1.Event](t.Context(), s.Client, client.ReadOptions{})
	if err != nil || !slices.ContainsFunc(list, func(e *corev1.Event) bool { return e.Reason == "Starting" && e.InvolvedObject.UID == "node" }) {
		t.Errorf("kubectl describe node finds no event: %v, %v", err, list)
	}
	for _, want := range []string{"pod sync", "create sandbox", "create container", "start container"} {
		eventually(t, "the span "+want, func() bool {
			return slices.ContainsFunc(spans.Ended(), func(sp sdktrace.ReadOnlySpan) bool {
				return sp.Name() == want && sp.SpanContext().TraceID() == root.SpanContext().TraceID()
			})
		})
	}
	remove(t, s.Client, "web")
	for _, want := range []string{"Pulled", "Created", "Started", "Killing"} {
		if !strings.Contains(events(s.Client), "Pod/web Normal "+want) {
			t.Errorf("no event %s:\n%s", want, events(s.Client))
		}
	}
	node, err := client.Get[*corev1.Node](context.Background(), s.Client, "", "node")
	if err != nil {
		t.Fatal(err)
	}
	if node.Status.NodeInfo.ContainerRuntimeVersion == "" || node.Status.Capacity.Cpu().IsZero() || node.Status.DaemonEndpoints.KubeletEndpoint.Port == 0 ||
		node.Labels[corev1.LabelHostname] != "node" || len(node.Status.Images) != 2 || len(node.Status.Addresses) != 2 {
		t.Errorf("node %+v", node)
	}
	lease, err := client.Get[*coordinationv1.Lease](context.Background(), s.Client, "kube-node-lease", "node")
	if err != nil || *lease.Spec.HolderIdentity != "node" || lease.OwnerReferences[0].UID != node.UID {
		t.Errorf("lease %+v, %v", lease, err)
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
