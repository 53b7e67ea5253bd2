package autoscale_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/exporters/cgroup"
	"binnacle.io/metrics"
	"binnacle.io/metrics/autoscale"
)

// load is the CPU every container of the given pods uses, in thousandths of a
// core.
type load struct {
	milli atomic.Int64
	pods  []*corev1.Pod
}

func (l *load) Containers(dst []cgroup.Rate, window time.Duration) []cgroup.Rate {
	for _, p := range l.pods {
		dst = append(dst, cgroup.Rate{
			Container: &cgroup.Container{Namespace: p.Namespace, Pod: p.Name, PodUID: string(p.UID), Name: "web"},
			Cores:     float64(l.milli.Load()) / 1000, Window: window, Time: time.Now(),
		})
	}
	return dst
}

func ptr[T any](v T) *T { return &v }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// world is an API with a Deployment "web" of two long-ready pods.
func world(t *testing.T) (*apitest.Server, *load) {
	t.Helper()
	s := apitest.Start(t)
	labels := map[string]string{"app": "web"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "web", Image: "web:1", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}},
	}}}}
	must[*appsv1.Deployment](t)(client.Create(t.Context(), s.Client, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr[int32](2), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}))
	l := &load{}
	old := metav1.NewTime(time.Now().Add(-time.Hour))
	for i := range 2 {
		p := must[*corev1.Pod](t)(client.Create(t.Context(), s.Client, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d", i), Labels: labels}, Spec: template.Spec,
		})).DeepCopy()
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &old, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: old}}}
		l.pods = append(l.pods, must[*corev1.Pod](t)(client.UpdateStatus(t.Context(), s.Client, p)))
	}
	return s, l
}

func hpa(t *testing.T, s *apitest.Server, name, target string, m ...autoscalingv2.MetricSpec) {
	t.Helper()
	must[*autoscalingv2.HorizontalPodAutoscaler](t)(client.Create(t.Context(), s.Client, &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target},
			MinReplicas:    ptr[int32](1), MaxReplicas: 10, Metrics: m,
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr[int32](1)}},
		},
	}))
}

func cpu(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func run(t *testing.T, s *apitest.Server, l *load, q autoscale.Querier) *autoscale.Controller {
	t.Helper()
	tel := s.Hub.Component("horizontal-pod-autoscaler", "kube-controller-manager")
	rec := events.NewRecorder(events.Config{Component: "horizontal-pod-autoscaler"}, s.Client, tel)
	c := autoscale.New(autoscale.Config{Interval: 50 * time.Millisecond}, s.Client, l, q, rec, tel)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- c.Run(ctx) }()
	go func() { done <- rec.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
	return c
}

// eventually waits for a condition and says what is there otherwise.
func eventually(t *testing.T, what string, f func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := f()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: %s", what, state)
		}
	}
}

func replicas(t *testing.T, s *apitest.Server, want int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("the deployment has %d replicas", want), func() (bool, string) {
		d := must[*appsv1.Deployment](t)(client.Get[*appsv1.Deployment](t.Context(), s.Client, "default", "web"))
		return *d.Spec.Replicas == want, fmt.Sprint(*d.Spec.Replicas)
	})
}

func status(t *testing.T, s *apitest.Server, name string, ok func(*autoscalingv2.HorizontalPodAutoscalerStatus) bool) {
	t.Helper()
	eventually(t, "status of "+name, func() (bool, string) {
		h := must[*autoscalingv2.HorizontalPodAutoscaler](t)(client.Get[*autoscalingv2.HorizontalPodAutoscaler](t.Context(), s.Client, "default", name))
		return ok(&h.Status), fmt.Sprintf("%+v", h.Status)
	})
}

func condition(st *autoscalingv2.HorizontalPodAutoscalerStatus, kind, want string) bool {
	for _, c := range st.Conditions {
		if string(c.Type) == kind {
			return strings.HasPrefix(fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message), want)
		}
	}
	return false
}

