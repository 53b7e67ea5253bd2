package controllertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/kind"
)

// Epoch is the time of stories that do not say another.
var Epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// State is a controller.State of given objects.
type State struct {
	catalogue *kind.Catalogue
	now       time.Time
	objects   map[client.Resource][]client.Object
}

// NewState returns a state with the objects at the time.
func NewState(t testing.TB, now time.Time, objects ...client.Object) *State {
	s := &State{kind.Builtin(), now, map[client.Resource][]client.Object{}}
	for _, o := range objects {
		r, err := s.ResourceOf(o)
		if err != nil {
			t.Fatal(err)
		}
		s.objects[r] = append(s.objects[r], o)
	}
	return s
}

// Now is the story's time.
func (s *State) Now() time.Time { return s.now }

// ResourceOf implements controller.State.
func (s *State) ResourceOf(obj runtime.Object) (client.Resource, error) {
	k, err := s.catalogue.Of(obj)
	if err != nil {
		return client.Resource{}, err
	}
	return k.GroupResource(), nil
}

// Get implements controller.State.
func (s *State) Get(r client.Resource, key client.Key) (client.Object, bool) {
	for _, o := range s.objects[r] {
		if client.KeyOf(o) == key {
			return o, true
		}
	}
	return nil, false
}

// List implements controller.State.
func (s *State) List(r client.Resource, namespace string) (out []client.Object) {
	for _, o := range s.objects[r] {
		if namespace == "" || o.GetNamespace() == namespace {
			out = append(out, o)
		}
	}
	return out
}

// Run plays every story in the folder testdata/<dir>.
func Run(t *testing.T, dir string, c controller.Controller) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories in testdata/%s: %v", dir, err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { play(t, path, c) })
	}
}

var timeLine = regexp.MustCompile(`(?m)^now: (\S+)$`)

func play(t *testing.T, path string, c controller.Controller) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now := Epoch
	if m := timeLine.FindSubmatch(ar.Comment); m != nil {
		if now, err = time.Parse(time.RFC3339, string(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	var objects []client.Object
	changed := false
	for i, f := range ar.Files {
		key, isPlan := strings.CutPrefix(f.Name, "reconcile ")
		if !isPlan {
			objects = append(objects, Decode(t, f.Data)...)
			continue
		}
		var k client.Key
		if ns, name, ok := strings.Cut(key, "/"); ok {
			k = client.Key{Namespace: ns, Name: name}
		} else {
			k = client.Key{Name: key}
		}
		before := snapshot(objects)
		plan, err := c.Reconcile(context.Background(), NewState(t, now, objects...), k)
		if err != nil {
			t.Fatalf("reconcile %s: %v", key, err)
		}
		for j, o := range objects {
			if !slices.Equal(before[j], dump(o)) {
				t.Errorf("reconcile %s changed %s, which is shared", key, o.GetName())
			}
		}
		if got := []byte(Render(plan)); !bytes.Equal(got, f.Data) {
			ar.Files[i].Data, changed = got, true
			if os.Getenv("UPDATE") == "" {
				t.Errorf("reconcile %s:\n%swant\n%s", key, got, f.Data)
			}
		}
	}
	if changed && os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Render is the plan, with what a status or scale write would say indented
// below its action.
func Render(p controller.Plan) string {
	var b strings.Builder
	for _, a := range p.Actions {
		fmt.Fprintln(&b, a)
		if a.Object != nil && a.Op != controller.OpEvent && a.Op != controller.OpDelete && a.Op != controller.OpPatch {
			for _, line := range details(a.Object) {
				fmt.Fprintln(&b, "  "+line)
			}
		}
	}
	if p.After > 0 {
		fmt.Fprintf(&b, "again after %v\n", p.After)
	}
	return b.String()
}

func snapshot(objects []client.Object) (out [][]byte) {
	for _, o := range objects {
		out = append(out, dump(o))
	}
	return out
}

func dump(o client.Object) []byte { return []byte(fmt.Sprintf("%+v", o)) }

// Decode reads objects from YAML as a story writes them.
func Decode(t testing.TB, data []byte) (out []client.Object) {
	t.Helper()
	catalogue := kind.Builtin()
	for _, doc := range bytes.Split(data, []byte("\n---\n")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("cannot decode %s: %v", doc, err)
		}
		obj := o.(client.Object)
		k, err := catalogue.Of(obj)
		if err != nil {
			t.Fatal(err)
		}
		if k.Default != nil {
			k.Default(obj)
		}
		if obj.GetUID() == "" {
			obj.SetUID(types.UID("uid-" + obj.GetName()))
		}
		if !k.ClusterScoped && obj.GetNamespace() == "" {
			obj.SetNamespace("default")
		}
		if ts := obj.GetCreationTimestamp(); ts.IsZero() {
			obj.SetCreationTimestamp(metav1.NewTime(Epoch.Add(-time.Hour)))
		}
		own(t, catalogue, obj)
		out = append(out, obj)
	}
	return out
}

// own turns the annotation "controller: Kind/name" into an owner reference.
func own(t testing.TB, catalogue *kind.Catalogue, obj client.Object) {
	ref, ok := obj.GetAnnotations()["controller"]
	if !ok {
		return
	}
	annotations := obj.GetAnnotations()
	delete(annotations, "controller")
	kindName, name, _ := strings.Cut(ref, "/")
	for _, k := range catalogue.All() {
		if k.Hub.Kind == kindName {
			apiVersion, _ := k.Hub.ToAPIVersionAndKind()
			yes := true
			obj.SetOwnerReferences([]metav1.OwnerReference{{
				APIVersion: apiVersion, Kind: kindName, Name: name, UID: types.UID("uid-" + name), Controller: &yes, BlockOwnerDeletion: &yes,
			}})
			return
		}
	}
	t.Fatalf("no kind %q", kindName)
}
