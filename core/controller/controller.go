package controller

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
)

// Controller declares one control loop.
type Controller struct {
	// Name is the queue's and the metrics' name.
	Name string
	// Account is the service account in kube-system as which it writes, or a
	// user whose name begins with "system:"; empty means Name with
	// "-controller" appended.
	Account string
	// Inputs are what it reads. Changes of an input queue keys.
	Inputs []Input
	// Writes are its outputs: "pods", "deployments.apps/status". Each
	// output of all controllers has one writer.
	Writes []string
	// Workers reconcile different keys at a time; 0 means 2.
	Workers int
	// Reconcile decides what to do about key. It must not change what State
	// returns. ctx is for tracing; there is no I/O to cancel.
	Reconcile func(ctx context.Context, s State, key client.Key) (Plan, error)
}

// Input is a resource that a controller follows.
type Input struct {
	Resource client.Resource
	Read     client.ReadOptions
	// Keys names the work that a change of obj concerns. It is called with
	// the state before and after a change, so that work is found whose
	// object no longer refers to it.
	Keys func(s State, obj client.Object) []client.Key
}

// Self queues the changed object's own key.
func Self(_ State, obj client.Object) []client.Key { return []client.Key{client.KeyOf(obj)} }

// OwnerOf queues the controlling owner when it is of the given kind.
func OwnerOf(kind string) func(State, client.Object) []client.Key {
	return func(_ State, obj client.Object) []client.Key {
		if o := metav1.GetControllerOf(obj); o != nil && o.Kind == kind {
			return []client.Key{{Namespace: obj.GetNamespace(), Name: o.Name}}
		}
		return nil
	}
}

// State is what a reconcile function sees of the cluster. Objects are shared
// and immutable.
type State interface {
	// Get returns an object, or false when there is none.
	Get(r client.Resource, key client.Key) (client.Object, bool)
	// List returns the objects of a namespace; "" means all.
	List(r client.Resource, namespace string) []client.Object
	// ResourceOf names the resource of an object's Go type.
	ResourceOf(obj runtime.Object) (client.Resource, error)
	// Now is the time of this reconciliation.
	Now() time.Time
}

// Get reads an object of type T from s.
func Get[T client.Object](s State, namespace, name string) (T, bool) {
	var none T
	o, ok := s.Get(resource[T](s), client.Key{Namespace: namespace, Name: name})
	if !ok {
		return none, false
	}
	t, ok := o.(T)
	return t, ok
}

// List reads the objects of type T in a namespace ("" for all) from s.
func List[T client.Object](s State, namespace string) []T {
	objs := s.List(resource[T](s), namespace)
	out := make([]T, 0, len(objs))
	for _, o := range objs {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// Owned reads the objects of type T in the owner's namespace that it controls.
func Owned[T client.Object](s State, owner client.Object) []T {
	var out []T
	for _, o := range List[T](s, owner.GetNamespace()) {
		if metav1.IsControlledBy(o, owner) {
			out = append(out, o)
		}
	}
	return out
}

func resource[T client.Object](s State) client.Resource {
	r, err := s.ResourceOf(newOf[T]())
	if err != nil {
		panic(fmt.Sprintf("controller: no resource for %T: %v", newOf[T](), err)) // a kind missing from the catalogue
	}
	return r
}
