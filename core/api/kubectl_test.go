package api_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	explain "k8s.io/kubectl/pkg/explain/v2"
	"k8s.io/kubectl/pkg/util/openapi"
	"k8s.io/kubectl/pkg/validation"

	"binnacle.io/core/api/apitest"
)

// kubectl explain --recursive of every kind that discovery lists.
func TestExplainEveryKind(t *testing.T) {
	s := apitest.Start(t)
	d, err := discovery.NewDiscoveryClientForConfig(s.REST)
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := d.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	docs, explained := d.OpenAPIV3(), 0
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			k, _, ok := s.Kinds.ByResource(gv.WithResource(r.Name))
			if !ok || k.Hub.GroupVersion() != gv {
				continue // a subresource, or an older version
			}
			var out bytes.Buffer
			if err := explain.PrintModelDescription(nil, &out, docs, gv.WithResource(r.Name), true, 0, "plaintext"); err != nil {
				t.Errorf("explain %s: %v", r.Name, err)
				continue
			}
			explained++
			text := out.String()
			for _, want := range []string{"KIND:       " + r.Kind, "apiVersion\t<string>", "metadata\t<ObjectMeta>", "labels\t<map[string]string>"} {
				if !strings.Contains(text, want) {
					t.Errorf("explain %s lacks %q:\n%.500s", r.Name, want, text)
				}
			}
		}
	}
	if explained < 60 {
		t.Errorf("only %d kinds are explained", explained)
	}
	var out bytes.Buffer
	if err := explain.PrintModelDescription([]string{"spec", "containers", "imagePullPolicy"}, &out, docs,
		schema.GroupVersionResource{Version: "v1", Resource: "pods"}, false, 0, "plaintext"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FIELD: imagePullPolicy <string>", "ENUM:", "IfNotPresent"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("explain of a field lacks %q:\n%s", want, out.String())
		}
	}
}

// resources is what validation asks of a parsed document.
type resources struct{ *openapi.CachedOpenAPIParser }

// OpenAPISchema implements openapi.OpenAPIResourcesGetter.
func (r resources) OpenAPISchema() (openapi.Resources, error) { return r.Parse() }

// kubectl's validation on the client's side reads /openapi/v2.
func TestClientSideValidation(t *testing.T) {
	s := apitest.Start(t)
	d, err := discovery.NewDiscoveryClientForConfig(s.REST)
	if err != nil {
		t.Fatal(err)
	}
	v := validation.NewSchemaValidation(resources{openapi.NewOpenAPIParser(openapi.NewOpenAPIGetter(d))})
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "i", "ports": []any{map[string]any{"containerPort": 80}}}}},
	}
	for _, tc := range []struct {
		name   string
		change func(spec, container map[string]any)
		want   string // part of the error; "" for none
	}{
		{"good", func(_, _ map[string]any) {}, ""},
		{"unknown field", func(spec, _ map[string]any) { spec["nodeNmae"] = "n" }, `unknown field "nodeNmae" in io.k8s.api.core.v1.PodSpec`},
		{"missing field", func(_, c map[string]any) { delete(c, "name") }, `missing required field "name" in io.k8s.api.core.v1.Container`},
		{"wrong type", func(_, c map[string]any) { c["image"] = []any{"i"} }, `invalid type for io.k8s.api.core.v1.Container.image: got "array", expected "string"`},
		{"number or string", func(_, c map[string]any) {
			c["livenessProbe"] = map[string]any{"httpGet": map[string]any{"port": "http"}}
		}, ""},
		{"quantity", func(_, c map[string]any) {
			c["resources"] = map[string]any{"limits": map[string]any{"cpu": 1, "memory": "1Gi"}}
		}, ""},
	} {
		b, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		var changed map[string]any
		if err := json.Unmarshal(b, &changed); err != nil {
			t.Fatal(err)
		}
		spec := changed["spec"].(map[string]any)
		tc.change(spec, spec["containers"].([]any)[0].(map[string]any))
		if b, err = json.Marshal(changed); err != nil {
			t.Fatal(err)
		}
		err = v.ValidateBytes(b)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}
