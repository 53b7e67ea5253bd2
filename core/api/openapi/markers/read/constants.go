package main

import (
	"go/ast"
	"go/token"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"binnacle.io/core/api/openapi/markers"
)

// constants are the string constants of types, which become the values of
// those that are enumerations once all packages have been read.
type constants struct {
	byName map[string]string // values by import path and name
	of     map[string][]constant
}

// constant is a value, or the name of the constant that has it.
type constant struct{ value, from, doc string }

func newConstants() *constants {
	return &constants{byName: map[string]string{}, of: map[string][]constant{}}
}

// read takes constants of the forms C T = "x", C = T("x") and C = T(pkg.D).
func (c *constants) read(path string, imports map[string]string, g *ast.GenDecl, s *ast.ValueSpec) {
	if g.Tok != token.CONST {
		return
	}
	for i, v := range s.Values {
		t, typed := s.Type.(*ast.Ident)
		if call, ok := v.(*ast.CallExpr); ok && len(call.Args) == 1 {
			t, typed = call.Fun.(*ast.Ident)
			v = call.Args[0]
		}
		name := s.Names[i].Name
		k := constant{doc: constantDoc(g, s, name)}
		switch v := v.(type) {
		case *ast.BasicLit:
			value, err := strconv.Unquote(v.Value)
			if err != nil || v.Kind != token.STRING {
				continue
			}
			k.value = value
			c.byName[path+"."+name] = value
		case *ast.SelectorExpr:
			if pkg, ok := v.X.(*ast.Ident); ok {
				k.from = imports[pkg.Name] + "." + v.Sel.Name
			}
		default:
			continue
		}
		if typed {
			c.of[path+"."+t.Name] = append(c.of[path+"."+t.Name], k)
		}
	}
}

func constantDoc(g *ast.GenDecl, s *ast.ValueSpec, name string) string {
	comment := s.Doc
	if comment == nil && len(g.Specs) == 1 {
		comment = g.Doc
	}
	text := strings.TrimSpace(strings.Join(lines(comment), " "))
	text = strings.TrimSpace(strings.TrimPrefix(text, name))
	return regexp.MustCompile(`\s+`).ReplaceAllString(text, " ")
}

// defaultOf is the JSON of a constant, "" before it has been read.
func (c *constants) defaultOf(path, name string) string {
	value, ok := c.byName[path+"."+name]
	if !ok {
		return ""
	}
	return strconv.Quote(value)
}

// enumerate gives the types that are marked so their values.
func (c *constants) enumerate(found map[string]markers.Type) {
	for key, t := range found {
		if t.Enum == nil {
			continue
		}
		for _, k := range c.of[key] {
			if k.from != "" {
				k.value = c.byName[k.from]
			}
			t.Enum = append(t.Enum, markers.Value{Value: k.value, Doc: k.doc})
		}
		sort.Slice(t.Enum, func(i, j int) bool { return t.Enum[i].Value < t.Enum[j].Value })
		found[key] = t
	}
}

// importsOf are the import paths of a file by the names they have in it.
func importsOf(f *ast.File) map[string]string {
	out := map[string]string{}
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		out[name] = path
	}
	return out
}
