package extend_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/extend"
	"binnacle.io/core/kind"
)

// start runs LocalServices until the function it returns is called.
func start(t *testing.T, s *apitest.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := extend.NewLocalServices(s.Kinds, s.Client, s.Telemetry).Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// await follows the APIServices until what is asked of them holds.
func await(t *testing.T, s *apitest.Server, what string, ok func(map[string]*apiregistrationv1.APIService) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, err := client.WatchOf[*apiregistrationv1.APIService](ctx, s.Client, "", client.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for {
		list, _, err := client.ListOf[*apiregistrationv1.APIService](ctx, s.Client, client.ReadOptions{})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		all := map[string]*apiregistrationv1.APIService{}
		for _, a := range list {
			all[a.Name] = a
		}
		if ok(all) {
			return
		}
		if _, err := w.Next(ctx); err != nil {
			t.Fatalf("%s: %v; there are %d APIServices", what, err, len(all))
		}
	}
}

func widget() *kind.Kind {
	gvk := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	return &kind.Kind{
		Hub: gvk, Resource: "widgets", Singular: "widget", ShortNames: []string{"wd"}, Prefix: "example.com/widgets",
		New: func() kind.Object {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(gvk)
			return u
		},
		NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
	}
}

func TestLocalServicesFollowTheCatalogue(t *testing.T) {
	s := apitest.Start(t)
	stop := start(t, s)
	await(t, s, "one for each group version", func(all map[string]*apiregistrationv1.APIService) bool {
		return all["v1."] != nil && all["v1.apps"] != nil && all["v2.autoscaling"] != nil && all["v1.resource.k8s.io"] != nil
	})
	apps, err := client.Get[*apiregistrationv1.APIService](t.Context(), s.Client, "", "v1.apps")
	if err != nil {
		t.Fatal(err)
	}
	if apps.Spec.GroupPriorityMinimum != 17800 || apps.Spec.VersionPriority != 15 || apps.Labels["kube-aggregator.kubernetes.io/automanaged"] != "onstart" {
		t.Errorf("v1.apps is %+v, labels %v", apps.Spec, apps.Labels)
	}
	if c := apps.Status.Conditions; len(c) != 1 || c[0].Status != "True" || c[0].Reason != "Local" {
		t.Errorf("v1.apps has conditions %+v", c)
	}
	if len(apps.ManagedFields) == 0 {
		t.Error("nobody owns the fields of v1.apps")
	}
	if _, err := client.Get[*apiregistrationv1.APIService](t.Context(), s.Client, "", "v1.apiregistration.k8s.io"); !apierrors.IsNotFound(err) {
		t.Errorf("the group of APIServices has one itself: %v", err)
	}

	s.Kinds.Add(widget())
	custom := "v1.example.com"
	await(t, s, "one for a new kind", func(all map[string]*apiregistrationv1.APIService) bool { return all[custom] != nil })
	first, err := client.Get[*apiregistrationv1.APIService](t.Context(), s.Client, "", custom)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Delete[*apiregistrationv1.APIService](t.Context(), s.Client, "", custom, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, s, "it comes back", func(all map[string]*apiregistrationv1.APIService) bool {
		return all[custom] != nil && all[custom].UID != first.UID
	})
	_, err = client.Modify(t.Context(), s.Client, "", custom, "", func(a *apiregistrationv1.APIService) (bool, error) {
		a.Spec.VersionPriority = 7
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	await(t, s, "it is put right", func(all map[string]*apiregistrationv1.APIService) bool {
		return all[custom] != nil && all[custom].Spec.VersionPriority == 100
	})
	s.Kinds.Remove(widget().GroupResource())
	await(t, s, "it goes with the kind", func(all map[string]*apiregistrationv1.APIService) bool { return all[custom] == nil })

	// What is written at the start is left alone until the next one.
	if err := client.Delete[*apiregistrationv1.APIService](t.Context(), s.Client, "", "v1.batch", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := client.Get[*apiregistrationv1.APIService](t.Context(), s.Client, "", "v1.batch"); !apierrors.IsNotFound(err) {
		t.Errorf("v1.batch after its deletion: %v", err)
	}
	start(t, s)
	await(t, s, "v1.batch after a restart", func(all map[string]*apiregistrationv1.APIService) bool { return all["v1.batch"] != nil })
}

// An APIService of another server is kept and says what it does not do.
func TestForeignServiceSaysThatItIsNotServed(t *testing.T) {
	s := apitest.Start(t)
	foreign := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.other.example.com"}}
	foreign.Spec = apiregistrationv1.APIServiceSpec{
		Group: "other.example.com", Version: "v1", GroupPriorityMinimum: 10, VersionPriority: 10,
		Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "other"},
	}
	got, err := client.Create(t.Context(), s.Client, foreign)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Spec.Service.Port != 443 {
		t.Errorf("port %d, want 443", *got.Spec.Service.Port)
	}
	if c := got.Status.Conditions; len(c) != 1 || c[0].Status != "False" || c[0].Reason != "AggregationNotSupported" {
		t.Errorf("conditions %+v", c)
	}
	foreign.Name = "v2.other.example.com"
	if _, err := client.Create(t.Context(), s.Client, foreign); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.name") {
		t.Errorf("a name that is not version.group: %v", err)
	}
}

// Discovery and OpenAPI show a kind as soon as the catalogue has it, and tell
// clients which kept the old documents.
func TestKindsArriveAtRunTime(t *testing.T) {
	s := apitest.Start(t)
	const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	ask := func(path, accept, etag string) (int, string, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		if etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		res, err := s.HTTP(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Etag"), string(body)
	}
	documents := []struct{ path, accept string }{
		{"/apis", aggregated}, {"/openapi/v2", "application/json"}, {"/openapi/v3/apis/apps/v1", "application/json"},
	}
	before := map[string]string{}
	for _, d := range documents {
		_, etag, body := ask(d.path, d.accept, "")
		if etag == "" || strings.Contains(body, "Widget") {
			t.Fatalf("%s: ETag %q", d.path, etag)
		}
		before[d.path] = etag
		if code, _, body := ask(d.path, d.accept, etag); code != http.StatusNotModified || body != "" {
			t.Errorf("%s asked again: %d, %d bytes", d.path, code, len(body))
		}
	}
	if code, _, _ := ask("/apis/example.com/v1/widgets", "application/json", ""); code != http.StatusNotFound {
		t.Errorf("before the kind is there: %d", code)
	}

	s.Kinds.Add(widget())
	for _, d := range documents[:2] {
		code, etag, body := ask(d.path, d.accept, before[d.path])
		if code != http.StatusOK || etag == before[d.path] || !strings.Contains(body, "Widget") {
			t.Errorf("%s with the kind: %d, ETag changed: %t", d.path, code, etag != before[d.path])
		}
	}
	if code, etag, _ := ask("/openapi/v3/apis/apps/v1", "application/json", before["/openapi/v3/apis/apps/v1"]); code != http.StatusNotModified {
		t.Errorf("a document of another group: %d %s", code, etag)
	}
	for _, path := range []string{"/apis/example.com/v1", "/openapi/v3/apis/example.com/v1"} {
		if code, _, body := ask(path, "application/json", ""); code != http.StatusOK || !strings.Contains(body, "Widget") {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	if _, _, body := ask("/openapi/v3", "application/json", ""); !strings.Contains(body, "apis/example.com/v1?hash=") {
		t.Error("the index of /openapi/v3 does not have the new group")
	}

	s.Kinds.Remove(widget().GroupResource())
	if _, etag, body := ask("/apis", aggregated, ""); etag != before["/apis"] || strings.Contains(body, "Widget") {
		t.Error("discovery is not what it was before")
	}
	if code, _, _ := ask("/openapi/v3/apis/example.com/v1", "application/json", ""); code != http.StatusNotFound {
		t.Errorf("its document after it is gone: %d", code)
	}
}
