package api

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// version is a served version of a kind: the hub when other is nil.
type version struct {
	gvk   schema.GroupVersionKind
	kind  *kind.Kind
	other *kind.Version
}

func versionOf(k *kind.Kind, v *kind.Version) version {
	if v == nil {
		return version{gvk: k.Hub, kind: k}
	}
	return version{gvk: v.GroupVersionKind, kind: k, other: v}
}

func (v version) isHub() bool { return v.other == nil }

// validate and validateUpdate are the rules for what is written in this
// version.

func (v version) validate() func(client.Object) field.ErrorList {
	if !v.isHub() && v.other.Validate != nil {
		return v.other.Validate
	}
	return v.kind.Validate
}

func (v version) validateUpdate() func(obj, old client.Object) field.ErrorList {
	if !v.isHub() && v.other.ValidateUpdate != nil {
		return v.other.ValidateUpdate
	}
	return v.kind.ValidateUpdate
}

// empty returns an object of this version with apiVersion and kind set.
func (v version) empty() runtime.Object {
	var o runtime.Object
	if v.isHub() {
		o = v.kind.New()
	} else {
		o = v.other.New()
	}
	o.GetObjectKind().SetGroupVersionKind(v.gvk)
	return o
}

func (v version) listKind() schema.GroupVersionKind {
	return v.gvk.GroupVersion().WithKind(v.gvk.Kind + "List")
}

// toHub converts what a client sent. For the hub it is the object itself.
func (v version) toHub(o runtime.Object) (client.Object, error) {
	if v.isHub() {
		c, ok := o.(client.Object)
		if !ok {
			return nil, fmt.Errorf("cannot use %T as %s: it has no metadata", o, v.gvk.Kind)
		}
		c.GetObjectKind().SetGroupVersionKind(v.gvk)
		return c, nil
	}
	c, err := v.other.ToHub(o)
	if err != nil {
		return nil, badRequest("%s in version %q cannot be converted: %v", v.gvk.Kind, v.gvk.GroupVersion(), err)
	}
	c.GetObjectKind().SetGroupVersionKind(v.kind.Hub)
	return c, nil
}

// fromHub converts for a client. For the hub it is the object itself, shared.
func (v version) fromHub(o client.Object) (runtime.Object, error) {
	if v.isHub() {
		return o, nil
	}
	r, err := v.other.FromHub(o)
	if err != nil {
		return nil, fmt.Errorf("cannot convert %s %q to %s: %w", v.kind.Hub.Kind, client.KeyOf(o), v.gvk.GroupVersion(), err)
	}
	r.GetObjectKind().SetGroupVersionKind(v.gvk)
	return r, nil
}

// convertor lets managedFields convert between versions of catalogue kinds.
type convertor struct{ kinds *kind.Catalogue }

// ConvertToVersion implements runtime.ObjectConvertor.
func (c convertor) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk := in.GetObjectKind().GroupVersionKind()
	k, v, ok := c.kinds.ByKind(gvk)
	if !ok {
		return nil, fmt.Errorf("cannot convert %s: not in the catalogue", gvk)
	}
	from := versionOf(k, v)
	if u, ok := in.(runtime.Unstructured); ok {
		typed := from.empty()
		if _, same := typed.(runtime.Unstructured); !same {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.UnstructuredContent(), typed); err != nil {
				return nil, err
			}
			typed.GetObjectKind().SetGroupVersionKind(gvk)
			in = typed
		}
	}
	// Versions of a kind may live in different groups.
	candidates := []schema.GroupVersionKind{gvk, k.Hub}
	for _, o := range k.Versions {
		candidates = append(candidates, o.GroupVersionKind)
	}
	want, ok := target.KindForGroupVersionKinds(candidates)
	if !ok {
		return nil, fmt.Errorf("cannot convert %s to %s: not served", gvk, target.Identifier())
	}
	if want == gvk {
		return in, nil
	}
	hub, err := from.toHub(in)
	if err != nil {
		return nil, err
	}
	k, v, _ = c.kinds.ByKind(want)
	return versionOf(k, v).fromHub(hub)
}

// Convert implements runtime.ObjectConvertor; managedFields does not call it.
func (c convertor) Convert(in, out, _ any) error {
	return fmt.Errorf("cannot convert %T into %T: not supported", in, out)
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (c convertor) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// New implements runtime.ObjectCreater.
func (c convertor) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	k, v, ok := c.kinds.ByKind(gvk)
	if !ok {
		return nil, fmt.Errorf("cannot make a %s: not in the catalogue", gvk)
	}
	return versionOf(k, v).empty(), nil
}

// Default implements runtime.ObjectDefaulter for hub versions; others are
// defaulted when they are converted.
func (c convertor) Default(in runtime.Object) {
	k, v, ok := c.kinds.ByKind(in.GetObjectKind().GroupVersionKind())
	if ok && v == nil && k.Default != nil {
		if o, ok := in.(client.Object); ok {
			k.Default(o)
		}
	}
}
