package kind

import (
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// hubRoundTrip takes a hub object to another version and back.
func hubRoundTrip(t *testing.T, o Object, gv schema.GroupVersion) Object {
	t.Helper()
	k := kindOf(t, o)
	_, v, ok := Builtin().ByResource(gv.WithResource(k.Resource))
	if !ok || v == nil {
		t.Fatalf("%s is no version of %s", gv, k.Resource)
	}
	old, err := v.FromHub(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := old.GetObjectKind().GroupVersionKind(); got != v.GroupVersionKind {
		t.Errorf("the converted object says it is %s, want %s", got, v.GroupVersionKind)
	}
	back, err := v.ToHub(old)
	if err != nil {
		t.Fatal(err)
	}
	if got := back.GetObjectKind().GroupVersionKind(); got != k.Hub {
		t.Errorf("the converted object says it is %s, want %s", got, k.Hub)
	}
	back.GetObjectKind().SetGroupVersionKind(o.GetObjectKind().GroupVersionKind())
	return back
}

// Where versions hold the same, nothing at all is lost on the way.
func TestLosslessVersions(t *testing.T) {
	for _, tc := range []struct {
		kind    schema.GroupVersionKind
		version schema.GroupVersion
	}{
		{schema.GroupVersionKind{Version: "v1", Kind: "Event"}, schema.GroupVersion{Group: "events.k8s.io", Version: "v1"}},
		{schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}, schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1beta1"}},
		{schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "CronJob"}, schema.GroupVersion{Group: "batch", Version: "v1beta1"}},
		{schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}, schema.GroupVersion{Group: "apps", Version: "v1beta2"}},
	} {
		k, _, ok := Builtin().ByKind(tc.kind)
		if !ok {
			t.Fatalf("%s is not in the catalogue", tc.kind)
		}
		for seed := range int64(50) {
			o := k.New()
			fuzzed(seed).Fill(o)
			if got := hubRoundTrip(t, o, tc.version); !apiequality.Semantic.DeepEqual(o, got) {
				t.Errorf("%s by %s, seed %d:\n%s", tc.kind, tc.version, seed, differ(o, got))
			}
		}
	}
}

func TestAutoscalerV1KeepsV2(t *testing.T) {
	q := func(s string) *resource.Quantity { return ptr(resource.MustParse(s)) }
	h := anAutoscaler()
	h.Spec.MinReplicas = ptr(int32(2))
	h.Spec.Metrics = []autoscalingv2.MetricSpec{
		cpuUtilization(ptr(int32(50))),
		{Type: "Resource", Resource: &autoscalingv2.ResourceMetricSource{Name: "memory", Target: autoscalingv2.MetricTarget{Type: "AverageValue", AverageValue: q("100Mi")}}},
		{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "rps", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}},
			Target: autoscalingv2.MetricTarget{Type: "AverageValue", AverageValue: q("10")},
		}},
		{Type: "External", External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: autoscalingv2.MetricTarget{Type: "Value", Value: q("7")},
		}},
		{Type: "ContainerResource", ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
			Name: "cpu", Container: "c", Target: autoscalingv2.MetricTarget{Type: "Utilization", AverageUtilization: ptr(int32(30))},
		}},
	}
	h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr(int32(5))}}
	h.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: "AbleToScale", Status: "True", Reason: "r"}}
	defaultAutoscaler(h)
	if got := hubRoundTrip(t, h, schema.GroupVersion{Group: "autoscaling", Version: "v1"}); !apiequality.Semantic.DeepEqual(h, got) {
		t.Errorf("lost on the way:\n%s", differ(h, got))
	}
}

func TestIngressBackends(t *testing.T) {
	i := &networkingv1.Ingress{Spec: networkingv1.IngressSpec{
		DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "a", Port: networkingv1.ServiceBackendPort{Number: 80}}},
		Rules: []networkingv1.IngressRule{{Host: "h", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{
				{Path: "/", PathType: ptr(networkingv1.PathTypePrefix), Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "b", Port: networkingv1.ServiceBackendPort{Name: "web"}}}},
				{Path: "/r", PathType: ptr(networkingv1.PathTypeExact), Backend: networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{Kind: "Bucket", Name: "c"}}},
			},
		}}}},
	}}
	for _, gv := range []schema.GroupVersion{{Group: "extensions", Version: "v1beta1"}, {Group: "networking.k8s.io", Version: "v1beta1"}} {
		if got := hubRoundTrip(t, i, gv); !apiequality.Semantic.DeepEqual(i, got) {
			t.Errorf("%s: lost on the way:\n%s", gv, differ(i, got))
		}
	}
}

