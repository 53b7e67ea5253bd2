package kind

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/client"
)

// Object is any API object.
type Object = client.Object

// Kind is one kind of object as data: everything the generic pipeline, store
// and discovery need to know about it. Function fields that are nil mean that
// there is nothing to do. Functions never keep or share their arguments.
type Kind struct {
	// Hub is the one version in which objects are held, stored and handled.
	Hub schema.GroupVersionKind
	// Resource is the plural, lower case ("pods"); Singular ("pod").
	Resource, Singular string
	ShortNames         []string
	Categories         []string
	ClusterScoped      bool
	// Prefix is the etcd key below /registry/, upstream's ("pods",
	// "services/specs", "minions"), without slashes at its ends.
	Prefix string
	// Verbs the resource itself answers, in discovery's order. Empty means
	// all: create delete deletecollection get list patch update watch.
	Verbs []string
	// Virtual kinds are answered by a function of the API server and never
	// stored (SubjectAccessReview, TokenReview, …).
	Virtual bool

	// New and NewList return empty objects of the hub version.
	New     func() Object
	NewList func() runtime.Object

	// Versions are the served versions besides the hub, most preferred
	// first; HubPriority places the hub before those with a lower index.
	Versions []Version

	// Default fills in what the client left out.
	Default func(Object)
	// PrepareCreate drops what clients may not set (status) before
	// defaulting; PrepareUpdate carries over what updates may not change
	// and decides whether generation goes up.
	PrepareCreate func(obj Object)
	PrepareUpdate func(obj, old Object)
	// Validate checks a new object, ValidateUpdate a changed one (it calls
	// Validate itself). Metadata has been checked already.
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	// ValidateName checks metadata.name; nil means a DNS-1123 subdomain.
	ValidateName func(name string, prefix bool) []string
	// Warnings are sent to the client as Warning headers.
	Warnings func(Object) []string

	Subresources []Subresource

	// GracePeriod returns how long a deleted object stays with
	// deletionTimestamp set, given what the client asked for (nil: not
	// said), and whether the kind has graceful deletion at all.
	GracePeriod func(obj Object, asked *int64) (seconds int64, graceful bool)
	// OrphanByDefault keeps dependents when the client does not say.
	OrphanByDefault bool

	// Fields returns what field selectors may ask for, besides
	// metadata.name and metadata.namespace.
	Fields func(Object) fields.Set
	// Columns of kubectl get, after Name. Age is added by the printer where
	// no column is called Age.
	Columns []Column
}

// Version is a served version that is not the hub.
type Version struct {
	schema.GroupVersionKind
	New     func() runtime.Object
	NewList func() runtime.Object
	// ToHub and FromHub convert at the edge, defaults of this version
	// included; they must not share memory with their argument.
	ToHub   func(runtime.Object) (Object, error)
	FromHub func(Object) (runtime.Object, error)
	// Retired versions are accepted for writing and reading with this
	// warning and are left out of discovery.
	Retired string
}

// Subresource is one path below an object.
type Subresource struct {
	// Name as in the path: "status", "scale", "binding", "log".
	Name string
	// Body is the kind that travels; empty means the object's own.
	Body  schema.GroupVersionKind
	Verbs []string
	// PrepareUpdate and ValidateUpdate are those of an update through this
	// subresource (only for subresources that carry the object itself).
	PrepareUpdate  func(obj, old Object)
	ValidateUpdate func(obj, old Object) field.ErrorList
}

// Column is one cell of a Table row.
type Column struct {
	metav1.TableColumnDefinition
	// Cell returns a string, integer or time; nil is shown as <none>.
	Cell func(Object) any
}

// GroupResource is the name under which clients and the store know the kind.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Hub.Group, Resource: k.Resource}
}
