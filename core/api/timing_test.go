package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// dawdling takes its time over ConfigMaps that ask for it.
type dawdling struct{ pause time.Duration }

func (dawdling) Name() string { return "Dawdling" }
func (dawdling) Handles(op admission.Operation, r client.Resource, _ string) bool {
	return r.Resource == "configmaps" && op == admission.Create
}
func (d dawdling) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Key.Name != "slow" {
		return nil
	}
	select {
	case <-time.After(d.pause):
	case <-ctx.Done():
	}
	return nil
}

// TestSlowRequest: one line in the log says where the time went, the audit
// event has it under upstream's names, and the spans of a write name its steps.
func TestSlowRequest(t *testing.T) {
	var log apitest.Buffer
	rec := &spans{}
	hub := telemetry.NewHub(telemetry.Config{Log: slog.NewJSONHandler(&log, nil)})
	hub.AddSpanProcessor(rec)
	s, _ := clients(t, apitest.WithHub(hub), apitest.WithPlugins(func(client.Client) []admission.Plugin {
		return []admission.Plugin{dawdling{600 * time.Millisecond}}
	}))
	for _, name := range []string{"slow", "fast"} {
		if code, _, body := ask(t, s, "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"`+name+`"}}`, "Content-Type", "application/json"); code != 201 {
			t.Fatalf("%d %s", code, body)
		}
	}
	var line struct {
		Msg, Verb, Path, User, TraceID string
		Code                           int
		Took, Admission, Storage, Rest time.Duration
	}
	eventually(t, "the slow request is in the log", func() bool {
		for l := range strings.Lines(log.String()) {
			if strings.Contains(l, `"slow request"`) && strings.Contains(l, "configmaps") {
				return json.Unmarshal([]byte(l), &line) == nil
			}
		}
		return false
	})
	if line.Verb != "POST" || line.Code != 201 || line.User == "" || line.Took < 600*time.Millisecond || line.Admission < 600*time.Millisecond || line.Admission > line.Took ||
		line.Storage <= 0 || line.Storage > line.Took || line.Rest < 0 || line.Rest > 300*time.Millisecond {
		t.Errorf("%+v", line)
	}
	if n := strings.Count(log.String(), `"slow request"`); n != 1 {
		t.Errorf("%d slow requests in the log", n)
	}
	for _, name := range []string{"authentication", "authorization", "admission admit", "admission validate", "encode"} {
		if rec.inTrace(name, line.TraceID) == nil {
			t.Errorf("no span %q in the trace of a write", name)
		}
	}
	if !rec.any(func(sp sdktrace.ReadOnlySpan) bool {
		return sp.SpanContext().TraceID().String() == line.TraceID && strings.Contains(strings.ToLower(sp.Name()), "etcd")
	}) {
		t.Error("no span of the store in the trace of a write")
	}
	evs := auditEvents(t, s, func(e *audited) bool { return e.ObjectRef.Name == "slow" })
	if len(evs) != 1 || evs[0].Annotations["apiserver.latency.k8s.io/total"] == "" || evs[0].Annotations["apiserver.latency.k8s.io/etcd"] == "" {
		t.Errorf("audit: %+v", evs)
	}
}

func (s *spans) any(f func(sdktrace.ReadOnlySpan) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.list {
		if f(sp) {
			return true
		}
	}
	return false
}

func BenchmarkGetHTTP(b *testing.B) {
	s := apitest.Start(b)
	fillPods(b, s, 1)
	h := s.API.Handler()
	state := s.AdminState()
	b.ReportAllocs()
	var w bytes.Buffer
	for b.Loop() {
		r := httptest.NewRequest("GET", "/api/v1/namespaces/default/pods/p-000000?resourceVersion=0", nil)
		r.Header.Set("Accept", "application/json")
		r.TLS = state
		h.ServeHTTP(&httptest.ResponseRecorder{Body: &w, HeaderMap: map[string][]string{}}, r)
		w.Reset()
	}
}
