package resourcequota_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/resourcequota"
	"binnacle.io/core/kind"
)

func TestStories(t *testing.T) {
	controllertest.Run(t, "quota", resourcequota.New(kind.Builtin().Deletable(kind.Namespaced)))
}

// A change of an object brings back the quotas that count it, and no others.
func TestKeys(t *testing.T) {
	quota := func(name string, hard corev1.ResourceName, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}}
		q.Spec.Hard, q.Spec.Scopes = corev1.ResourceList{hard: {}}, scopes
		return q
	}
	s := controllertest.NewState(t, controllertest.Epoch,
		quota("pods", "pods"), quota("cpu", "requests.cpu", corev1.ResourceQuotaScopeNotBestEffort), quota("maps", "count/configmaps"))
	c := resourcequota.New(kind.Builtin().Deletable(kind.Namespaced))
	meta := metav1.ObjectMeta{Namespace: "dev", Name: "x"}
	for _, f := range []struct {
		resource string
		object   client.Object
		want     string
	}{
		{"pods", &corev1.Pod{ObjectMeta: meta}, "dev/pods"}, // best effort
		{"configmaps", &corev1.ConfigMap{ObjectMeta: meta}, "dev/maps"},
		{"secrets", &corev1.Secret{ObjectMeta: meta}, ""},
		{"resourcequotas", quota("x", "pods"), "dev/x"},
		{"pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "x"}}, ""},
	} {
		got := ""
		for _, in := range c.Inputs {
			if in.Resource == (client.Resource{Resource: f.resource}) {
				for _, k := range in.Keys(s, f.object) {
					got += k.String()
				}
			}
		}
		if got != f.want {
			t.Errorf("a change of %s %s concerns %q, want %q", f.resource, client.KeyOf(f.object), got, f.want)
		}
	}
	for _, in := range c.Inputs {
		if in.Resource.Resource == "events" {
			t.Errorf("follows %s", in.Resource)
		}
	}
}
