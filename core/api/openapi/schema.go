package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"binnacle.io/core/api/openapi/markers"
)

// definitions collects the schemas of types and of all they refer to, as the
// comments of openapi-gen would have them.
type definitions struct {
	types map[string]markers.Type
	ref   common.ReferenceCallback
	out   map[string]common.OpenAPIDefinition
	// defaults are only in v3: v2 has no room for them beside references.
	defaults bool
}

// Types describe themselves.
type (
	typed      interface{ OpenAPISchemaType() []string }
	formatted  interface{ OpenAPISchemaFormat() string }
	oneOf      interface{ OpenAPIV3OneOfTypes() []string }
	documented interface{ SwaggerDoc() map[string]string }
)

// model stands for a type by its name alone.
type model string

// OpenAPIModelName implements util.OpenAPIModelNamer.
func (m model) OpenAPIModelName() string { return string(m) }

func modelOf(t reflect.Type) model {
	return model(util.GetCanonicalTypeName(reflect.New(t).Interface()))
}

// add defines a type and all that it refers to.
func (d *definitions) add(t reflect.Type) model {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := string(modelOf(t))
	if _, done := d.out[name]; done {
		return model(name)
	}
	d.out[name] = common.OpenAPIDefinition{} // breaks cycles
	d.out[name] = d.define(t)
	return model(name)
}

// custom defines a kind that has no Go type.
func (d *definitions) custom(gvk schema.GroupVersionKind, list bool) model {
	group := strings.Split(gvk.Group, ".")
	slices.Reverse(group)
	name := strings.Join(append(group, gvk.Version, gvk.Kind), ".")
	s := spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	if !list {
		s.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	}
	s.AddExtension("x-kubernetes-group-version-kind", []any{gvkMap(gvk)})
	d.out[name] = common.OpenAPIDefinition{Schema: s}
	return model(name)
}

func typeKey(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

func docsOf(t reflect.Type) map[string]string {
	if doc, ok := reflect.New(t).Interface().(documented); ok {
		return doc.SwaggerDoc()
	}
	return nil
}

func (d *definitions) define(t reflect.Type) common.OpenAPIDefinition {
	m := d.types[typeKey(t)]
	s := spec.Schema{}
	if s.Description = docsOf(t)[""]; s.Description == "" {
		s.Description = m.Doc
	}
	zero := reflect.New(t).Interface()
	if self, ok := zero.(typed); ok {
		s.Type = self.OpenAPISchemaType()
		if f, ok := zero.(formatted); ok {
			s.Format = f.OpenAPISchemaFormat()
		}
		if o, ok := zero.(oneOf); ok {
			v3 := s
			v3.Type, v3.OneOf = nil, common.GenerateOpenAPIV3OneOfSchema(o.OpenAPIV3OneOfTypes())
			return common.EmbedOpenAPIDefinitionIntoV2Extension(
				common.OpenAPIDefinition{Schema: v3}, common.OpenAPIDefinition{Schema: s})
		}
		return common.OpenAPIDefinition{Schema: s}
	}
	s.Type = []string{"object"}
	var needs []string
	d.fields(&s, t, &needs)
	if m.Atomic {
		s.AddExtension("x-kubernetes-map-type", "atomic")
	}
	if m.Union {
		s.AddExtension("x-kubernetes-unions", []any{unionOf(t, m)})
	}
	return common.OpenAPIDefinition{Schema: s, Dependencies: needs}
}

// unionOf names the fields of which one is set.
func unionOf(t reflect.Type, m markers.Type) map[string]any {
	members, out := map[string]any{}, map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _ := jsonName(f)
		if f.Name == m.Discriminator {
			out["discriminator"] = name
			continue
		}
		if !isRequired(f, m.Fields[f.Name]) {
			members[name] = f.Name
		}
	}
	out["fields-to-discriminateBy"] = members
	return out
}

func jsonName(f reflect.StructField) (name string, omitEmpty bool) {
	tag, ok := f.Tag.Lookup("json")
	if !ok {
		return f.Name, false
	}
	name, options, _ := strings.Cut(tag, ",")
	return name, slices.Contains(strings.Split(options, ","), "omitempty")
}

func isRequired(f reflect.StructField, m markers.Field) bool {
	_, omitEmpty := jsonName(f)
	return m.Required || !m.Optional && !omitEmpty
}

