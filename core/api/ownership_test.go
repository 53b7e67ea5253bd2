package api

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/applyconfigurations"

	"binnacle.io/core/kind"
)

func ownedPod() *corev1.Pod {
	probe := &corev1.Probe{PeriodSeconds: 3, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(80)}}}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "ns", UID: "u", Labels: map[string]string{"app": "a", "tier": "b"},
			Annotations:     map[string]string{"x": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "r"}},
		},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"disk": "ssd"},
			Tolerations:  []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}},
			Volumes:      []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(1000, 0)},
			{Type: corev1.PodReady, Status: corev1.ConditionFalse},
		}},
	}
	for i := range 3 {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprint("c", i), Image: "registry.example/app:1", ReadinessProbe: probe.DeepCopy(),
			Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP, Name: "http"}},
			Env:   []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			}},
			VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}},
		})
	}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return p
}

// TestOwnersOfDifference compares with what apimachinery finds in the whole
// objects, checked against the schema.
func TestOwnersOfDifference(t *testing.T) {
	t.Parallel()
	cat := kind.Builtin()
	quick, plain := newOwners(cat), newOwners(cat)
	plain.typed = applyconfigurations.NewTypeConverter(cat.Scheme())
	k, v, _ := cat.ByKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	as := versionOf(k, v)

	now := metav1.NewTime(time.Now())
	for name, change := range map[string]func(*corev1.Pod){
		"nothing":            func(*corev1.Pod) {},
		"label":              func(p *corev1.Pod) { p.Labels["app"] = "b" },
		"label added":        func(p *corev1.Pod) { p.Labels["new"] = "b" },
		"label gone":         func(p *corev1.Pod) { delete(p.Labels, "tier") },
		"labels gone":        func(p *corev1.Pod) { p.Labels = nil },
		"labels empty":       func(p *corev1.Pod) { p.Labels = map[string]string{} },
		"owners gone":        func(p *corev1.Pod) { p.OwnerReferences = nil },
		"finalizer":          func(p *corev1.Pod) { p.Finalizers = []string{"a/b"} },
		"deleted":            func(p *corev1.Pod) { p.DeletionTimestamp = &now },
		"image":              func(p *corev1.Pod) { p.Spec.Containers[1].Image = "b" },
		"container gone":     func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[:1] },
		"container twice":    func(p *corev1.Pod) { p.Spec.Containers[1].Name = "c0" },
		"quantity rewritten": func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("0.1") },
		"pointer":            func(p *corev1.Pod) { n := int64(3); p.Spec.ActiveDeadlineSeconds = &n },
		"empty struct":       func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{} },
		"atomic map":         func(p *corev1.Pod) { p.Spec.NodeSelector["disk"] = "hdd" },
		"phase":              func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning },
		"status gone":        func(p *corev1.Pod) { p.Status = corev1.PodStatus{} },
		"condition":          func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionTrue; p.Status.StartTime = &now },
		"all gone": func(p *corev1.Pod) {
			p.Spec, p.Status, p.ObjectMeta.Annotations = corev1.PodSpec{}, corev1.PodStatus{}, nil
		},
		"owners of none": func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{} },
		"owners kept":    func(p *corev1.Pod) { p.ManagedFields = p.ManagedFields[:1]; p.Labels["app"] = "c" },
	} {
		for _, sub := range []string{"", "status"} {
			// Created by one, its status by another.
			live := ownedPod()
			live.UID = ""
			empty := &corev1.Pod{TypeMeta: live.TypeMeta}
			made, err := plain.update(as, "", empty, live, "creator")
			if err != nil {
				t.Fatal(err)
			}
			live = made.(*corev1.Pod)
			live.UID = "u"
			first := live.DeepCopy()
			first.Status.Message = "seen"
			if made, err = plain.update(as, "status", live, first, "kubelet"); err != nil {
				t.Fatal(err)
			}
			live = made.(*corev1.Pod)
			frozen := live.DeepCopy()

			next := live.DeepCopy()
			change(next)
			asked := next.DeepCopy()
			got, err := quick.update(as, sub, live, next.DeepCopy(), "me")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			whole, err := plain.manager(as, sub)
			if err != nil {
				t.Fatal(err)
			}
			out, err := whole.Update(live, next, "me")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := out.(*corev1.Pod)
			if g, w := untimed(t, got.GetManagedFields()), untimed(t, want.ManagedFields); g != w {
				t.Errorf("%s, %q:\ngot  %s\nwant %s", name, sub, g, w)
			}
			got.SetManagedFields(nil)
			asked.ManagedFields = nil
			if g, w := fmt.Sprint(got), fmt.Sprint(asked); g != w {
				t.Errorf("%s: the object itself has changed:\n%s\n%s", name, g, w)
			}
			if fmt.Sprint(live) != fmt.Sprint(frozen) {
				t.Errorf("%s: the stored object has changed", name)
			}
		}
	}
}

func untimed(t *testing.T, entries []metav1.ManagedFieldsEntry) string {
	t.Helper()
	for i := range entries {
		entries[i].Time = nil
	}
	b, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func BenchmarkOwners(b *testing.B) {
	cat := kind.Builtin()
	o := newOwners(cat)
	k, v, _ := cat.ByKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	as := versionOf(k, v)
	fresh := ownedPod()
	fresh.UID = ""
	empty := &corev1.Pod{TypeMeta: fresh.TypeMeta}
	made, err := o.update(as, "", empty, fresh.DeepCopy(), "creator")
	if err != nil {
		b.Fatal(err)
	}
	made.SetUID("u")
	running := made.DeepCopyObject().(*corev1.Pod)
	running.Status.Phase = corev1.PodRunning
	for _, bb := range []struct {
		name       string
		sub        string
		live, next *corev1.Pod
	}{
		{"create", "", empty, fresh},
		{"status", "status", made.(*corev1.Pod), running},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				next := *bb.next
				if _, err := o.update(as, bb.sub, bb.live, &next, "me"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
