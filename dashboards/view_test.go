package dashboards

import (
	"math"
	"net/http"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/telemetry"
	"binnacle.io/metrics/autoscale"
	"binnacle.io/tracing"
)

func waiting(name, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func ended(name string, code int32, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}}
}

func runs(name string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func TestPodStatus(t *testing.T) {
	ready := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	inits := func(restart corev1.ContainerRestartPolicy, n int) corev1.PodSpec {
		var s corev1.PodSpec
		for range n {
			c := corev1.Container{Name: "i"}
			if restart != "" {
				c.RestartPolicy = &restart
			}
			s.InitContainers = append(s.InitContainers, c)
		}
		return s
	}
	now := metav1.Now()
	for name, c := range map[string]struct {
		pod     corev1.Pod
		status  string
		level   level
		message string
	}{
		"new":         {corev1.Pod{}, "Pending", levelProgress, ""},
		"running":     {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: ready, ContainerStatuses: []corev1.ContainerStatus{runs("a")}}}, "Running", levelOK, ""},
		"not ready":   {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{runs("a")}}}, "Running", levelWarn, "not ready"},
		"terminating": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}, "Terminating", levelProgress, ""},
		"evicted":     {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "low on memory"}}, "Evicted", levelError, "low on memory"},
		"unschedulable": {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "no room"}}}}, "Pending", levelWarn, "no room"},
		"creating": {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{waiting("a", "ContainerCreating", "")}}},
			"ContainerCreating", levelProgress, ""},
		"worst container counts": {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			runs("a"), waiting("b", "ContainerCreating", ""), waiting("c", "CrashLoopBackOff", "back-off 10s")}}}, "CrashLoopBackOff", levelError, "c: back-off 10s"},
		"killed":    {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{ended("a", 137, "OOMKilled")}}}, "OOMKilled", levelError, "a: exit code 137"},
		"no reason": {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{ended("a", 3, "")}}}, "ExitCode:3", levelError, "a: exit code 3"},
		"completed": {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{ended("a", 0, "Completed")}}}, "Completed", levelDone, ""},
		"second init": {corev1.Pod{Spec: inits("", 2), Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
			ended("i", 0, "Completed"), {Name: "i", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}}, "Init:1/2", levelProgress, "i: has not finished"},
		"init fails": {corev1.Pod{Spec: inits("", 1), Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{ended("i", 1, "Error")}}},
			"Init:Error", levelError, ""},
		"init image": {corev1.Pod{Spec: inits("", 1), Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{waiting("i", "ErrImagePull", "no")}}},
			"Init:ErrImagePull", levelError, "i: no"},
		"started sidecar holds nothing up": {corev1.Pod{Spec: inits(corev1.ContainerRestartPolicyAlways, 1), Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: ready,
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}}, "Running", levelOK, ""},
	} {
		status, lv, message := podStatus(&c.pod)
		if status != c.status || lv != c.level || message != c.message {
			t.Errorf("%s: %q %q %q, want %q %q %q", name, status, lv, message, c.status, c.level, c.message)
		}
	}
}

func container(name, cpu, cpuLimit string) corev1.Container {
	c := corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
	if cpu != "" {
		c.Resources.Requests["cpu"] = resource.MustParse(cpu)
	}
	if cpuLimit != "" {
		c.Resources.Limits["cpu"] = resource.MustParse(cpuLimit)
	}
	return c
}

func TestPodResources(t *testing.T) {
	sidecar := container("s", "50m", "100m")
	always := corev1.ContainerRestartPolicyAlways
	sidecar.RestartPolicy = &always
	spec := &corev1.PodSpec{
		Containers:     []corev1.Container{container("a", "100m", "200m"), container("b", "200m", "300m")},
		InitContainers: []corev1.Container{container("i", "4", "4"), sidecar},
	}
	if r := podResources(spec); math.Abs(r.CPURequest-.35) > 1e-9 || math.Abs(r.CPULimit-.6) > 1e-9 {
		t.Errorf("%+v, want 0.35 requested and 0.6 as limit", r)
	}
	spec.Containers[1].Resources.Limits = nil
	if r := podResources(spec); r.CPULimit != 0 {
		t.Errorf("limit %v although one container has none", r.CPULimit)
	}
}

