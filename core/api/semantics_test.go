package api_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

var peer = flag.String("peer", "", "kubeconfig of an upstream cluster: record its answers into testdata/semantics instead of testing")

// TestSemantics replays the stories in testdata/semantics, whose answers are
// upstream's: go test ./core/api -run TestSemantics -peer KUBECONFIG records
// them again. A story is a file of steps, each a request and its answer:
//
//	# what it is about
//	POST /api/v1/namespaces/$ns/configmaps?dryRun=All
//	Content-Type: application/json
//	show .data .metadata.name
//	set rv .metadata.resourceVersion
//	{"apiVersion":"v1",…}
//	----
//	201 ConfigMap a
//
// $ns is the story's own namespace, other variables are those it has set.
// "await TEXT" repeats the request until the answer contains TEXT. An answer of
// Binnacle that differs on purpose follows a line "---- because REASON".
func TestSemantics(t *testing.T) {
	files, err := filepath.Glob("testdata/semantics/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	var base string
	var h *http.Client
	if *peer != "" {
		cfg, err := clientcmd.BuildConfigFromFlags("", *peer)
		if err != nil {
			t.Fatal(err)
		}
		if h, err = rest.HTTPClientFor(cfg); err != nil {
			t.Fatal(err)
		}
		base = cfg.Host
	} else {
		s := wholeServer(t)
		base, h = s.URL, s.HTTP(t)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &player{t: t, base: base, http: h, vars: map[string]string{"ns": fmt.Sprintf("sem-%s-%05x", name, rand.IntN(1<<20))}}
			steps := readStory(t, f)
			p.play(steps)
			if *peer != "" {
				writeStory(t, f, steps)
			}
		})
	}
}

// wholeServer has every admission plugin but the one for service accounts,
// which no controller would make.
func wholeServer(t testing.TB, opts ...apitest.Option) *apitest.Server {
	t.Helper()
	return apitest.Start(t, append(opts, apitest.WithPlugins(func(c client.Client) []admission.Plugin {
		all, err := admission.Builtin(admission.Config{Disable: []string{
			"ServiceAccount", "ServiceAllocation", "NamespaceLifecycle", "Priority", "DefaultTolerationSeconds", "RuntimeClass",
			"LimitRanger", "DefaultStorageClass", "DefaultIngressClass",
		}}, c, nil, auth.Masters(), telemetry.Discard())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}))...)
}

// step is one request and the answer to it.
type step struct {
	text    []string // as written, up to the answer
	line    int
	method  string
	path    string
	header  http.Header
	show    []string
	set     [][2]string
	await   string
	body    string
	answer  string
	because string // why Binnacle answers ours instead
	ours    string
}

func readStory(t *testing.T, file string) []*step {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var steps []*step
	var cur *step
	var into *string
	for i, line := range strings.Split(string(data), "\n") {
		reason, differs := strings.CutPrefix(line, "---- because ")
		switch {
		case into == nil && line == "":
		case into != nil && line == "":
			steps, cur, into = append(steps, cur), nil, nil
		case line == "----" && cur != nil:
			into = &cur.answer
		case differs && into != nil:
			cur.because, into = reason, &cur.ours
		case into != nil:
			*into += line + "\n"
		default:
			if cur == nil {
				cur = &step{line: i + 1, header: http.Header{}}
			}
			cur.text = append(cur.text, line)
			if err := cur.read(line); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		}
	}
	if cur != nil {
		steps = append(steps, cur)
	}
	return steps
}

var headerLine = regexp.MustCompile(`^[A-Z][A-Za-z-]+: `)

// read takes in one line of the request.
func (s *step) read(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case strings.HasPrefix(line, "#"):
	case s.body != "":
		s.body += line + "\n"
	case s.method == "":
		s.method, s.path = word, rest
	case word == "show":
		s.show = strings.Fields(rest)
	case word == "set":
		name, path, _ := strings.Cut(rest, " ")
		s.set = append(s.set, [2]string{name, path})
	case word == "await":
		s.await = rest
	case headerLine.MatchString(line):
		k, v, _ := strings.Cut(line, ": ")
		s.header.Add(k, v)
	default:
		s.body = line + "\n"
	}
	if s.method != "" && (s.path == "" || s.path[0] != '/') {
		return fmt.Errorf("no request: %q", line)
	}
	return nil
}

