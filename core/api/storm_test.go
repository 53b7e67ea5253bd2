package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/kind"
)

// storm mutates requests.
type storm struct {
	rnd   *rand.Rand
	paths []string
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// servedPaths are the collections, objects and subresources of every version of
// every kind, and what else is served.
func servedPaths(cat *kind.Catalogue) []string {
	paths := []string{"/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/healthz", "/livez/ping", "/readyz",
		"/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/.well-known/openid-configuration", "/debug/pprof/", "/nothing"}
	for _, k := range cat.All() {
		gvs := []string{k.Hub.GroupVersion().String()}
		for _, v := range k.Versions {
			gvs = append(gvs, v.GroupVersion().String())
		}
		for _, gv := range gvs {
			base := "/apis/" + gv
			if !strings.Contains(gv, "/") {
				base = "/api/" + gv
			}
			legacy := base + "/watch"
			if !k.ClusterScoped {
				paths = append(paths, base+"/"+k.Resource)
				base += "/namespaces/default"
			}
			one := base + "/" + k.Resource + "/thing"
			paths = append(paths, base+"/"+k.Resource, one, legacy+"/"+k.Resource)
			for _, sub := range k.Subresources {
				paths = append(paths, one+"/"+sub.Name)
			}
		}
	}
	return paths
}

// stormQueries are parameters that something looks at.
func stormQueries() []string {
	return []string{
		"", "pretty=true", "dryRun=All", "dryRun=x", "fieldValidation=Strict", "fieldValidation=Warn", "fieldManager=storm&force=true",
		"resourceVersion=0", "resourceVersion=99&limit=1", "resourceVersion=1&resourceVersionMatch=Exact", "limit=1", "limit=-1", "continue=abc",
		"labelSelector=a%3Db", "labelSelector=!!", "fieldSelector=metadata.name%3Dthing", "fieldSelector=x", "watch=1&timeoutSeconds=1",
		"watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&timeoutSeconds=1",
		"gracePeriodSeconds=0", "gracePeriodSeconds=-1", "propagationPolicy=Foreground", "timeout=1ms", "timeout=x", "command=a&stdout=1", "%zz", "a;b",
	}
}

// stormBodies are well-formed for something; %s is kind and apiVersion.
func stormBodies() []string {
	return []string{
		``, `{}`, `[]`, `null`, `7`, `{"a":`, `{"metadata":{"name":"thing"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"thing","labels":{"a":"b"}},"data":{"k":"v"}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"thing"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"thing"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"thing"},"spec":{"ports":[{"port":1}]}}`,
		`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"thing"},"spec":{"replicas":2}}`,
		`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"thing"}}`,
		`{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Orphan"}`,
		`[{"op":"add","path":"/metadata/labels","value":{"x":"y"}}]`, `[{"op":"copy","from":"/spec","path":"/spec/a"}]`,
		`{"spec":{"template":{"spec":{"containers":[{"name":"c","$patch":"delete"}]}}}}`, `{"spec":null,"status":{},"metadata":null}`,
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: thing}\ndata: &a {x: *a}\n",
		"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x09\x0a\x07\x0a\x05thing",
	}
}

func (s *storm) request() *http.Request {
	r := s.rnd
	path := pick(r, s.paths...)
	if r.IntN(12) == 0 {
		path = pick(r, path+"/", path+"/more/", strings.ReplaceAll(path, "thing", "%2e%2e"), strings.ToUpper(path), path[:r.IntN(len(path))+1], path+"\x00", strings.Replace(path, "default", "none", 1))
	}
	query := pick(r, stormQueries()...)
	if strings.Contains(path, "/watch/") && !strings.Contains(query, "timeoutSeconds") {
		query += "&timeoutSeconds=1"
	}
	body := s.mutate([]byte(pick(r, stormBodies()...)))
	method := pick(r, "GET", "GET", "POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS", "FROB")
	req := httptest.NewRequest("GET", "/", bytes.NewReader(body))
	req.Method, req.URL = method, &url.URL{Path: path, RawQuery: query}
	req.Header.Set("Content-Type", pick(r, "application/json", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf",
		"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/cbor", "text/plain", ";;", ""))
	req.Header.Set("Accept", pick(r, "", "", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/json;as=Table;v=v1;g=meta.k8s.io",
		"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
		"application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch", "*/*", "text/html", ",;q"))
	if r.IntN(20) == 0 {
		req.Header.Set(pick(r, "Accept-Encoding", "Content-Encoding", "Impersonate-User", "Impersonate-Extra-%zz", "Audit-ID", "Traceparent", "Authorization", "Upgrade"),
			pick(r, "gzip", "x", "Bearer a", strings.Repeat("y", 5000), "00-0-0-00"))
	}
	return req
}

