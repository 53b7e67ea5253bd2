package dashboards_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
	"binnacle.io/dashboards"
)

// serve starts the handler over an API server alone.
func serve(t *testing.T, deps dashboards.Deps) (*httptest.Server, *telemetry.Component) {
	t.Helper()
	tel := telemetry.Discard()
	deps.Telemetry = tel
	srv := httptest.NewServer(dashboards.Handler(deps))
	t.Cleanup(func() {
		srv.CloseClientConnections() // pages that are open
		srv.Close()
	})
	return srv, tel
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res, string(body)
}

func TestFilesOfThePage(t *testing.T) {
	srv, _ := serve(t, dashboards.Deps{})
	page, body := get(t, srv.URL+"/")
	if page.StatusCode != 200 || page.Header.Get("Content-Type") != "text/html; charset=utf-8" || page.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("page: %s %v", page.Status, page.Header)
	}
	csp := page.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("policy %q lacks %q", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || page.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("lax headers: %v", page.Header)
	}
	if strings.Contains(body, "://") {
		t.Error("the page refers to another host")
	}
	again, _ := get(t, srv.URL+"/", "If-None-Match", page.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("unchanged page: %s", again.Status)
	}
	hashed := 0
	must(t, fs.WalkDir(os.DirFS("dist"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		res, _ := get(t, srv.URL+"/"+name)
		want := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8"}[path.Ext(name)]
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != want {
			t.Errorf("%s: %s %s", name, res.Status, res.Header.Get("Content-Type"))
		}
		immutable := strings.Contains(res.Header.Get("Cache-Control"), "immutable")
		if immutable != strings.HasPrefix(name, "assets/") {
			t.Errorf("%s: immutable is %v", name, immutable)
		}
		if immutable {
			hashed++
		}
		return nil
	}))
	if hashed < 2 {
		t.Errorf("%d immutable assets, want a script and a style sheet", hashed)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := apitest.Start(t)
	srv, tel := serve(t, dashboards.Deps{Client: s.Client})
	for url, want := range map[string]int{
		"/nothing": 404, "/assets/": 404, "/../go.mod": 404, "/index.htm": 404, "/ui/api/nothing": 404, "/ui/api/pods/default/none": 404,
		"/ui/api/history": 404, "/ui/api/traces/00": 404, "/ui/api/pods/default": 404,
	} {
		if res, _ := get(t, srv.URL+url); res.StatusCode != want || res.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %s", url, res.Status)
		}
	}
	res, err := http.Post(srv.URL+"/", "text/plain", strings.NewReader("x"))
	must(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s", res.Status)
	}
	if n := testutil.CollectAndCount(tel.Registry, "binnacle_ui_requests_total"); n < 4 {
		t.Errorf("%d series of requests", n)
	}
	// Without metrics, traces and alerting the rest works, and says so.
	_, body := get(t, srv.URL+"/ui/api/state")
	var state struct {
		Pods     []any
		Problems map[string]string
	}
	must(t, json.Unmarshal([]byte(body), &state))
	if state.Pods == nil || state.Problems["usage"] == "" || state.Problems["traces"] == "" || state.Problems["alerts"] == "" || state.Problems["pods"] != "" {
		t.Errorf("state is %s", body)
	}
}

// eventStream reads a stream.
type eventStream struct {
	t   *testing.T
	res *http.Response
	in  *bufio.Scanner
	end context.CancelFunc
}

func open(t *testing.T, url string) *eventStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/ui/api/stream", nil)
	must(t, err)
	res, err := http.DefaultClient.Do(r)
	must(t, err)
	t.Cleanup(func() { res.Body.Close() })
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, 1<<20)
	return &eventStream{t, res, in, cancel}
}

// next is the next event of the stream.
func (e *eventStream) next() (name, data string) {
	e.t.Helper()
	for e.in.Scan() {
		line := e.in.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case line == "" && name != "":
			return name, data
		}
	}
	e.t.Fatalf("the stream ended: %v", e.in.Err())
	return "", ""
}

func TestStream(t *testing.T) {
	s := apitest.Start(t)
	srv, tel := serve(t, dashboards.Deps{Client: s.Client, Interval: 20 * time.Millisecond, MaxStreams: 2})
	st := open(t, srv.URL)
	if st.res.Header.Get("Content-Type") != "text/event-stream" || st.res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", st.res.Header)
	}
	first := map[string]string{}
	for name := ""; name != "ready"; {
		var data string
		name, data = st.next()
		first[name] = data
	}
	for _, name := range []string{"nodes", "pods", "workloads", "hpas", "events", "problems"} {
		if first[name] == "" {
			t.Errorf("the first round lacks %s", name)
		}
	}
	if first["pods"] != "[]" {
		t.Errorf("pods at first: %s", first["pods"])
	}
	_, err := client.Create(t.Context(), s.Client, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a:1"}}},
	})
	must(t, err)
	// Nothing but the changed section comes.
	if name, data := st.next(); name != "pods" || !strings.Contains(data, `"name":"one"`) || !strings.Contains(data, `"status":"Pending"`) {
		t.Errorf("event %s: %s", name, data)
	}
	res, body := get(t, srv.URL+"/ui/api/pods/default/one")
	if res.StatusCode != 200 || !strings.Contains(body, `"image":"a:1"`) || !strings.Contains(body, `"state":"Not created"`) {
		t.Errorf("detail: %s %s", res.Status, body)
	}

	second := open(t, srv.URL)
	second.next()
	if n := gauge(t, tel, "binnacle_ui_streams"); n != 2 {
		t.Errorf("%v streams are counted, want 2", n)
	}
	if res, _ := get(t, srv.URL+"/ui/api/stream"); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a third stream: %s", res.Status)
	}
	if n := gauge(t, tel, "binnacle_ui_streams_refused_total"); n != 1 {
		t.Errorf("%v refused, want 1", n)
	}
	st.end()
	second.end()
	eventually(t, "the streams are no longer counted", func() bool { return gauge(t, tel, "binnacle_ui_streams") == 0 })
	// The feed starts again for the next viewer.
	third := open(t, srv.URL)
	for name, data := third.next(); name != "ready"; name, data = third.next() {
		if name == "pods" && !strings.Contains(data, `"name":"one"`) {
			t.Errorf("pods after starting again: %s", data)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not seen", what)
		}
	}
}

func gauge(t *testing.T, tel *telemetry.Component, name string) float64 {
	t.Helper()
	families, err := tel.Registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