func writeStory(t *testing.T, file string, steps []*step) {
	t.Helper()
	var b strings.Builder
	for i, s := range steps {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(strings.Join(s.text, "\n") + "\n----\n" + s.answer)
		if s.because != "" && s.ours != s.answer {
			b.WriteString("---- because " + s.because + "\n" + s.ours)
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// player sends the requests of one story.
type player struct {
	t    *testing.T
	base string
	http *http.Client
	vars map[string]string
}

func (p *player) play(steps []*step) {
	ctx := p.t.Context()
	admin := func(method, path, body string) int {
		code, _, _ := p.send(context.WithoutCancel(ctx), &step{method: method, path: path, body: body, header: http.Header{}})
		return code
	}
	if code := admin("POST", "/api/v1/namespaces", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"$ns"}}`); code != 201 {
		p.t.Fatalf("cannot make namespace %s: %d", p.vars["ns"], code)
	}
	defer admin("DELETE", "/api/v1/namespaces/$ns", "")
	if *peer != "" {
		// Pods need the account that a controller makes.
		p.until(ctx, &step{method: "GET", path: "/api/v1/namespaces/$ns/serviceaccounts/default", await: "200", header: http.Header{}})
	}
	for _, s := range steps {
		got := p.until(ctx, s)
		switch want := cmp.Or(s.ours, s.answer); {
		case *peer != "":
			s.answer = got
		case got != want:
			p.t.Errorf("line %d: %s %s\ngot:\n%swant:\n%s", s.line, s.method, s.path, got, want)
		}
	}
}

// until sends the request, again while the answer lacks what is awaited.
func (p *player) until(ctx context.Context, s *step) string {
	deadline := time.Now().Add(20 * time.Second)
	for {
		code, header, body := p.send(ctx, s)
		got := p.render(s, code, header, body)
		if s.await == "" || strings.Contains(got, s.await) || time.Now().After(deadline) {
			return got
		}
	}
}

func (p *player) expand(s string) string {
	// JSON's own $patch and the like are no variables.
	return os.Expand(s, func(name string) string {
		if v, ok := p.vars[name]; ok {
			return v
		}
		return "$" + name
	})
}

var patchMedia = map[string]string{
	"json": "application/json-patch+json", "merge": "application/merge-patch+json",
	"strategic": "application/strategic-merge-patch+json", "apply": "application/apply-patch+yaml",
}

func (p *player) send(ctx context.Context, s *step) (int, http.Header, []byte) {
	p.t.Helper()
	body := p.expand(strings.TrimSuffix(s.body, "\n"))
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	u, err := url.Parse(p.base + p.expand(s.path))
	if err != nil {
		p.t.Fatalf("line %d: %v", s.line, err)
	}
	r, err := http.NewRequestWithContext(ctx, s.method, u.String(), strings.NewReader(body))
	if err != nil {
		p.t.Fatalf("line %d: %v", s.line, err)
	}
	r.Header = s.header.Clone()
	r.Header.Set("User-Agent", "story/v1")
	ct := r.Header.Get("Content-Type")
	switch media, ok := patchMedia[ct]; {
	case ok:
		r.Header.Set("Content-Type", media)
	case ct == "" && body != "" && (body[0] == '{' || body[0] == '['):
		r.Header.Set("Content-Type", "application/json")
	case ct == "" && body != "":
		r.Header.Set("Content-Type", "application/yaml")
	case ct == "none":
		r.Header.Del("Content-Type")
	}
	res, err := p.http.Do(r)
	if err != nil {
		p.t.Fatalf("line %d: %v", s.line, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil && ctx.Err() == nil {
		p.t.Fatalf("line %d: %v", s.line, err)
	}
	return res.StatusCode, res.Header, data
}

// render is the answer in the story's words.
func (p *player) render(s *step, code int, header http.Header, body []byte) string {
	var b strings.Builder
	var first map[string]any
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	switch {
	case media != "application/json" && len(body) > 0:
		text, _, _ := strings.Cut(string(body), "\n")
		fmt.Fprintf(&b, " %s %s\n", header.Get("Content-Type"), strings.TrimSpace(text[:min(len(text), 160)]))
	case strings.Contains(s.path, "watch") && code == 200:
		b.WriteString("\n")
		for sc := bufio.NewScanner(bytes.NewReader(body)); sc.Scan(); {
			var ev struct {
				Type   string
				Object map[string]any
			}
			if err := json.Unmarshal(sc.Bytes(), &ev); err != nil {
				fmt.Fprintf(&b, "no event: %v\n", err)
				continue
			}
			// When periodic bookmarks come is up to the server.
			if ev.Type == "BOOKMARK" && !bytes.Contains(sc.Bytes(), []byte(metav1.InitialEventsAnnotationKey)) {
				continue
			}
			first = ev.Object
			b.WriteString(ev.Type)
			p.object(&b, ev.Object, s.show)
		}
	case len(body) == 0:
		b.WriteString("\n")
	default:
		if err := json.Unmarshal(body, &first); err != nil {
			fmt.Fprintf(&b, " no JSON: %.160s\n", body)
			break
		}
		p.object(&b, first, s.show)
	}
	for _, h := range []string{"Retry-After", "Warning", "Allow"} {
		for _, v := range header.Values(h) {
			fmt.Fprintf(&b, "%s: %s\n", h, v)
		}
	}
	for _, kv := range s.set {
		if v, ok := at(first, kv[1]); ok {
			p.vars[kv[0]] = fmt.Sprint(v)
		} else {
			p.t.Errorf("line %d: nothing at %s:\n%s", s.line, kv[1], body)
		}
	}
	return fmt.Sprint(code) + p.normal(b.String())
}

// untraced takes the annotation out that only Binnacle sets.
func untraced(v any) {
	switch x := v.(type) {
	case map[string]any:
		for k, in := range x {
			untraced(in)
			if m, ok := in.(map[string]any); ok && k == "annotations" {
				if delete(m, telemetry.TraceAnnotation); len(m) == 0 {
					delete(x, k)
				}
			}
		}
	case []any:
		for _, in := range x {
			untraced(in)
		}
	}
}

// object writes what an answer or event is about.
func (p *player) object(b *strings.Builder, o map[string]any, show []string) {
	untraced(o)
	kind, _ := o["kind"].(string)
	if kind == "Status" {
		p.status(b, o)
	} else {
		name, _ := at(o, ".metadata.name")
		fmt.Fprintf(b, " %s", kind)
		if name != nil {
			fmt.Fprintf(b, " %v", name)
		}
		if items, ok := o["items"].([]any); ok {
			for _, it := range items {
				name, _ := at(it, ".metadata.name")
				fmt.Fprintf(b, " %v", name)
			}
		}
		b.WriteString("\n")
	}
	for _, path := range show {
		v, ok := at(o, path)
		if !ok {
			fmt.Fprintf(b, "%s -\n", path)
			continue
		}
		data, err := json.Marshal(v)
		if err != nil {
			p.t.Error(err)
		}
		fmt.Fprintf(b, "%s %s\n", path, data)
	}
}

func (p *player) status(b *strings.Builder, o map[string]any) {
	data, err := json.Marshal(o)
	var st metav1.Status
	if err == nil {
		err = json.Unmarshal(data, &st)
	}
	if err != nil {
		p.t.Error(err)
	}
	if st.Status == metav1.StatusSuccess {
		b.WriteString(" Success")
	} else {
		fmt.Fprintf(b, " %s: %s", cmp.Or(string(st.Reason), "-"), strings.TrimSpace(strings.ReplaceAll(st.Message, "\n", `\n`)))
	}
	b.WriteString("\n")
	if d := st.Details; d != nil {
		var parts []string
		for k, v := range map[string]string{"name": d.Name, "group": d.Group, "kind": d.Kind, "uid": string(d.UID)} {
			if v != "" {
				parts = append(parts, k+"="+v)
			}
		}
		if d.RetryAfterSeconds > 0 {
			parts = append(parts, fmt.Sprintf("retry=%d", d.RetryAfterSeconds))
		}
		slices.Sort(parts)
		if len(parts) > 0 {
			fmt.Fprintf(b, "  details %s\n", strings.Join(parts, " "))
		}
		slices.SortFunc(d.Causes, func(a, b metav1.StatusCause) int {
			return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
		})
		for _, c := range d.Causes {
			fmt.Fprintf(b, "  cause %s %s: %s\n", cmp.Or(c.Field, "-"), c.Type, strings.ReplaceAll(c.Message, "\n", `\n`))
		}
	}
}

// at finds ".a.b[0].c" in v.
func at(v any, path string) (any, bool) {
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == ']' || r == '[' }) {
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[strings.ReplaceAll(part, "~", ".")]; !ok {
				return nil, false
			}
		case []any:
			var i int
			if _, err := fmt.Sscanf(part, "%d", &i); err != nil || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

var (
	uidText     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timeText    = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	currentText = regexp.MustCompile(`(current: |resource version: \d+ \()\d+`)
	generated   = regexp.MustCompile(`\b(Gen_|gen-)[a-z0-9]{5}\b`)
	wholeObject = regexp.MustCompile(`Invalid value: "\{\\"(\\.|[^"\\])*"`)
)

// normal takes out what is different every time.
func (p *player) normal(s string) string {
	names := make([]string, 0, len(p.vars))
	for name, v := range p.vars {
		if len(v) >= 3 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(p.vars[b]), len(p.vars[a])), cmp.Compare(a, b))
	})
	s = currentText.ReplaceAllString(s, "${1}N")
	for _, name := range names {
		s = regexp.MustCompile(`\b`+regexp.QuoteMeta(p.vars[name])+`\b`).ReplaceAllString(s, "$$"+name)
	}
	s = wholeObject.ReplaceAllString(s, `Invalid value: "{…}"`)
	s = generated.ReplaceAllString(s, "${1}xxxxx")
	return timeText.ReplaceAllString(uidText.ReplaceAllString(s, "<uid>"), "<time>")
}
