package autoscale

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
)

func TestJournal(t *testing.T) {
	key := client.Key{Namespace: "n", Name: "h"}
	j := newJournal(3)
	add := func(second int, desired int32, rescaled bool) {
		j.add(key, Record{Time: t0.Add(time.Duration(second) * time.Second), Desired: desired, Rescaled: rescaled, Times: 1})
	}
	for i := range 100 {
		add(i, 1, false)
	}
	if list := j.records[key]; len(list) != 1 || list[0].Times != 100 || list[0].Time != t0.Add(99*time.Second) {
		t.Fatalf("a hundred equal decisions are %+v", list)
	}
	add(100, 2, true)
	add(101, 2, true)
	add(102, 2, false)
	if list := j.records[key]; len(list) != 3 || !list[0].Rescaled || list[2].Rescaled {
		t.Fatalf("records are %+v", list)
	}
	j.forget(key)
	if len(j.records) != 0 {
		t.Error("a forgotten autoscaler is still there")
	}
}

// Label values come from users: they must not change the query's meaning.
func TestQuoting(t *testing.T) {
	if got, want := quote(`a"} or up{x="`), `"a\"} or up{x=\""`; got != want {
		t.Errorf("quoted %s, want %s", got, want)
	}
	if got, want := label(`app.io/x"}`), "app_io_x__"; got != want {
		t.Errorf("label %s, want %s", got, want)
	}
	got, err := selectorMatchers(&metav1.LabelSelector{
		MatchLabels: map[string]string{"app.io/q": "a.b"},
		MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "x", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"1", "2"}}, {Key: "y", Operator: metav1.LabelSelectorOpExists}, {Key: "z", Operator: metav1.LabelSelectorOpDoesNotExist},
		},
	})
	want := []string{`app_io_q=~"a\\.b"`, `x!~"1|2"`, `y!=""`, `z=""`}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) && !slices.Equal(got, []string{want[0], `x!~"2|1"`, want[2], want[3]}) {
		t.Errorf("matchers are %q, %v; want %q", got, err, want)
	}
}
