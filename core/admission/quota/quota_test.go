package quota

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
)

// list reads "cpu=1,memory=2Gi".
func list(text string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for part := range strings.SplitSeq(text, ",") {
		if name, q, ok := strings.Cut(part, "="); ok {
			l[corev1.ResourceName(name)] = resource.MustParse(q)
		}
	}
	return l
}

// text is list's inverse, sorted.
func text(l corev1.ResourceList) string {
	var parts []string
	for name, q := range l {
		parts = append(parts, string(name)+"="+q.String())
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func container(requests, limits string) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}}
}

func TestPodTotals(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := container("cpu=200m", "")
	sidecar.RestartPolicy = &always
	for _, tc := range []struct {
		name string
		pod  corev1.PodSpec
		want string
	}{
		{"sum", corev1.PodSpec{Containers: []corev1.Container{container("cpu=1,memory=1Gi", ""), container("cpu=500m", "")}}, "cpu=1500m,memory=1Gi"},
		{"small init", corev1.PodSpec{InitContainers: []corev1.Container{container("cpu=1", "")}, Containers: []corev1.Container{container("cpu=2", "")}}, "cpu=2"},
		{"large init", corev1.PodSpec{InitContainers: []corev1.Container{container("cpu=3", ""), container("cpu=1", "")}, Containers: []corev1.Container{container("cpu=2", "")}}, "cpu=3"},
		{"sidecar", corev1.PodSpec{InitContainers: []corev1.Container{sidecar}, Containers: []corev1.Container{container("cpu=2", "")}}, "cpu=2200m"},
		{"init after sidecar", corev1.PodSpec{InitContainers: []corev1.Container{sidecar, container("cpu=3", "")}, Containers: []corev1.Container{container("cpu=2", "")}}, "cpu=3200m"},
		{"init before sidecar", corev1.PodSpec{InitContainers: []corev1.Container{container("cpu=3", ""), sidecar}, Containers: []corev1.Container{container("cpu=2", "")}}, "cpu=3"},
		{"overhead", corev1.PodSpec{Containers: []corev1.Container{container("cpu=1", "")}, Overhead: list("cpu=100m")}, "cpu=1100m"},
		{"pod level", corev1.PodSpec{Containers: []corev1.Container{container("cpu=1,memory=1Gi", "")}, Resources: &corev1.ResourceRequirements{Requests: list("cpu=5")}}, "cpu=5,memory=1Gi"},
	} {
		if got, _ := PodTotals(&tc.pod); text(got) != tc.want {
			t.Errorf("%s: %s", tc.name, text(got))
		}
	}
}

func TestUsage(t *testing.T) {
	class, no := "fast", false
	running := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("cpu=1,example.com/gpu=2", "cpu=2")}}}
	ended := running.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	for _, tc := range []struct {
		name, resource string
		o              client.Object
		want           string
	}{
		{"pod", "pods", running, "count/pods=1,cpu=1,limits.cpu=2,pods=1,requests.cpu=1,requests.example.com/gpu=2"},
		{"ended pod", "pods", ended, "count/pods=1"},
		{"config map", "configmaps", &corev1.ConfigMap{}, "configmaps=1,count/configmaps=1"},
		{"service", "services", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: make([]corev1.ServicePort, 2)}}, "count/services=1,services.nodeports=0,services=1"},
		{"node port", "services", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, 2)}}, "count/services=1,services.nodeports=2,services=1"},
		{"load balancer", "services", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: make([]corev1.ServicePort, 2), AllocateLoadBalancerNodePorts: &no}},
			"count/services=1,services.loadbalancers=1,services.nodeports=0,services=1"},
		{"claim", "persistentvolumeclaims", &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{Requests: list("storage=1Gi")}}},
			"count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"},
		{"claim of part of a byte, grown", "persistentvolumeclaims", &corev1.PersistentVolumeClaim{
			Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: list("storage=1")}}, Status: corev1.PersistentVolumeClaimStatus{AllocatedResources: list("storage=1500m")},
		}, "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=2"},
		{"claim whose annotation says no class", "persistentvolumeclaims", &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.BetaStorageClassAnnotation: ""}},
			Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{Requests: list("storage=1Gi")}},
		}, "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=1Gi"},
	} {
		if got := text(Usage(client.Resource{Resource: tc.resource}, tc.o)); got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
}

