package client

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Object is any API object: a typed built-in or an unstructured custom one.
type Object interface {
	metav1.Object
	runtime.Object
}

// Resource names a kind by group and plural, version left out: objects travel
// as the kind's hub version. Pods are {Group: "", Resource: "pods"}.
type Resource = schema.GroupResource

// Key names one object of a resource. Namespace is empty for cluster-scoped
// kinds.
type Key struct {
	Namespace, Name string
}

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// KeyOf returns the key of an object.
func KeyOf(o metav1.Object) Key { return Key{Namespace: o.GetNamespace(), Name: o.GetName()} }

// ReadOptions narrow and qualify reads.
type ReadOptions struct {
	// Namespace restricts a list or watch; empty means all namespaces.
	Namespace string
	// Labels and Fields select; nil selects everything.
	Labels labels.Selector
	Fields fields.Selector
	// FromCache answers from local state without asking etcd how recent it
	// is (resourceVersion=0).
	FromCache bool
}

// List is a consistent result set.
type List struct {
	// Revision is the resourceVersion of the whole: watch from here.
	Revision string
	Items    []Object
}

// EventType says what happened to an object.
type EventType string

// The event types of a Watch. Bookmark carries no object, only a revision.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
	Bookmark EventType = "BOOKMARK"
)

// Event is one change. For Deleted, Object is the last state.
type Event struct {
	Type     EventType
	Object   Object
	Revision string
}

// Watch is a cursor on the changes of a resource.
type Watch interface {
	// Next waits for and returns the next event. It ends with ctx's error,
	// with an apierrors IsResourceExpired/IsGone error when the cursor fell
	// too far behind (list and watch anew), or io.EOF after Close.
	Next(ctx context.Context) (Event, error)
	// Close releases the cursor. It is safe twice and while Next waits.
	Close()
}

// WriteOptions qualify writes.
type WriteOptions struct {
	// Subresource is "status", "scale", "binding", "eviction", "token", …
	// or empty for the object itself.
	Subresource string
	// FieldManager is recorded in managedFields; empty means the client's
	// own name.
	FieldManager string
	// Force takes over fields from other managers in an apply patch.
	Force bool
	// DryRun goes through everything but the store.
	DryRun bool
}

// DeleteOptions qualify deletion.
type DeleteOptions struct {
	// UID and Revision, when set, must match the stored object.
	UID      types.UID
	Revision string
	// GracePeriodSeconds nil means the kind's default.
	GracePeriodSeconds *int64
	// Propagation empty means the kind's default.
	Propagation metav1.DeletionPropagation
}

// Client is the whole of the API for one identity.
type Client interface {
	Get(ctx context.Context, r Resource, key Key, opts ReadOptions) (Object, error)
	List(ctx context.Context, r Resource, opts ReadOptions) (List, error)
	// Watch starts after revision from, as List returned it. An empty from
	// sends the present state as Added events first, then a Bookmark.
	Watch(ctx context.Context, r Resource, from string, opts ReadOptions) (Watch, error)
	// Create stores obj. With a Subresource it posts obj to that
	// subresource of the object named name (e.g. a Binding of a pod) and
	// returns what the subresource answers.
	Create(ctx context.Context, r Resource, key Key, obj Object, opts WriteOptions) (Object, error)
	// Update replaces the object. A resourceVersion in obj must match the
	// stored one, else it is a Conflict; without one the last write wins.
	Update(ctx context.Context, r Resource, obj Object, opts WriteOptions) (Object, error)
	// Patch changes the object as body says.
	Patch(ctx context.Context, r Resource, key Key, pt types.PatchType, body []byte, opts WriteOptions) (Object, error)
	Delete(ctx context.Context, r Resource, key Key, opts DeleteOptions) error
	// As returns a client that acts as the given user name and groups. Only
	// in-process clients of privileged components may do this.
	As(user string, groups ...string) Client
	// ResourceOf returns the resource under which objects of obj's Go type
	// (or, for unstructured, of its GVK) are stored.
	ResourceOf(obj runtime.Object) (Resource, error)
}
