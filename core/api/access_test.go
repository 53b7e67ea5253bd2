package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

func TestAccess(t *testing.T) {
	s, _ := clients(t)
	for _, c := range []struct {
		path string
		code int
		text string
	}{
		{"/api/v1/namespaces/default/pods", 403, `pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"`},
		{"/api/v1/nodes/n", 403, `nodes \"n\" is forbidden: User \"system:anonymous\" cannot get resource \"nodes\" in API group \"\" at the cluster scope`},
		{"/metrics", 403, `forbidden: User \"system:anonymous\" cannot get path \"/metrics\"`},
		{"/version", 200, `"gitVersion": "v1.37`},
		{"/livez", 200, `ok`},
		{"/readyz?verbose", 200, `[+]etcd ok`},
		{"/healthz/ping", 403, `cannot get path \"/healthz/ping\"`},
	} {
		res, err := s.Anonymous(t).Get(s.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.code || !strings.Contains(string(body), c.text) {
			t.Errorf("%s: %d %s %v, want %d %s", c.path, res.StatusCode, body, err, c.code, c.text)
		}
	}
	req, err := http.NewRequest("GET", s.URL+"/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer nonsense")
	res, err := s.Anonymous(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 401 || !strings.Contains(string(body), `"message":"Unauthorized"`) {
		t.Errorf("bad token: %d %s", res.StatusCode, body)
	}
}

func TestImpersonation(t *testing.T) {
	s, _ := clients(t)
	code, _, body := ask(t, s, "GET", "/api/v1/namespaces/default/pods", "", "Impersonate-User", "jane", "Impersonate-Group", "dev")
	if code != 403 || !strings.Contains(string(body), `User \"jane\"`) {
		t.Errorf("as jane: %d %s", code, body)
	}
	jane := s.Client.As("jane", "dev")
	_, err := client.Get[*corev1.ConfigMap](context.Background(), jane, "default", "x")
	if !apierrors.IsForbidden(err) {
		t.Errorf("in process as jane: %v", err)
	}
	if audit := s.Audit.String(); !strings.Contains(audit, `"impersonatedUser":{"username":"jane"`) {
		t.Errorf("audit: %s", audit)
	}
}

func TestRoleAllows(t *testing.T) {
	s, _ := clients(t)
	ctx := context.Background()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "default"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}}}}
	if _, err := client.Create(ctx, s.Client, role); err != nil {
		t.Fatal(err)
	}
	bind := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "default"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "r"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}}}
	if _, err := client.Create(ctx, s.Client, bind); err != nil {
		t.Fatal(err)
	}
	jane := s.Client.As("jane")
	deadline, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for deadline.Err() == nil {
		_, err := client.Get[*corev1.ConfigMap](ctx, jane, "default", "x")
		if apierrors.IsNotFound(err) {
			return
		}
	}
	t.Error("the role never allowed anything")
}

