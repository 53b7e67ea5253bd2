package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/audit"
	"binnacle.io/core/client"
)

// audited is an event as a reader of the log sees it.
type audited struct {
	Level, Stage, RequestURI, Verb string
	AuditID                        string
	User, ImpersonatedUser         struct{ Username string }
	SourceIPs                      []string
	UserAgent                      string
	ObjectRef                      struct{ Resource, Namespace, Name, UID, APIGroup, APIVersion, ResourceVersion, Subresource string }
	ResponseStatus                 *metav1.Status
	RequestObject, ResponseObject  json.RawMessage
	RequestReceivedTimestamp       metav1.MicroTime
	StageTimestamp                 metav1.MicroTime
	Annotations                    map[string]string
}

func auditEvents(t *testing.T, s *apitest.Server, keep func(*audited) bool) (out []audited) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(s.Audit.String()))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var ev audited
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			t.Fatalf("audit line %s: %v", lines.Bytes(), err)
		}
		if keep(&ev) {
			out = append(out, ev)
		}
	}
	return out
}

// annotating stands for admission.
type annotating struct{}

func (annotating) Name() string { return "Annotating" }
func (annotating) Handles(op admission.Operation, r client.Resource, sub string) bool {
	return r.Resource == "configmaps"
}
func (annotating) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Key.Name == "panic" {
		panic("boom")
	}
	audit.Annotate(ctx, "test.example.com/seen", a.Key.Name)
	return nil
}

