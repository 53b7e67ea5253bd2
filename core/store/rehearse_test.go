package store

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestRehearseShowsWhatAReadWould(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	gr := schema.GroupResource{Resource: "configmaps"}
	cm := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Finalizers: []string{}, Labels: map[string]string{}},
			Data:       map[string]string{"k": "v"},
		}
	}
	shown, err := s.Rehearse(gr, cm("rehearsed"))
	if err != nil {
		t.Fatal(err)
	}
	if shown.GetFinalizers() != nil || shown.GetLabels() != nil {
		t.Errorf("empty lists are shown: %#v, %#v", shown.GetFinalizers(), shown.GetLabels())
	}
	if rv := shown.GetResourceVersion(); rv != "" {
		t.Errorf("resourceVersion %q of what is not stored", rv)
	}
	if got := shown.(*corev1.ConfigMap).Data["k"]; got != "v" {
		t.Errorf("data is %q", got)
	}
}
