// Command read collects the markers in the comments of the API's Go types.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"binnacle.io/core/api/openapi/markers"
)

func main() {
	out := flag.String("o", "types.json", "file to write")
	flag.Parse()
	found, err := collect()
	if err == nil {
		err = write(*out, found)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// packages are those whose types travel; undocumented ones have no SwaggerDoc.
func packages() (patterns []string, undocumented map[string]bool) {
	bare := []string{
		"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1",
		"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1",
		"k8s.io/metrics/pkg/apis/metrics/v1beta1",
		"k8s.io/apimachinery/pkg/version",
		"k8s.io/apimachinery/pkg/runtime",
		"k8s.io/apimachinery/pkg/util/intstr",
		"k8s.io/apimachinery/pkg/api/resource",
		"k8s.io/apimachinery/pkg/apis/meta/v1",
	}
	undocumented = map[string]bool{}
	for _, p := range bare {
		undocumented[p] = true
	}
	return append(bare, "k8s.io/api/..."), undocumented
}

func collect() (map[string]markers.Type, error) {
	patterns, undocumented := packages()
	list := exec.Command("go", append([]string{"list", "-f", "{{.ImportPath}} {{.Dir}}"}, patterns...)...)
	list.Stderr = os.Stderr
	lines, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages of the API types: %w", err)
	}
	found, values := map[string]markers.Type{}, newConstants()
	for line := range strings.Lines(string(lines)) {
		path, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if err := readPackage(found, values, path, dir, undocumented[path]); err != nil {
			return nil, fmt.Errorf("cannot read package %q: %w", path, err)
		}
	}
	values.enumerate(found)
	return found, nil
}

func readPackage(found map[string]markers.Type, values *constants, path, dir string, undocumented bool) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range files {
		base := filepath.Base(name)
		if strings.HasPrefix(base, "zz_") || strings.HasSuffix(base, "_test.go") || strings.HasSuffix(base, ".pb.go") || strings.Contains(base, "swagger") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					doc := s.Doc
					if doc == nil {
						doc = g.Doc
					}
					if t := readType(values, path, s, lines(doc), undocumented); t.Enum != nil || !empty(t) {
						found[path+"."+s.Name.Name] = t
					}
				case *ast.ValueSpec:
					values.read(path, importsOf(file), g, s)
				}
			}
		}
	}
	return nil
}

// lines are a comment's, without the slashes and the space after them.
func lines(c *ast.CommentGroup) []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, l := range c.List {
		if text, ok := strings.CutPrefix(l.Text, "//"); ok {
			out = append(out, strings.TrimPrefix(text, " "))
		}
	}
	return out
}

func empty(t markers.Type) bool {
	b, err := json.Marshal(t)
	return err == nil && string(b) == "{}"
}

func readType(values *constants, path string, s *ast.TypeSpec, doc []string, undocumented bool) markers.Type {
	tags := tagsOf(doc)
	t := markers.Type{}
	if undocumented {
		t.Doc = description(doc)
	}
	if _, ok := tags["enum"]; ok {
		t.Enum = []markers.Value{}
	}
	t.Atomic = first(tags["structType"]) == "atomic" || first(tags["mapType"]) == "atomic"
	_, t.Union = tags["union"]
	st, ok := s.Type.(*ast.StructType)
	if !ok {
		return t
	}
	for _, f := range st.Fields.List {
		tags := tagsOf(lines(f.Doc))
		m := readField(values, path, f.Tag, tags)
		if undocumented {
			m.Doc = description(lines(f.Doc))
		}
		name := ""
		switch {
		case len(f.Names) > 0:
			name = f.Names[0].Name
		default:
			name = embedded(f.Type)
		}
		if _, ok := tags["unionDiscriminator"]; ok {
			t.Discriminator = name
		}
		if b, err := json.Marshal(m); err == nil && string(b) != "{}" {
			if t.Fields == nil {
				t.Fields = map[string]markers.Field{}
			}
			t.Fields[name] = m
		}
	}
	return t
}

func embedded(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return embedded(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// readField keeps Optional and Required only where the JSON tag does not say so.
func readField(values *constants, path string, tag *ast.BasicLit, tags map[string][]string) markers.Field {
	m := markers.Field{List: first(tags["listType"]), Keys: tags["listMapKey"], Map: first(tags["mapType"])}
	if m.Map == "" {
		m.Map = first(tags["structType"])
	}
	omitted := tag != nil && strings.Contains(tag.Value, ",omitempty")
	_, optional := tags["optional"]
	_, required := tags["required"]
	m.Optional, m.Required = optional && !omitted, required && omitted
	v := first(tags["default"])
	if name, ok := strings.CutPrefix(v, "ref("); ok {
		v = values.defaultOf(path, strings.TrimSuffix(name, ")"))
	}
	if json.Valid([]byte(v)) {
		m.Default = json.RawMessage(v)
	}
	return m
}

func first(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

// tagsOf are the "+name=value" lines of a comment.
func tagsOf(doc []string) map[string][]string {
	tags := map[string][]string{}
	for _, l := range doc {
		l = strings.TrimSpace(l)
		if !strings.HasPrefix(l, "+") || strings.HasPrefix(l, "+k8s:") {
			continue
		}
		name, value, _ := strings.Cut(l[1:], "=")
		tags[name] = append(tags[name], value)
	}
	return tags
}

// description is a comment as OpenAPI has it: paragraphs on one line each,
// indented lines on their own, no markers.
func description(doc []string) string {
	var b bytes.Buffer
	cut := func() {
		if b.Len() > 0 {
			b.Truncate(b.Len() - 1)
		}
	}
	for _, l := range doc {
		if l == "---" {
			break
		}
		l = strings.TrimRight(l, " ")
		switch plain := strings.TrimLeft(l, " "); {
		case l == "":
			cut()
			b.WriteString("\n\n")
		case strings.HasPrefix(plain, "TODO"), strings.HasPrefix(plain, "+"):
		case strings.HasPrefix(l, " "), strings.HasPrefix(l, "\t"):
			cut()
			b.WriteString("\n" + l + "\n")
		default:
			b.WriteString(l + " ")
		}
	}
	return strings.TrimSpace(b.String())
}

// write keeps a type a line.
func write(name string, found map[string]markers.Type) error {
	keys := make([]string, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b bytes.Buffer
	for i, k := range keys {
		line, err := json.Marshal(found[k])
		if err != nil {
			return fmt.Errorf("cannot write the markers of %s: %w", k, err)
		}
		open := ","
		if i == 0 {
			open = "{"
		}
		fmt.Fprintf(&b, "%s\n%q:%s", open, k, line)
	}
	b.WriteString("\n}\n")
	return os.WriteFile(name, b.Bytes(), 0o644)
}
