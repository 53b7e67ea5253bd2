package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A tree is a JSON value as encoding/json decodes it, numbers as json.Number.
type tree = any

func parseTree(data []byte) (tree, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var t tree
	if err := d.Decode(&t); err != nil {
		return nil, err
	}
	return t, nil
}

// printTree writes a value on one line, the way parseText reads it.
func printTree(t tree) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(t); err != nil {
		panic(err) // trees come from JSON
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func clone(t tree) tree {
	switch t := t.(type) {
	case map[string]any:
		c := make(map[string]any, len(t))
		for k, v := range t {
			c[k] = clone(v)
		}
		return c
	case []any:
		c := make([]any, len(t))
		for i, v := range t {
			c[i] = clone(v)
		}
		return c
	}
	return t
}

// A path leads to a place in a tree: strings are members, ints are indices.
type path []any

func (p path) String() string {
	var b strings.Builder
	for _, step := range p {
		switch step := step.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		case string:
			if plainMember(step) {
				b.WriteString("." + step)
			} else {
				fmt.Fprintf(&b, "[%s]", printTree(step))
			}
		}
	}
	if len(p) == 0 {
		return "."
	}
	return b.String()
}

func (p path) with(step any) path { return append(slices.Clone(p), step) }

// plainMember says whether a member's name needs no quotes in a path.
func plainMember(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '$' || r == '-' || r == '_')
	})
}

// cutPath reads the path at the beginning of s.
func cutPath(s string) (path, string, error) {
	var p path
	if s == "." || strings.HasPrefix(s, ". ") {
		return p, s[1:], nil
	}
	for s != "" {
		switch {
		case s[0] == '.':
			s = s[1:]
			n := strings.IndexAny(s, ".[ ")
			if n < 0 {
				n = len(s)
			}
			p, s = append(p, s[:n]), s[n:]
		case s[0] == '[':
			d := json.NewDecoder(strings.NewReader(s[1:]))
			var step any
			if err := d.Decode(&step); err != nil {
				return nil, "", fmt.Errorf("cannot read path at %q: %w", s, err)
			}
			s = s[1+d.InputOffset():]
			if !strings.HasPrefix(s, "]") {
				return nil, "", fmt.Errorf("cannot read path at %q: no ]", s)
			}
			if n, ok := step.(float64); ok {
				step = int(n)
			}
			p, s = append(p, step), s[1:]
		default:
			return p, s, nil
		}
	}
	return p, s, nil
}

// at returns what stands at the path.
func at(t tree, p path) (tree, bool) {
	for _, step := range p {
		switch step := step.(type) {
		case string:
			m, ok := t.(map[string]any)
			if !ok {
				return nil, false
			}
			if t, ok = m[step]; !ok {
				return nil, false
			}
		case int:
			l, ok := t.([]any)
			if !ok || step >= len(l) {
				return nil, false
			}
			t = l[step]
		}
	}
	return t, true
}

// put returns the tree with v at the path, making objects on the way; an index
// just behind the end of a list adds to it.
func put(t tree, p path, v tree) (tree, error) {
	if len(p) == 0 {
		return v, nil
	}
	switch step := p[0].(type) {
	case string:
		m, ok := t.(map[string]any)
		if t != nil && !ok {
			return nil, fmt.Errorf("cannot set member %q of %s", step, printTree(t))
		}
		if m == nil {
			m = map[string]any{}
		}
		c, err := put(m[step], p[1:], v)
		if err != nil {
			return nil, err
		}
		m[step] = c
		return m, nil
	case int:
		l, ok := t.([]any)
		if t != nil && !ok || step > len(l) {
			return nil, fmt.Errorf("cannot set element %d of %s", step, printTree(t))
		}
		if step == len(l) {
			l = append(l, nil)
		}
		c, err := put(l[step], p[1:], v)
		if err != nil {
			return nil, err
		}
		l[step] = c
		return l, nil
	}
	return nil, fmt.Errorf("cannot follow path step %v", p[0])
}

