package autoscale

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var tuning = Tuning{0.1, 5 * time.Minute, 30 * time.Second, 5 * time.Minute}

func ptr[T any](v T) *T { return &v }

// old is a pod that has been ready for an hour and requests one core.
func old(name string) *corev1.Pod {
	start := metav1.NewTime(t0.Add(-time.Hour))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: start},
		}},
	}
}

func with(p *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
	change(p)
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

// young started ten seconds ago and became ready ago before now.
func young(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = ptr(metav1.NewTime(t0.Add(-10 * time.Second)))
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(t0.Add(-ago))
	}
}

func pods(n int) []*corev1.Pod {
	var list []*corev1.Pod
	for i := range n {
		list = append(list, old(fmt.Sprintf("p%d", i)))
	}
	return list
}

// used gives each pod in turn its milli-units, measured over 5 s until now;
// negative is no sample.
func used(list []*corev1.Pod, values ...int64) Reading {
	r := Reading{Pods: map[string]Sample{}}
	for i, v := range values {
		if v >= 0 {
			r.Pods[list[i].Name] = Sample{v, t0, 5 * time.Second}
		}
	}
	return r
}

func cpu(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func spec(minimum, maximum int32, m ...autoscalingv2.MetricSpec) autoscalingv2.HorizontalPodAutoscalerSpec {
	return autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &minimum, MaxReplicas: maximum, Metrics: m}
}

func TestRecommendation(t *testing.T) {
	avg := func(q string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr(resource.MustParse(q))}
	}
	val := func(q string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: ptr(resource.MustParse(q))}
	}
	p3 := pods(3)
	for _, c := range []struct {
		name    string
		metrics []autoscalingv2.MetricSpec
		pods    []*corev1.Pod
		read    []Reading
		current int32
		want    int32
		reason  string // of the decision, or part of the error
		status  string // of the first metric
	}{
		{name: "double load doubles", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 1000, 1000, 1000)}, want: 6,
			reason: "cpu resource utilization (percentage of request) above target", status: "100% 1"},
		{name: "rounds up", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 700, 600, 600)}, want: 4, status: "63% 633m"},
		{name: "within tolerance above", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 550, 550, 550)}, want: 3, status: "55% 550m"},
		{name: "within tolerance below", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 450, 450, 450)}, want: 3},
		{name: "less load", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 100, 100, 100)}, want: 1, reason: "All metrics below target"},
		{name: "a missing pod counts as full when going down", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 100, 100, -1)}, want: 3},
		{name: "a missing pod counts as idle when going up", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: p3, read: []Reading{used(p3, 900, 900, -1)}, want: 4},
		{name: "a pod not yet ready counts as idle when going up", metrics: []autoscalingv2.MetricSpec{cpu(50)},
			pods: []*corev1.Pod{old("p0"), old("p1"), with(with(old("p2"), young(time.Second)), unready)}, read: []Reading{used(p3, 900, 900, 5000)}, want: 4},
		{name: "a starting pod's CPU is not counted until a window after it is ready", metrics: []autoscalingv2.MetricSpec{cpu(50)},
			pods: []*corev1.Pod{old("p0"), old("p1"), with(old("p2"), young(3*time.Second))}, read: []Reading{used(p3, 500, 500, 5000)}, want: 3, status: "50% 500m"},
		{name: "and is counted after", metrics: []autoscalingv2.MetricSpec{cpu(50)},
			pods: []*corev1.Pod{old("p0"), old("p1"), with(old("p2"), young(6*time.Second))}, read: []Reading{used(p3, 500, 500, 2000)}, want: 6, status: "100% 1"},
		{name: "pending is not ready", metrics: []autoscalingv2.MetricSpec{cpu(50)},
			pods: []*corev1.Pod{old("p0"), old("p1"), with(old("p2"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })}, read: []Reading{used(p3, 900, 900, -1)}, want: 4},
		{name: "failed and deleted are ignored", metrics: []autoscalingv2.MetricSpec{cpu(50)},
			pods: []*corev1.Pod{old("p0"), with(old("p1"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), with(old("p2"), func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.NewTime(t0)) })},
			read: []Reading{used(p3, 1000, 9000, 9000)}, want: 2},
		{name: "memory by average value", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "memory", Target: avg("100Mi")}}},
			pods: p3, read: []Reading{used(p3, 200<<20*1000, 200<<20*1000, 200<<20*1000)}, want: 6, reason: "memory resource above target"},
		{name: "container resource", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: "cpu", Container: "c", Target: cpu(50).Resource.Target}}},
			pods: p3, read: []Reading{used(p3, 1000, 1000, 1000)}, want: 6},
		{name: "pods metric", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "rps"}, Target: avg("10")}}},
			pods: p3, read: []Reading{used(p3, 20000, 20000, 20000)}, want: 6, reason: "pods metric rps above target"},
		{name: "object by value", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
			DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Service", Name: "s"}, Metric: autoscalingv2.MetricIdentifier{Name: "rps"}, Target: val("100")}}},
			pods: p3, read: []Reading{{Milli: 200_000}}, want: 6, reason: "Service metric rps above target"},
		{name: "external by average value", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: avg("10")}}},
			pods: p3, read: []Reading{{Milli: 95_000}}, want: 10},
		{name: "the greatest wins", metrics: []autoscalingv2.MetricSpec{cpu(50), {Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: avg("10")}}},
			pods: p3, read: []Reading{used(p3, 100, 100, 100), {Milli: 55_000}}, want: 6, reason: "external metric queue(<none>) above target"},
		{name: "a broken metric does not stop growth", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "rps"}, Target: avg("10")}}, cpu(50)},
			pods: p3, read: []Reading{{Err: errors.New("no data")}, used(p3, 1000, 1000, 1000)}, want: 6},
		{name: "a broken metric stops shrinking", metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "rps"}, Target: avg("10")}}, cpu(50)},
			pods: p3, read: []Reading{{Err: errors.New("no data")}, used(p3, 10, 10, 10)}, want: 3, reason: "error: invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value: no data"},
		{name: "no request", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: []*corev1.Pod{with(old("p0"), func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil })},
			read: []Reading{used(p3, 1)}, current: 1, want: 1, reason: "error: invalid metrics (1 invalid out of 1), first error is: failed to get cpu utilization: missing request for cpu in container c of Pod p0"},
		{name: "no pods", metrics: []autoscalingv2.MetricSpec{cpu(50)}, read: []Reading{{Pods: map[string]Sample{"x": {}}}}, want: 3, reason: "error: invalid metrics (1 invalid out of 1), first error is: failed to get cpu utilization: no pods returned by selector while calculating replica count"},
		{name: "all starting", metrics: []autoscalingv2.MetricSpec{cpu(50)}, pods: []*corev1.Pod{with(old("p0"), young(time.Second))}, read: []Reading{used(p3, 1000)}, current: 1, want: 1,
			reason: "error: invalid metrics (1 invalid out of 1), first error is: failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.current == 0 {
				c.current = 3
			}
			d := Decide(State{Now: t0, Tuning: tuning, Spec: spec(1, 100, c.metrics...), Replicas: c.current, Observed: c.current, Pods: c.pods, Readings: c.read})
			if d.Recommended != c.want {
				t.Errorf("recommended %d, want %d (proposals %+v)", d.Recommended, c.want, d.Proposals)
			}
			got := d.Reason
			if d.Err != nil {
				got = "error: " + d.Err.Error()
			}
			if c.reason != "" && got != c.reason {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
			if c.status != "" {
				v := d.Proposals[0].Status.Resource.Current
				if s := fmt.Sprintf("%d%% %s", *v.AverageUtilization, v.AverageValue); s != c.status {
					t.Errorf("current metric %q, want %q", s, c.status)
				}
			}
		})
	}
}

