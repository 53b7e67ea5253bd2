package scheduler

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// TestDecide plays the stories in testdata: files node*.yaml and pod*.yaml
// make the picture, pending.yaml is the pod to place, and want holds the
// decision.
func TestDecide(t *testing.T) {
	stories, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(stories) == 0 {
		t.Fatalf("no stories in testdata: %v", err)
	}
	for _, path := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, pending, want := NewPicture(), &corev1.Pod{}, ""
			wantAt := -1
			for i, f := range ar.Files {
				switch {
				case f.Name == "want":
					want, wantAt = string(f.Data), i
				case f.Name == "pending.yaml":
					decode(t, f.Data, pending)
				case strings.HasPrefix(f.Name, "node"):
					for _, doc := range strings.Split(string(f.Data), "---\n") {
						n := &corev1.Node{}
						decode(t, []byte(doc), n)
						c.SetNode(n)
					}
				case strings.HasPrefix(f.Name, "pod"):
					for j, doc := range strings.Split(string(f.Data), "---\n") {
						p := &corev1.Pod{}
						decode(t, []byte(doc), p)
						p.UID = types.UID(fmt.Sprintf("%s-%d", f.Name, j))
						c.SetPod(p)
					}
				case strings.HasPrefix(f.Name, "namespace"):
					ns := &corev1.Namespace{}
					decode(t, f.Data, ns)
					c.SetNamespace(ns.Name, ns.Labels)
				default:
					t.Fatalf("%s: what is %q for?", path, f.Name)
				}
			}
			d := DefaultProfile().Decide(pending, c, func(int) int { return 0 })
			got := "node: " + d.Node + "\n"
			if d.Node == "" {
				got = d.Message() + "\nplugins: " + strings.Join(d.Plugins, " ") + "\n"
			}
			if got == want {
				return
			}
			if os.Getenv("UPDATE") != "" {
				ar.Files[wantAt].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("decided\n%swant\n%sscores: %v", got, want, d.Scores)
		})
	}
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatal(err)
	}
}
