package kubestate

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

// kindOf finds the kind under which the state follows an object.
func kindOf(t testing.TB, o client.Object) kind {
	t.Helper()
	for _, k := range kinds() {
		e := emitter{}
		if k.emit(&e, o); len(e.out) > 0 {
			return k
		}
	}
	t.Fatalf("%T has no series", o)
	return kind{}
}

func objects(t testing.TB) []client.Object {
	t.Helper()
	b, err := os.ReadFile("testdata/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list []client.Object
	for i, doc := range strings.Split(string(b), "\n---\n") {
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		list = append(list, o.(client.Object))
	}
	return list
}

func newState(constant ...string) *State { return New(nil, telemetry.Discard(), constant...) }

func TestText(t *testing.T) {
	s := newState("job", "kube-state-metrics", "instance", "i")
	for _, o := range objects(t) {
		s.set(kindOf(t, o), o, 1)
	}
	var b bytes.Buffer
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/series.golden"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		w, g := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")
		for i := range min(len(w), len(g)) {
			if w[i] != g[i] {
				t.Fatalf("line %d:\n-%s\n+%s", i+1, w[i], g[i])
			}
		}
		t.Fatalf("%d lines, want %d", len(g), len(w))
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(&b)
	if err != nil {
		t.Fatalf("the text does not parse: %v", err)
	}
	if f := families["kube_pod_container_status_restarts_total"]; f == nil || f.GetType().String() != "COUNTER" {
		t.Errorf("restarts are %v", f)
	}
}

func name(s *Series) string { return s.Labels.Get(labels.MetricName) }

// flush returns what a Flush said, as "name{…}=value" of interest.
func flush(s *State, all bool, about string) (put, gone []string) {
	s.Flush(all, func(v *Series) {
		if v.Ref == 0 {
			v.Ref = v.Labels.Hash()
		}
		if name(v) == about {
			put = append(put, fmt.Sprintf("%s %s=%v", v.Labels.Get("pod"), v.Labels.Get("reason"), v.Value))
		}
	}, func(v *Series) {
		if name(v) == about {
			gone = append(gone, fmt.Sprintf("%s %s ref=%t", v.Labels.Get("pod"), v.Labels.Get("reason"), v.Ref == v.Labels.Hash()))
		}
	})
	return put, gone
}

func TestSeriesComeAndGo(t *testing.T) {
	s := newState()
	waiting := func(pod, reason string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: pod}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}}
		if reason != "" {
			p.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: reason}
		}
		return p
	}
	k := kindOf(t, waiting("a", ""))
	const about = "kube_pod_container_status_waiting_reason"
	check := func(what string, all bool, wantPut, wantGone string) {
		t.Helper()
		put, gone := flush(s, all, about)
		slices.Sort(put)
		if p, g := strings.Join(put, ", "), strings.Join(gone, ", "); p != wantPut || g != wantGone {
			t.Errorf("%s: put %q gone %q, want %q and %q", what, p, g, wantPut, wantGone)
		}
	}
	s.set(k, waiting("a", "ContainerCreating"), 1)
	s.set(k, waiting("b", "ContainerCreating"), 1)
	select {
	case <-s.Changed():
	default:
		t.Error("a change is not signalled")
	}
	check("new", false, "a ContainerCreating=1, b ContainerCreating=1", "")
	check("quiet", false, "", "")
	s.set(k, waiting("a", "ContainerCreating"), 1)
	check("an equal object", false, "", "")
	s.set(k, waiting("a", "CrashLoopBackOff"), 1)
	check("another reason", false, "a CrashLoopBackOff=1", "a ContainerCreating ref=true")
	check("everything", true, "a CrashLoopBackOff=1, b ContainerCreating=1", "")
	s.remove(objectKey{k.resource, client.Key{Namespace: "n", Name: "a"}})
	check("deleted", false, "", "a CrashLoopBackOff ref=true")
	s.removeBefore(k.resource, 2)
	check("not seen by a fresh watch", false, "", "b ContainerCreating ref=true")
	if s.Len() != 0 {
		t.Errorf("%d series are left", s.Len())
	}
}

func TestMergeKeepsReferences(t *testing.T) {
	mk := func(n string, v float64, ref uint64) Series {
		return Series{Labels: labels.FromStrings("__name__", n), Value: v, Ref: ref}
	}
	old := []Series{mk("a", 1, 11), mk("b", 1, 12), mk("c", 1, 13)}
	next, gone, changed := merge(old, []Series{mk("c", 1, 0), mk("a", 2, 0), mk("d", 1, 0)})
	if !changed || len(gone) != 1 || gone[0].Ref != 12 || next[0].Ref != 13 || next[1].Ref != 11 || next[2].Ref != 0 {
		t.Fatalf("merged %v, gone %v, changed %t", next, gone, changed)
	}
}

func BenchmarkSet(b *testing.B) {
	list := objects(b)
	s := newState("job", "kube-state-metrics")
	k := kindOf(b, list[0])
	b.ReportAllocs()
	for b.Loop() {
		s.set(k, list[0], 1)
	}
}
