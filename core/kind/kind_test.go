package kind

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"
	sigsyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update and look at the difference\ngot:\n%s", path, got)
	}
}

// TestCatalogue holds the whole list of resources against a file that reads
// like kubectl api-resources.
func TestCatalogue(t *testing.T) {
	var b bytes.Buffer
	verbs := func(vs []string) string {
		if len(vs) == 0 {
			return "*"
		}
		return strings.Join(vs, ",")
	}
	for _, g := range Builtin().Groups() {
		for _, v := range g.Versions {
			fmt.Fprintf(&b, "%s\n", schema.GroupVersion{Group: g.Name, Version: v.Version})
			for _, m := range v.Resources {
				k := m.Kind
				fmt.Fprintf(&b, "  %s %s singular=%s short=%s categories=%s namespaced=%t prefix=%s verbs=%s\n", k.Resource, m.GVK().Kind,
					k.Singular, strings.Join(k.ShortNames, ","), strings.Join(k.Categories, ","), !k.ClusterScoped, k.Prefix, verbs(k.Verbs))
				for _, s := range k.Subresources {
					body := s.Body
					if body.Empty() {
						body = k.Hub
					}
					fmt.Fprintf(&b, "    /%s %s %s\n", s.Name, body.GroupVersion().String()+" "+body.Kind, verbs(s.Verbs))
				}
			}
		}
	}
	fmt.Fprintln(&b, "\nretired")
	for _, k := range Builtin().All() {
		for _, v := range k.Versions {
			if v.Retired != "" {
				fmt.Fprintf(&b, "  %s\n", v.Retired)
			}
		}
	}
	golden(t, "catalogue.txt", b.Bytes())
}

func TestLookups(t *testing.T) {
	c := Builtin()
	prefixes := map[string]string{}
	for _, k := range c.All() {
		if got, ok := c.ByGroupResource(k.GroupResource()); !ok || got != k {
			t.Errorf("ByGroupResource(%s) = %v", k.GroupResource(), got)
		}
		got, v, ok := c.ByKind(k.Hub)
		if !ok || got != k || v != nil {
			t.Errorf("ByKind(%s) = %v, %v", k.Hub, got, v)
		}
		if of, err := c.Of(k.New()); err != nil || of != k {
			t.Errorf("Of(%T) = %v, %v", k.New(), of, err)
		}
		if !k.Virtual {
			if other, taken := prefixes[k.Prefix]; taken {
				t.Errorf("%s and %s share the prefix %q", k.Resource, other, k.Prefix)
			}
			prefixes[k.Prefix] = k.Resource
		}
		for i := range k.Versions {
			gvk := k.Versions[i].GroupVersionKind
			got, v, ok := c.ByResource(gvk.GroupVersion().WithResource(k.Resource))
			if !ok || got != k || v != &k.Versions[i] {
				t.Errorf("ByResource(%s %s) = %v, %v", gvk, k.Resource, got, v)
			}
			if _, err := scheme.Scheme.New(gvk); err != nil {
				t.Errorf("the scheme does not know %s", gvk)
			}
		}
	}
	for _, body := range []schema.GroupVersionKind{
		{Group: "autoscaling", Version: "v1", Kind: "Scale"},
		{Group: "policy", Version: "v1", Kind: "Eviction"},
		{Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest"},
		{Version: "v1", Kind: "Binding"},
	} {
		if k, _, ok := c.ByKind(body); !ok || !k.Virtual {
			t.Errorf("ByKind(%s) = %v", body, k)
		}
	}
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("extensions/v1beta1")
	u.SetKind("Deployment")
	if k, err := c.Of(u); err != nil || k.Resource != "deployments" {
		t.Errorf("Of(unstructured) = %v, %v", k, err)
	}
	u.SetKind("Nonsense")
	if _, err := c.Of(u); err == nil {
		t.Error("Of found a kind that does not exist")
	}
}

func TestAddReplacesAndRemoves(t *testing.T) {
	c := Builtin()
	n := len(c.All())
	gr := schema.GroupResource{Group: "example.com", Resource: "widgets"}
	widget := func(version string) *Kind {
		return &Kind{Hub: schema.GroupVersionKind{Group: gr.Group, Version: version, Kind: "Widget"}, Resource: gr.Resource}
	}
	c.Add(widget("v1"))
	second := widget("v2")
	c.Add(second)
	if got, _ := c.ByGroupResource(gr); got != second || len(c.All()) != n+1 {
		t.Errorf("after two Adds: %v, %d kinds, want %d", got, len(c.All()), n+1)
	}
	if _, _, ok := c.ByKind(widget("v1").Hub); ok {
		t.Error("the replaced version is still there")
	}
	groups := c.Groups()
	if last := groups[len(groups)-1]; last.Name != gr.Group {
		t.Errorf("the last group is %q, want %q", last.Name, gr.Group)
	}
	c.Remove(gr)
	if _, ok := c.ByGroupResource(gr); ok || len(c.All()) != n {
		t.Error("the removed kind is still there")
	}
}

// fuzzed makes random objects, the same ones for the same seed.
func fuzzed(seed int64) *randfill.Filler {
	return fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), scheme.Codecs)
}

