package api_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
)

func TestInProcessClient(t *testing.T) {
	s := apitest.Start(t)
	ctx := context.Background()
	in := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", Labels: map[string]string{"x": "1"}}}
	made, err := client.Create(ctx, s.Client, in)
	if err != nil {
		t.Fatal(err)
	}
	if in.UID != "" || len(in.ManagedFields) != 0 {
		t.Error("the caller's object was changed")
	}
	one, err := client.GetCached[*corev1.ConfigMap](ctx, s.Client, "default", "a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := client.Get[*corev1.ConfigMap](ctx, s.Client, "default", "a")
	if err != nil || one != two || one != made {
		t.Errorf("reads are not shared: %p %p %p, %v", made, one, two, err)
	}
	w, err := client.WatchOf[*corev1.ConfigMap](ctx, s.Client, "", client.ReadOptions{Namespace: "default", Labels: labels.SelectorFromSet(labels.Set{"x": "1"})})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	expect := func(typ client.EventType) client.Event {
		t.Helper()
		ev, err := w.Next(ctx)
		if err != nil || ev.Type != typ {
			t.Fatalf("got %+v %v, want %s", ev, err, typ)
		}
		return ev
	}
	expect(client.Added)
	if b := expect(client.Bookmark); b.Revision == "" || b.Object != nil {
		t.Errorf("bookmark: %+v", b)
	}
	if _, err := client.Patch[*corev1.ConfigMap](ctx, s.Client, "default", "a", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(client.Modified)
	if _, err := client.Patch[*corev1.ConfigMap](ctx, s.Client, "default", "a", types.MergePatchType, []byte(`{"metadata":{"labels":{"x":"2"}}}`), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(client.Deleted)
	w.Close()
	if _, err := w.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
	applied, err := client.Patch[*appsv1.Deployment](ctx, s.Client, "default", "d", types.ApplyYAMLPatchType,
		[]byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`),
		client.WriteOptions{FieldManager: "me"})
	if err != nil || applied.Spec.Replicas == nil || applied.ManagedFields[0].Manager != "me" {
		t.Errorf("apply: %v", err)
	}
	if _, _, err := client.ListOf[*corev1.Pod](ctx, s.Client, client.ReadOptions{Fields: fields.OneTermEqualSelector("spec.nothing", "x")}); !apierrors.IsBadRequest(err) {
		t.Errorf("unknown field: %v", err)
	}
	if err := client.Delete[*corev1.ConfigMap](ctx, s.Client, "default", "a", client.DeleteOptions{UID: "other"}); !apierrors.IsConflict(err) {
		t.Errorf("delete of another uid: %v", err)
	}
	if err := client.Delete[*corev1.ConfigMap](ctx, s.Client, "default", "a", client.DeleteOptions{UID: made.UID}); err != nil {
		t.Error(err)
	}
}

// Concurrent writers of one object all get their way, one after another.
func TestConcurrentUpdates(t *testing.T) {
	s := apitest.Start(t)
	ctx := context.Background()
	if _, err := client.Create(ctx, s.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "n", Namespace: "default"}}); err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 20
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				_, err := client.Modify(ctx, s.Client, "default", "n", "", func(c *corev1.ConfigMap) (bool, error) {
					if c.Data == nil {
						c.Data = map[string]string{}
					}
					c.Data["n"] += "x"
					return true, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, err := client.Get[*corev1.ConfigMap](ctx, s.Client, "default", "n")
	if err != nil || len(got.Data["n"]) != writers*each {
		t.Errorf("%v: %d updates of %d", err, len(got.Data["n"]), writers*each)
	}
}
