// Package arch holds the import rules: the tree is the architecture diagram.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "binnacle.io"

// products may use core and the products named here, nothing else.
var products = map[string][]string{
	"exporters":  nil,
	"tracing":    nil,
	"metrics":    {"exporters"},
	"alerting":   nil,
	"dashboards": {"metrics", "tracing"},
}

type pkg struct {
	ImportPath, Dir, Name              string
	Imports, TestImports, XTestImports []string
	GoFiles                            []string
}

func packages(t *testing.T) (out []pkg) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Imports,GoFiles", module+"/...")
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(strings.NewReader(string(b))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			out = append(out, p)
		}
	}
}

// area is the top-level folder of an import of this module, or "".
func area(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		from := area(p.ImportPath)
		for _, imp := range p.Imports {
			to := area(imp)
			_, product := products[to]
			switch {
			case to == "" || to == from:
			case p.ImportPath == module+"/core/telemetry":
				t.Errorf("%s is a leaf and imports %s", p.ImportPath, imp)
			case from == "core" && product:
				t.Errorf("%s is core and imports the product %s", p.ImportPath, imp)
			case to == "cmd" || to == "test" || to == "examples":
				t.Errorf("%s imports %s, which is nobody's library", p.ImportPath, imp)
			case from == "cmd" || from == "test":
			case product && !slices.Contains(products[from], to):
				t.Errorf("%s imports %s: %s may use core and %v", p.ImportPath, imp, from, products[from])
			}
			if p.ImportPath == module+"/core/telemetry" && to == "core" {
				t.Errorf("%s is a leaf and imports %s", p.ImportPath, imp)
			}
			for _, banned := range []string{"k8s.io/kubernetes", "sigs.k8s.io/controller-runtime",
				"k8s.io/apiserver/pkg/server", "k8s.io/apiserver/pkg/registry", "k8s.io/apiserver/pkg/endpoints", "k8s.io/apiserver/pkg/storage"} {
				if imp == banned || strings.HasPrefix(imp, banned+"/") {
					t.Errorf("%s imports %s: the engine is ours", p.ImportPath, imp)
				}
			}
		}
	}
}

func TestNamesAndDocs(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "pkg", "misc"}, path.Base(p.ImportPath)) {
			t.Errorf("%s: a folder names a responsibility", p.ImportPath)
		}
		if p.Name == "main" || strings.HasPrefix(p.ImportPath, module+"/test/") {
			continue
		}
		if strings.HasSuffix(p.ImportPath, "test") { // for tests only: documented in its one file
			continue
		}
		if _, err := os.Stat(filepath.Join(p.Dir, "doc.go")); err != nil {
			t.Errorf("%s has no doc.go", p.ImportPath)
		}
	}
}
