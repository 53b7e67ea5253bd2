package admission_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

func create[T client.Object](t testing.TB, c client.Client, o T) T {
	t.Helper()
	stored, err := client.Create(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func pod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: named(namespace, name),
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/c:1"}}}}
}

// attributes of a write of now, a creation unless there is an old object.
func attributes(t testing.TB, c client.Client, now, old client.Object) *admission.Attributes {
	t.Helper()
	r, err := c.ResourceOf(now)
	if err != nil {
		t.Fatal(err)
	}
	a := &admission.Attributes{Op: admission.Create, Resource: r, Key: client.KeyOf(now), Object: now, Old: old, User: &auth.User{Name: "alice"}}
	if old != nil {
		a.Op = admission.Update
	}
	return a
}

// admit does what a chain does with one plugin.
func admit(t testing.TB, p admission.Plugin, a *admission.Attributes) error {
	t.Helper()
	if !p.Handles(a.Op, a.Resource, a.Subresource) {
		return nil
	}
	if m, ok := p.(admission.Mutator); ok {
		if err := m.Admit(t.Context(), a); err != nil {
			return err
		}
	}
	if v, ok := p.(admission.Validator); ok {
		return v.Validate(t.Context(), a)
	}
	return nil
}

// refused checks that err is a Status of that code with that text.
func refused(t testing.TB, what string, err error, code int32, text string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Errorf("%s: %v is no Status", what, err)
		return
	}
	if got := status.Status(); got.Code != code || !strings.Contains(got.Message, text) {
		t.Errorf("%s: %d %s", what, got.Code, got.Message)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p := admission.NewNamespaceLifecycle(c)
	if err := admit(t, p, attributes(t, c, pod("default", "a"), nil)); err != nil {
		t.Error(err)
	}
	refused(t, "no namespace", admit(t, p, attributes(t, c, pod("nowhere", "a"), nil)), 404, `namespaces "nowhere" not found`)

	ns := create(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going", Finalizers: []string{"example.com/hold"}}})
	if err := client.Delete[*corev1.Namespace](t.Context(), c, "", ns.Name, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	err := admit(t, p, attributes(t, c, pod("going", "a"), nil))
	refused(t, "terminating", err, 403, `pods "a" is forbidden: unable to create new content in namespace going because it is being terminated`)
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("no cause in %v", err)
	}
	if err := admit(t, p, attributes(t, c, pod("going", "a"), pod("going", "a"))); err != nil {
		t.Errorf("an update in a terminating namespace: %v", err)
	}
	for name, kept := range map[string]bool{"default": true, "kube-system": true, "kube-public": true, "kube-node-lease": false, "mine": false} {
		a := &admission.Attributes{Op: admission.Delete, Resource: client.Resource{Resource: "namespaces"}, Key: client.Key{Name: name}}
		err := admit(t, p, a)
		if kept {
			refused(t, name, err, 403, "this namespace may not be deleted")
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServiceAccountPlugin(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	no := false
	create(t, c, &corev1.ServiceAccount{ObjectMeta: named("default", "default"), ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}})
	create(t, c, &corev1.ServiceAccount{ObjectMeta: named("default", "shy"), AutomountServiceAccountToken: &no})
	p := admission.NewServiceAccount(c)

	a := pod("default", "a")
	a.Spec.InitContainers = []corev1.Container{{Name: "i"}}
	a.Spec.Containers = append(a.Spec.Containers, corev1.Container{Name: "own", VolumeMounts: []corev1.VolumeMount{{Name: "x", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}})
	if err := admit(t, p, attributes(t, c, a, nil)); err != nil {
		t.Fatal(err)
	}
	if a.Spec.ServiceAccountName != "default" || a.Spec.DeprecatedServiceAccount != "default" || a.Spec.ImagePullSecrets[0].Name != "pull" {
		t.Errorf("pod %+v", a.Spec)
	}
	v := a.Spec.Volumes[0]
	if !strings.HasPrefix(v.Name, "kube-api-access-") || len(v.Name) != len("kube-api-access-")+5 {
		t.Errorf("volume %q", v.Name)
	}
	for _, ctr := range []corev1.Container{a.Spec.InitContainers[0], a.Spec.Containers[0]} {
		if m := ctr.VolumeMounts[0]; m.Name != v.Name || !m.ReadOnly || m.MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" {
			t.Errorf("mount of %s: %+v", ctr.Name, m)
		}
	}
	if m := a.Spec.Containers[1].VolumeMounts; len(m) != 1 || m[0].Name != "x" {
		t.Errorf("mounts of own: %+v", m)
	}
	text, err := json.Marshal(v.Projected)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},` +
		`{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},` +
		`{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}`; string(text) != want {
		t.Errorf("volume %s", text)
	}

	yes := true
	for _, tc := range []struct {
		account string
		mount   *bool
		want    int
	}{{"shy", nil, 0}, {"shy", &yes, 1}, {"default", &no, 0}} {
		b := pod("default", "b")
		b.Spec.ServiceAccountName, b.Spec.AutomountServiceAccountToken = tc.account, tc.mount
		if err := admit(t, p, attributes(t, c, b, nil)); err != nil {
			t.Fatal(err)
		}
		if len(b.Spec.Volumes) != tc.want {
			t.Errorf("%+v: volumes %+v", tc, b.Spec.Volumes)
		}
	}

	b := pod("default", "b")
	b.Spec.ServiceAccountName = "none"
	refused(t, "no account", admit(t, p, attributes(t, c, b, nil)), 403,
		`pods "b" is forbidden: error looking up service account default/none: serviceaccount "none" not found`)

	// The default account of a new namespace may come a moment after the pod.
	waiting := make(chan error, 1)
	go func() { waiting <- admit(t, p, attributes(t, c, pod("kube-public", "b"), nil)) }()
	create(t, c, &corev1.ServiceAccount{ObjectMeta: named("kube-public", "default")})
	if err := <-waiting; err != nil {
		t.Error(err)
	}

	m := pod("default", "static")
	m.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	if err := admit(t, p, attributes(t, c, m, nil)); err != nil || m.Spec.ServiceAccountName != "" {
		t.Errorf("mirror pod: %q %v", m.Spec.ServiceAccountName, err)
	}
	m.Spec.ServiceAccountName = "default"
	refused(t, "mirror pod with account", admit(t, p, attributes(t, c, m, nil)), 403, "a mirror pod may not reference service accounts")
}

func TestPriorityPlugin(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p := admission.NewPriority(c)
	never := corev1.PreemptNever
	create(t, c, &schedulingv1.PriorityClass{ObjectMeta: named("", "high"), Value: 100, PreemptionPolicy: &never})
	try := func(f func(*corev1.PodSpec)) (*corev1.Pod, error) {
		o := pod("default", "a")
		f(&o.Spec)
		return o, admit(t, p, attributes(t, c, o, nil))
	}
	o, err := try(func(*corev1.PodSpec) {})
	if err != nil || *o.Spec.Priority != 0 || *o.Spec.PreemptionPolicy != corev1.PreemptLowerPriority || o.Spec.PriorityClassName != "" {
		t.Errorf("no class: %+v %v", o.Spec, err)
	}
	o, err = try(func(s *corev1.PodSpec) { s.PriorityClassName = "high" })
	if err != nil || *o.Spec.Priority != 100 || *o.Spec.PreemptionPolicy != never {
		t.Errorf("class: %+v %v", o.Spec, err)
	}
	_, err = try(func(s *corev1.PodSpec) { s.PriorityClassName = "none" })
	refused(t, "unknown", err, 403, "no PriorityClass with name none was found")
	seven := int32(7)
	_, err = try(func(s *corev1.PodSpec) { s.PriorityClassName, s.Priority = "high", &seven })
	refused(t, "number", err, 403, "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 100")

	create(t, c, &schedulingv1.PriorityClass{ObjectMeta: named("", "usual"), Value: 10, GlobalDefault: true})
	if o, err = try(func(*corev1.PodSpec) {}); err != nil || *o.Spec.Priority != 10 || o.Spec.PriorityClassName != "usual" {
		t.Errorf("default class: %+v %v", o.Spec, err)
	}
	second := &schedulingv1.PriorityClass{ObjectMeta: named("", "second"), GlobalDefault: true}
	refused(t, "second default", admit(t, p, attributes(t, c, second, nil)), 403, "PriorityClass usual is already marked as default. Only one default can exist")
	old := pod("default", "a")
	old.Spec.Priority = &seven
	now := pod("default", "a")
	if err := admit(t, p, attributes(t, c, now, old)); err != nil || *now.Spec.Priority != 7 {
		t.Errorf("update: %+v %v", now.Spec, err)
	}
}

func TestTolerations(t *testing.T) {
	p := admission.NewDefaultTolerationSeconds()
	minute := int64(60)
	for _, tc := range []struct {
		name string
		have []corev1.Toleration
		want int // in the end
	}{
		{"none", nil, 2},
		{"one of them", []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &minute}}, 2},
		{"every effect", []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists}}, 2},
		{"everything", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, 1},
		{"another effect", []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, 3},
	} {
		o := pod("n", "a")
		o.Spec.Tolerations = slices.Clone(tc.have)
		a := &admission.Attributes{Op: admission.Create, Resource: client.Resource{Resource: "pods"}, Object: o}
		for range 2 { // the second time changes nothing
			if err := admit(t, p, a); err != nil {
				t.Fatal(err)
			}
			if len(o.Spec.Tolerations) != tc.want {
				t.Errorf("%s: %+v", tc.name, o.Spec.Tolerations)
			}
		}
	}
	o := pod("n", "a")
	o.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
		"example.com/gpu": resource.MustParse("1"), "cpu": resource.MustParse("1"), "kubernetes.io/x": resource.MustParse("1")}
	a := &admission.Attributes{Op: admission.Create, Resource: client.Resource{Resource: "pods"}, Object: o}
	for range 2 {
		if err := admit(t, admission.NewExtendedResourceToleration(), a); err != nil {
			t.Fatal(err)
		}
		if len(o.Spec.Tolerations) != 1 || o.Spec.Tolerations[0].Key != "example.com/gpu" {
			t.Errorf("extended resource: %+v", o.Spec.Tolerations)
		}
	}
}

func TestTaintNodesByCondition(t *testing.T) {
	n := &corev1.Node{ObjectMeta: named("", "n")}
	a := &admission.Attributes{Op: admission.Create, Resource: client.Resource{Resource: "nodes"}, Object: n}
	for range 2 {
		if err := admit(t, admission.NewTaintNodesByCondition(), a); err != nil {
			t.Fatal(err)
		}
		if len(n.Spec.Taints) != 1 || n.Spec.Taints[0] != (corev1.Taint{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoSchedule}) {
			t.Errorf("taints %+v", n.Spec.Taints)
		}
	}
}

func TestDefaultClasses(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	claim := func() *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: named("default", "c")}
	}
	ingress := func() *networkingv1.Ingress { return &networkingv1.Ingress{ObjectMeta: named("default", "i")} }
	sc, ic := admission.NewDefaultStorageClass(c), admission.NewDefaultIngressClass(c)
	pvc, ing := claim(), ingress()
	if admit(t, sc, attributes(t, c, pvc, nil)) != nil || admit(t, ic, attributes(t, c, ing, nil)) != nil || pvc.Spec.StorageClassName != nil || ing.Spec.IngressClassName != nil {
		t.Errorf("without classes: %+v %+v", pvc.Spec, ing.Spec)
	}
	meta := func(name, annotation, value string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Annotations: map[string]string{annotation: value}}
	}
	create(t, c, &storagev1.StorageClass{ObjectMeta: meta("b", "storageclass.kubernetes.io/is-default-class", "true"), Provisioner: "example.com/p"})
	create(t, c, &storagev1.StorageClass{ObjectMeta: meta("a", "storageclass.kubernetes.io/is-default-class", "false"), Provisioner: "example.com/p"})
	create(t, c, &networkingv1.IngressClass{ObjectMeta: meta("web", "ingressclass.kubernetes.io/is-default-class", "true"), Spec: networkingv1.IngressClassSpec{Controller: "example.com/c"}})
	pvc, ing = claim(), ingress()
	if err := admit(t, sc, attributes(t, c, pvc, nil)); err != nil || *pvc.Spec.StorageClassName != "b" {
		t.Errorf("claim %+v %v", pvc.Spec, err)
	}
	if err := admit(t, ic, attributes(t, c, ing, nil)); err != nil || *ing.Spec.IngressClassName != "web" {
		t.Errorf("ingress %+v %v", ing.Spec, err)
	}
	none := ""
	pvc, ing = claim(), ingress()
	pvc.Spec.StorageClassName = &none
	ing.Annotations = map[string]string{"kubernetes.io/ingress.class": "mine"}
	if admit(t, sc, attributes(t, c, pvc, nil)) != nil || admit(t, ic, attributes(t, c, ing, nil)) != nil || *pvc.Spec.StorageClassName != "" || ing.Spec.IngressClassName != nil {
		t.Errorf("with a choice: %+v %+v", pvc.Spec, ing.Spec)
	}
	for mark, o := range map[string]client.Object{
		"kubernetes.io/pvc-protection": pvc,
		"kubernetes.io/pv-protection":  &corev1.PersistentVolume{ObjectMeta: meta("disk", "", "")},
		"kubernetes.io/vac-protection": &storagev1.VolumeAttributesClass{ObjectMeta: meta("fast", "", "")},
	} {
		for range 2 { // the second time it is marked already
			if err := admit(t, admission.NewStorageObjectInUseProtection(), attributes(t, c, o, nil)); err != nil || !slices.Equal(o.GetFinalizers(), []string{mark}) {
				t.Errorf("%T has finalizers %v, want %s; %v", o, o.GetFinalizers(), mark, err)
			}
		}
	}
}

func TestRuntimeClassPlugin(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p := admission.NewRuntimeClass(c)
	create(t, c, &nodev1.RuntimeClass{ObjectMeta: named("", "vm"), Handler: "vm",
		Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{"memory": resource.MustParse("100Mi")}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}}}})
	try := func(class string, f func(*corev1.PodSpec)) (*corev1.Pod, error) {
		o := pod("default", "a")
		if class != "" {
			o.Spec.RuntimeClassName = &class
		}
		f(&o.Spec)
		return o, admit(t, p, attributes(t, c, o, nil))
	}
	o, err := try("vm", func(*corev1.PodSpec) {})
	if err != nil || o.Spec.Overhead.Memory().String() != "100Mi" || o.Spec.NodeSelector["vm"] != "yes" || len(o.Spec.Tolerations) != 1 {
		t.Errorf("pod %+v %v", o.Spec, err)
	}
	_, err = try("none", func(*corev1.PodSpec) {})
	refused(t, "unknown", err, 403, `pod rejected: RuntimeClass "none" not found`)
	_, err = try("vm", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"vm": "no"} })
	refused(t, "conflict", err, 403, "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no")
	over := corev1.ResourceList{"memory": resource.MustParse("1Mi")}
	_, err = try("vm", func(s *corev1.PodSpec) { s.Overhead = over })
	refused(t, "other overhead", err, 403, "doesn't match RuntimeClass's defined Overhead")
	_, err = try("", func(s *corev1.PodSpec) { s.Overhead = over })
	refused(t, "overhead without class", err, 403, "Pod Overhead set without corresponding RuntimeClass")
}
