package kind

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// fixes are what a conversion needs beyond fields of the same name.
type fixes[P, H any] struct {
	// defaults are those of the old version itself, where they differ from
	// the hub's; they see a copy.
	defaults func(P)
	// toHub and fromHub carry over what JSON does not.
	toHub   func(P, H)
	fromHub func(H, P)
}

// retiredVersion is an old version whose fields are, but for fixes, those of
// the hub: it converts through JSON.
func retiredVersion[T, L, H any, PT interface {
	*T
	Object
}, PL interface {
	*L
	runtime.Object
}, PH interface {
	*H
	Object
}](gv, hub schema.GroupVersion, f fixes[PT, PH]) Version {
	v := typedVersion[T, L, PH, PT, PL](gv,
		func(in PT) (PH, error) {
			in = in.DeepCopyObject().(PT)
			if f.defaults != nil {
				f.defaults(in)
			}
			out := PH(new(H))
			if err := throughJSON(in, out); err != nil {
				return nil, err
			}
			out.GetObjectKind().SetGroupVersionKind(hub.WithKind(kindName[H]()))
			if f.toHub != nil {
				f.toHub(in, out)
			}
			return out, nil
		},
		func(in PH) (PT, error) {
			out := PT(new(T))
			in = in.DeepCopyObject().(PH)
			if err := throughJSON(in, out); err != nil {
				return nil, err
			}
			out.GetObjectKind().SetGroupVersionKind(gv.WithKind(kindName[T]()))
			if f.fromHub != nil {
				f.fromHub(in, out)
			}
			return out, nil
		})
	v.Retired = retirement(v.GroupVersionKind, PT(new(T)))
	return v
}

func throughJSON(in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("cannot convert %T to %T: %w", in, out, err)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("cannot convert %T to %T: %w", in, out, err)
	}
	return nil
}

// retirement is upstream's warning: when the version was deprecated, when it
// went away and what took its place, as its Go type records.
func retirement(gvk schema.GroupVersionKind, obj any) string {
	text := fmt.Sprintf("%s %s", gvk.GroupVersion(), gvk.Kind)
	if d, ok := obj.(interface{ APILifecycleDeprecated() (major, minor int) }); ok {
		major, minor := d.APILifecycleDeprecated()
		text += fmt.Sprintf(" is deprecated in v%d.%d+", major, minor)
	} else {
		text += " is deprecated"
	}
	if r, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) }); ok {
		major, minor := r.APILifecycleRemoved()
		text += fmt.Sprintf(", unavailable in v%d.%d+", major, minor)
	}
	if r, ok := obj.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		if gvk := r.APILifecycleReplacement(); !gvk.Empty() {
			text += fmt.Sprintf("; use %s %s", gvk.GroupVersion(), gvk.Kind)
		}
	}
	return text
}
