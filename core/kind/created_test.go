package kind

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// createdCase is an object and what upstream makes of it in a dry run: what is
// stored, without what the pipeline fills in, or why it is refused.
type createdCase struct {
	Name   string
	Object json.RawMessage
	Answer string
}

const createdFile = "testdata/created.jsonl"

// TestCreatedAsUpstream holds defaults and validation of the kinds of dynamic
// resource allocation and of aggregation against upstream's answers;
// -tables-from records these anew.
func TestCreatedAsUpstream(t *testing.T) {
	b, err := os.ReadFile(createdFile)
	if err != nil {
		t.Fatal(err)
	}
	var cases []createdCase
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var c createdCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if *tablesFrom != "" {
		recordCreated(t, cases)
	}
	kinds := Builtin()
	for _, c := range cases {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(c.Object); err != nil {
			t.Fatal(err)
		}
		k, _, ok := kinds.ByKind(u.GroupVersionKind())
		if !ok {
			t.Fatalf("%s: no kind %s", c.Name, u.GroupVersionKind())
		}
		if got := createdAs(t, k, u); got != c.Answer {
			t.Errorf("%s:\nupstream %s\nours     %s", c.Name, c.Answer, got)
		}
	}
}

// createdAs goes the way of a create through the kind's functions.
func createdAs(t *testing.T, k *Kind, u *unstructured.Unstructured) string {
	t.Helper()
	o := k.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o); err != nil {
		t.Fatal(err)
	}
	if k.Default != nil {
		k.Default(o)
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(o)
	}
	if errs := k.Validate(o); len(errs) > 0 {
		return causesOf(apierrors.NewInvalid(k.Hub.GroupKind(), o.GetName(), errs).ErrStatus)
	}
	o.GetObjectKind().SetGroupVersionKind(k.Hub)
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return accepted(t, b)
}

// causesOf are the fields and reasons; objects within the messages are spelled
// differently by upstream's internal types.
func causesOf(s metav1.Status) string {
	var out []string
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			out = append(out, c.Field+": "+regexp.MustCompile(`(\{.*\}|\[.*\])(: )`).ReplaceAllString(c.Message, "…$2"))
		}
	}
	return strings.Join(out, "\n")
}

// accepted is an object as stored, without what the pipeline fills in.
func accepted(t *testing.T, b []byte) string {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	meta := map[string]any{"name": u.GetName()}
	if u.GetGeneration() != 0 {
		meta["generation"] = u.GetGeneration()
	}
	u.Object["metadata"] = meta
	if status, _ := u.Object["status"].(map[string]any); len(status) == 0 {
		delete(u.Object, "status")
	}
	b, err := json.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`"20\d\d-[^"]*Z"`).ReplaceAllString(string(b), `"now"`)
}

func recordCreated(t *testing.T, cases []createdCase) {
	cfg, err := clientcmd.BuildConfigFromFlags("", *tablesFrom)
	if err != nil {
		t.Fatal(err)
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, url: strings.TrimSuffix(cfg.Host, "/"), http: h, kinds: Builtin()}
	var out bytes.Buffer
	for i := range cases {
		c := &cases[i]
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(c.Object); err != nil {
			t.Fatal(err)
		}
		u.SetNamespace("")
		if k, _, _ := r.kinds.ByKind(u.GroupVersionKind()); !k.ClusterScoped {
			u.SetNamespace(metav1.NamespaceDefault)
		}
		b, _, code := r.do("POST", r.path(u, false)+"?dryRun=All", "application/json", u, "application/json")
		if code == http.StatusCreated {
			c.Answer = accepted(t, b)
		} else {
			var s metav1.Status
			if err := json.Unmarshal(b, &s); err != nil || s.Reason != metav1.StatusReasonInvalid {
				t.Fatalf("%s: %d %s", c.Name, code, b)
			}
			c.Answer = causesOf(s)
		}
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	if err := os.WriteFile(createdFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
