package events

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// objectKinds names the kind of a typed object, which in process carries no
// TypeMeta.
func objectKinds(obj runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	return scheme.Scheme.ObjectKinds(obj)
}
