package api_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"binnacle.io/core/api/apitest"
)

func clients(t *testing.T, opts ...apitest.Option) (*apitest.Server, *kubernetes.Clientset) {
	t.Helper()
	s := apitest.Start(t, opts...)
	k, err := kubernetes.NewForConfig(s.REST)
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

func TestVerbsOverHTTP(t *testing.T) {
	_, k := clients(t)
	ctx := context.Background()
	cms := k.CoreV1().ConfigMaps("default")
	w, err := cms.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() || len(made.ManagedFields) != 1 {
		t.Errorf("metadata not filled in: %+v", made.ObjectMeta)
	}
	ev := <-w.ResultChan()
	if ev.Type != "ADDED" || ev.Object.(*corev1.ConfigMap).Name != "a" {
		t.Errorf("watch: got %+v", ev)
	}
	made.Data["k"] = "w"
	if _, err := cms.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cms.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("stale update: got %v, want a conflict", err)
	}
	if ev := <-w.ResultChan(); ev.Type != "MODIFIED" {
		t.Errorf("watch: got %+v", ev)
	}
	list, err := cms.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Data["k"] != "w" {
		t.Errorf("list: %v, %+v", err, list)
	}
	if err := cms.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if ev := <-w.ResultChan(); ev.Type != "DELETED" {
		t.Errorf("watch: got %+v", ev)
	}
	if _, err := cms.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get: got %v, want not found", err)
	}
}