// TestFunctionsHoldOnAnything runs every function of every kind on random
// objects: none panics, Default is idempotent, old objects stay as they were.
func TestFunctionsHoldOnAnything(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, k := range Builtin().All() {
		if k.Virtual {
			continue
		}
		t.Run(k.Resource, func(t *testing.T) {
			for seed := range int64(30) {
				f := fuzzed(seed)
				obj, old := k.New(), k.New()
				f.Fill(obj)
				f.Fill(old)
				if seed%5 == 0 {
					obj, old = k.New(), k.New()
				}
				if k.Default != nil {
					k.Default(obj)
					once := obj.DeepCopyObject()
					k.Default(obj)
					if !apiequality.Semantic.DeepEqual(obj, once) {
						t.Fatalf("seed %d: Default is not idempotent", seed)
					}
					k.Default(old)
				}
				kept := old.DeepCopyObject()
				run(k, obj, old, now, t)
				if !apiequality.Semantic.DeepEqual(old, kept) {
					t.Fatalf("seed %d: the old object was changed", seed)
				}
			}
		})
	}
}

func run(k *Kind, obj, old Object, now time.Time, t *testing.T) {
	fresh := func() Object { return obj.DeepCopyObject().(Object) }
	if k.PrepareCreate != nil {
		k.PrepareCreate(fresh())
	}
	if k.Validate != nil {
		k.Validate(obj)
	}
	next := fresh()
	if k.PrepareUpdate != nil {
		k.PrepareUpdate(next, old)
	}
	if k.ValidateUpdate != nil {
		k.ValidateUpdate(next, old)
	}
	for _, s := range k.Subresources {
		next := fresh()
		if s.PrepareUpdate != nil {
			s.PrepareUpdate(next, old)
		}
		if s.ValidateUpdate != nil {
			s.ValidateUpdate(next, old)
		}
	}
	if k.Warnings != nil {
		k.Warnings(obj)
	}
	if k.Fields != nil {
		k.Fields(obj)
	}
	if k.GracePeriod != nil {
		k.GracePeriod(obj, nil)
	}
	if k.OnDelete != nil {
		k.OnDelete(fresh())
	}
	if k.Held != nil {
		k.Held(obj)
	}
	for _, c := range k.Columns {
		switch v := c.Cell(obj, now); v.(type) {
		case string, int64, bool:
		default:
			t.Errorf("column %q of %s is a %T", c.Name, k.Resource, v)
		}
	}
}

// TestConversionIsStable takes random objects of old versions to the hub, back
// and to the hub again: nothing more is lost on the second way.
func TestConversionIsStable(t *testing.T) {
	for _, k := range Builtin().All() {
		for _, v := range k.Versions {
			t.Run(v.GroupVersion().String()+" "+v.Kind, func(t *testing.T) {
				for seed := range int64(30) {
					in := v.New()
					fuzzed(seed).Fill(in)
					in.(Object).SetAnnotations(map[string]string{"a": "b"})
					kept := in.DeepCopyObject()
					hub, err := v.ToHub(in)
					if err != nil {
						t.Skipf("not convertible: %v", err)
					}
					if !apiequality.Semantic.DeepEqual(in, kept) {
						t.Fatal("ToHub changed its argument")
					}
					back, err := v.FromHub(hub)
					if err != nil {
						t.Fatal(err)
					}
					again, err := v.ToHub(back)
					if err != nil {
						t.Fatal(err)
					}
					if !apiequality.Semantic.DeepEqual(hub, again) {
						t.Fatalf("seed %d: not stable\n%s", seed, differ(hub, again))
					}
				}
			})
		}
	}
}

func differ(a, b runtime.Object) string {
	x, _ := sigsyaml.Marshal(a)
	y, _ := sigsyaml.Marshal(b)
	var out []string
	xs, ys := strings.Split(string(x), "\n"), strings.Split(string(y), "\n")
	for _, l := range xs {
		if !slices.Contains(ys, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range ys {
		if !slices.Contains(xs, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// TestManifests takes manifests through decoding, conversion, defaults,
// preparation and validation, and holds the outcome against golden files.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("testdata/manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	c := Builtin()
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			docs := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(body)))
			for {
				doc, err := docs.Read()
				if err != nil {
					break
				}
				admit(t, c, doc, &out)
			}
			golden(t, filepath.Join("defaulted", filepath.Base(file)), out.Bytes())
		})
	}
}

func admit(t *testing.T, c *Catalogue, doc []byte, out *bytes.Buffer) {
	t.Helper()
	obj, gvk, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	k, v, ok := c.ByKind(*gvk)
	if !ok {
		t.Fatalf("%s is not in the catalogue", gvk)
	}
	fmt.Fprintf(out, "---\n")
	if v != nil {
		if obj, err = v.ToHub(obj); err != nil {
			t.Fatal(err)
		}
		if v.Retired != "" {
			fmt.Fprintf(out, "# %s\n", v.Retired)
		}
	}
	o := obj.(Object)
	if !k.ClusterScoped && o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	if k.Default != nil {
		k.Default(o)
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(o)
	}
	if k.Validate != nil {
		if errs := k.Validate(o); len(errs) > 0 {
			t.Errorf("%s %s: %v", gvk.Kind, o.GetName(), errs.ToAggregate())
		}
	}
	if k.Warnings != nil {
		for _, w := range k.Warnings(o) {
			fmt.Fprintf(out, "# %s\n", w)
		}
	}
	text, err := sigsyaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
}

// messages are errors as a client reads them.
func messages(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

// part returns a field of an API object.
func part(o Object, name string) any {
	f := reflect.ValueOf(o).Elem().FieldByName(name)
	if !f.IsValid() {
		return nil
	}
	return f.Interface()
}

func specOf(o Object) any { return part(o, "Spec") }

func statusOf(o Object) any { return part(o, "Status") }
