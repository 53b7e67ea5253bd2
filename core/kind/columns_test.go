package kind

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func row(t *testing.T, o Object, now time.Time) string {
	t.Helper()
	var cells []string
	for _, c := range kindOf(t, o).Columns {
		cells = append(cells, fmt.Sprint(c.Cell(o, now)))
	}
	return strings.Join(cells, " | ")
}

func TestRows(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	meta := metav1.ObjectMeta{Name: "x", Namespace: "default", CreationTimestamp: ago(5 * time.Minute)}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	ended := func(reason string, code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, FinishedAt: ago(time.Minute)}}
	}
	withPod := func(change func(*corev1.Pod)) Object {
		p := aPod()
		p.ObjectMeta = meta
		p.Status.Phase = corev1.PodRunning
		change(p)
		return p
	}
	deleted := ago(time.Second)
	for _, tc := range []struct {
		name string
		obj  Object
		want string
	}{
		{"pending pod", withPod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }), "x | 0/1 | Pending | 0 | 5m | <none> | <none> | <none> | <none>"},
		{"running pod", withPod(func(p *corev1.Pod) {
			p.Spec.NodeName, p.Status.PodIP = "n1", "10.0.0.1"
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: true, State: running}}
		}), "x | 1/1 | Running | 0 | 5m | 10.0.0.1 | n1 | <none> | <none>"},
		{"crash loop", withPod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "c", RestartCount: 3, State: waiting("CrashLoopBackOff"), LastTerminationState: ended("Error", 1),
			}}
		}), "x | 0/1 | CrashLoopBackOff | 3 (60s ago) | 5m | <none> | <none> | <none> | <none>"},
		{"init", withPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}, {Name: "j"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: ended("Completed", 0)}, {Name: "j", State: running}}
		}), "x | 0/1 | Init:1/2 | 0 | 5m | <none> | <none> | <none> | <none>"},
		{"init failed", withPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: ended("Error", 1)}}
		}), "x | 0/1 | Init:Error | 0 | 5m | <none> | <none> | <none> | <none>"},
		{"sidecar", withPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", Started: ptr(true), Ready: true, State: running}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: true, State: running}}
		}), "x | 2/2 | Running | 0 | 5m | <none> | <none> | <none> | <none>"},
		{"terminating", withPod(func(p *corev1.Pod) { p.DeletionTimestamp = &deleted }), "x | 0/1 | Terminating | 0 | 5m | <none> | <none> | <none> | <none>"},
		{"completed", withPod(func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: ended("Completed", 0)}}
		}), "x | 0/1 | Completed | 0 | 5m | <none> | <none> | <none> | <none>"},
		{"node", &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: ago(50 * time.Hour), Labels: map[string]string{"node-role.kubernetes.io/control-plane": ""}},
			Spec:       corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2"},
			},
		}, "n | Ready,SchedulingDisabled | control-plane | 2d2h | v1.37.2 | 192.0.2.1 | <none> | <unknown> | <unknown> | <unknown>"},
		{"deployment", func() Object {
			d := aDeployment()
			d.ObjectMeta = meta
			d.Spec.Replicas = ptr(int32(3))
			d.Status = appsv1.DeploymentStatus{ReadyReplicas: 2, UpdatedReplicas: 3, AvailableReplicas: 2}
			return d
		}(), "x | 2/3 | 3 | 2 | 5m | c | nginx:1 | app=a"},
		{"service", &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Type: "NodePort", ClusterIP: "10.96.0.9", Selector: map[string]string{"b": "c", "a": "b"},
			Ports: []corev1.ServicePort{{Port: 80, NodePort: 30001, Protocol: "TCP"}, {Port: 53, Protocol: "UDP"}},
		}}, "x | NodePort | 10.96.0.9 | <none> | 80:30001/TCP,53/UDP | 5m | a=b,b=c"},
		{"balancer", &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: "LoadBalancer"}}, "x | LoadBalancer | <none> | <pending> | <none> | 5m | <none>"},
		{"autoscaler", &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: meta,
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "d"},
				MinReplicas:    ptr(int32(1)), MaxReplicas: 10, Metrics: []autoscalingv2.MetricSpec{cpuUtilization(ptr(int32(50)))},
			},
			Status: autoscalingv2.HorizontalPodAutoscalerStatus{
				CurrentReplicas: 3,
				CurrentMetrics: []autoscalingv2.MetricStatus{{Type: "Resource", Resource: &autoscalingv2.ResourceMetricStatus{
					Name: "cpu", Current: autoscalingv2.MetricValueStatus{AverageUtilization: ptr(int32(42))},
				}}},
			},
		}, "x | Deployment/d | cpu: 42%/50% | 1 | 10 | 3 | 5m"},
		{"event", &corev1.Event{
			ObjectMeta: meta, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p"}, Type: "Warning", Reason: "Failed", Message: "no\n",
			FirstTimestamp: ago(time.Hour), LastTimestamp: ago(time.Minute), Count: 4, Source: corev1.EventSource{Component: "kubelet", Host: "n"},
		}, "60s | Warning | Failed | pod/p |  | kubelet, n | no | 60m | 4 | x"},
		{"endpoints", &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}, {IP: "10.0.0.3"}, {IP: "10.0.0.4"}},
			Ports:     []corev1.EndpointPort{{Port: 80}},
		}}}, "x | 10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more... | 5m"},
		{"namespace", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Status: corev1.NamespaceStatus{Phase: "Active"}}, "x | Active | <unknown>"},
		{"config map", &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}}, "x | 2 | 5m"},
		{"secret", &corev1.Secret{ObjectMeta: meta, Type: "Opaque", Data: map[string][]byte{"b": nil}}, "x | Opaque | 1 | 5m"},
	} {
		if got := row(t, tc.obj, now); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

func TestFieldSelectors(t *testing.T) {
	p := aPod()
	p.Spec.NodeName, p.Status.Phase = "n1", corev1.PodRunning
	f := kindOf(t, p).Fields(p)
	for key, want := range map[string]string{"spec.nodeName": "n1", "status.phase": "Running", "spec.hostNetwork": "false"} {
		if got := f.Get(key); got != want || !f.Has(key) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestQOSClass(t *testing.T) {
	both := rlist("1", "1Gi")
	for _, tc := range []struct {
		name             string
		requests, limits corev1.ResourceList
		want             corev1.PodQOSClass
	}{
		{"none", nil, nil, corev1.PodQOSBestEffort},
		{"limits only", nil, both, corev1.PodQOSGuaranteed},
		{"less asked", rlist("500m", "1Gi"), both, corev1.PodQOSBurstable},
		{"requests only", both, nil, corev1.PodQOSBurstable},
	} {
		p := aPod()
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: tc.requests, Limits: tc.limits}
		defaultPod(p)
		if got := QOSClass(&p.Spec); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
