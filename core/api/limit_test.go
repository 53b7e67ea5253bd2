package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/auth"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

type everybody struct{}

func (everybody) Authenticate(*http.Request) (*auth.User, bool, error) {
	return &auth.User{Name: "somebody"}, true, nil
}

type anything struct{ during func() }

func (a anything) Authorize(context.Context, auth.Attributes) (auth.Decision, string, error) {
	if a.during != nil {
		a.during()
	}
	return auth.Allow, "", nil
}

func server(t *testing.T, cfg Config, z auth.Authorizer) *Server {
	t.Helper()
	tel := telemetry.Discard()
	chain, err := admission.NewChain(tel)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, nil, kind.Builtin(), everybody{}, z, chain, tel)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTooManyInFlight(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	s := server(t, Config{MaxInFlight: 1, MaxMutatingInFlight: 1}, anything{func() { inside <- struct{}{}; <-leave }})
	first := make(chan int, 2)
	for range 2 {
		go func() {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/version", nil))
			first <- w.Code
		}()
		<-inside
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/version", nil))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
		t.Errorf("third request: %d %v", w.Code, w.Header())
	}
	close(leave)
	if code := <-first; code != http.StatusOK {
		t.Errorf("first request: %d", code)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	s := server(t, Config{}, anything{func() { panic("boom") }})
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/version", nil))
	var st metav1.Status
	if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || w.Code != 500 || st.Reason != metav1.StatusReasonInternalError {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	families, err := s.tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "binnacle_api_panics_total" && f.GetMetric()[0].GetCounter().GetValue() == 1 {
			return
		}
	}
	t.Error("the panic was not counted")
}

func TestRoutes(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         route
		template     string
	}{
		{"GET", "/api/v1/namespaces/a/pods", route{isResource: true, version: "v1", namespace: "a", resource: "pods", verb: "list"}, "/api/v1/namespaces/{ns}/pods"},
		{"GET", "/api/v1/namespaces", route{isResource: true, version: "v1", resource: "namespaces", verb: "list"}, "/api/v1/namespaces"},
		{"PUT", "/api/v1/namespaces/a/finalize", route{isResource: true, version: "v1", namespace: "a", resource: "namespaces", name: "a", sub: "finalize", verb: "update"}, "/api/v1/namespaces/{name}/finalize"},
		{"GET", "/api/v1/watch/namespaces/a/pods/b", route{isResource: true, version: "v1", namespace: "a", resource: "pods", name: "b", verb: "watch"}, "/api/v1/namespaces/{ns}/pods/{name}"},
		{"POST", "/apis/apps/v1/namespaces/a/deployments/b/scale", route{isResource: true, group: "apps", version: "v1", namespace: "a", resource: "deployments", name: "b", sub: "scale", verb: "create"}, "/apis/apps/v1/namespaces/{ns}/deployments/{name}/scale"},
		{"GET", "/api/v1/nodes/n/proxy/stats/summary", route{isResource: true, version: "v1", resource: "nodes", name: "n", sub: "proxy", rest: "stats/summary", verb: "get"}, "/api/v1/nodes/{name}/proxy/{path}"},
		{"DELETE", "/api/v1/nodes", route{isResource: true, version: "v1", resource: "nodes", verb: "deletecollection"}, "/api/v1/nodes"},
		{"GET", "/apis/apps/v1", route{verb: "get"}, ""},
		{"GET", "/healthz", route{verb: "get"}, ""},
	} {
		got := parseRoute(c.method, c.path, nil)
		c.want.path = c.path
		if got != c.want {
			t.Errorf("%s %s: got %+v, want %+v", c.method, c.path, got, c.want)
		}
		if c.template != "" && got.template() != c.template {
			t.Errorf("%s: template %s", c.path, got.template())
		}
	}
}