func TestDeploymentStates(t *testing.T) {
	two := int32(2)
	base := func(change func(*appsv1.Deployment)) *appsv1.Deployment {
		d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &two}, Status: appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2}}
		change(d)
		return d
	}
	for want, d := range map[string]*appsv1.Deployment{
		"Available":      base(func(*appsv1.Deployment) {}),
		"Rolling out":    base(func(d *appsv1.Deployment) { d.Status.Replicas = 3 }),
		"Becoming ready": base(func(d *appsv1.Deployment) { d.Status.ReadyReplicas = 1 }),
		"Paused":         base(func(d *appsv1.Deployment) { d.Spec.Paused = true }),
		"ProgressDeadlineExceeded": base(func(d *appsv1.Deployment) {
			d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
		}),
	} {
		if got := viewDeployment(d); got.Status != want {
			t.Errorf("%q, want %q", got.Status, want)
		}
	}
}

func TestNodeView(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{rolePrefix + "b": "", rolePrefix + "a": ""}}}
	if v := viewNode(n, nil); v.Level != levelError || v.Status != "NotReady" || v.Roles[0] != "a" {
		t.Errorf("silent node: %+v", v)
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue, Message: "little is left"}}
	pod := func(phase corev1.PodPhase, node string) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{container("a", "1", "")}}, Status: corev1.PodStatus{Phase: phase}}
	}
	v := viewNode(n, []*corev1.Pod{pod(corev1.PodRunning, "n"), pod(corev1.PodSucceeded, "n"), pod(corev1.PodRunning, "other")})
	if v.Level != levelWarn || v.Message != "MemoryPressure: little is left" || v.Pods != 1 || v.CPUAsked != 1 {
		t.Errorf("pressed node: %+v", v)
	}
	n.Spec.Unschedulable, n.Status.Conditions = true, n.Status.Conditions[:1]
	if v := viewNode(n, nil); v.Status != "Ready, cordoned" || v.Level != levelWarn {
		t.Errorf("cordoned node: %+v", v)
	}
}

func TestDecisionsAsSentences(t *testing.T) {
	at := time.Unix(1000, 0)
	for want, r := range map[string]autoscale.Record{
		"Scaled up 2 → 5: cpu above target":                                  {Current: 2, Desired: 5, Rescaled: true, Reason: "cpu above target"},
		"Scaled down 5 → 2: All metrics below target":                        {Current: 5, Desired: 2, Rescaled: true, Reason: "All metrics below target"},
		"Cannot decide: no metrics":                                          {Current: 2, Desired: 2, Error: "no metrics"},
		"Off: the target is scaled to zero":                                  {},
		"Holding 8 while metrics ask for 11: 8 is the greatest size allowed": {Current: 8, Desired: 8, Recommended: 11, Maximum: 8, Minimum: 1},
		"Holding 2 while metrics ask for 1: 2 is the smallest size allowed":  {Current: 2, Desired: 2, Recommended: 1, Maximum: 8, Minimum: 2},
		"Holding 5 while metrics ask for 3: waiting for 300s":                {Current: 5, Desired: 5, Recommended: 3, Maximum: 8, Minimum: 1, Conditions: map[string]string{"AbleToScale": "True ScaleDownStabilized"}},
		"Holding 4: metrics are within tolerance of their targets":           {Current: 4, Desired: 4, Recommended: 4},
	} {
		r.Time = at
		got := viewDecision(&r, []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.AbleToScale, Message: "waiting for 300s"}})
		if got.Text != want || got.At != at.UnixMilli() {
			t.Errorf("%q, want %q", got.Text, want)
		}
	}
}

func TestMetricsAgainstTargets(t *testing.T) {
	quantity := func(s string) *resource.Quantity { q := resource.MustParse(s); return &q }
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	h.Spec.Metrics = []autoscalingv2.MetricSpec{
		{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(60))}}},
		{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "memory", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: quantity("1Ki")}}},
		{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: quantity("30")}}},
	}
	h.Status.CurrentMetrics = []autoscalingv2.MetricStatus{
		{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Current: autoscalingv2.MetricValueStatus{Value: quantity("45")}}},
		{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: "cpu", Current: autoscalingv2.MetricValueStatus{AverageUtilization: new(int32(72))}}},
	}
	v := viewHPA(h, nil)
	for i, want := range []hpaMetric{
		{Name: "cpu", Unit: "percent", Target: 60, Current: new(72.0), Average: true},
		{Name: "memory", Unit: "bytes", Target: 1024, Average: true},
		{Name: "queue", Target: 30, Current: new(45.0)},
	} {
		got := v.Metrics[i]
		same := (got.Current == nil) == (want.Current == nil) && (got.Current == nil || *got.Current == *want.Current)
		got.Current, want.Current = nil, nil
		if got != want || !same {
			t.Errorf("metric %d: %+v, want %+v", i, v.Metrics[i], want)
		}
	}
}