func TestScalesADeployment(t *testing.T) {
	s, l := world(t)
	c := run(t, s, l, nil)
	l.milli.Store(500)
	hpa(t, s, "web", "web", cpu(50))
	status(t, s, "web", func(st *autoscalingv2.HorizontalPodAutoscalerStatus) bool {
		return st.CurrentReplicas == 2 && st.DesiredReplicas == 2 && len(st.CurrentMetrics) == 1 &&
			*st.CurrentMetrics[0].Resource.Current.AverageUtilization == 50 && condition(st, "AbleToScale", "True ReadyForNewScale") &&
			condition(st, "ScalingActive", "True ValidMetricFound the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)")
	})
	l.milli.Store(1000)
	replicas(t, s, 4)
	status(t, s, "web", func(st *autoscalingv2.HorizontalPodAutoscalerStatus) bool { return st.LastScaleTime != nil })
	eventually(t, "the event", func() (bool, string) {
		list, _, err := client.ListOf[*corev1.Event](t.Context(), s.Client, client.ReadOptions{Namespace: "default"})
		var seen []string
		for _, e := range list {
			seen = append(seen, e.Reason+" "+e.Message)
			if e.Reason == "SuccessfulRescale" && e.Message == "New size: 4; reason: cpu resource utilization (percentage of request) above target" && e.InvolvedObject.Kind == "HorizontalPodAutoscaler" {
				return true, ""
			}
		}
		return false, fmt.Sprint(seen, err)
	})
	l.milli.Store(0)
	replicas(t, s, 1)

	eventually(t, "both rescales are recorded", func() (bool, string) {
		rescaled := 0
		for _, d := range c.Decisions("default", "web") {
			if d.Rescaled {
				rescaled++
			}
		}
		return rescaled >= 2, fmt.Sprint(rescaled)
	})
	rec := httptest.NewRecorder()
	c.Handler("/autoscale").ServeHTTP(rec, httptest.NewRequest("GET", "/autoscale/default/web", nil))
	var shown []autoscale.Record
	if err := json.Unmarshal(rec.Body.Bytes(), &shown); err != nil || len(shown) == 0 || shown[0].Target != "Deployment/web" {
		t.Errorf("the handler shows %s, %v", rec.Body, err)
	}
	rec = httptest.NewRecorder()
	c.Handler("/autoscale").ServeHTTP(rec, httptest.NewRequest("GET", "/autoscale/default/none", nil))
	if rec.Code != 404 {
		t.Errorf("an unknown autoscaler is %d", rec.Code)
	}
	families := must[[]*prometheusFamily](t)(gather(s))
	var ups float64
	for _, f := range families {
		if f.name == "binnacle_autoscale_decisions_total" {
			ups = f.byLabel["scale_up"]
		}
	}
	if ups < 1 {
		t.Errorf("%v decisions to scale up are counted", ups)
	}
}

type prometheusFamily struct {
	name    string
	byLabel map[string]float64
}

// gather reads the controller's counters by the value of label action.
func gather(s *apitest.Server) ([]*prometheusFamily, error) {
	var out []*prometheusFamily
	for _, c := range s.Hub.Components() {
		if c.Name != "horizontal-pod-autoscaler" {
			continue
		}
		list, err := c.Registry.Gather()
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			p := &prometheusFamily{f.GetName(), map[string]float64{}}
			for _, m := range f.Metric {
				for _, l := range m.Label {
					if l.GetName() == "action" {
						p.byLabel[l.GetValue()] += m.GetCounter().GetValue()
					}
				}
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func TestRefusesClearly(t *testing.T) {
	s, l := world(t)
	run(t, s, l, nil)
	hpa(t, s, "lost", "nowhere", cpu(50))
	status(t, s, "lost", func(st *autoscalingv2.HorizontalPodAutoscalerStatus) bool {
		return condition(st, "AbleToScale", "False FailedGetScale the HPA controller was unable to get the target's current scale: ")
	})
	hpa(t, s, "queue", "web", autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue_depth"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr(resource.MustParse("1"))}}})
	status(t, s, "queue", func(st *autoscalingv2.HorizontalPodAutoscalerStatus) bool {
		return condition(st, "ScalingActive", "False FailedGetExternalMetric the HPA was unable to compute the replica count: failed to get queue_depth external metric value: no metrics database is configured")
	})
	replicas(t, s, 2)
}

func TestScalesOnSeries(t *testing.T) {
	s, l := world(t)
	reg := prometheus.NewRegistry()
	depth := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "queue_depth", Help: "Depth."}, []string{"namespace", "queue"})
	depth.WithLabelValues("default", "orders").Set(30)
	depth.WithLabelValues("default", "mails").Set(1000)
	rps := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rps", Help: "Requests a second."}, []string{"namespace", "pod"})
	rps.WithLabelValues("default", "web-0").Set(10)
	rps.WithLabelValues("default", "web-1").Set(10)
	reg.MustRegister(depth, rps)
	tel := s.Hub.Component("metrics", "prometheus-k8s")
	m := must[*metrics.Metrics](t)(metrics.New(metrics.Config{Dir: t.TempDir(), Interval: time.Second}, s.Hub, nil, nil, tel, metrics.Source{Job: "app", Gatherer: reg}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	run(t, s, l, m)
	average := func(q string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr(resource.MustParse(q))}
	}
	hpa(t, s, "web", "web",
		autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue_depth", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"queue": "orders"}}}, Target: average("10")}},
		autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "rps"}, Target: average("10")}},
	)
	replicas(t, s, 3)
	rps.WithLabelValues("default", "web-0").Set(30)
	rps.WithLabelValues("default", "web-1").Set(30)
	replicas(t, s, 6)
}
