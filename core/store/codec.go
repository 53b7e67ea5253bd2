package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// envelope is what upstream puts before a protobuf runtime.Unknown.
const envelope = "k8s\x00"

type protoUnmarshaler interface {
	Reset()
	Unmarshal([]byte) error
}

// encode renders obj as stored. obj must not carry a resourceVersion.
func encode(k *kind.Kind, obj client.Object) ([]byte, error) {
	if m, ok := obj.(runtime.ProtobufMarshaller); ok {
		return encodeProtobuf(k.Hub, m)
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		if gvk := u.GroupVersionKind(); gvk != k.Hub {
			return nil, fmt.Errorf("cannot store %s as %s", gvk, k.Hub)
		}
		return u.MarshalJSON()
	}
	obj = obj.DeepCopyObject().(client.Object)
	obj.GetObjectKind().SetGroupVersionKind(k.Hub)
	return json.Marshal(obj)
}

func encodeProtobuf(gvk schema.GroupVersionKind, m runtime.ProtobufMarshaller) ([]byte, error) {
	unk := runtime.Unknown{TypeMeta: runtime.TypeMeta{Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String()}}
	size := uint64(m.Size())
	// A tag byte and a varint of at most 8 bytes go before the raw object.
	data := make([]byte, uint64(len(envelope))+uint64(unk.Size())+1+8+size)
	n, err := unk.NestedMarshalTo(data[len(envelope):], m, size)
	if err != nil {
		return nil, err
	}
	copy(data, envelope)
	return data[:len(envelope)+n], nil
}

// decode makes the object stored in value, of the hub version whatever served
// version was stored, with resourceVersion set to revision.
func decode(k *kind.Kind, value []byte, revision int64) (client.Object, error) {
	var obj client.Object
	var err error
	switch {
	case bytes.HasPrefix(value, []byte(envelope)):
		obj, err = decodeProtobuf(k, value[len(envelope):])
	case len(value) > 0 && value[0] == '{':
		obj, err = decodeJSON(k, value)
	default:
		return nil, fmt.Errorf("cannot decode value of %d bytes: neither a protobuf envelope nor JSON", len(value))
	}
	if err != nil {
		return nil, err
	}
	if k.Restore != nil {
		k.Restore(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(k.Hub)
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return obj, nil
}

func decodeProtobuf(k *kind.Kind, data []byte) (client.Object, error) {
	var unk runtime.Unknown
	if err := unk.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("cannot decode envelope: %w", err)
	}
	gvk := unk.GroupVersionKind()
	return decodeAs(k, gvk, func(into runtime.Object) error {
		m, ok := into.(protoUnmarshaler)
		if !ok {
			return fmt.Errorf("%s has no protobuf form", gvk)
		}
		m.Reset()
		return m.Unmarshal(unk.Raw)
	})
}

func decodeJSON(k *kind.Kind, data []byte) (client.Object, error) {
	var tm runtime.TypeMeta
	if err := json.Unmarshal(data, &tm); err != nil {
		return nil, fmt.Errorf("cannot decode JSON: %w", err)
	}
	gvk := schema.FromAPIVersionAndKind(tm.APIVersion, tm.Kind)
	return decodeAs(k, gvk, func(into runtime.Object) error {
		if u, ok := into.(*unstructured.Unstructured); ok {
			return u.UnmarshalJSON(data)
		}
		return json.Unmarshal(data, into)
	})
}

func decodeAs(k *kind.Kind, gvk schema.GroupVersionKind, fill func(runtime.Object) error) (client.Object, error) {
	if gvk == k.Hub {
		obj := k.New()
		if err := fill(obj); err != nil {
			return nil, fmt.Errorf("cannot decode %s: %w", gvk, err)
		}
		return obj, nil
	}
	for _, v := range k.Versions {
		if gvk != v.GroupVersionKind {
			continue
		}
		other := v.New()
		if err := fill(other); err != nil {
			return nil, fmt.Errorf("cannot decode %s: %w", gvk, err)
		}
		obj, err := v.ToHub(other)
		if err != nil {
			return nil, fmt.Errorf("cannot convert %s to %s: %w", gvk, k.Hub, err)
		}
		return obj, nil
	}
	return nil, fmt.Errorf("cannot decode %s as %s: not a version of it", gvk, k.Hub)
}