func TestEventsOfBothStyles(t *testing.T) {
	base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	events := []*corev1.Event{
		{Type: "Warning", Reason: "Old", LastTimestamp: metav1.NewTime(base), Count: 3, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p"}},
		{Type: "Warning", Reason: "New", EventTime: metav1.NewMicroTime(base.Add(time.Minute)), Series: &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(base.Add(time.Hour))}},
		{Type: "Normal", Reason: "Fine"},
	}
	got := viewEvents(events, func(e *corev1.Event) bool { return e.Type == "Warning" })
	if len(got) != 2 || got[0].Reason != "New" || got[0].Count != 7 || got[0].Last != base.Add(time.Hour).UnixMilli() || got[1].Count != 3 || got[1].Object != "Pod/p" {
		t.Errorf("%+v", got)
	}
	for range 2 * maxEvents {
		events = append(events, &corev1.Event{Type: "Warning"})
	}
	if n := len(viewEvents(events, func(*corev1.Event) bool { return true })); n != maxEvents {
		t.Errorf("%d events, want %d", n, maxEvents)
	}
}

func TestNumbersForJSON(t *testing.T) {
	for in, want := range map[float64]float64{0: 0, 1.23456789: 1.23457, 123456789: 123457000, 1e-9: 1e-9, -2.5: -2.5} {
		if got := number(in); got == nil || math.Abs(*got-want) > math.Abs(want)*1e-12 {
			t.Errorf("%v gives %v, want %v", in, got, want)
		}
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if number(f) != nil {
			t.Errorf("%v is a number", f)
		}
	}
}

func TestTraceOfAnObject(t *testing.T) {
	for parent, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "4bf92f3577b34da6a3ce929d0e0e4736",
		"": "", "00-short": "", "00-zzz92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{telemetry.TraceAnnotation: parent}}}
		if got := traceOf(p); got != want {
			t.Errorf("%q: trace %q, want %q", parent, got, want)
		}
	}
}

func TestNotableTraces(t *testing.T) {
	for _, c := range []struct {
		s    tracing.Summary
		want bool
	}{
		{tracing.Summary{Services: []string{"apiserver", "etcd"}, Spans: 4}, false},
		{tracing.Summary{Services: []string{"apiserver", "etcd"}, Spans: 4, Errors: 1}, true},
		{tracing.Summary{Services: []string{"apiserver", "scheduler", "etcd"}, Spans: 9}, true},
		{tracing.Summary{Services: []string{"agent"}, Spans: 1}, false},
		{tracing.Summary{Services: []string{"frontend", "guestbook"}, Spans: 2}, true},
		{tracing.Summary{Services: []string{"batch"}, Spans: 12}, true},
	} {
		if got := notable(c.s); got != c.want {
			t.Errorf("%v: %v, want %v", c.s, got, c.want)
		}
	}
}

func TestAlertsOfAlertmanagerOnly(t *testing.T) {
	a := routed{Fingerprint: "f", Labels: map[string]string{"alertname": "Foreign", "severity": "critical", "x": "y"}, StartsAt: time.UnixMilli(5)}
	a.Status.InhibitedBy = []string{"other"}
	got := viewAlerts(nil, []routed{a, {Fingerprint: "g", Labels: map[string]string{"alertname": "Second"}}})
	if len(got) != 2 || got[0].Name != "Second" || got[1].Name != "Foreign" || !got[1].Inhibited || got[1].State != "firing" || len(got[1].Labels) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAlertmanagerThatIsNotReady(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "starting", http.StatusServiceUnavailable) })
	if _, err := fromAlertmanager(t.Context(), h); err == nil {
		t.Error("no error")
	}
}
