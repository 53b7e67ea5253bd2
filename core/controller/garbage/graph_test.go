package garbage

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
)

var configMaps = client.Resource{Resource: "configmaps"}

// object makes one with the given owners; a name with "!" blocks its owner.
func object(uid string, finalizer string, owners ...string) client.Object {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid)}}
	for _, owner := range owners {
		o.OwnerReferences = append(o.OwnerReferences, metav1.OwnerReference{
			APIVersion: "v1", Kind: "ConfigMap", Name: owner, UID: types.UID(owner), BlockOwnerDeletion: ptr.To(true)})
	}
	if finalizer != "" {
		now := metav1.Now()
		o.DeletionTimestamp, o.Finalizers = &now, []string{finalizer}
	}
	return o
}

func (v verdict) String() string {
	s := ""
	for _, o := range v.verify {
		s += "verify " + o.Name + "; "
	}
	if v.remove != "" {
		s += "delete " + string(v.remove) + "; "
	}
	if len(v.disown) > 0 {
		s += fmt.Sprintf("disown %v; ", v.disown)
	}
	if len(v.orphans) > 0 {
		s += fmt.Sprintf("orphan %v; ", v.orphans)
	}
	if v.release != "" {
		s += "release " + v.release + "; "
	}
	if len(v.then) > 0 {
		s += fmt.Sprintf("then %v; ", v.then)
	}
	return s
}

func TestJudge(t *testing.T) {
	const foreground, orphan = metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents
	for _, c := range []struct {
		what    string
		objects []client.Object
		drop    []string
		gone    []string // looked up and not found
		judge   string
		want    string
	}{
		{"no owner", []client.Object{object("a", "")}, nil, nil, "a", ""},
		{"an owner that is there", []client.Object{object("o", ""), object("a", "", "o")}, nil, nil, "a", ""},
		{"an owner never seen is asked for", []client.Object{object("a", "", "o")}, nil, nil, "a", "verify o; "},
		{"an owner that is not there", []client.Object{object("a", "", "o")}, nil, []string{"o"}, "a", "delete Background; "},
		{"an owner that went", []client.Object{object("o", ""), object("a", "", "o")}, []string{"o"}, nil, "a", "delete Background; "},
		{"one of two owners went", []client.Object{object("o", ""), object("p", ""), object("a", "", "o", "p")}, []string{"o"}, nil, "a", "disown [o]; "},
		{"foreground waits for what blocks it", []client.Object{object("o", foreground), object("a", "", "o")}, nil, nil, "o", "then [a]; "},
		{"what blocks goes", []client.Object{object("o", foreground), object("a", "", "o")}, nil, nil, "a", "delete Background; "},
		{"what blocks and has dependents goes in the foreground", []client.Object{object("o", foreground), object("a", "", "o"), object("b", "", "a")}, nil, nil, "a", "delete Foreground; "},
		{"foreground is over", []client.Object{object("o", foreground), object("a", "", "o")}, []string{"a"}, nil, "o", "release foregroundDeletion; "},
		{"a circle is broken once all of it waits", []client.Object{object("a", foreground, "c"), object("b", foreground, "a"), object("c", foreground, "b")}, nil, nil, "a", "release foregroundDeletion; "},
		{"not before", []client.Object{object("a", foreground, "c"), object("b", foreground, "a"), object("c", "", "b")}, nil, nil, "a", ""},
		{"the rest of the circle goes in the foreground", []client.Object{object("a", foreground, "c"), object("b", foreground, "a"), object("c", "", "b")}, nil, nil, "c", "delete Foreground; "},
		{"its own owner", []client.Object{object("a", foreground, "a")}, nil, nil, "a", "release foregroundDeletion; "},
		{"a circle waits for what hangs on it", []client.Object{object("a", foreground, "b"), object("b", foreground, "a"), object("x", "example.com/hold", "a")}, nil, nil, "a", ""},
		{"orphans first", []client.Object{object("o", orphan), object("a", "", "o")}, nil, nil, "o", "orphan [a]; release orphan; "},
		{"already going", []client.Object{object("a", "example.com/hold", "o")}, nil, []string{"o"}, "a", ""},
	} {
		g := newGraph()
		for _, o := range c.objects {
			g.put(configMaps, o)
		}
		for _, uid := range c.gone {
			g.gone[types.UID(uid)] = true
		}
		for _, uid := range c.drop {
			g.drop(types.UID(uid))
		}
		if got := g.judge(types.UID(c.judge)).String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// What an event concerns is looked at again, and nothing stays behind.
func TestGraphForgets(t *testing.T) {
	g := newGraph()
	g.put(configMaps, object("o", ""))
	if look := g.put(configMaps, object("a", "", "o")); !slices.Contains(look, "a") {
		t.Errorf("a new dependent is not looked at: %v", look)
	}
	if look := g.drop("o"); !slices.Equal(look, []types.UID{"a"}) {
		t.Errorf("dropping the owner looks at %v", look)
	}
	g.drop("a")
	if len(g.nodes) != 0 || len(g.gone) != 0 {
		t.Errorf("left: %d nodes, %d gone", len(g.nodes), len(g.gone))
	}
}