func TestDiscovery(t *testing.T) {
	s, _ := clients(t)
	d, err := discovery.NewDiscoveryClientForConfig(s.REST)
	if err != nil {
		t.Fatal(err)
	}
	groups, lists, err := d.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	legacy := discovery.NewDiscoveryClientForConfigOrDie(s.REST)
	legacy.UseLegacyDiscovery = true
	oldGroups, oldLists, err := legacy.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/componentstatuses", "/api/v1/componentstatuses/etcd-0"} {
		if code, _, body := ask(t, s, "GET", path, ""); code != 200 || !strings.Contains(string(body), `"type":"Healthy","status":"True"`) && !strings.Contains(string(body), `"status":"True","type":"Healthy"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	// Old manifests need their versions to be found.
	if rs, err := d.ServerResourcesForGroupVersion("extensions/v1beta1"); err != nil || len(rs.APIResources) == 0 || slices.Contains(rs.APIResources[0].Verbs, "list") {
		t.Errorf("extensions/v1beta1: %v %+v", err, rs)
	}
	if len(groups) != len(oldGroups) || len(lists) != len(oldLists) {
		t.Errorf("aggregated: %d groups %d lists; legacy: %d groups, %d lists", len(groups), len(lists), len(oldGroups), len(oldLists))
	}
	want := map[string]string{"pods": "Pod", "pods/log": "Pod", "pods/eviction": "Eviction", "nodes": "Node", "deployments": "Deployment", "deployments/scale": "Scale"}
	for _, set := range [][]*metav1.APIResourceList{lists, oldLists} {
		found := 0
		for _, l := range set {
			for _, r := range l.APIResources {
				if k, ok := want[r.Name]; ok && (l.GroupVersion == "v1" || l.GroupVersion == "apps/v1") {
					found++
					if r.Kind != k {
						t.Errorf("%s: kind %s", r.Name, r.Kind)
					}
				}
			}
		}
		if found != len(want) {
			t.Errorf("found %d of %v", found, want)
		}
	}
	v, err := d.ServerVersion()
	if err != nil || v.Minor != "37" {
		t.Errorf("version: %v %v", err, v)
	}
}

type spans struct {
	mu   sync.Mutex
	list []sdktrace.ReadOnlySpan
}

func (s *spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (s *spans) OnEnd(sp sdktrace.ReadOnlySpan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, sp)
}
func (s *spans) Shutdown(context.Context) error   { return nil }
func (s *spans) ForceFlush(context.Context) error { return nil }

func (s *spans) find(name string) sdktrace.ReadOnlySpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.list {
		if sp.Name() == name {
			return sp
		}
	}
	return nil
}

// inTrace finds a span by name in the trace of a traceparent.
func (s *spans) inTrace(name, traceparent string) sdktrace.ReadOnlySpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.list {
		if sp.Name() == name && strings.Contains(traceparent, sp.SpanContext().TraceID().String()) {
			return sp
		}
	}
	return nil
}

func TestTracesMetricsAudit(t *testing.T) {
	rec := &spans{}
	hub := telemetry.NewHub(telemetry.Config{})
	hub.AddSpanProcessor(rec)
	s, k := clients(t, apitest.WithHub(hub))
	ctx := context.Background()
	if _, err := k.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "seen"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	made, err := client.Create(ctx, s.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "inside", Namespace: "default"}})
	if err != nil {
		t.Fatal(err)
	}
	// A span ends after the answer is out.
	deadline := time.Now().Add(5 * time.Second)
	var server sdktrace.ReadOnlySpan
	for server == nil && time.Now().Before(deadline) {
		server = rec.find("POST /api/v1/namespaces/{ns}/configmaps")
	}
	if server == nil {
		t.Fatal("no span for the request")
	}
	if tp := made.Annotations[telemetry.TraceAnnotation]; rec.inTrace("create configmaps", tp) == nil {
		t.Errorf("in-process write: no span in the trace %q", tp)
	}
	if code, _, body := ask(t, s, "GET", "/livez/ping", ""); code != 200 {
		t.Errorf("livez/ping: %d %s", code, body)
	}
	if code, _, _ := ask(t, s, "GET", "/readyz/nothing", ""); code != 404 {
		t.Errorf("readyz/nothing: %d", code)
	}
	ask(t, s, "GET", "/api/v1/namespaces/default/pods/x/madeup", "")
	ask(t, s, "GET", "/apis/madeup/v1/madeup?watch=1", "")
	ask(t, s, "MADEUP", "/madeup", "")
	_, _, body := ask(t, s, "GET", "/metrics", "")
	if strings.Contains(strings.ToLower(string(body)), "madeup") {
		t.Error("clients can make series by asking for what is not there")
	}
	for _, want := range []string{
		`apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"}`,
		`apiserver_request_duration_seconds_bucket{`, `apiserver_request_sli_duration_seconds_count{`,
		`apiserver_current_inflight_requests{request_kind="readOnly"}`, `apiserver_audit_event_total`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
	found := false
	for sc := bufio.NewScanner(strings.NewReader(s.Audit.String())); sc.Scan(); {
		var ev struct {
			Verb           string
			RequestURI     string
			ObjectRef      struct{ Resource, Namespace, Name string }
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(sc.Bytes(), &ev); err != nil {
			t.Fatalf("audit line %s: %v", sc.Bytes(), err)
		}
		if ev.Verb == "create" && ev.ObjectRef.Name == "seen" && ev.ResponseStatus.Code == 201 {
			found = true
		}
	}
	if !found {
		t.Errorf("no audit event of the create")
	}
}