// A story runs one autoscaler through time: each line is seconds, the load in
// milli-cores of the whole target, and the size expected.
func TestStories(t *testing.T) {
	type step struct {
		at   int
		load int64
		want int32
		cond string // type=status reason, of one condition
	}
	for _, c := range []struct {
		name     string
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		min, max int32
		start    int32
		steps    []step
	}{
		{name: "defaults: up by max(100%, 4 pods) per 15 s, down after 5 min", min: 1, max: 50, start: 1, steps: []step{
			{0, 20000, 5, "ScalingLimited=True ScaleUpLimit"}, {1, 20000, 5, "ScalingLimited=True ScaleUpLimit"}, {14, 20000, 5, ""},
			{15, 20000, 10, ""}, {16, 20000, 10, ""}, {30, 20000, 20, ""}, {45, 20000, 40, "ScalingLimited=False DesiredWithinRange"},
			{50, 1000, 40, "AbleToScale=True ScaleDownStabilized"}, {344, 1000, 40, ""}, {346, 1000, 2, "ScalingLimited=False DesiredWithinRange"},
		}},
		{name: "bounds", min: 2, max: 4, start: 3, steps: []step{
			{0, 9000, 4, "ScalingLimited=True TooManyReplicas"}, {1, 9000, 4, "ScalingLimited=True TooManyReplicas"}, {302, 0, 2, "ScalingLimited=True TooFewReplicas"},
		}},
		{name: "outside the bounds at first", min: 2, max: 4, start: 9, steps: []step{{0, 9000, 4, ""}}},
		{name: "below the bounds at first", min: 2, max: 4, start: 1, steps: []step{{0, 0, 2, ""}}},
		{name: "scale to zero is left alone", min: 2, max: 4, start: 0, steps: []step{{0, 9000, 0, "ScalingActive=False ScalingDisabled"}}},
		{name: "down disabled", min: 1, max: 9, start: 4, steps: []step{{0, 100, 4, ""}, {301, 100, 4, "ScalingLimited=True ScaleDownLimit"}},
			behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{SelectPolicy: ptr(autoscalingv2.DisabledPolicySelect)}}},
		{name: "down by one pod a minute, at once", min: 1, max: 9, start: 4, steps: []step{{0, 100, 4, "AbleToScale=True ScaleDownStabilized"}, {1, 100, 3, "ScalingLimited=True ScaleDownLimit"}, {30, 100, 3, ""}, {61, 100, 2, ""}},
			behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{
				StabilizationWindowSeconds: ptr[int32](1), Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60}}}}},
		{name: "up only after a quiet window", min: 1, max: 9, start: 2, steps: []step{{0, 1000, 2, ""}, {1, 4000, 2, "AbleToScale=True ScaleUpStabilized"}, {10, 4000, 2, ""}, {32, 4000, 6, ""}},
			behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr[int32](30)}}},
		{name: "smallest policy", min: 1, max: 99, start: 10, steps: []step{{0, 90000, 11, "ScalingLimited=True ScaleUpLimit"}, {5, 90000, 11, ""}, {60, 90000, 12, ""}},
			behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{SelectPolicy: ptr(autoscalingv2.MinChangePolicySelect), Policies: []autoscalingv2.HPAScalingPolicy{
				{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60}, {Type: autoscalingv2.PercentScalingPolicy, Value: 50, PeriodSeconds: 60}}}}},
		{name: "own tolerance", min: 1, max: 9, start: 2, steps: []step{{0, 1300, 2, ""}, {1, 1600, 4, ""}},
			behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: ptr(resource.MustParse("0.5"))}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			size, memory := c.start, Memory{}
			for _, s := range c.steps {
				now := t0.Add(time.Duration(s.at) * time.Second)
				list := pods(int(size))
				r := Reading{Pods: map[string]Sample{}}
				for _, p := range list {
					r.Pods[p.Name] = Sample{s.load / int64(size), now, 5 * time.Second}
				}
				sp := spec(c.min, c.max, cpu(50))
				sp.Behavior = c.behavior
				d := Decide(State{Now: now, Tuning: tuning, Spec: sp, Replicas: size, Observed: size, Pods: list, Readings: []Reading{r}, Memory: memory})
				if d.Desired != s.want {
					t.Fatalf("at %d s with load %d: %d -> %d, want %d; recommended %d, conditions %v", s.at, s.load, size, d.Desired, s.want, d.Recommended, d.Conditions)
				}
				if d.Rescale != (d.Desired != size) {
					t.Fatalf("at %d s: rescale is %t for %d -> %d", s.at, d.Rescale, size, d.Desired)
				}
				if s.cond != "" {
					var have []string
					for _, k := range d.Conditions {
						have = append(have, fmt.Sprintf("%s=%s %s", k.Type, k.Status, k.Reason))
					}
					if !strings.Contains(strings.Join(have, "; "), s.cond) {
						t.Errorf("at %d s: conditions %v, want %q", s.at, have, s.cond)
					}
				}
				size, memory = d.Desired, d.Memory
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	list := pods(2)
	m := Memory{}
	for i := range 4000 {
		now := t0.Add(time.Duration(i) * time.Second)
		load := int64(100 + 900*(i%2))
		d := Decide(State{Now: now, Tuning: tuning, Spec: spec(1, 9, cpu(50)), Replicas: 2, Observed: 2, Pods: list, Memory: m,
			Readings: []Reading{{Pods: map[string]Sample{"p0": {load, now, time.Second}, "p1": {load, now, time.Second}}}}})
		m = d.Memory
	}
	if len(m.Recommendations) > 301 || len(m.Ups) > 20 || len(m.Downs) > 20 {
		t.Fatalf("%d recommendations, %d ups, %d downs are remembered", len(m.Recommendations), len(m.Ups), len(m.Downs))
	}
}

func BenchmarkDecide(b *testing.B) {
	list := pods(100)
	r := Reading{Pods: map[string]Sample{}}
	for _, p := range list {
		r.Pods[p.Name] = Sample{700, t0, 5 * time.Second}
	}
	s := State{Now: t0, Tuning: tuning, Spec: spec(1, 1000, cpu(50)), Replicas: 100, Observed: 100, Pods: list, Readings: []Reading{r}}
	b.ReportAllocs()
	for b.Loop() {
		Decide(s)
	}
}