// mutate damages a body, sometimes.
func (s *storm) mutate(b []byte) []byte {
	for s.rnd.IntN(2) == 0 && len(b) > 0 {
		i := s.rnd.IntN(len(b))
		switch s.rnd.IntN(6) {
		case 0:
			b[i] = byte(s.rnd.Uint32())
		case 1:
			b = b[:i]
		case 2:
			b = append(b[:i:i], append([]byte(pick(s.rnd, `null`, `{`, `"`, `9e999`, `-1`, `[[[[`, "\xff", `{"a":{"a":{"a":1}}}`)), b[i:]...)...)
		case 3:
			b = bytes.ReplaceAll(b, []byte(`"thing"`), []byte(pick(s.rnd, `"other"`, `""`, `null`, `{}`, `"Thing!"`)))
		case 4:
			b = bytes.ReplaceAll(b, []byte(`:{`), []byte(`:[{`))
		case 5:
			j := s.rnd.IntN(len(b))
			b = append(b[:max(i, j):max(i, j)], b[min(i, j):]...)
		}
	}
	return b
}

// TestStorm sends mutated requests over every served path for a few seconds:
// nothing may panic or be answered with 500, whatever comes.
func TestStorm(t *testing.T) {
	s := wholeServer(t)
	srv, err := api.New(api.Config{MinWatchTimeout: 1}, s.Store, s.Kinds, admin{}, auth.Masters(), s.Chain, s.Hub.Component("storm", "storm"))
	if err != nil {
		t.Fatal(err)
	}
	h := srv.Handler()
	const workers = 4
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	counts := make(chan int, workers)
	for w := range workers {
		seed := rand.Uint64()
		go func() {
			st := &storm{rnd: rand.New(rand.NewPCG(seed, uint64(w))), paths: servedPaths(s.Kinds)}
			n := 0
			for ; ctx.Err() == nil; n++ {
				r := st.request()
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				within, stop := context.WithTimeout(ctx, 200*time.Millisecond)
				answer := httptest.NewRecorder()
				h.ServeHTTP(answer, r.WithContext(within))
				stop()
				if answer.Code == http.StatusInternalServerError {
					t.Errorf("%s %s (%s, %s) %q: %d %s", r.Method, r.URL, r.Header.Get("Content-Type"), r.Header.Get("Accept"), body, answer.Code, answer.Body)
				}
			}
			counts <- n
		}()
	}
	total := 0
	for range workers {
		total += <-counts
	}
	t.Logf("%d requests", total)
	// It still works.
	if code, _, body := ask(t, s, "GET", "/api/v1/namespaces/default", ""); code != 200 {
		t.Errorf("after the storm: %d %s", code, body)
	}
}

