package api

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"binnacle.io/core/client"
)

// trusting does not check that a Go object has the fields of its schema: the
// schema was made from its type, and the check walks the whole object. What a
// client applies comes as a map and is checked.
type trusting struct {
	managedfields.TypeConverter
	models sync.Map // schema.GroupVersionKind → typed.ParseableType
}

// ObjectToTyped implements managedfields.TypeConverter.
func (c *trusting) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if _, untyped := o.(runtime.Unstructured); untyped {
		return c.TypeConverter.ObjectToTyped(o, opts...)
	}
	gvk := o.GetObjectKind().GroupVersionKind()
	known, ok := c.models.Load(gvk)
	if !ok {
		tv, err := c.TypeConverter.ObjectToTyped(o, opts...)
		if err == nil {
			c.models.Store(gvk, typed.ParseableType{Schema: tv.Schema(), TypeRef: tv.TypeRef()})
		}
		return tv, err
	}
	v, err := value.NewValueReflect(o)
	if err != nil {
		return nil, err
	}
	model := known.(typed.ParseableType)
	return typed.AsTypedUnvalidated(v, model.Schema, model.TypeRef), nil
}

// difference is an update reduced to what can concern owners.
type difference struct {
	// live and next are shallow copies that lack most of what is equal in
	// both: that changes no owner, and to find it equal in the copies costs
	// little.
	live, next client.Object
	// same holds the top-level fields without a difference, as field sets
	// call them ("f:spec").
	same map[string]bool
}

// differing reports false where owners depend on more than the difference:
// what other API versions show of a field may depend on other fields.
func differing(live, next client.Object, gv schema.GroupVersion) (d difference, ok bool) {
	if live.GetUID() == "" || !ownedIn(live.GetManagedFields(), gv) || !ownedIn(next.GetManagedFields(), gv) {
		return d, false
	}
	a, b := reflect.ValueOf(live), reflect.ValueOf(next)
	if a.Type() != b.Type() || a.Elem().Kind() != reflect.Struct {
		return d, false
	}
	if _, untyped := live.(runtime.Unstructured); untyped {
		return d, false
	}
	mine, theirs := shallow(a), shallow(b)
	d.same = map[string]bool{}
	t := mine.Elem().Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		from, to := mine.Elem().Field(i), theirs.Elem().Field(i)
		switch {
		case f.Name == "TypeMeta":
		case name == "":
			return d, false
		case f.Type == reflect.TypeFor[metav1.ObjectMeta]():
			m, n := from.Addr().Interface().(*metav1.ObjectMeta), to.Addr().Interface().(*metav1.ObjectMeta)
			dropSame(&m.Labels, &n.Labels)
			dropSame(&m.Annotations, &n.Annotations)
			dropSame(&m.OwnerReferences, &n.OwnerReferences)
			d.same["f:"+name] = reflect.DeepEqual(ownable(*m), ownable(*n))
		default:
			d.same["f:"+name] = dropEqual(from, to, f.Tag)
		}
	}
	d.live, d.next = mine.Interface().(client.Object), theirs.Interface().(client.Object)
	return d, true
}

// ownable leaves out what nobody owns.
func ownable(m metav1.ObjectMeta) metav1.ObjectMeta {
	m.Name, m.Namespace, m.UID, m.SelfLink = "", "", "", ""
	m.ResourceVersion, m.Generation, m.ManagedFields = "", 0, nil
	m.CreationTimestamp = metav1.Time{}
	return m
}

// maxManagers is how many entries of updates apimachinery keeps; with more,
// all of them count.
const maxManagers = 10

// setAside takes the entries that the update cannot change out of the copies,
// so that their field sets need not be read and written, and returns them.
func (d difference) setAside(manager, sub string) []metav1.ManagedFieldsEntry {
	entries := d.live.GetManagedFields()
	if own := d.next.GetManagedFields(); own != nil && sub == "" {
		if len(own) == 0 || resetsOwners(own) {
			return nil
		}
		entries = own
	}
	if len(entries) >= maxManagers {
		return nil
	}
	manager = cmp.Or(manager, "unknown") // as apimachinery has it
	var aside, rest []metav1.ManagedFieldsEntry
	for _, e := range entries {
		mine := e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == sub
		if !mine && e.FieldsV1 != nil && isWithin(e.FieldsV1.Raw, d.same) {
			aside = append(aside, e)
		} else {
			rest = append(rest, e)
		}
	}
	if len(aside) == 0 {
		return nil
	}
	for _, o := range []client.Object{d.live, d.next} {
		o.SetManagedFields(rest)
		// Without entries, updates are followed from the creation only, which
		// is told by this.
		o.SetUID("")
	}
	return aside
}

// isWithin reports whether a field set is about top-level fields of names only.
func isWithin(set []byte, names map[string]bool) bool {
	depth, start, key := 0, -1, ""
	for i := 0; i < len(set); i++ {
		switch c := set[i]; {
		case start >= 0 && c == '\\':
			i++
		case start >= 0 && c == '"':
			key, start = string(set[start:i]), -1
		case start >= 0:
		case c == '"':
			start = i + 1
		case c == ':' && depth == 1 && !names[key]:
			return false
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return depth == 0 && start < 0
}

// byManager is apimachinery's order of entries.
func byManager(a, b metav1.ManagedFieldsEntry) int {
	seconds := func(t *metav1.Time) int64 {
		if t == nil {
			return 0
		}
		return t.Unix()
	}
	return cmp.Or(
		cmp.Compare(a.Operation, b.Operation),
		cmp.Compare(seconds(a.Time), seconds(b.Time)),
		cmp.Compare(a.Manager, b.Manager),
		cmp.Compare(a.APIVersion, b.APIVersion),
		cmp.Compare(a.Subresource, b.Subresource),
	)
}

func ownedIn(entries []metav1.ManagedFieldsEntry, gv schema.GroupVersion) bool {
	for i := range entries {
		if entries[i].APIVersion != gv.String() {
			return false
		}
	}
	return true
}

func shallow(o reflect.Value) reflect.Value {
	c := reflect.New(o.Type().Elem())
	c.Elem().Set(o.Elem())
	return c
}

func dropSame[T any](a, b *T) {
	if reflect.DeepEqual(a, b) {
		var none T
		*a, *b = none, none
	}
}

// dropEqual makes zero what is equal in two fields or in the fields in them, and
// reports whether all was. Structs stay what they are: present or not.
func dropEqual(a, b reflect.Value, tag reflect.StructTag) bool {
	if reflect.DeepEqual(a.Addr().Interface(), b.Addr().Interface()) {
		a.SetZero()
		b.SetZero()
		return true
	}
	if a.Kind() != reflect.Struct || strings.Contains(tag.Get("json"), "omitzero") {
		return false
	}
	if _, scalar := a.Addr().Interface().(json.Marshaler); scalar {
		return false
	}
	t := a.Type()
	for i := range t.NumField() {
		if t.Field(i).IsExported() {
			dropEqual(a.Field(i), b.Field(i), t.Field(i).Tag)
		}
	}
	return false
}

func sameEntry(a, b metav1.ManagedFieldsEntry) bool { return reflect.DeepEqual(a, b) }
