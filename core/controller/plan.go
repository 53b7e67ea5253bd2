package controller

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

func newOf[T client.Object]() T { return reflect.New(reflect.TypeFor[T]().Elem()).Interface().(T) }

// Plan is what a reconcile function wants done, in order. Neighbouring actions
// of one kind on one resource are carried out at once; the first error ends
// the plan and retries the key.
type Plan struct {
	Actions []Action
	// Failed, where set, says what to write about the action whose error
	// ended the plan.
	Failed func(Action, error) []Action
	// Report, where set, is told once how carrying out the plan went. It is
	// for metrics: what is counted has happened.
	Report func(Outcome)
	// After asks for another look at the key after this long, whether or
	// not anything changes. 0 means not.
	After time.Duration
}

// Outcome is how carrying out a plan went.
type Outcome struct {
	// Took is the time from the start of the reconciliation.
	Took time.Duration
	// Done are the actions carried out, in no particular order.
	Done []Action
	Err  error
}

// Add appends actions.
func (p *Plan) Add(a ...Action) { p.Actions = append(p.Actions, a...) }

// Again makes sure that the key is looked at again within d.
func (p *Plan) Again(d time.Duration) {
	if d > 0 && (p.After == 0 || d < p.After) {
		p.After = d
	}
}

// Op is what an Action does.
type Op string

// The operations of an Action.
const (
	OpCreate Op = "create"
	OpUpdate Op = "update"
	OpStatus Op = "update-status"
	OpPatch  Op = "patch"
	OpDelete Op = "delete"
	OpEvent  Op = "event"
)

// Action is one write. Make one with Create, Update, Status, Patch, Delete or
// Event.
type Action struct {
	Op Op
	// Object is what is written, or for delete, patch and event the object
	// as read.
	Object client.Object
	// Sub is the subresource for updates and patches.
	Sub string
	// Patch of OpPatch.
	PatchType types.PatchType
	Body      []byte
	// Propagation of OpDelete; empty means the kind's default.
	Propagation metav1.DeletionPropagation
	// Owner, where set, is told by an event how a create or delete went.
	Owner client.Object
	// Of OpEvent.
	EventType, Reason, Message string
}

// Create stores a new object.
func Create(o client.Object) Action { return Action{Op: OpCreate, Object: o} }

// CreateFor stores a new object and tells about it on owner: SuccessfulCreate
// or FailedCreate, as upstream's workload controllers do.
func CreateFor(owner, o client.Object) Action { return Action{Op: OpCreate, Object: o, Owner: owner} }

// DeleteFor deletes and tells about it on owner: SuccessfulDelete or FailedDelete.
func DeleteFor(owner, o client.Object) Action { return Action{Op: OpDelete, Object: o, Owner: owner} }

// Update replaces an object, which must carry the resourceVersion it was read at.
func Update(o client.Object) Action { return Action{Op: OpUpdate, Object: o} }

// Status replaces an object's status.
func Status(o client.Object) Action { return Action{Op: OpStatus, Object: o, Sub: "status"} }

// Sub replaces an object through the named subresource.
func Sub(o client.Object, sub string) Action { return Action{Op: OpUpdate, Object: o, Sub: sub} }

// Patch changes an object by a patch.
func Patch(o client.Object, sub string, pt types.PatchType, body []byte) Action {
	return Action{Op: OpPatch, Object: o, Sub: sub, PatchType: pt, Body: body}
}

// PatchOwners replaces the owner references of exactly the object as it was
// read, to adopt or release it.
func PatchOwners(o client.Object, owners []metav1.OwnerReference) Action {
	if owners == nil {
		owners = []metav1.OwnerReference{}
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion(), "ownerReferences": owners,
	}})
	if err != nil {
		panic(err) // of plain strings and booleans
	}
	return Patch(o, "", types.MergePatchType, body)
}

// Delete deletes exactly this object: the UID must still be the same.
func Delete(o client.Object) Action { return Action{Op: OpDelete, Object: o} }

// DeleteWith deletes with a propagation policy.
func DeleteWith(o client.Object, p metav1.DeletionPropagation) Action {
	return Action{Op: OpDelete, Object: o, Propagation: p}
}

// Event tells people about an object.
func Event(about client.Object, eventType, reason, format string, args ...any) Action {
	return Action{Op: OpEvent, Object: about, EventType: eventType, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// String is the form tests compare: one action a line.
func (p Plan) String() string {
	var b strings.Builder
	for _, a := range p.Actions {
		fmt.Fprintln(&b, a)
	}
	if p.After > 0 {
		fmt.Fprintf(&b, "again after %v\n", p.After)
	}
	return b.String()
}

// String describes the action in one line.
func (a Action) String() string {
	kind := reflect.TypeOf(a.Object).Elem().Name()
	name := client.KeyOf(a.Object).String()
	if a.Object.GetName() == "" {
		name = client.Key{Namespace: a.Object.GetNamespace(), Name: a.Object.GetGenerateName() + "*"}.String()
	}
	switch {
	case a.Op == OpEvent:
		return fmt.Sprintf("event %s %s %s %s: %s", kind, name, a.EventType, a.Reason, a.Message)
	case a.Op == OpPatch:
		return fmt.Sprintf("patch %s %s %s %s", kind, name, a.Sub, a.Body)
	case a.Op == OpDelete && a.Propagation != "":
		return fmt.Sprintf("delete %s %s %s", kind, name, a.Propagation)
	case a.Sub != "" && a.Op == OpUpdate:
		return fmt.Sprintf("update %s %s %s", kind, name, a.Sub)
	}
	return fmt.Sprintf("%s %s %s", a.Op, kind, name)
}