// remove returns the tree without what stands at the path.
func remove(t tree, p path) (tree, error) {
	last := p[len(p)-1]
	parent, ok := at(t, p[:len(p)-1])
	if !ok {
		return t, nil
	}
	switch parent := parent.(type) {
	case map[string]any:
		delete(parent, fmt.Sprint(last))
		return t, nil
	case []any:
		if i, ok := last.(int); ok && i < len(parent) {
			return put(t, p[:len(p)-1], slices.Delete(parent, i, i+1))
		}
	}
	return t, nil
}

// A difference is one place where two trees differ.
type difference struct {
	at path
	// sign is '+' for a place only the second has, '-' for one only the
	// first has, '~' otherwise.
	sign  byte
	value tree
}

func (d difference) String() string {
	if d.sign == '-' {
		return fmt.Sprintf("- %s", d.at)
	}
	return fmt.Sprintf("%c %s %s", d.sign, d.at, printTree(d.value))
}

// compare lists how the second tree differs from the first.
func compare(first, second tree) []difference { return compareAt(nil, first, second) }

func compareAt(p path, first, second tree) []difference {
	var ds []difference
	switch a := first.(type) {
	case map[string]any:
		b, ok := second.(map[string]any)
		if !ok {
			break
		}
		keys := maps.Clone(a)
		maps.Copy(keys, b)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			at := p.with(k)
			va, inA := a[k]
			vb, inB := b[k]
			switch {
			case !inB:
				ds = append(ds, difference{at, '-', va})
			case !inA:
				ds = append(ds, difference{at, '+', vb})
			default:
				ds = append(ds, compareAt(at, va, vb)...)
			}
		}
		return ds
	case []any:
		b, ok := second.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		for i := range a {
			ds = append(ds, compareAt(p.with(i), a[i], b[i])...)
		}
		return ds
	}
	if !reflect.DeepEqual(first, second) {
		ds = append(ds, difference{p, '~', second})
	}
	return ds
}

// A change is one edit of a tree, in text:
//
//	.spec.replicas = -1
//	.metadata.name = "x"*300
//	- .spec.containers[0].image
type change struct {
	at     path
	remove bool
	value  tree
	times  int // of a repeated string
}

func (c change) String() string {
	if c.remove {
		return "- " + c.at.String()
	}
	s := c.at.String() + " = " + printTree(c.value)
	if c.times > 0 {
		s += "*" + strconv.Itoa(c.times)
	}
	return s
}

func (c change) apply(t tree) (tree, error) {
	if c.remove {
		return remove(t, c.at)
	}
	v := clone(c.value)
	if s, ok := v.(string); ok && c.times > 0 {
		v = strings.Repeat(s, c.times)
	}
	return put(t, c.at, v)
}

// parseChanges reads changes separated by semicolons.
func parseChanges(s string) ([]change, error) {
	var cs []change
	for {
		var c change
		var err error
		s = strings.TrimLeft(s, " ")
		if rest, ok := strings.CutPrefix(s, "- "); ok {
			c.remove = true
			if c.at, s, err = cutPath(rest); err != nil {
				return nil, err
			}
		} else {
			if c.at, s, err = cutPath(s); err != nil {
				return nil, err
			}
			rest, ok := strings.CutPrefix(s, " = ")
			if !ok {
				return nil, fmt.Errorf("cannot read change at %q: no value", s)
			}
			d := json.NewDecoder(strings.NewReader(rest))
			d.UseNumber()
			if err := d.Decode(&c.value); err != nil {
				return nil, fmt.Errorf("cannot read value %q: %w", rest, err)
			}
			s = rest[d.InputOffset():]
			if rest, ok := strings.CutPrefix(s, "*"); ok {
				n := strings.IndexByte(rest, ' ')
				if n < 0 {
					n = len(rest)
				}
				if c.times, err = strconv.Atoi(rest[:n]); err != nil {
					return nil, err
				}
				s = rest[n:]
			}
		}
		cs = append(cs, c)
		if s == "" {
			return cs, nil
		}
		rest, ok := strings.CutPrefix(s, " ; ")
		if !ok {
			return nil, fmt.Errorf("cannot read changes at %q", s)
		}
		s = rest
	}
}