// fields adds a struct's properties; inlined structs' are its own.
func (d *definitions) fields(s *spec.Schema, t reflect.Type, needs *[]string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	docs, m := docsOf(t), d.types[typeKey(t)]
	if s.Properties == nil {
		s.Properties = map[string]spec.Schema{}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, omitEmpty := jsonName(f)
		if _, tagged := f.Tag.Lookup("json"); f.Anonymous && tagged && name == "" {
			d.fields(s, f.Type, needs)
			continue
		}
		if !f.IsExported() || name == "-" || name == "" {
			continue
		}
		mark := m.Fields[f.Name]
		doc := docs[name]
		if doc == "" {
			doc = mark.Doc
		}
		p := d.value(f.Type, needs)
		p.Description = doc + d.enumText(f.Type)
		if d.defaults {
			p.Default = defaultOf(f.Type, omitEmpty)
			if len(mark.Default) > 0 {
				// The generator of the file has checked that it is JSON.
				_ = json.Unmarshal(mark.Default, &p.Default)
			}
		}
		annotate(&p, f, mark)
		s.Properties[name] = p
		if isRequired(f, mark) {
			s.Required = append(s.Required, name)
		}
	}
}

// annotate says how a field is merged.
func annotate(p *spec.Schema, f reflect.StructField, m markers.Field) {
	if len(m.Keys) > 0 {
		keys := make([]any, len(m.Keys))
		for i, k := range m.Keys {
			keys[i] = k
		}
		p.AddExtension("x-kubernetes-list-map-keys", keys)
	}
	for name, value := range map[string]string{
		"x-kubernetes-list-type": m.List, "x-kubernetes-map-type": m.Map,
		"x-kubernetes-patch-strategy": f.Tag.Get("patchStrategy"), "x-kubernetes-patch-merge-key": f.Tag.Get("patchMergeKey"),
	} {
		if value != "" {
			p.AddExtension(name, value)
		}
	}
}

// value is the schema of a field, element or value of the type.
func (d *definitions) value(t reflect.Type, needs *[]string) spec.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := spec.Schema{}
	switch t.Kind() {
	case reflect.Struct:
		name := string(d.add(t))
		*needs = append(*needs, name)
		s.Ref = d.ref(name)
	case reflect.Map:
		elem := d.element(t.Elem(), needs)
		s.Type = []string{"object"}
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &elem}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			s.Type, s.Format = []string{"string"}, "byte"
			break
		}
		elem := d.element(t.Elem(), needs)
		s.Type = []string{"array"}
		s.Items = &spec.SchemaOrArray{Schema: &elem}
	case reflect.Interface:
		if t.NumMethod() == 0 {
			s.Type = []string{"object"}
		}
	default:
		kind, format := common.OpenAPITypeFormat(t.Kind().String())
		s.Type, s.Format = []string{kind}, format
		for _, v := range d.types[typeKey(t)].Enum {
			s.Enum = append(s.Enum, v.Value)
		}
	}
	return s
}

func (d *definitions) element(t reflect.Type, needs *[]string) spec.Schema {
	s := d.value(t, needs)
	if d.defaults {
		s.Default = defaultOf(t, false)
	}
	return s
}

// defaultOf is what decoding leaves where nothing is sent; nil where that is
// null.
func defaultOf(t reflect.Type, omitEmpty bool) any {
	if t.Kind() == reflect.Pointer || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		if t.NumField() == 1 && t.Field(0).Anonymous {
			return defaultOf(t.Field(0).Type, omitEmpty)
		}
		return map[string]any{}
	case reflect.Map, reflect.Slice, reflect.Array, reflect.Interface:
		return nil
	}
	if omitEmpty {
		return nil
	}
	zero, _ := common.OpenAPIZeroValue(t.Kind().String())
	return zero
}

// enumText explains the values of an enumeration.
func (d *definitions) enumText(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	values := d.types[typeKey(t)].Enum
	if t.Kind() != reflect.String || len(values) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\nPossible enum values:")
	for _, v := range values {
		fmt.Fprintf(&b, "\n - `%q`", v.Value)
		if v.Doc != "" {
			b.WriteString(" " + v.Doc)
		}
	}
	return b.String()
}

func gvkMap(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// kindsOf are the kinds as which each model is known to the scheme.
func kindsOf(s *runtime.Scheme) map[string][]schema.GroupVersionKind {
	found := map[string][]schema.GroupVersionKind{}
	for gvk, t := range s.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal {
			name := string(modelOf(t))
			found[name] = append(found[name], gvk)
		}
	}
	for _, gvks := range found {
		slices.SortFunc(gvks, func(a, b schema.GroupVersionKind) int {
			return strings.Compare(a.Group+"\x00"+a.Version+"\x00"+a.Kind, b.Group+"\x00"+b.Version+"\x00"+b.Kind)
		})
	}
	return found
}