func TestScopes(t *testing.T) {
	second := int64(1)
	best := &corev1.Pod{}
	sized := &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "high", Containers: []corev1.Container{container("cpu=1", "")}}}
	short := &corev1.Pod{Spec: corev1.PodSpec{ActiveDeadlineSeconds: &second}}
	far := &corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{Namespaces: []string{"x"}}}}}}}
	class := func(op corev1.ScopeSelectorOperator, values ...string) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
			{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: op, Values: values}}}}
	}
	scope := func(s ...corev1.ResourceQuotaScope) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{Scopes: s}
	}
	attributes := func(op corev1.ScopeSelectorOperator, values ...string) corev1.ResourceQuotaSpec {
		s := class(op, values...)
		s.ScopeSelector.MatchExpressions[0].ScopeName = corev1.ResourceQuotaScopeVolumeAttributesClass
		return s
	}
	plain := &corev1.PersistentVolumeClaim{}
	gold := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: ptr.To("gold")}}
	was := gold.DeepCopy()
	was.Status.CurrentVolumeAttributesClassName = ptr.To("silver")
	asked := &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{ModifyVolumeStatus: &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: "silver"}}}
	for i, tc := range []struct {
		spec corev1.ResourceQuotaSpec
		o    client.Object
		want bool
	}{
		{scope(), &corev1.Service{}, true},
		{scope(corev1.ResourceQuotaScopeBestEffort), &corev1.Service{}, false},
		{scope(corev1.ResourceQuotaScopeBestEffort), best, true}, {scope(corev1.ResourceQuotaScopeBestEffort), sized, false},
		{scope(corev1.ResourceQuotaScopeNotBestEffort), sized, true}, {scope(corev1.ResourceQuotaScopeNotBestEffort), best, false},
		{scope(corev1.ResourceQuotaScopeTerminating), short, true}, {scope(corev1.ResourceQuotaScopeTerminating), best, false},
		{scope(corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort), best, true},
		{scope(corev1.ResourceQuotaScopeNotTerminating), short, false},
		{scope(corev1.ResourceQuotaScopeCrossNamespacePodAffinity), far, true}, {scope(corev1.ResourceQuotaScopeCrossNamespacePodAffinity), best, false},
		{class(corev1.ScopeSelectorOpIn, "high"), sized, true}, {class(corev1.ScopeSelectorOpIn, "low"), sized, false},
		{class(corev1.ScopeSelectorOpNotIn, "high"), sized, false}, {class(corev1.ScopeSelectorOpExists), sized, true}, {class(corev1.ScopeSelectorOpDoesNotExist), best, true},
		{class(corev1.ScopeSelectorOpDoesNotExist), plain, false}, {attributes(corev1.ScopeSelectorOpDoesNotExist), best, false},
		{scope(corev1.ResourceQuotaScopeVolumeAttributesClass), gold, true}, {scope(corev1.ResourceQuotaScopeVolumeAttributesClass), plain, false},
		{scope(corev1.ResourceQuotaScopeVolumeAttributesClass, corev1.ResourceQuotaScopeBestEffort), gold, false},
		{attributes(corev1.ScopeSelectorOpIn, "gold"), gold, true}, {attributes(corev1.ScopeSelectorOpIn, "gold"), plain, false},
		{attributes(corev1.ScopeSelectorOpIn, "silver"), was, true}, {attributes(corev1.ScopeSelectorOpIn, "silver"), asked, true}, {attributes(corev1.ScopeSelectorOpIn, "gold"), asked, false},
		{attributes(corev1.ScopeSelectorOpNotIn, "gold"), gold, false}, {attributes(corev1.ScopeSelectorOpNotIn, "gold"), was, true}, {attributes(corev1.ScopeSelectorOpNotIn, "gold"), plain, true},
		{attributes(corev1.ScopeSelectorOpDoesNotExist), plain, true}, {attributes(corev1.ScopeSelectorOpDoesNotExist), was, false},
	} {
		if got := Counts(&corev1.ResourceQuota{Spec: tc.spec}, tc.o); got != tc.want {
			t.Errorf("case %d: %t", i, got)
		}
	}
}

func TestResources(t *testing.T) {
	for name, want := range map[string]string{
		"requests.storage": "persistentvolumeclaims", "a.storageclass.storage.k8s.io/requests.storage": "persistentvolumeclaims",
		"a.storageclass.storage.k8s.io/persistentvolumeclaims": "persistentvolumeclaims", "a.storageclass.storage.k8s.io/pods": "",
		"count/jobs.batch": "jobs.batch", "services.nodeports": "services", "secrets": "secrets",
		"pods": "pods", "limits.cpu": "pods", "hugepages-2Mi": "pods", "requests.example.com/gpu": "pods", "example.com/gpu": "",
	} {
		var got []string
		for _, r := range Resources(corev1.ResourceList{corev1.ResourceName(name): {}}) {
			got = append(got, r.String())
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%s is counted in %v, want %q", name, got, want)
		}
	}
}

func TestUnspecified(t *testing.T) {
	pod := &corev1.PodSpec{Containers: []corev1.Container{container("cpu=1", "memory=1Gi"), container("cpu=1", "")}}
	if got := strings.Join(Unspecified(list("cpu=1,limits.memory=1,requests.memory=1,pods=3"), pod), ","); got != "limits.memory,requests.memory" {
		t.Errorf("missing %s", got)
	}
	pod.Resources = &corev1.ResourceRequirements{Limits: list("memory=2Gi"), Requests: list("memory=2Gi")}
	if got := Unspecified(list("limits.memory=1,requests.memory=1"), pod); len(got) != 0 {
		t.Errorf("missing %s", got)
	}
}
