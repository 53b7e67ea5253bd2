package kind

import (
	"time"

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
	// stored (SubjectAccessReview, TokenReview, …). With an empty Resource
	// they travel only as the body of a subresource (Scale, Eviction).
	Virtual bool

	// New and NewList return empty objects of the hub version.
	New     func() Object
	NewList func() runtime.Object

	// Versions are the served versions besides the hub. They may be of
	// another group (extensions/v1beta1 Deployment, events.k8s.io/v1 Event).
	Versions []Version

	// Default fills in what the client left out.
	Default func(Object)
	// Restore fills in what an object does not bring back from storage:
	// the kind of an object inside another one has no place in protobuf.
	Restore func(Object)
	// PrepareCreate drops what clients may not set (status) and starts the
	// generation; PrepareUpdate carries over what updates may not change
	// and decides whether generation goes up. Both run after Default and
	// mutating admission and before validation.
	PrepareCreate func(obj Object)
	PrepareUpdate func(obj, old Object)
	// Validate checks a new object, ValidateUpdate a changed one (it calls
	// Validate itself). Metadata has been checked already.
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	// ValidateName checks metadata.name; nil means a DNS-1123 subdomain.
	ValidateName func(name string, prefix bool) []string
	// AnyFinalizer lets finalizers in that are neither Kubernetes' own nor
	// have a domain.
	AnyFinalizer bool
	// Warnings are sent to the client as Warning headers. WarningsOnUpdate,
	// where set, stands in for it when an object changes.
	Warnings         func(Object) []string
	WarningsOnUpdate func(obj, old Object) []string

	Subresources []Subresource

	// GracePeriod returns how long a deleted object stays with
	// deletionTimestamp set, given what the client asked for (nil: not
	// said), and whether the kind has graceful deletion at all.
	GracePeriod func(obj Object, asked *int64) (seconds int64, graceful bool)
	// OnDelete changes an object whose deletionTimestamp was just set
	// (a Namespace becomes Terminating).
	OnDelete func(Object)
	// Held reports that something besides metadata.finalizers keeps a
	// deleted object from being removed (a Namespace's spec.finalizers).
	Held func(Object) bool
	// CreateOnUpdate lets a PUT create the object. VersionedUpdate refuses a
	// PUT that does not say of which resourceVersion it is.
	CreateOnUpdate, VersionedUpdate bool
	// Untraced objects do not carry the trace of what changed them: nothing
	// acts on them, and they change all the time (Event, Lease).
	Untraced bool
	// OrphanByDefault keeps dependents when the client does not say;
	// OrphanWarning tells it so.
	OrphanByDefault bool
	OrphanWarning   string

	// Fields returns what field selectors may ask for, besides
	// metadata.name and metadata.namespace.
	Fields func(Object) fields.Set
	// Columns of kubectl get, complete and in order: Name and Age are among
	// them where the kind shows them. Without any, the printer shows Name
	// and Created At, as upstream does.
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
	// Validate and ValidateUpdate stand in for the kind's where a version
	// holds what is written in it to rules of its own. They see the hub's
	// objects.
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
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
	// Project makes the body of a GET from the object and Apply carries an
	// updated body into a copy of the object; set where Body is a view of
	// the object (scale). Without them a Body of another kind is answered
	// by a function of the API server.
	Project func(obj Object) (Object, error)
	Apply   func(obj Object, body Object) error
}

// Column is one cell of a Table row.
type Column struct {
	metav1.TableColumnDefinition
	// Cell returns a string, int64 or bool, ready for the table; ages are
	// counted until now.
	Cell func(o Object, now time.Time) any
}

// GroupResource is the name under which clients and the store know the kind.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Hub.Group, Resource: k.Resource}
}
