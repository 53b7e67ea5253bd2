package openapi

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"binnacle.io/core/extend"
	"binnacle.io/core/kind"
)

// upstream makes TestDocumentsAreUpstreams record its golden file anew;
// newerFile makes it accept what differs now.
var (
	upstream  = flag.String("upstream", "", "kubeconfig of an upstream cluster to record testdata/upstream.txt.gz from")
	newerFlag = flag.Bool("newer", false, "write testdata/newer.txt anew from what differs")
)

// describer collects lines that say all that documents say: a line for each
// definition, property, operation and parameter, descriptions by their hash.
type describer struct{ lines map[string]string }

func (d *describer) add(key, value string) { d.lines[key] = value }

// text is the hash of a description in which white space does not count.
func text(v any) string {
	s, _ := v.(string)
	h := fnv.New32a()
	io.WriteString(h, strings.ToLower(strings.Join(strings.Fields(s), " ")))
	return fmt.Sprintf("#%08x", h.Sum32())
}

// flat is JSON without descriptions, keys in order.
func flat(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// definition adds a schema and its properties.
func (d *describer) definition(at string, s map[string]any) {
	properties, _ := s["properties"].(map[string]any)
	rest := maps.Clone(s)
	delete(rest, "properties")
	delete(rest, "description")
	// An order means nothing here.
	if required, ok := rest["required"].([]any); ok {
		slices.SortFunc(required, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	}
	d.add(at, flat(rest))
	d.add(at+" text", text(s["description"]))
	for name, p := range properties {
		p := p.(map[string]any)
		rest := maps.Clone(p)
		delete(rest, "description")
		d.add(at+"."+name, flat(rest))
		d.add(at+"."+name+" text", text(p["description"]))
	}
}

// paths adds operations. shared are the parameters that $ref names.
func (d *describer) paths(at string, paths, shared map[string]any) {
	parameters := func(at string, list any) {
		items, _ := list.([]any)
		for _, item := range items {
			p := item.(map[string]any)
			if ref, ok := p["$ref"].(string); ok {
				p = shared[strings.TrimPrefix(ref, "#/parameters/")].(map[string]any)
			}
			rest := maps.Clone(p)
			delete(rest, "description")
			d.add(fmt.Sprintf("%s?%s", at, p["name"]), flat(rest)+" "+text(p["description"]))
		}
	}
	for path, item := range paths {
		for method, o := range item.(map[string]any) {
			if method == "parameters" {
				parameters(at+path, o)
				continue
			}
			rest := maps.Clone(o.(map[string]any))
			parameters(at+path+" "+method, rest["parameters"])
			delete(rest, "parameters")
			d.add(at+path+" "+method, flat(rest))
		}
	}
}

func (d *describer) read(t *testing.T, get func(path string) []byte) {
	t.Helper()
	decode := func(path string) (doc map[string]any) {
		t.Helper()
		if err := json.Unmarshal(get(path), &doc); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return doc
	}
	object := func(v any) map[string]any { m, _ := v.(map[string]any); return m }
	v2 := decode("/openapi/v2")
	for name, s := range object(v2["definitions"]) {
		d.definition("v2 "+name, object(s))
	}
	d.paths("v2 ", object(v2["paths"]), object(v2["parameters"]))
	for _, part := range []string{"swagger", "security", "securityDefinitions"} {
		d.add("v2 "+part, flat(v2[part]))
	}
	for path := range object(decode("/openapi/v3")["paths"]) {
		doc := decode("/openapi/v3/" + path)
		components := object(doc["components"])
		for name, s := range object(components["schemas"]) {
			if s := object(s); strings.HasPrefix(name, "io.k8s.apimachinery.pkg.apis.meta.v1.") {
				// The kinds of what all have depend on the document.
				const kinds = "x-kubernetes-group-version-kind"
				if s[kinds] != nil {
					d.add("v3 "+path+" "+name, flat(s[kinds]))
				}
				delete(s, kinds)
			}
			d.definition("v3 "+name, object(s))
		}
		d.paths("v3 ", object(doc["paths"]), nil)
		d.add("v3 "+path, flat(doc["openapi"])+flat(components["securitySchemes"]))
	}
}

const goldenFile = "testdata/upstream.txt.gz"

func recordUpstream(t *testing.T, kubeconfig string) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := &describer{map[string]string{}}
	d.read(t, func(path string) []byte {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(cfg.Host, "/")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", mediaJSON)
		res, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %d %v", path, res.StatusCode, err)
		}
		return b
	})
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a valid level
	for _, key := range slices.Sorted(maps.Keys(d.lines)) {
		fmt.Fprintf(z, "%s\t%s\n", key, d.lines[key])
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readGolden(t *testing.T) map[string]string {
	f, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "\t")
		out[key] = value
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDocumentsAreUpstreams compares every definition, property, operation and
// parameter with those of the recorded release. testdata/newer.txt lists what
// v1.37 has changed since, and what is not there yet, by reason.
func TestDocumentsAreUpstreams(t *testing.T) {
	if *upstream != "" {
		recordUpstream(t, *upstream)
	}
	want := readGolden(t)
	kinds := kind.Builtin()
	kinds.Add(extend.CustomResourceDefinitions())
	s := New(kinds)
	ours := &describer{map[string]string{}}
	ours.read(t, func(path string) []byte {
		b, err := io.ReadAll(get(t, s, path, mediaJSON).Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	differs := map[string]string{}
	for key, value := range want {
		if got, ok := ours.lines[key]; !ok {
			differs[key] = "upstream only: " + value
		} else if got != value {
			differs[key] = fmt.Sprintf("\nupstream %s\nours     %s", value, got)
		}
	}
	for key, value := range ours.lines {
		if _, ok := want[key]; !ok {
			differs[key] = "ours only: " + value
		}
	}
	if *newerFlag {
		writeNewer(t, differs)
	}
	reasons := readNewer(t)
	shown := 0
	for _, key := range slices.Sorted(maps.Keys(differs)) {
		if reason := excuse(reasons, newerKey(key)); reason != "" {
			reasons[reason] = true
			continue
		}
		if shown++; shown <= 50 {
			t.Errorf("%s: %s", key, differs[key])
		}
	}
	if shown > 50 {
		t.Errorf("and %d more", shown-50)
	}
	for key, used := range reasons {
		if !used {
			t.Errorf("testdata/newer.txt excuses %q, which does not differ", key)
		}
	}
}

// newerKey is what newer.txt calls a difference: v2 and v3 differ alike, and
// a definition with all of its properties.
func newerKey(key string) string {
	_, key, _ = strings.Cut(key, " ")
	key = strings.TrimSuffix(key, " text")
	if strings.HasPrefix(key, "/") {
		path, _, _ := strings.Cut(key, " ")
		path, _, _ = strings.Cut(path, "?")
		// All paths of a resource.
		path = strings.Replace(path, "/watch/", "/", 1)
		path = strings.Replace(path, "/namespaces/{namespace}", "", 1)
		parts := strings.Split(path, "/")
		return strings.Join(parts[:min(len(parts), 5)], "/")
	}
	return key
}

// excuse finds the entry for a difference: its key, "definition.*" for a whole
// definition, or the beginning of it before a space.
func excuse(reasons map[string]bool, key string) string {
	candidates := []string{key, key + ".*"}
	if i := strings.LastIndexByte(key, '.'); i > 0 {
		candidates = append(candidates, key[:i]+".*")
	}
	if path, _, ok := strings.Cut(key, " "); ok {
		candidates = append(candidates, path)
	}
	for _, c := range candidates {
		if _, ok := reasons[c]; ok {
			return c
		}
	}
	return ""
}

func readNewer(t *testing.T) map[string]bool {
	b, err := os.ReadFile("testdata/newer.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out[line] = false
		}
	}
	return out
}

// writeNewer sorts what differs by the kind of difference, for a reader to
// check against the release notes.
func writeNewer(t *testing.T, differs map[string]string) {
	by := map[string]map[string]bool{}
	for key, how := range differs {
		reason := "changed in v1.37"
		switch {
		case strings.Contains(key, "customresourcedefinitions"):
			reason = "CustomResourceDefinitions can only be read so far"
		case strings.HasPrefix(how, "ours only") && !strings.Contains(how, "\n"):
			reason = "new in v1.37"
		case strings.HasSuffix(key, " text"):
			reason = "described anew in v1.37"
		}
		if by[reason] == nil {
			by[reason] = map[string]bool{}
		}
		name := newerKey(key)
		// Definitions begin in upper case, their properties do not.
		last := name[strings.LastIndexByte(name, '.')+1:]
		if strings.HasPrefix(differs["v2 "+name], "ours only") && strings.HasPrefix(name, "io.") && last[0] <= 'Z' {
			name += ".*"
		}
		by[reason][name] = true
	}
	var b bytes.Buffer
	done := map[string]bool{}
	for _, reason := range []string{"CustomResourceDefinitions can only be read so far", "new in v1.37", "changed in v1.37", "described anew in v1.37"} {
		fmt.Fprintf(&b, "# %s\n", reason)
		keys := slices.Collect(maps.Keys(by[reason]))
		// Whole definitions before their parts.
		slices.SortFunc(keys, func(a, b string) int {
			return cmp.Or(strings.Compare(strings.TrimSuffix(a, ".*"), strings.TrimSuffix(b, ".*")), len(b)-len(a))
		})
		for _, key := range keys {
			if excuse(done, key) == "" {
				fmt.Fprintln(&b, key)
				done[key] = true
			}
		}
	}
	if err := os.WriteFile("testdata/newer.txt", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
