package kind

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// kindName is the name of an API type.
func kindName[T any]() string { return reflect.TypeFor[T]().Name() }

// define makes a namespaced kind with the names that follow from its Go type.
func define[T, L any, PT interface {
	*T
	Object
}, PL interface {
	*L
	runtime.Object
}](gv schema.GroupVersion, resource string, short ...string) *Kind {
	name := kindName[T]()
	return &Kind{
		Hub:        gv.WithKind(name),
		Resource:   resource,
		Singular:   strings.ToLower(name),
		ShortNames: short,
		Prefix:     resource,
		New:        func() Object { return PT(new(T)) },
		NewList:    func() runtime.Object { return PL(new(L)) },
	}
}

// virtual makes a kind that is answered by a function: only created, cluster
// scoped, without a list type of its own.
func virtual[T any, PT interface {
	*T
	Object
}](gv schema.GroupVersion, resource string) *Kind {
	name := kindName[T]()
	return &Kind{
		Hub:           gv.WithKind(name),
		Resource:      resource,
		Singular:      strings.ToLower(name),
		ClusterScoped: true,
		Virtual:       true,
		Verbs:         []string{"create"},
		New:           func() Object { return PT(new(T)) },
	}
}

// inCluster makes the kind cluster-scoped.
func (k *Kind) inCluster() *Kind {
	k.ClusterScoped = true
	return k
}

// inAll puts the kind into what "kubectl get all" asks for.
func (k *Kind) inAll() *Kind {
	k.Categories = append(k.Categories, "all")
	return k
}

// do1 … check2 give typed functions the shape that Kind wants. A kind's
// functions are only ever called with objects of its hub type.

func do1[T Object](f func(T)) func(Object) {
	return func(o Object) { f(o.(T)) }
}

func do2[T Object](f func(obj, old T)) func(Object, Object) {
	return func(obj, old Object) { f(obj.(T), old.(T)) }
}

func check1[T Object](f func(T) field.ErrorList) func(Object) field.ErrorList {
	return func(o Object) field.ErrorList { return f(o.(T)) }
}

func check2[T Object](f func(obj, old T) field.ErrorList) func(Object, Object) field.ErrorList {
	return func(obj, old Object) field.ErrorList { return f(obj.(T), old.(T)) }
}

func warn1[T Object](f func(T) []string) func(Object) []string {
	return func(o Object) []string { return f(o.(T)) }
}

func select1[T Object](f func(T) fields.Set) func(Object) fields.Set {
	return func(o Object) fields.Set { return f(o.(T)) }
}

// Verbs of subresources, in discovery's order.

func readWrite() []string { return []string{"get", "patch", "update"} }

func proxyVerbs() []string { return []string{"create", "delete", "get", "patch", "update"} }

// status is the subresource through which controllers report.
func status[T Object](prepare func(obj, old T), validate func(obj, old T) field.ErrorList) Subresource {
	s := Subresource{Name: "status", Verbs: readWrite(), PrepareUpdate: do2(prepare)}
	if validate != nil {
		s.ValidateUpdate = check2(validate)
	}
	return s
}
