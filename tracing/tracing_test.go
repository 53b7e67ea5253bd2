package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"binnacle.io/core/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *telemetry.Hub {
	return telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(io.Discard, nil)})
}

// start runs a Tracing until the test ends or stop is called.
func start(t *testing.T, cfg Config) (tr *Tracing, stop func()) {
	t.Helper()
	tr, err := New(cfg, quiet().Component("tracing", "tracing"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return tr, stop
}

// sample is n of each metric whose name and label values contain all of want.
func sample(t *testing.T, reg *prometheus.Registry, name string, want ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			text := m.String()
			ok := true
			for _, w := range want {
				ok = ok && strings.Contains(text, `"`+w+`"`)
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func span(service, name string, id, parent byte, start time.Time, d time.Duration) *Span {
	s := &Span{
		Trace: TraceID{15: 1}, ID: SpanID{7: id}, Name: name, Kind: KindServer,
		Start: start.UnixNano(), Duration: int64(d), Resource: &Resource{Service: service},
	}
	if parent != 0 {
		s.Parent = SpanID{7: parent}
	}
	return s
}

func get(t *testing.T, h http.Handler, url string) (int, []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
	return w.Code, w.Body.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatalf("not JSON: %s", got)
	}
	b.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, b.Bytes())
	}
}

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// example is a trace that has every feature of the format.
func example() []*Span {
	front := &Resource{Service: "frontend", Attrs: []Attr{
		{"k8s.pod.name", Value{Type: TypeString, Str: "frontend-0"}},
		{"process.pid", Value{Type: TypeInt, Int: 42}},
	}}
	back := &Resource{Service: "backend"}
	root := &Span{
		Trace: TraceID{0: 0xab, 15: 1}, ID: SpanID{7: 1}, Name: "GET /", Kind: KindServer, TraceState: "a=b",
		Start: t0.UnixNano(), Duration: int64(250 * time.Millisecond), Resource: front, Scope: Scope{"web", "1.2"},
		Attrs: []Attr{
			{"http.request.method", Value{Type: TypeString, Str: "GET"}},
			{"http.response.status_code", Value{Type: TypeInt, Int: 500}},
			{"cached", Value{Type: TypeBool, Int: 1}},
			{"ratio", Value{Type: TypeFloat, Float: 0.25}},
			{"raw", Value{Type: TypeBytes, Str: "\x00\xff"}},
			{"list", Value{Type: TypeList, List: []Value{{Type: TypeInt, Int: 1}, {Type: TypeString, Str: "x"}}}},
			{"map", Value{Type: TypeMap, Map: []Attr{{"k", Value{Type: TypeString, Str: "v"}}}}},
		},
	}
	child := &Span{
		Trace: root.Trace, ID: SpanID{7: 2}, Parent: root.ID, Name: "query", Kind: KindClient,
		Start: t0.Add(10 * time.Millisecond).UnixNano(), Duration: int64(100 * time.Millisecond), Resource: back,
		Status: StatusError, StatusMessage: "refused",
		Events: []Event{{Time: t0.Add(20 * time.Millisecond).UnixNano(), Name: "exception",
			Attrs: []Attr{{"exception.message", Value{Type: TypeString, Str: "refused"}}}}},
		Links: []Link{{Trace: TraceID{15: 9}, Span: SpanID{7: 9}}},
	}
	return []*Span{root, child}
}

func memory(t *testing.T) *Tracing {
	t.Helper()
	tr, err := New(Config{}, quiet().Component("tracing", "tracing"))
	if err != nil {
		t.Fatal(err)
	}
	tr.now = func() time.Time { return t0.Add(time.Second) }
	return tr
}

func TestJaegerJSON(t *testing.T) {
	tr := memory(t)
	tr.accept(example(), sourceOwn)
	h := tr.Handler()
	for file, url := range map[string]string{
		"jaeger_trace.json":           "/jaeger/api/traces/ab000000000000000000000000000001",
		"jaeger_search.json":          "/jaeger/api/traces?service=backend&operation=query&lookback=1h&limit=20&tags=" + `{"error":"true"}`,
		"jaeger_services.json":        "/jaeger/api/services",
		"jaeger_operation_names.json": "/jaeger/api/services/frontend/operations",
		"jaeger_operations.json":      "/jaeger/api/operations?service=backend&spanKind=client",
		"jaeger_dependencies.json":    fmt.Sprintf("/jaeger/api/dependencies?endTs=%d&lookback=3600000", t0.Add(time.Minute).UnixMilli()),
		"tempo_trace.json":            "/tempo/api/traces/ab000000000000000000000000000001",
		"tempo_search.json":           "/tempo/api/search?q=" + `{resource.service.name%3D"backend"%26%26status%3Derror}`,
		"tempo_tags.json":             "/tempo/api/search/tags",
		"tempo_tags_v2.json":          "/tempo/api/v2/search/tags",
		"tempo_values_v2.json":        "/tempo/api/v2/search/tag/resource.service.name/values",
	} {
		code, body := get(t, h, strings.ReplaceAll(url, " ", "%20"))
		if code != 200 {
			t.Errorf("GET %s: %d %s", url, code, body)
			continue
		}
		golden(t, file, body)
	}
	if code, body := get(t, h, "/tempo/api/echo"); code != 200 || string(body) != "echo" {
		t.Errorf("echo: %d %q", code, body)
	}
}

func TestSearchConditions(t *testing.T) {
	tr := memory(t)
	tr.accept(example(), sourceOwn)
	us := func(d time.Duration) string { return fmt.Sprint(t0.Add(d).UnixMicro()) }
	for query, want := range map[string]int{
		"service=frontend":                                                  1,
		"service=nobody":                                                    0,
		"service=frontend&operation=GET%20%2F":                              1,
		"service=frontend&operation=query":                                  0,
		"service=frontend&minDuration=250ms":                                1,
		"service=frontend&minDuration=251ms":                                0,
		"service=frontend&maxDuration=250ms":                                1,
		"service=frontend&maxDuration=249ms":                                0,
		"service=frontend&start=" + us(0):                                   1,
		"service=frontend&start=" + us(1):                                   1, // below a microsecond
		"service=frontend&start=" + us(time.Millisecond):                    0,
		"service=frontend&end=" + us(0):                                     1,
		"service=frontend&end=" + us(-time.Millisecond):                     0,
		"service=frontend&lookback=2s":                                      1,
		"service=frontend&lookback=500ms":                                   0,
		"service=frontend&tag=http.response.status_code:500":                1,
		"service=frontend&tag=http.response.status_code:200":                0,
		"service=frontend&tags=%7B%22k8s.pod.name%22%3A%22frontend-0%22%7D": 1,
		"service=frontend&tag=cached:true&tag=ratio:0.25":                   1,
		"service=backend&tag=span.kind:client":                              1,
		"service=backend&tag=exception.message:refused":                     1,
		"service=backend&tag=otel.status_code:ERROR":                        1,
		"traceID=ab000000000000000000000000000001":                          1,
		"traceID=1&traceID=2":                                               0,
	} {
		code, body := get(t, tr.JaegerHandler(), "/api/traces?"+query)
		var resp struct{ Data []jaegerTrace }
		if err := json.Unmarshal(body, &resp); err != nil || code != 200 {
			t.Errorf("%s: %d %s", query, code, body)
		} else if len(resp.Data) != want {
			t.Errorf("%s: %d traces, want %d", query, len(resp.Data), want)
		}
	}
}

func TestTraceQL(t *testing.T) {
	spans := example()
	for query, want := range map[string]bool{
		`{}`:                                        true,
		`{ name = "GET /" }`:                        true,
		`{ name =~ "GET .*" && kind = server }`:     true,
		`{ name !~ "GET .*" }`:                      true, // the child
		`{ duration > 200ms }`:                      true,
		`{ duration > 1s }`:                         false,
		`{ span.http.response.status_code >= 500 }`: true,
		`{ .http.response.status_code = 500 && status = error }`:  false, // not on one span
		`{ resource.service.name = "backend" && status = error }`: true,
		`{ .cached = true }`:            true,
		`{ span.ratio < 0.2 }`:          false,
		"{ statusMessage = `refused` }": true,
	} {
		f, err := parseTraceQL(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := f(spans[0]) || f(spans[1]); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	tr := memory(t)
	h := tr.Handler()
	for url, want := range map[string]int{
		"/jaeger/api/traces":                                                       400, // no service
		"/jaeger/api/traces?service=a&start=x":                                     400,
		"/jaeger/api/traces?service=a&limit=0":                                     400,
		"/jaeger/api/traces?service=a&minDuration=5":                               400,
		"/jaeger/api/traces?service=a&tags=nojson":                                 400,
		"/jaeger/api/traces?service=a&tag=nocolon":                                 400,
		"/jaeger/api/traces?service=a&minDuration=2s&maxDuration=1s":               400,
		"/jaeger/api/traces/xyz":                                                   400,
		"/jaeger/api/traces/1":                                                     404,
		"/jaeger/api/operations":                                                   400,
		"/jaeger/api/dependencies?endTs=x":                                         400,
		"/jaeger/api/nothing":                                                      404,
		"/tempo/api/traces/zz":                                                     400,
		"/tempo/api/traces/1":                                                      404,
		"/tempo/api/search?q=%7B%7D%20%7C%20count()%20%3E%201":                     400,
		"/tempo/api/search?q=%7B%20foo%20%3D%201%20%7D":                            400,
		"/tempo/api/search?q=%7B%20name%20%3D%20x%20%7C%7C%20name%20%3D%20y%20%7D": 400,
		"/tempo/api/search?tags=novalue":                                           400,
		"/tempo/api/search?limit=-1":                                               400,
	} {
		if code, body := get(t, h, url); code != want {
			t.Errorf("GET %s: %d %s, want %d", url, code, body, want)
		}
	}
}

// TestOTLPClients sends the same trace through the SDK's real exporters.
func TestOTLPClients(t *testing.T) {
	tr, _ := start(t, Config{GRPCAddress: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0"})
	for name, connect := range map[string]func(context.Context) (sdktrace.SpanExporter, error){
		"grpc": func(ctx context.Context) (sdktrace.SpanExporter, error) {
			return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(tr.GRPCAddr().String()), otlptracegrpc.WithInsecure(),
				otlptracegrpc.WithCompressor("gzip"))
		},
		"http": func(ctx context.Context) (sdktrace.SpanExporter, error) {
			return otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(tr.HTTPAddr().String()), otlptracehttp.WithInsecure())
		},
		"http-gzip": func(ctx context.Context) (sdktrace.SpanExporter, error) {
			return otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(tr.HTTPAddr().String()), otlptracehttp.WithInsecure(),
				otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			exp, err := connect(ctx)
			if err != nil {
				t.Fatal(err)
			}
			tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exp),
				sdktrace.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", name))))
			pctx, parent := tp.Tracer("scope").Start(ctx, "parent", trace.WithSpanKind(trace.SpanKindServer))
			_, child := tp.Tracer("scope").Start(pctx, "child", trace.WithAttributes(attribute.Int("n", 7)))
			child.RecordError(errors.New("no"))
			child.SetStatus(codes.Error, "no")
			child.End()
			parent.End()
			if err := tp.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			got, err := tr.Trace(TraceID(parent.SpanContext().TraceID()))
			if err != nil || len(got) != 2 {
				t.Fatalf("%d spans, %v", len(got), err)
			}
			p, c := got[0], got[1]
			if p.Name != "parent" || p.Kind != KindServer || c.Name != "child" || c.Parent != p.ID || c.Resource.Service != name {
				t.Errorf("parent %+v child %+v", p, c)
			}
			if c.Status != StatusError || len(c.Events) != 1 || c.Attrs[0].Value.Int != 7 || c.Scope.Name != "scope" {
				t.Errorf("child %+v", c)
			}
		})
	}
	if n := sample(t, tr.tel.Registry, "binnacle_tracing_spans_received_total"); n != 6 {
		t.Errorf("received metric %v, want 6", n)
	}
}

const otlpJSON = `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
"scopeSpans":[{"scope":{"name":"s"},"spans":[
{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"buy","kind":2,
 "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000001000000000","attributes":[{"key":"n","value":{"intValue":"3"}}]},
{"traceId":"","spanId":"eee19b7ec3c1b174","name":"bad"}]}]}]}`

func TestOTLPHTTP(t *testing.T) {
	tr := memory(t)
	tr.cfg.MaxRequestBytes = 4096
	post := func(body, media, encoding string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/v1/traces", strings.NewReader(body))
		r.Header.Set("Content-Type", media)
		if encoding != "" {
			r.Header.Set("Content-Encoding", encoding)
		}
		w := httptest.NewRecorder()
		tr.receiveHTTP(w, r)
		return w
	}
	zip := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(s))
		_ = z.Close()
		return b.String()
	}
	w := post(otlpJSON, "application/json; charset=utf-8", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"rejectedSpans":"1"`) {
		t.Errorf("JSON: %d %s", w.Code, w.Body)
	}
	id, _ := ParseTraceID("5b8efff798038103d269b633813fc60c")
	if got, err := tr.Trace(id); err != nil || len(got) != 1 || got[0].Resource.Service != "shop" || got[0].Duration != 1e9 {
		t.Errorf("stored %+v, %v", got, err)
	}
	if n := sample(t, tr.tel.Registry, "binnacle_tracing_spans_dropped_total", dropInvalid); n != 1 {
		t.Errorf("dropped %v, want 1", n)
	}
	for name, c := range map[string]struct {
		body, media, encoding string
		code                  int
	}{
		"gzip":           {zip(otlpJSON), typeJSON, "gzip", 200},
		"bomb":           {zip(strings.Repeat(" ", 1<<20)), typeJSON, "gzip", 413},
		"too large":      {strings.Repeat(" ", 5000), typeJSON, "", 413},
		"not gzip":       {"x", typeJSON, "gzip", 400},
		"zstd":           {"x", typeJSON, "zstd", 415},
		"text":           {"x", "text/plain", "", 415},
		"bad JSON":       {"{", typeJSON, "", 400},
		"bad protobuf":   {"\xff\xff", typeProtobuf, "", 400},
		"empty protobuf": {"", typeProtobuf, "", 200},
	} {
		if w := post(c.body, c.media, c.encoding); w.Code != c.code {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, c.code)
		}
	}
	for range cap(tr.permits) {
		tr.permits <- struct{}{}
	}
	if w := post(otlpJSON, typeJSON, ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("busy: %d %v", w.Code, w.Header())
	}
	r := httptest.NewRequest("GET", "/v1/traces", nil)
	w = httptest.NewRecorder()
	if tr.receiveHTTP(w, r); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestOwnSpans(t *testing.T) {
	hub := quiet()
	comp := hub.Component("scheduler", "kube-scheduler")
	tr, _ := start(t, Config{})
	hub.AddSpanProcessor(tr.Processor())
	ctx, root := comp.Tracer.Start(t.Context(), "schedule")
	_, child := comp.Tracer.Start(ctx, "bind")
	child.End()
	root.End()
	if err := tr.Processor().ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := tr.Latest(5)
	if len(got) != 1 || got[0].RootName != "schedule" || got[0].RootService != "scheduler" || got[0].Spans != 2 || got[0].Errors != 0 {
		t.Errorf("latest %+v", got)
	}
}

func TestQueueNeverBlocks(t *testing.T) {
	hub := quiet()
	comp := hub.Component("c", "c")
	tr, err := New(Config{QueueSpans: 3}, hub.Component("tracing", "tracing")) // Run is not called
	if err != nil {
		t.Fatal(err)
	}
	hub.AddSpanProcessor(tr.Processor())
	for range 10 {
		_, s := comp.Tracer.Start(t.Context(), "s")
		s.End()
	}
	if n := sample(t, tr.tel.Registry, "binnacle_tracing_spans_dropped_total", dropQueueFull); n != 7 {
		t.Errorf("dropped %v, want 7", n)
	}
	if n := sample(t, tr.tel.Registry, "binnacle_tracing_queue_spans"); n != 3 {
		t.Errorf("queued %v, want 3", n)
	}
}

func TestLatest(t *testing.T) {
	tr := memory(t)
	add := func(trace byte, s *Span, st Status) {
		s.Trace, s.Status = TraceID{15: trace}, st
		tr.accept([]*Span{s}, sourceOwn)
	}
	add(1, span("a", "old", 1, 0, t0, time.Second), StatusUnset)
	add(2, span("b", "child", 2, 1, t0.Add(2*time.Second), time.Second), StatusError)
	add(2, span("a", "root", 1, 0, t0.Add(time.Second), 3*time.Second), StatusUnset)
	add(2, span("a", "root", 1, 0, t0.Add(time.Second), 3*time.Second), StatusUnset) // sent twice
	add(3, span("c", "lost parent", 5, 4, t0.Add(3*time.Second), 0), StatusUnset)
	got := tr.Latest(2)
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	want := Summary{ID: TraceID{15: 2}, RootService: "a", RootName: "root", Services: []string{"a", "b"},
		Start: t0.Add(time.Second).Local(), Duration: 3 * time.Second, Spans: 2, Errors: 1}
	if fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	if got[1].RootName != "lost parent" {
		t.Errorf("second %+v", got[1])
	}
	only := tr.LatestFunc(9, func(s Summary) bool { return s.RootService == "a" })
	if len(only) != 2 {
		t.Errorf("filtered %+v", only)
	}
}
