package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestParsePolicy(t *testing.T) {
	const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
	for _, c := range []struct{ name, text, want string }{
		{"good", head + "metadata: {name: x}\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  resources: [{group: '', resources: [secrets]}]\n- {level: None}\n", ""},
		{"unknown field", head + "rules:\n- level: None\n  user: [x]\n", `unknown field "user"`},
		{"unknown level", head + "rules: [{level: Some}]", `rules[0].level: Unsupported value: "Some"`},
		{"no level", head + "rules: [{users: [x]}]", `rules[0].level: Required value`},
		{"no rules", head, `rules: Required value`},
		{"other kind", "apiVersion: v1\nkind: Pod\n", `not a Policy of audit.k8s.io/v1`},
		{"old version", "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", `not a Policy of audit.k8s.io/v1`},
		{"unknown stage", head + "omitStages: [Later]\nrules: [{level: None, omitStages: [Never]}]", `rules[0].omitStages[0]: Unsupported value: "Never"`},
		{"star inside", head + "rules: [{level: None, nonResourceURLs: ['/a*b']}]", `must be the final character`},
		{"no slash", head + "rules: [{level: None, nonResourceURLs: ['a']}]", `must begin with a '/'`},
		{"both", head + "rules: [{level: None, nonResourceURLs: ['/a'], namespaces: [x]}]", `cannot apply to both`},
		{"names without resources", head + "rules: [{level: None, resources: [{resourceNames: [x]}]}]", `requires at least one resource`},
		{"version in group", head + "rules: [{level: None, resources: [{group: apps/v1}]}]", `Invalid value: "apps/v1"`},
		{"duplicate", head + "kind: Policy\nrules: [{level: None}]", `already set in map`},
	} {
		_, err := ParsePolicy([]byte(c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	p, err := ParsePolicy([]byte(`
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- {level: None, nonResourceURLs: ["/healthz*", "/version"]}
- {level: Metadata, resources: [{group: "", resources: [secrets, configmaps, serviceaccounts/token]}], omitStages: [ResponseStarted]}
- {level: Request, userGroups: ["system:nodes"], namespaces: [kube-system]}
- {level: None, resources: [{group: coordination.k8s.io, resources: [leases], resourceNames: [n]}]}
- {level: RequestResponse, resources: [{group: apps, resources: ["*/scale", "deployments/*"]}], omitManagedFields: false}
- {level: Metadata, namespaces: [""], verbs: [delete]}
- {level: Request, resources: [{group: "*", resources: [widgets]}, {group: rbac.authorization.k8s.io}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	jane := &auth.User{Name: "jane"}
	resource := func(u *auth.User, verb, group, res, sub, ns, name string) auth.Attributes {
		return auth.Attributes{User: u, Verb: verb, Group: group, Version: "v1", Resource: res, Subresource: sub, Namespace: ns, Name: name}
	}
	for _, c := range []struct {
		a     auth.Attributes
		level Level
	}{
		{resource(&auth.User{Name: "system:kube-proxy"}, "watch", "", "services", "", "", ""), None},
		{auth.Attributes{User: jane, Verb: "get", Path: "/healthz/ping"}, None},
		{auth.Attributes{User: jane, Verb: "get", Path: "/version"}, None},
		{auth.Attributes{User: jane, Verb: "get", Path: "/version/x"}, None}, // no rule
		{auth.Attributes{Verb: "get", Path: "/metrics"}, None},
		{resource(jane, "get", "", "secrets", "", "a", "s"), Metadata},
		{resource(jane, "create", "", "serviceaccounts", "token", "a", "s"), Metadata},
		{resource(jane, "create", "", "serviceaccounts", "", "a", "s"), None},
		{resource(&auth.User{Name: "n", Groups: []string{"system:nodes"}}, "get", "", "pods", "", "kube-system", "s"), Request},
		{resource(jane, "get", "", "pods", "", "kube-system", "s"), None},
		{resource(jane, "update", "coordination.k8s.io", "leases", "", "x", "n"), None},
		{resource(jane, "update", "apps", "statefulsets", "scale", "x", "n"), RequestResponse},
		{resource(jane, "update", "apps", "statefulsets", "status", "x", "n"), None},
		{resource(jane, "update", "apps", "deployments", "status", "x", "n"), RequestResponse},
		{resource(jane, "update", "apps", "deployments", "", "x", "n"), RequestResponse},
		{resource(jane, "delete", "", "nodes", "", "", "n"), Metadata},
		{resource(jane, "delete", "", "pods", "", "x", "n"), None},
		{resource(jane, "get", "example.com", "widgets", "", "x", "n"), Request},
		{resource(jane, "get", "rbac.authorization.k8s.io", "roles", "", "x", "n"), Request},
		{resource(nil, "get", "", "pods", "", "x", "n"), None},
	} {
		if v := p.decide(&c.a); v.level != c.level {
			t.Errorf("%+v: %s, want %s", c.a, v.level, c.level)
		}
	}
	a := resource(jane, "get", "", "secrets", "", "a", "s")
	if v := p.decide(&a); !v.omits(RequestReceived) || !v.omits(ResponseStarted) || v.omits(ResponseComplete) || !v.omitManaged {
		t.Errorf("%+v", v)
	}
	a = resource(jane, "update", "apps", "deployments", "", "x", "n")
	if v := p.decide(&a); v.omitManaged || v.omits(ResponseStarted) {
		t.Errorf("%+v", v)
	}
}

func record() *Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	return &Record{
		ID: "0d6f5c3a-2b1e-4f7a-9c8d-1e2f3a4b5c6d", Received: at, RequestURI: "/api/v1/namespaces/default/pods?limit=5", UserAgent: "kubectl/v1.37.2",
		SourceIPs: []string{"10.0.0.7"}, Decision: "allow", Reason: `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "jane"`,
		Attributes: auth.Attributes{
			User: &auth.User{Name: "jane", Groups: []string{"dev", "system:authenticated"}, Extra: map[string][]string{"b": {"2"}, "a": {"1"}}},
			Verb: "create", Version: "v1", Resource: "pods", Namespace: "default", Name: "p",
		},
		verdict: verdict{level: Metadata},
	}
}

// TestGolden: the lines are those that encoding upstream's Event gives.
func TestGolden(t *testing.T) {
	var out []byte
	add := func(r *Record, s Stage) { out = appendEvent(out, r, s, r.Received.Add(1500*time.Microsecond)) }

	r := record()
	add(r, RequestReceived)
	r.Status = &metav1.Status{Code: 201}
	add(r, ResponseComplete)

	r.Impersonated = &auth.User{Name: "joe", UID: "7", Groups: []string{"ops"}}
	r.Annotate("pod-security.kubernetes.io/enforce-policy", "restricted:latest")
	r.Annotate("pod-security.kubernetes.io/enforce-policy", "not this")
	r.UID, r.ResourceVersion, r.Attributes.Group, r.Attributes.Subresource = "u", "12", "apps", "scale"
	r.verdict.level = RequestResponse
	r.RequestObject, r.ResponseObject = []byte(`{"kind":"Scale"}`), []byte(`{"kind":"Status"}`)
	r.Decision = "forbid"
	r.Status = &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Message: "no", Reason: "Forbidden", Code: 403,
		Details: &metav1.StatusDetails{Name: "p", Kind: "pods"}}
	add(r, ResponseStarted)
	add(r, ResponseComplete)

	r = record()
	r.Attributes = auth.Attributes{Verb: "get", Path: "/metrics"}
	r.Decision, r.SourceIPs = "", nil
	r.UserAgent = "\"evil\"\n{}<\u2028\xff" + strings.Repeat("x", 2000)
	r.RequestURI = "/metrics"
	r.Status = &metav1.Status{Message: "Authentication failed, attempted: bearer", Code: 401}
	add(r, ResponseStarted)

	golden := filepath.Join("testdata", "events.jsonl")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, want) {
		t.Errorf("got:\n%s\nwant:\n%s", out, want)
	}
	if n := bytes.Count(out, []byte("\n")); n != 5 {
		t.Errorf("%d lines of 5 events", n)
	}
	for line := range bytes.Lines(out) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
}

// FuzzAppendString: whatever clients send stays one JSON string on one line.
func FuzzAppendString(f *testing.F) {
	f.Add("plain")
	f.Add("\"}\n{\"a\":\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	})
}

func TestCleanJSON(t *testing.T) {
	const managed = `{"metadata":{"name":"a","managedFields":[{"x":1}]},"big":12345678901234567890}`
	for _, c := range []struct {
		body string
		omit bool
		want string
	}{
		{"{\n \"a\": 1 }\n", false, `{"a":1}`},
		{managed, true, `{"big":12345678901234567890,"metadata":{"name":"a"}}`},
		{`{"items":[` + managed + `]}`, true, `{"items":[{"big":12345678901234567890,"metadata":{"name":"a"}}]}`},
		{`{"rows":[{"object":` + managed + `}]}`, true, `{"rows":[{"object":{"big":12345678901234567890,"metadata":{"name":"a"}}}]}`},
		{`[{"op":"add"}]`, true, `[{"op":"add"}]`},
		{"not json", false, ""},
		{"not json", true, ""},
	} {
		if got := string(CleanJSON([]byte(c.body), c.omit)); got != c.want {
			t.Errorf("%s: %s, want %s", c.body, got, c.want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWrite(t *testing.T) {
	var out bytes.Buffer
	l, err := New(&out, nil, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	r := record()
	l.Start(r)
	ctx := With(context.Background(), r)
	Annotate(ctx, "k", "v")
	Annotate(context.Background(), "k", "nowhere")
	for _, s := range []Stage{RequestReceived, ResponseComplete} {
		if err := r.Write(s); err != nil {
			t.Fatal(err)
		}
	}
	// The default policy omits RequestReceived.
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"stage":"ResponseComplete"`) || !strings.Contains(text, `"k":"v"`) {
		t.Errorf("%s", text)
	}
	var zero Record
	if zero.Enabled() || zero.WantsRequest() || zero.Write(ResponseComplete) != nil || With(ctx, &zero) != ctx {
		t.Error("the zero Record records nothing")
	}
	for _, strict := range []bool{false, true} {
		l, err := New(broken{}, &Policy{Rules: []Rule{{Level: Metadata}}}, telemetry.Discard())
		if err != nil {
			t.Fatal(err)
		}
		l.strict = strict
		r := record()
		l.Start(r)
		if err := r.Write(RequestReceived); (err != nil) != strict {
			t.Errorf("strict %v: %v", strict, err)
		}
		if err := r.Write(ResponseComplete); err != nil {
			t.Errorf("what was answered cannot be refused: %v", err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, lvl: x}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{PolicyFile: policy}, `cannot use the audit policy ` + policy},
		{Config{PolicyFile: filepath.Join(dir, "none")}, `cannot read the audit policy`},
		{Config{Mode: "batch"}, `cannot audit in mode "batch"`},
		{Config{Path: filepath.Join(dir, "file", "audit.log")}, `cannot open the audit log`},
		{Config{Path: "-", MaxAge: -1}, `may be negative`},
	} {
		if _, err := Open(c.cfg, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
	path := filepath.Join(dir, "log", "audit.log")
	l, err := Open(Config{Path: path, MaxSize: 1, MaxBackups: 2}, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	r := record()
	r.UserAgent = strings.Repeat("x", 1000)
	l.Start(r)
	const events = 2500 // of some 1.6 KB: rotated thrice, two kept
	for range events {
		if err := r.Write(ResponseComplete); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "log", "*"))
	if err != nil || len(files) < 3 {
		t.Errorf("files %v %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > 1<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, info, err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, w := range map[string]io.Writer{"counted": nil, "discarded": io.Discard} {
		b.Run("sink="+name, func(b *testing.B) {
			l, err := New(w, nil, telemetry.Discard())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			r := record()
			r.Status = &metav1.Status{Code: 200}
			for b.Loop() {
				l.Start(r)
				if err := r.Write(ResponseComplete); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("sink=file", func(b *testing.B) {
		l, err := Open(Config{Path: filepath.Join(b.TempDir(), "audit.log")}, telemetry.Discard())
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		b.ReportAllocs()
		r := record()
		r.Status = &metav1.Status{Code: 200}
		for b.Loop() {
			l.Start(r)
			if err := r.Write(ResponseComplete); err != nil {
				b.Fatal(err)
			}
		}
	})
}