const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, users: ["system:apiserver"]}
- {level: None, resources: [{group: rbac.authorization.k8s.io}]}
- {level: Metadata, resources: [{resources: [secrets]}]}
- {level: Request, verbs: [get, list, watch], omitStages: [RequestReceived]}
- {level: RequestResponse, omitManagedFields: true, omitStages: [RequestReceived]}
`

func TestAudit(t *testing.T) {
	p, err := audit.ParsePolicy([]byte(auditPolicy))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := clients(t, apitest.WithAuditPolicy(p), apitest.WithPlugins(func(client.Client) []admission.Plugin { return []admission.Plugin{annotating{}} }))
	ctx := t.Context()
	proto := rest.CopyConfig(s.REST)
	proto.ContentType = "application/vnd.kubernetes.protobuf"
	proto.AcceptContentTypes = proto.ContentType
	k, err := kubernetes.NewForConfig(proto)
	if err != nil {
		t.Fatal(err)
	}
	cms := k.CoreV1().ConfigMaps("default")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "made-"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{}))
	must(cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "patched"}}, metav1.CreateOptions{}))
	must(cms.Patch(ctx, "patched", types.MergePatchType, []byte(`{"data":{"x":"y"}}`), metav1.PatchOptions{}))
	must(k.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"k": "hush"}}, metav1.CreateOptions{}))
	must(cms.List(ctx, metav1.ListOptions{}))
	ask(t, s, "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"panic"}}`, "Content-Type", "application/json")
	ask(t, s, "PUT", "/api/v1/namespaces/default/configmaps/none", "metadata: {name: none, uid: u-1}", "Content-Type", "application/yaml", "X-Forwarded-For", "192.0.2.1, nonsense", "X-Real-Ip", "192.0.2.2", "User-Agent", strings.Repeat("u", 2000))
	ask(t, s, "GET", "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1", "")
	ask(t, s, "GET", "/api/v1/pods", "", "Impersonate-User", "jane")
	req, err := http.NewRequest("GET", s.URL+"/api/v1/pods", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer nonsense")
	res, err := s.Anonymous(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()

	// one finds the events of one request; the last comes after the answer.
	one := func(what string, n int, keep func(*audited) bool) []audited {
		t.Helper()
		var evs []audited
		eventually(t, what+" is in the log", func() bool { evs = auditEvents(t, s, keep); return len(evs) >= n })
		if len(evs) != n {
			t.Fatalf("%s: %d events: %+v", what, len(evs), evs)
		}
		return evs
	}
	named := func(prefix, verb string) func(*audited) bool {
		return func(e *audited) bool { return strings.HasPrefix(e.ObjectRef.Name, prefix) && e.Verb == verb }
	}
	made := one("create", 1, named("made-", "create"))[0]
	if made.Level != "RequestResponse" || made.Stage != "ResponseComplete" || made.ResponseStatus.Code != 201 || len(made.SourceIPs) != 1 || made.SourceIPs[0] != "127.0.0.1" ||
		!strings.Contains(string(made.RequestObject), `"data":{"k":"v"}`) || !strings.Contains(string(made.RequestObject), `"kind":"ConfigMap"`) ||
		!strings.Contains(string(made.ResponseObject), `"uid":`) || strings.Contains(string(made.ResponseObject), "managedFields") ||
		made.Annotations["authorization.k8s.io/decision"] != "allow" || made.Annotations["test.example.com/seen"] != made.ObjectRef.Name {
		t.Errorf("create: %+v\n%s\n%s", made, made.RequestObject, made.ResponseObject)
	}
	if patched := one("patch", 1, named("patched", "patch"))[0]; string(patched.RequestObject) != `{"data":{"x":"y"}}` {
		t.Errorf("patch: %s", patched.RequestObject)
	}
	secret := one("secret", 2, func(e *audited) bool { return e.ObjectRef.Resource == "secrets" })
	if secret[0].Stage != "RequestReceived" || secret[0].ResponseStatus != nil || secret[1].Stage != "ResponseComplete" || secret[1].RequestObject != nil || secret[1].ObjectRef.Name != "s" ||
		secret[0].AuditID != secret[1].AuditID || strings.Contains(s.Audit.String(), "hush") {
		t.Errorf("secret: %+v", secret)
	}
	if list := one("list", 1, func(e *audited) bool { return e.Verb == "list" && e.ObjectRef.Resource == "configmaps" })[0]; list.Level != "Request" || list.ResponseObject != nil {
		t.Errorf("list: %+v", list)
	}
	if ev := one("panic", 1, named("panic", "create"))[0]; ev.Stage != "Panic" || ev.ResponseStatus.Code != 500 || ev.ResponseStatus.Message != "APIServer panic'd: boom" {
		t.Errorf("panic: %+v %+v", ev, ev.ResponseStatus)
	}
	ev := one("failure", 1, named("none", "update"))[0]
	if ev.ResponseStatus.Code != 404 || ev.ResponseStatus.Reason != "NotFound" || ev.ResponseStatus.Status != "Failure" || fmt.Sprint(ev.SourceIPs) != "[192.0.2.1 192.0.2.2 127.0.0.1]" ||
		!strings.HasSuffix(ev.UserAgent, "u...TRUNCATED") || len(ev.UserAgent) != 1024+len("...TRUNCATED") || string(ev.RequestObject) != `{"metadata":{"name":"none","uid":"u-1"}}` ||
		ev.ObjectRef.UID != "u-1" || !strings.Contains(string(ev.ResponseObject), `"kind":"Status"`) {
		t.Errorf("failure: %+v %s %s", ev, ev.RequestObject, ev.ResponseObject)
	}
	watch := one("watch", 2, func(e *audited) bool { return e.Verb == "watch" && e.ObjectRef.Resource == "configmaps" })
	if watch[0].Stage != "ResponseStarted" || watch[1].Stage != "ResponseComplete" || watch[0].ResponseStatus.Code != 200 || watch[1].ResponseObject != nil {
		t.Errorf("watch: %+v", watch)
	}
	jane := one("impersonation", 1, func(e *audited) bool { return e.ImpersonatedUser.Username == "jane" })[0]
	if jane.User.Username == "jane" || jane.Annotations["authorization.k8s.io/decision"] != "forbid" || jane.ResponseStatus.Code != 403 {
		t.Errorf("impersonation: %+v", jane)
	}
	nobody := one("bad token", 1, func(e *audited) bool { return e.ResponseStatus != nil && e.ResponseStatus.Code == 401 })[0]
	if nobody.Stage != "ResponseStarted" || nobody.ResponseStatus.Message != "Authentication failed, attempted: bearer" {
		t.Errorf("bad token: %+v", nobody)
	}
	_, _, text := ask(t, s, "GET", "/metrics", "")
	for _, want := range []string{`apiserver_audit_level_total{level="None"}`, `apiserver_audit_level_total{level="RequestResponse"}`, "apiserver_audit_event_total ", "apiserver_audit_requests_rejected_total 0", `apiserver_audit_error_total{plugin="log"} 0`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
}
