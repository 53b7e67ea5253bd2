package admission

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// Operation is what a request does to its object, in the words of
// AdmissionReview.
type Operation string

// The operations that pass admission.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes describe one attempt at one write. They are used by one goroutine
// and are not used again when the write is tried again.
type Attributes struct {
	Op       Operation
	Resource client.Resource
	// Kind is that of Object, or of the resource when there is none.
	Kind schema.GroupVersionKind
	// Subresource is empty for the object itself.
	Subresource string
	// Key has an empty name while generateName has not been resolved.
	Key client.Key
	// Object is what is about to be stored, or the body posted to a
	// subresource (a Binding, an Eviction); mutators change it in place. It
	// is nil for Delete.
	Object client.Object
	// Old is the stored object for Update and Delete, else nil. It is shared
	// and never changed.
	Old client.Object
	// User is who asks.
	User *auth.User
	// DryRun writes are checked as others are and leave no trace: no plugin
	// may keep a reservation for them past OnDone.
	DryRun bool

	warnings []string
	done     []func(committed bool)
	finished bool
}

// Is reports whether the request is for the resource itself, not for one of its
// subresources.
func (a *Attributes) Is(r client.Resource) bool { return a.Resource == r && a.Subresource == "" }

// Warn sends text to the client as a Warning header.
func (a *Attributes) Warn(text string) {
	if !slices.Contains(a.warnings, text) {
		a.warnings = append(a.warnings, text)
	}
}

// Warnings returns what plugins had to warn about, in order.
func (a *Attributes) Warnings() []string { return a.warnings }

// OnDone has f called when it is certain whether the write has been stored.
func (a *Attributes) OnDone(f func(committed bool)) { a.done = append(a.done, f) }

// Done is called by the pipeline exactly once for every Attributes, after the
// write has been stored (committed) or has been given up for any reason,
// refusal by a plugin and dry run included. Calls after the first do nothing.
func (a *Attributes) Done(committed bool) {
	if a.finished {
		return
	}
	a.finished = true
	for _, f := range slices.Backward(a.done) {
		f(committed && !a.DryRun)
	}
}

// Plugin is one policy. It is a Mutator, a Validator or both.
type Plugin interface {
	// Name is upstream's name of the plugin where there is one.
	Name() string
	// Handles reports whether the plugin wants to see such requests.
	Handles(op Operation, r client.Resource, subresource string) bool
}

// Mutator changes objects on their way in, and may refuse them.
type Mutator interface {
	Plugin
	Admit(ctx context.Context, a *Attributes) error
}

// Validator refuses objects. It does not change them.
type Validator interface {
	Plugin
	Validate(ctx context.Context, a *Attributes) error
}
