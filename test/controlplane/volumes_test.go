package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
)

func claim(namespace, name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("none"),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

func podWith(namespace, name, node, claim string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, SchedulingGates: gates(node), Containers: []corev1.Container{{Name: "c", Image: "web:1"}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}},
		},
	}
}

// gates keep a pod that names no node without one.
func gates(node string) []corev1.PodSchedulingGate {
	if node != "" {
		return nil
	}
	return []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
}

func gone[T client.Object](ctx context.Context, c client.Client, namespace, name string) func() error {
	return func() error {
		o, err := client.Get[T](ctx, c, namespace, name)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("%s is there, deleted %v, finalizers %v", name, o.GetDeletionTimestamp(), o.GetFinalizers())
	}
}

func unusedIs(ctx context.Context, c client.Client, namespace, name string, want corev1.ConditionStatus) func() error {
	return func() error {
		pvc, err := client.Get[*corev1.PersistentVolumeClaim](ctx, c, namespace, name)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(pvc.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
			return c.Type == corev1.PersistentVolumeClaimUnused && c.Status == want
		}) {
			return fmt.Errorf("conditions %+v, want Unused=%s", pvc.Status.Conditions, want)
		}
		return nil
	}
}

// A claim in use stays when it is deleted, alone or with its namespace, until
// the last pod on a node is gone.
func TestClaimsInUseStay(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	addNode(t, ctx, c, "n1")
	mustCreate(t, ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "data"}})
	for _, name := range []string{"held", "free", "waited-for"} {
		made := mustCreate(t, ctx, c, claim("data", name))
		if !slices.Equal(made.Finalizers, []string{"kubernetes.io/pvc-protection"}) {
			t.Errorf("%s is made with finalizers %v", name, made.Finalizers)
		}
	}
	eventually(t, "the claim is unused", unusedIs(ctx, c, "data", "held", corev1.ConditionTrue))
	mustCreate(t, ctx, c, podWith("data", "db", "n1", "held"))
	mustCreate(t, ctx, c, podWith("data", "waits", "", "waited-for"))
	eventually(t, "the claim is used", unusedIs(ctx, c, "data", "held", corev1.ConditionFalse))

	for _, name := range []string{"held", "free", "waited-for"} {
		if err := client.Delete[*corev1.PersistentVolumeClaim](ctx, c, "data", name, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the unused claim goes", gone[*corev1.PersistentVolumeClaim](ctx, c, "data", "free"))
	eventually(t, "the claim of a pod without a node goes", gone[*corev1.PersistentVolumeClaim](ctx, c, "data", "waited-for"))
	if err := client.Delete[*corev1.Namespace](ctx, c, "", "data", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is being deleted", func() error {
		pod, err := client.Get[*corev1.Pod](ctx, c, "data", "db")
		if err == nil && pod.DeletionTimestamp == nil {
			err = errors.New("it is not")
		}
		return err
	})
	if err := gone[*corev1.PersistentVolumeClaim](ctx, c, "data", "held")(); err == nil {
		t.Error("the claim went before its pod")
	}
	// The agent has stopped the pod.
	if err := client.Delete[*corev1.Pod](ctx, c, "data", "db", client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace goes", gone[*corev1.Namespace](ctx, c, "", "data"))
}

// Volumes wait while they are bound, classes while they are named; a finalizer
// taken off by hand comes back.
func TestVolumesAndClassesInUseStay(t *testing.T) {
	ctx, s := start(t)
	c := s.Client
	mustCreate(t, ctx, c, &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, DriverName: "example.com", Parameters: map[string]string{"iops": "9"}})
	pv := mustCreate(t, ctx, c, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Spec: corev1.PersistentVolumeSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		PersistentVolumeSource:    corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "example.com", VolumeHandle: "1"}},
		VolumeAttributesClassName: ptr.To("fast"),
	}})
	unmark := []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`)
	if _, err := client.Patch[*corev1.PersistentVolume](ctx, c, "", "disk", types.JSONPatchType, unmark, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Patch[*storagev1.VolumeAttributesClass](ctx, c, "", "fast", types.JSONPatchType, unmark, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the marks come back", func() error {
		v, err := client.Get[*corev1.PersistentVolume](ctx, c, "", "disk")
		if err != nil {
			return err
		}
		a, err := client.Get[*storagev1.VolumeAttributesClass](ctx, c, "", "fast")
		if err == nil && (len(v.Finalizers) == 0 || len(a.Finalizers) == 0) {
			err = fmt.Errorf("finalizers %v and %v", v.Finalizers, a.Finalizers)
		}
		return err
	})
	setPhase := func(phase corev1.PersistentVolumePhase) {
		t.Helper()
		if _, err := client.Modify(ctx, c, "", pv.Name, "status", func(v *corev1.PersistentVolume) (bool, error) {
			v.Status.Phase = phase
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	setPhase(corev1.VolumeBound)
	if err := client.Delete[*storagev1.VolumeAttributesClass](ctx, c, "", "fast", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete[*corev1.PersistentVolume](ctx, c, "", "disk", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	setPhase(corev1.VolumeReleased) // fails when the volume went while it was bound
	eventually(t, "the released volume goes", gone[*corev1.PersistentVolume](ctx, c, "", "disk"))
	eventually(t, "its class follows", gone[*storagev1.VolumeAttributesClass](ctx, c, "", "fast"))
}