func TestUnreadableAnnotation(t *testing.T) {
	_, v, _ := Builtin().ByKind(schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "HorizontalPodAutoscaler"})
	in := v.New().(Object)
	in.SetAnnotations(map[string]string{hpaMetrics: "{"})
	if _, err := v.ToHub(in); err == nil {
		t.Error("a broken annotation was accepted")
	}
	if _, err := v.ToHub(&corev1.Pod{}); err == nil {
		t.Error("a Pod was accepted as an autoscaler")
	}
}

func TestStatusUpdatesKeepSpecs(t *testing.T) {
	for _, k := range Builtin().All() {
		for _, s := range k.Subresources {
			if s.Name != "status" || s.PrepareUpdate == nil {
				continue
			}
			old, obj := k.New(), k.New()
			f := fuzzed(7)
			f.Fill(old)
			f.Fill(obj)
			s.PrepareUpdate(obj, old)
			if got, want := specOf(obj), specOf(old); !apiequality.Semantic.DeepEqual(got, want) {
				t.Errorf("%s: the spec was changed through status", k.Resource)
			}
		}
	}
}

func TestMainUpdatesKeepStatus(t *testing.T) {
	for _, k := range Builtin().All() {
		hasStatus := false
		for _, s := range k.Subresources {
			hasStatus = hasStatus || s.Name == "status"
		}
		if !hasStatus {
			continue
		}
		old, obj := k.New(), k.New()
		f := fuzzed(7)
		f.Fill(old)
		f.Fill(obj)
		if k.Resource == "services" {
			// A change of type may clear the balancer's part.
			obj.(*corev1.Service).Spec.Type = old.(*corev1.Service).Spec.Type
		}
		k.PrepareUpdate(obj, old)
		if got, want := statusOf(obj), statusOf(old); !apiequality.Semantic.DeepEqual(got, want) {
			t.Errorf("%s: the status was changed by an update of the object", k.Resource)
		}
	}
}

func TestNamespaceDeletion(t *testing.T) {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	k := kindOf(t, n)
	k.Default(n)
	k.PrepareCreate(n)
	if !k.Held(n) || n.Status.Phase != corev1.NamespaceActive || n.Labels[corev1.LabelMetadataName] != "x" {
		t.Errorf("a new namespace is %+v", n)
	}
	k.OnDelete(n)
	if n.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("a deleted namespace is %s", n.Status.Phase)
	}
	n.Spec.Finalizers = nil
	if k.Held(n) {
		t.Error("a finalized namespace is held")
	}
}

func TestServiceChangesType(t *testing.T) {
	old := aService()
	old.Spec.Type, old.Spec.ClusterIP, old.Spec.ClusterIPs = corev1.ServiceTypeNodePort, "10.0.0.1", []string{"10.0.0.1"}
	old.Spec.Ports[0].NodePort = 30001
	defaultService(old)
	k := kindOf(t, old)

	same := aService()
	same.Spec.Type = corev1.ServiceTypeNodePort
	k.Default(same)
	k.PrepareUpdate(same, old)
	if same.Spec.ClusterIP != "10.0.0.1" || same.Spec.Ports[0].NodePort != 30001 {
		t.Errorf("what was allocated is lost: %+v", same.Spec)
	}
	inner := old.DeepCopy()
	inner.Spec.Type = corev1.ServiceTypeClusterIP
	k.Default(inner)
	k.PrepareUpdate(inner, old)
	if errs := k.ValidateUpdate(inner, old); inner.Spec.Ports[0].NodePort != 0 || len(errs) > 0 {
		t.Errorf("a node port stayed: %+v, %v", inner.Spec, errs)
	}
}

func TestSchedules(t *testing.T) {
	for s, ok := range map[string]bool{
		"* * * * *": true, "*/5 0-6,12 1 jan-MAR sun": true, "@hourly": true, "@every 5m": true,
		"": false, "* * * *": false, "60 * * * *": false, "* * 0 * *": false, "*/0 * * * *": false,
		"5-1 * * * *": false, "@sometimes": false, "@every x": false, "-1 * * * *": false, "x * * * *": false,
	} {
		if err := checkSchedule(s); (err == nil) != ok {
			t.Errorf("checkSchedule(%q) = %v", s, err)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("*/5 0-6,12 1 jan-MAR sun")
	f.Fuzz(func(t *testing.T, s string) { _ = checkSchedule(s) })
}
