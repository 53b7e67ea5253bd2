package openapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/spec3"

	"binnacle.io/core/kind"
)

func get(t *testing.T, s *Service, path, accept string) *http.Response {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	return w.Result()
}

func TestIndexLeadsToEveryDocument(t *testing.T) {
	s := New(kind.Builtin())
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.NewDecoder(get(t, s, "/openapi/v3", "").Body).Decode(&index); err != nil {
		t.Fatal(err)
	}
	for path, p := range index.Paths {
		doc := &spec3.OpenAPI{}
		b, err := io.ReadAll(get(t, s, p.ServerRelativeURL, "application/json").Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, doc); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(doc.Paths.Paths) == 0 {
			t.Errorf("%s: %d paths, %d schemas", path, len(doc.Paths.Paths), len(doc.Components.Schemas))
		}
		for name, s := range doc.Components.Schemas {
			for prop, ps := range s.Properties {
				ref := ps.Ref.String()
				if len(ps.AllOf) == 1 {
					ref = ps.AllOf[0].Ref.String()
				}
				if ref == "" {
					continue
				}
				if _, ok := doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]; !ok {
					t.Errorf("%s: %s.%s refers to %s, which is not there", path, name, prop, ref)
				}
			}
		}
	}
	if len(index.Paths) < 15 {
		t.Errorf("only %d group versions are described", len(index.Paths))
	}
}

// What kubectl explain, strategic merge and server-side apply read of a pod.
func TestPodSchema(t *testing.T) {
	s := New(kind.Builtin())
	doc := &spec3.OpenAPI{}
	if err := json.NewDecoder(get(t, s, "/openapi/v3/api/v1", "application/json").Body).Decode(doc); err != nil {
		t.Fatal(err)
	}
	podSpec := doc.Components.Schemas["io.k8s.api.core.v1.PodSpec"]
	containers, ok := podSpec.Properties["containers"]
	if !ok {
		t.Fatalf("PodSpec has no containers: %v", doc.Components.Schemas["io.k8s.api.core.v1.PodSpec"])
	}
	for ext, want := range map[string]string{
		"x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge", "x-kubernetes-list-type": "map",
	} {
		if got := containers.Extensions[ext]; got != want {
			t.Errorf("containers: %s is %v, want %s", ext, got, want)
		}
	}
	if len(podSpec.Required) != 1 || podSpec.Required[0] != "containers" {
		t.Errorf("PodSpec requires %v, want containers alone", podSpec.Required)
	}
	pod := doc.Components.Schemas["io.k8s.api.core.v1.Pod"]
	if !strings.Contains(string(mustJSON(t, pod.Extensions)), `"kind":"Pod"`) {
		t.Errorf("Pod does not say which kind it is: %v", pod.Extensions)
	}
	patch := doc.Paths.Paths["/api/v1/namespaces/{namespace}/pods/{name}"].Patch
	var names []string
	for _, p := range patch.Parameters {
		names = append(names, p.Name)
	}
	for _, want := range []string{"dryRun", "fieldValidation", "force"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("patch of a pod knows %v, lacks %s", names, want)
		}
	}
	if q := doc.Components.Schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]; q == nil || len(q.OneOf) != 2 {
		t.Errorf("Quantity is %v, want a string or a number", q)
	}
}

func TestV2Protobuf(t *testing.T) {
	s := New(kind.Builtin())
	b, err := io.ReadAll(get(t, s, "/openapi/v2", v2Proto).Body)
	if err != nil {
		t.Fatal(err)
	}
	doc := &openapi_v2.Document{}
	if err := proto.Unmarshal(b, doc); err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Definitions.AdditionalProperties); n < 300 {
		t.Errorf("%d definitions, want upstream's several hundred", n)
	}
}

func TestUnknownDocument(t *testing.T) {
	w := httptest.NewRecorder()
	New(kind.Builtin()).ServeHTTP(w, httptest.NewRequest("GET", "/openapi/v3/apis/nothing/v1", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("status %d, want 404", w.Code)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
