package differential

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// schemas are the types of a server's OpenAPI v3 documents, by reference.
type schemas struct {
	types map[string]map[string]any
	// kinds leads from "group/version/Kind" to the type.
	kinds map[string]string
}

func fetchSchemas(ctx context.Context, r *runner) (*schemas, error) {
	index, err := r.must(ctx, http.MethodGet, "/openapi/v3", nil)
	if err != nil {
		return nil, err
	}
	s := &schemas{types: map[string]map[string]any{}, kinds: map[string]string{}}
	paths, _ := member(index, "paths")
	for _, name := range slices.Sorted(maps.Keys(paths.(map[string]any))) {
		doc, err := r.must(ctx, http.MethodGet, text(paths, name, "serverRelativeURL"), nil)
		if err != nil {
			return nil, err
		}
		types, _ := member(doc, "components", "schemas")
		m, _ := types.(map[string]any)
		for ref, t := range m {
			s.types["#/components/schemas/"+ref] = t.(map[string]any)
			gvks, _ := member(t, "x-kubernetes-group-version-kind")
			list, _ := gvks.([]any)
			for _, gvk := range list {
				s.kinds[fmt.Sprintf("%s/%s/%s", text(gvk, "group"), text(gvk, "version"), text(gvk, "kind"))] = "#/components/schemas/" + ref
			}
		}
	}
	return s, nil
}

// of is the type of an object.
func (s *schemas) of(obj tree) (*shape, error) {
	group, version, ok := strings.Cut(text(obj, "apiVersion"), "/")
	if !ok {
		group, version = "", group
	}
	ref, ok := s.kinds[group+"/"+version+"/"+text(obj, "kind")]
	if !ok {
		return nil, fmt.Errorf("cannot find the type of %s %s: upstream does not serve it", text(obj, "apiVersion"), text(obj, "kind"))
	}
	return s.shape(map[string]any{"$ref": ref}), nil
}

// A shape is what a place of an object may hold.
type shape struct {
	schemas *schemas
	// what is object, map, list, string, integer, number, boolean, any,
	// quantity, int-or-string, time or bytes.
	what    string
	choices []string
	members map[string]any
	element any
	needed  []string
}

func (s *schemas) shape(schema any) *shape {
	m, _ := schema.(map[string]any)
	for {
		if ref := text(m, "$ref"); ref != "" {
			m = s.types[ref]
			switch {
			case strings.HasSuffix(ref, ".resource.Quantity"):
				return &shape{schemas: s, what: "quantity"}
			case strings.HasSuffix(ref, ".IntOrString"):
				return &shape{schemas: s, what: "int-or-string"}
			}
			continue
		}
		if all, ok := m["allOf"].([]any); ok && len(all) == 1 {
			m, _ = all[0].(map[string]any)
			continue
		}
		break
	}
	sh := &shape{schemas: s, what: text(m, "type")}
	if enum, ok := m["enum"].([]any); ok {
		for _, e := range enum {
			sh.choices = append(sh.choices, fmt.Sprint(e))
		}
	}
	if needed, ok := m["required"].([]any); ok {
		for _, n := range needed {
			sh.needed = append(sh.needed, fmt.Sprint(n))
		}
	}
	switch sh.what {
	case "object":
		if sh.element = m["additionalProperties"]; sh.element != nil {
			sh.what = "map"
		}
		sh.members, _ = m["properties"].(map[string]any)
	case "array":
		sh.what, sh.element = "list", m["items"]
	case "string":
		switch text(m, "format") {
		case "date-time":
			sh.what = "time"
		case "byte":
			sh.what = "bytes"
		}
	case "":
		sh.what = "any"
	}
	return sh
}

func (s *shape) member(name string) *shape { return s.schemas.shape(s.members[name]) }

func (s *shape) of() *shape { return s.schemas.shape(s.element) }

// names of the members, those that every object has and nobody writes left out.
func (s *shape) names() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.members)), func(n string) bool { return n == "apiVersion" || n == "kind" })
}
