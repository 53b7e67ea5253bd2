package api

import (
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// reach says which parts of an object a merge patch can change. Nil means all
// of it. The others need not become JSON and objects again.
type reach struct {
	fields map[string]bool // top-level fields, by JSON name
	owners bool            // metadata.managedFields
}

// reachOf looks at a merge patch or a strategic one, whose directives reach
// beyond what they name.
func reachOf(patch map[string]any) *reach {
	r := &reach{fields: map[string]bool{}}
	for key, v := range patch {
		if strings.HasPrefix(key, "$") {
			return nil
		}
		r.fields[key] = true
		if key != "metadata" {
			continue
		}
		meta, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		for key := range meta {
			r.owners = r.owners || key == "managedFields" || strings.HasPrefix(key, "$")
		}
	}
	return r
}

// split returns a shallow copy of o with what the patch can reach and what
// identifies the object, and a deep one with the rest. It reports false where
// there is no rest.
func (r *reach) split(o runtime.Object) (part, rest runtime.Object, ok bool) {
	if r == nil {
		return nil, nil, false
	}
	if _, untyped := o.(runtime.Unstructured); untyped {
		return nil, nil, false
	}
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, nil, false
	}
	near, far := shallow(v), shallow(v)
	for i, where := range r.places(v.Elem().Type()) {
		n, f := near.Elem().Field(i), far.Elem().Field(i)
		switch where {
		case within:
			f.SetZero()
		case beyond:
			ok = ok || !n.IsZero()
			n.SetZero()
		case metadata:
			m, rest := n.Addr().Interface().(*metav1.ObjectMeta), f.Addr().Interface().(*metav1.ObjectMeta)
			*rest = metav1.ObjectMeta{}
			if !r.owners {
				ok = ok || len(m.ManagedFields) > 0
				rest.ManagedFields, m.ManagedFields = m.ManagedFields, nil
			}
		}
	}
	if !ok {
		return nil, nil, false
	}
	return near.Interface().(runtime.Object), far.Interface().(runtime.Object).DeepCopyObject(), true
}

// join puts rest back into a patched part.
func (r *reach) join(part, rest runtime.Object) {
	near, far := reflect.ValueOf(part).Elem(), reflect.ValueOf(rest).Elem()
	for i, where := range r.places(near.Type()) {
		switch where {
		case beyond:
			near.Field(i).Set(far.Field(i))
		case metadata:
			if !r.owners {
				m, rest := near.Field(i).Addr().Interface().(*metav1.ObjectMeta), far.Field(i).Addr().Interface().(*metav1.ObjectMeta)
				m.ManagedFields = rest.ManagedFields
			}
		}
	}
}

type place int

const (
	within place = iota
	beyond
	metadata
)

// places says of each field of a kind's struct where it is.
func (r *reach) places(t reflect.Type) []place {
	out := make([]place, t.NumField())
	for i := range out {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[metav1.ObjectMeta]():
			out[i] = metadata
		case name != "" && f.IsExported() && !r.fields[name]:
			out[i] = beyond
		}
	}
	return out
}
