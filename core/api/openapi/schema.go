package openapi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// definitions collects the schemas of types and of all they refer to.
type definitions struct {
	schemas spec.Definitions
	// lists finds the markers of a list field: by model name and JSON name.
	lists func(model, field string) (smd.List, bool)
}

// named types describe themselves.
type (
	modelNamed interface{ OpenAPIModelName() string }
	typed      interface{ OpenAPISchemaType() []string }
	formatted  interface{ OpenAPISchemaFormat() string }
	documented interface{ SwaggerDoc() map[string]string }
)

// listMarkers reads the apply schema's list types through a converter, which
// needs some object to hand its schema out.
func listMarkers(c managedfields.TypeConverter, any runtime.Object) (func(model, field string) (smd.List, bool), error) {
	tv, err := c.ObjectToTyped(any)
	if err != nil {
		return nil, fmt.Errorf("cannot read the apply schema: %w", err)
	}
	s := tv.Schema()
	return func(model, field string) (smd.List, bool) {
		def, ok := s.FindNamedType(model)
		if !ok || def.Map == nil {
			return smd.List{}, false
		}
		f, ok := def.Map.FindField(field)
		if !ok || f.Type.Inlined.List == nil {
			return smd.List{}, false
		}
		return *f.Type.Inlined.List, true
	}, nil
}

// of returns a reference to the type's definition, which it adds, or the
// schema itself for types without a name.
func (d *definitions) of(t reflect.Type) spec.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	zero := reflect.New(t).Interface()
	if m, ok := zero.(modelNamed); ok {
		name := m.OpenAPIModelName()
		if _, done := d.schemas[name]; !done {
			d.schemas[name] = spec.Schema{} // breaks cycles
			d.schemas[name] = d.define(t, name, zero)
		}
		return *spec.RefSchema("#/definitions/" + name)
	}
	return d.define(t, "", zero)
}

func (d *definitions) define(t reflect.Type, name string, zero any) spec.Schema {
	s := spec.Schema{}
	if doc, ok := zero.(documented); ok {
		s.Description = doc.SwaggerDoc()[""]
	}
	if st, ok := zero.(typed); ok {
		s.Type = st.OpenAPISchemaType()
		if f, ok := zero.(formatted); ok {
			s.Format = f.OpenAPISchemaFormat()
		}
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		s.Type = spec.StringOrArray{"object"}
		d.fields(&s, t, name, zero)
	case reflect.Map:
		elem := d.of(t.Elem())
		s.Type = spec.StringOrArray{"object"}
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &elem}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			s.Type, s.Format = spec.StringOrArray{"string"}, "byte"
			break
		}
		elem := d.of(t.Elem())
		s.Type = spec.StringOrArray{"array"}
		s.Items = &spec.SchemaOrArray{Schema: &elem}
	case reflect.String:
		s.Type = spec.StringOrArray{"string"}
	case reflect.Bool:
		s.Type = spec.StringOrArray{"boolean"}
	case reflect.Int64, reflect.Int, reflect.Uint64, reflect.Uint, reflect.Uint32:
		s.Type, s.Format = spec.StringOrArray{"integer"}, "int64"
	case reflect.Int32, reflect.Int16, reflect.Int8, reflect.Uint16, reflect.Uint8:
		s.Type, s.Format = spec.StringOrArray{"integer"}, "int32"
	case reflect.Float32, reflect.Float64:
		s.Type, s.Format = spec.StringOrArray{"number"}, "double"
	case reflect.Interface:
		s.Type = spec.StringOrArray{"object"}
	}
	return s
}

// fields adds a struct's properties; inlined structs' are its own.
func (d *definitions) fields(s *spec.Schema, t reflect.Type, model string, zero any) {
	docs := map[string]string{}
	if doc, ok := zero.(documented); ok {
		docs = doc.SwaggerDoc()
	}
	if s.Properties == nil {
		s.Properties = map[string]spec.Schema{}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			inner := f.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				d.fields(s, inner, model, reflect.New(inner).Interface())
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		s.Properties[name] = d.property(f, model, name, docs[name])
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			s.Required = append(s.Required, name)
			slices.Sort(s.Required)
		}
	}
}

func (d *definitions) property(f reflect.StructField, model, name, doc string) spec.Schema {
	p := d.of(f.Type)
	if p.Ref.String() != "" && f.Type.Kind() == reflect.Struct && !strings.Contains(f.Tag.Get("json"), "omitempty") {
		p.Default = map[string]any{}
	}
	p.Description = doc
	if v := f.Tag.Get("patchStrategy"); v != "" {
		p.AddExtension("x-kubernetes-patch-strategy", v)
	}
	if v := f.Tag.Get("patchMergeKey"); v != "" {
		p.AddExtension("x-kubernetes-patch-merge-key", v)
	}
	if l, ok := d.lists(model, name); ok {
		switch {
		case l.ElementRelationship == smd.Associative && len(l.Keys) > 0:
			keys := make([]any, len(l.Keys))
			for i, k := range l.Keys {
				keys[i] = k
			}
			p.AddExtension("x-kubernetes-list-type", "map")
			p.AddExtension("x-kubernetes-list-map-keys", keys)
		case l.ElementRelationship == smd.Associative:
			p.AddExtension("x-kubernetes-list-type", "set")
		default:
			p.AddExtension("x-kubernetes-list-type", "atomic")
		}
	}
	return p
}

// mark says which kind a definition is.
func (d *definitions) mark(name string, gvks ...schema.GroupVersionKind) {
	s, ok := d.schemas[name]
	if !ok {
		return
	}
	list, _ := s.Extensions["x-kubernetes-group-version-kind"].([]any)
	for _, gvk := range gvks {
		list = append(list, gvkMap(gvk))
	}
	s.AddExtension("x-kubernetes-group-version-kind", list)
	d.schemas[name] = s
}

func gvkMap(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// wrapRefs gives references that have a description or default of their own
// the form OpenAPI v3 allows: beside $ref it takes nothing, so the reference
// moves into allOf.
func wrapRefs(schemas map[string]*spec.Schema) {
	for _, s := range schemas {
		for name, p := range s.Properties {
			if p.Ref.String() == "" || p.Description == "" && p.Default == nil {
				continue
			}
			p.AllOf = []spec.Schema{{SchemaProps: spec.SchemaProps{Ref: p.Ref}}}
			p.Ref = spec.Ref{}
			s.Properties[name] = p
		}
	}
}
