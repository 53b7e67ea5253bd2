package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/store"
)

// TestContinueAfterCompaction is upstream's story of a list that takes too
// long: the token expires with the history it is of, though nobody writes to
// the kind, and the answer has one that goes on from there, inconsistently.
func TestContinueAfterCompaction(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.WithStore(func(c *store.Config) { c.CompactEvery = 200 * time.Millisecond }))
	ctx := t.Context()
	maps := kubernetes.NewForConfigOrDie(s.REST).CoreV1().ConfigMaps("kube-public")
	const total, page = 40, 4
	for i := range total {
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("chunk-%04d", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	first, err := maps.List(ctx, metav1.ListOptions{Limit: page})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	var expired apierrors.APIStatus
	for expired == nil {
		_, err := maps.List(ctx, metav1.ListOptions{Limit: page, Continue: first.Continue})
		if err != nil {
			if !apierrors.IsResourceExpired(err) {
				t.Fatal(err)
			}
			expired = err.(apierrors.APIStatus)
			break
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the token does not expire")
		}
	}
	status := expired.Status()
	if status.Code != http.StatusGone || status.Continue == "" {
		t.Fatalf("status %+v", status)
	}
	next, err := maps.List(ctx, metav1.ListOptions{Limit: page, Continue: status.Continue})
	if err != nil {
		t.Fatal(err)
	}
	if next.ResourceVersion == first.ResourceVersion || len(next.Items) != page || next.Items[0].Name <= first.Items[page-1].Name {
		t.Errorf("%d items from %s at %s, after those through %s at %s", len(next.Items), next.Items[0].Name, next.ResourceVersion, first.Items[page-1].Name, first.ResourceVersion)
	}
	seen := page + len(next.Items)
	if next.RemainingItemCount == nil || int(*next.RemainingItemCount)+seen < total {
		t.Errorf("remaining %v after %d", next.RemainingItemCount, seen)
	}
	rest, err := maps.List(ctx, metav1.ListOptions{Continue: next.Continue})
	if err != nil && !apierrors.IsResourceExpired(err) { // compaction is fast here
		t.Fatal(err)
	}
	if err == nil && (rest.ResourceVersion != next.ResourceVersion || len(rest.Items)+seen < total) {
		t.Errorf("%d items at %s after %d at %s", len(rest.Items), rest.ResourceVersion, seen, next.ResourceVersion)
	}
}
