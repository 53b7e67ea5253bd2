package store

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/kind"
)

func TestEncodedOnce(t *testing.T) {
	t.Parallel()
	e := &Entry{cache: &encodings{max: 1 << 20}}
	var made atomic.Int32
	if _, err := e.Encoded("json", func() ([]byte, error) { return nil, errors.New("boom") }); err == nil {
		t.Error("an error of make is lost")
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for _, k := range []string{"json", "protobuf"} {
				data, err := e.Encoded(k, func() ([]byte, error) {
					made.Add(1)
					return []byte(k), nil
				})
				if err != nil || string(data) != k {
					t.Errorf("%s: %q, %v", k, data, err)
				}
			}
		})
	}
	all.Wait()
	if n := made.Load(); n != 2 {
		t.Errorf("made %d times, want once for each of two encodings", n)
	}
}

func TestEncodedIsBounded(t *testing.T) {
	t.Parallel()
	cache := &encodings{max: 100 * 10}
	entries := make([]*Entry, 5000)
	fill := func(e *Entry) (made bool) {
		_, _ = e.Encoded("json", func() ([]byte, error) { made = true; return make([]byte, 10), nil })
		return made
	}
	hot := &Entry{cache: cache}
	fill(hot)
	hotMade := 0
	for i := range entries {
		entries[i] = &Entry{cache: cache}
		fill(entries[i])
		if fill(hot) {
			hotMade++
		}
		if n := cache.total(); n > cache.max {
			t.Fatalf("%d bytes are cached, the bound is %d", n, cache.max)
		}
	}
	if hotMade > 0 {
		t.Errorf("what is used all the time was made again %d times", hotMade)
	}
	held := 0
	for _, e := range entries {
		if e.encoded.Load() != nil {
			held++
		}
	}
	if held == 0 || held > 100 {
		t.Errorf("%d entries hold encodings, want up to 100", held)
	}
	if len(cache.queue) > 4096 {
		t.Errorf("the queue has %d places for 100 encodings", len(cache.queue))
	}
}

// widget is stored as JSON: it has no protobuf form. Two versions exist.
type widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Size              int64 `json:"size"`
}

func (w *widget) DeepCopyObject() runtime.Object {
	c := *w
	w.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	return &c
}

func widgetKind() *kind.Kind {
	v := func(s string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: "example.com", Version: s, Kind: "Widget"}
	}
	return &kind.Kind{
		Hub: v("v2"), Resource: "widgets", Prefix: "example.com/widgets", New: func() kind.Object { return &widget{} },
		Versions: []kind.Version{{
			GroupVersionKind: v("v1"), New: func() runtime.Object { return &widget{} },
			ToHub: func(o runtime.Object) (kind.Object, error) {
				w := o.DeepCopyObject().(*widget)
				if w.Size < 0 {
					return nil, errors.New("size is negative")
				}
				w.Size *= 1000
				return w, nil
			},
		}},
	}
}

func TestCodec(t *testing.T) {
	t.Parallel()
	p := pod("ns", "p", "n")
	for _, c := range []struct {
		kind *kind.Kind
		obj  kind.Object
	}{
		{testKinds()[0], p},
		{cronTabKind(), cronTab("ns", "c", map[string]any{"n": int64(1)})},
		{widgetKind(), &widget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "w"}, Size: 3}},
	} {
		value, err := encode(c.kind, c.obj)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(c.kind, value, 7)
		if err != nil {
			t.Fatal(err)
		}
		if back.GetName() != c.obj.GetName() || back.GetResourceVersion() != "7" || back.GetObjectKind().GroupVersionKind() != c.kind.Hub {
			t.Errorf("%s came back as %+v", c.kind.Hub, back)
		}
	}
	if p.APIVersion != "" || p.Kind != "" {
		t.Error("encoding changed its argument")
	}
	old, err := decode(widgetKind(), []byte(`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"size":3}`), 1)
	if err != nil || old.(*widget).Size != 3000 || old.GetObjectKind().GroupVersionKind().Version != "v2" {
		t.Errorf("stored v1 came back as %+v, %v", old, err)
	}
	for name, c := range map[string]struct {
		kind  *kind.Kind
		value string
		want  string
	}{
		"empty":           {testKinds()[0], "", "0 bytes"},
		"neither":         {testKinds()[0], "xyz", "neither"},
		"only magic":      {testKinds()[0], "k8s\x00", "not a version"},
		"other kind":      {testKinds()[0], `{"apiVersion":"v1","kind":"Node"}`, "not a version"},
		"broken JSON":     {testKinds()[0], `{"apiVersion":`, "JSON"},
		"broken protobuf": {testKinds()[0], "k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x05\x0a\xff\xff\xff\xff", "cannot decode"},
		"conversion":      {widgetKind(), `{"apiVersion":"example.com/v1","kind":"Widget","size":-3}`, "size is negative"},
		"no protobuf":     {cronTabKind(), "k8s\x00\n\x19\n\x0eexample.com/v1\x12\x07CronTab", "no protobuf form"},
	} {
		if _, err := decode(c.kind, []byte(c.value), 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := encode(cronTabKind(), &unstructured.Unstructured{Object: map[string]any{"kind": "Other"}}); err == nil {
		t.Error("an object of another kind was encoded")
	}
}

// FuzzDecode holds that whatever etcd holds is decoded or refused, and that
// what was decoded can be stored again and comes back the same.
func FuzzDecode(f *testing.F) {
	kinds := []*kind.Kind{testKinds()[0], cronTabKind(), widgetKind()}
	for i, obj := range []kind.Object{pod("ns", "p", "n"), cronTab("ns", "c", map[string]any{"a": []any{"b", 1.5}}), &widget{Size: 1}} {
		value, err := encode(kinds[i], obj)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), value)
	}
	f.Add(uint8(0), []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`))
	f.Add(uint8(2), []byte(`{"apiVersion":"example.com/v1","kind":"Widget","size":7}`))
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		k := kinds[int(which)%len(kinds)]
		obj, err := decode(k, value, 5)
		if err != nil {
			return
		}
		if obj.GetResourceVersion() != "5" || obj.GetObjectKind().GroupVersionKind() != k.Hub {
			t.Fatalf("decoded %s at %q", obj.GetObjectKind().GroupVersionKind(), obj.GetResourceVersion())
		}
		obj.SetResourceVersion("")
		again, err := encode(k, obj)
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		back, err := decode(k, again, 6)
		if err != nil {
			t.Fatalf("cannot decode what was encoded: %v", err)
		}
		back.SetResourceVersion("")
		twice, err := encode(k, back)
		if err != nil || string(twice) != string(again) {
			t.Fatalf("encoding is not stable: %q then %q, %v", again, twice, err)
		}
	})
}
