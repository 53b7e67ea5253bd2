package admission_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
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

func TestLimitRanger(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p := admission.NewLimitRanger(c)
	create(t, c, &corev1.LimitRange{ObjectMeta: named("default", "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, Default: list("cpu=500m"), DefaultRequest: list("cpu=100m"), Min: list("cpu=50m"), Max: list("cpu=1"), MaxLimitRequestRatio: list("cpu=10")},
		{Type: corev1.LimitTypePod, Max: list("memory=1Gi")},
		{Type: corev1.LimitTypePersistentVolumeClaim, Min: list("storage=1Gi"), Max: list("storage=10Gi")},
	}}})
	for _, tc := range []struct {
		requests, limits string
		want             string
	}{
		{"", "memory=1Gi", ""},
		{"cpu=10m", "cpu=100m,memory=1Gi", "minimum cpu usage per Container is 50m, but request is 10m"},
		{"cpu=1", "cpu=2,memory=1Gi", "maximum cpu usage per Container is 1, but limit is 2"},
		{"cpu=60m", "cpu=900m,memory=1Gi", "cpu max limit to request ratio per Container is 10, but provided ratio is 15.000000"},
		{"", "memory=2Gi", "maximum memory usage per Pod is 1Gi, but limit is 2Gi"},
		{"", "", "maximum memory usage per Pod is 1Gi.  No limit is specified"},
		{"cpu=10m", "cpu=2,memory=1Gi", `pods "a" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu`},
	} {
		o := pod("default", "a")
		o.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list(tc.requests), Limits: list(tc.limits)}
		err := admit(t, p, attributes(t, c, o, nil))
		if tc.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		refused(t, tc.want, err, 403, tc.want)
	}
	o := pod("default", "a")
	o.Spec.Containers[0].Resources.Limits = list("memory=1Gi")
	if err := admit(t, p, attributes(t, c, o, nil)); err != nil {
		t.Fatal(err)
	}
	r := o.Spec.Containers[0].Resources
	if r.Requests.Cpu().String() != "100m" || r.Limits.Cpu().String() != "500m" ||
		o.Annotations["kubernetes.io/limit-ranger"] != "LimitRanger plugin set: cpu request for container c; cpu limit for container c" {
		t.Errorf("defaults %+v %v", r, o.Annotations)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: named("default", "c")}
	claim.Spec.Resources.Requests = list("storage=20Gi")
	refused(t, "claim", admit(t, p, attributes(t, c, claim, nil)), 403, "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi")
	if err := admit(t, p, attributes(t, c, pod("kube-public", "a"), nil)); err != nil {
		t.Errorf("another namespace: %v", err)
	}
}

func TestResourceQuota(t *testing.T) {
	s := apitest.Start(t, apitest.WithPlugins(func(c client.Client) []admission.Plugin {
		return []admission.Plugin{admission.NewResourceQuota(c)}
	}))
	ctx, c := t.Context(), s.Client
	create(t, c, &corev1.ResourceQuota{ObjectMeta: named("default", "q"), Spec: corev1.ResourceQuotaSpec{Hard: list("requests.cpu=1,count/configmaps=5,services.nodeports=1")}})
	sized := func(name, cpu string) *corev1.Pod {
		o := pod("default", name)
		o.Spec.Containers[0].Resources.Requests = list(cpu)
		return o
	}
	_, err := client.Create(ctx, c, sized("a", ""))
	refused(t, "unspecified", err, 403, "failed quota: q: must specify requests.cpu")
	create(t, c, sized("a", "cpu=600m"))
	_, err = client.Create(ctx, c, sized("b", "cpu=500m"))
	refused(t, "too much", err, 403, `pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1`)
	create(t, c, sized("b", "cpu=400m"))
	zero := int64(0)
	if err := client.Delete[*corev1.Pod](ctx, c, "default", "b", client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	create(t, c, sized("b2", "cpu=400m"))

	svc := create(t, c, &corev1.Service{ObjectMeta: named("default", "s"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}}}})
	_, err = client.Modify(ctx, c, "default", svc.Name, "", func(o *corev1.Service) (bool, error) { o.Spec.Type = corev1.ServiceTypeNodePort; return true, nil })
	refused(t, "node ports by update", err, 403, "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1")

	// Of many at once exactly as many pass as there is room for.
	list, _, err := client.ListOf[*corev1.ConfigMap](ctx, c, client.ReadOptions{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	room := 5 - len(list)
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		admitted int
	)
	for i := range 40 {
		wg.Go(func() {
			_, err := client.Create(ctx, c, &corev1.ConfigMap{ObjectMeta: named("default", fmt.Sprintf("c%d", i))})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				admitted++
			} else if !strings.Contains(err.Error(), "exceeded quota: q, requested: count/configmaps=1") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if admitted != room {
		t.Errorf("%d were admitted where there was room for %d", admitted, room)
	}
}

func TestPodSecurity(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p, err := admission.NewPodSecurity(admission.PodSecurityConfig{}, c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	space := func(name string, labels map[string]string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	create(t, c, space("tight", map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}))
	create(t, c, space("base", map[string]string{"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}))

	plain, host := pod("tight", "a"), pod("base", "a")
	err = admit(t, p, attributes(t, c, plain, nil))
	refused(t, "restricted", err, 403, `pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)`)
	a := attributes(t, c, pod("base", "a"), nil)
	if err := admit(t, p, a); err != nil || len(a.Warnings()) != 1 || !strings.HasPrefix(a.Warnings()[0], `would violate PodSecurity "restricted:latest": `) {
		t.Errorf("baseline: %v, warnings %q", err, a.Warnings())
	}
	host.Spec.HostNetwork = true
	refused(t, "baseline", admit(t, p, attributes(t, c, host, nil)), 403, `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)
	if err := admit(t, p, attributes(t, c, pod("default", "a"), nil)); err != nil {
		t.Errorf("no labels: %v", err)
	}
	d := &appsv1.Deployment{ObjectMeta: named("tight", "d")}
	d.Spec.Template.Spec = plain.Spec
	a = attributes(t, c, d, nil)
	if err := admit(t, p, a); err != nil || len(a.Warnings()) != 1 {
		t.Errorf("deployment: %v, warnings %q", err, a.Warnings())
	}
	if err := admit(t, p, attributes(t, c, plain, plain.DeepCopy())); err != nil {
		t.Errorf("an update that changes nothing: %v", err)
	}
	refused(t, "bad label", admit(t, p, attributes(t, c, space("x", map[string]string{"pod-security.kubernetes.io/enforce": "strict"}), nil)), 422, "must be one of privileged, baseline, restricted")
}