// TestOversized: bodies up to the limit are read, larger ones refused, and
// what costs much to read is refused too.
func TestOversized(t *testing.T) {
	s, _ := clients(t)
	const cms = "/api/v1/namespaces/default/configmaps"
	big := func(n int) string {
		head, tail := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"big"},"data":{"a":"`, `"}}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	const limit = 3 << 20
	ops := `{"op":"add","path":"/data","value":{}}`
	for _, c := range []struct {
		name, method, path, contentType, body string
		code                                  int
		text                                  string
	}{
		{"at the limit", "POST", cms, "application/json", big(limit), 422, "Too long"},
		{"over the limit", "POST", cms, "application/json", big(limit + 1), 413, "limit is 3145728"},
		{"far over the limit", "POST", cms, "application/json", big(4 * limit), 413, "limit is 3145728"},
		{"a large object", "POST", cms, "application/json", big(1 << 20), 201, ""},
		{"a large delete", "DELETE", cms + "/big", "application/json", big(limit + 1), 413, "limit is 3145728"},
		{"a large patch", "PATCH", cms + "/big", "application/merge-patch+json", `{"data":{"b":"` + strings.Repeat("x", limit) + `"}}`, 413, "limit is 3145728"},
		{"a patch that makes it too large", "PATCH", cms + "/big", "application/merge-patch+json", `{"data":{"b":"` + strings.Repeat("x", 100<<10) + `"}}`, 422, "Too long"},
		{"many operations", "PATCH", cms + "/big", "application/json-patch+json", "[" + strings.Repeat(ops+",", 10000) + ops + "]", 413, "The allowed maximum operations in a JSON patch is 10000, got 10001"},
		{"copies of copies", "PATCH", cms + "/big", "application/json-patch+json", "[" + strings.TrimSuffix(strings.Repeat(`{"op":"copy","from":"/data/a","path":"/data/b"},`, 10), ",") + "]", 422, ""},
		{"deep JSON", "POST", cms, "application/json", strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), 400, "exceeded max depth"},
		{"deep YAML", "POST", cms, "application/yaml", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), 400, "exceeded max depth"},
		{"deep merge patch", "PATCH", cms + "/big", "application/merge-patch+json", strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), 400, "exceeded max depth"},
		{"a bomb of aliases", "POST", cms, "application/yaml", yamlBomb(), 400, "document contains excessive aliasing"},
		{"an applied bomb", "PATCH", cms + "/big?fieldManager=x", "application/apply-patch+yaml", yamlBomb(), 400, "document contains excessive aliasing"},
		{"protobuf that lies about its length", "POST", cms, "application/vnd.kubernetes.protobuf", "k8s\x00\x0a\xff\xff\xff\xff\x0f\x0a\x02v1", 400, ""},
		{"a long name", "GET", cms + "/" + strings.Repeat("n", 8000), "", "", 404, "not found"},
		{"a long selector", "GET", cms + "?labelSelector=" + strings.Repeat("a", 8000), "", "", 400, "unable to parse requirement"},
	} {
		code, _, body := ask(t, s, c.method, c.path, c.body, "Content-Type", c.contentType)
		if code != c.code || !strings.Contains(string(body), c.text) {
			t.Errorf("%s: got %d %.300s, want %d %s", c.name, code, body, c.code, c.text)
		}
	}
}

func yamlBomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\na0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	return b.String()
}

// TestSlowAndHalfClosed: clients that stop in the middle of a request leave
// nothing behind.
func TestSlowAndHalfClosed(t *testing.T) {
	s, k := clients(t, apitest.WithAPI(func(c *api.Config) { c.RequestTimeout = time.Second }))
	h := s.HTTP(t)
	half := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"half"},`
	send := func(body io.Reader) (int, string) {
		within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(within, "POST", s.URL+"/api/v1/namespaces/default/configmaps", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		res, err := h.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(data)
	}
	// A body that never comes to its end is cut by the request's time.
	stalled, more := io.Pipe()
	defer more.Close()
	go func() { _, _ = more.Write([]byte(half)) }()
	if code, body := send(stalled); code != http.StatusGatewayTimeout && code != http.StatusRequestTimeout && code != http.StatusBadRequest {
		t.Errorf("a body that stops: %d %s", code, body)
	}
	// One that ends too early is no request.
	cut, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte(half))
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	if code, body := send(cut); code == 201 {
		t.Errorf("a body that breaks: %d %s", code, body)
	}
	if code, body := send(strings.NewReader(half)); code != 400 {
		t.Errorf("half a body: %d %s", code, body)
	}
	if _, err := k.CoreV1().ConfigMaps("default").Get(t.Context(), "half", metav1.GetOptions{}); err == nil {
		t.Error("half a request was stored")
	}
}
