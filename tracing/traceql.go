package tracing

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The part of TraceQL that is understood: one spanset of conditions that must
// all hold on the same span,
//
//	{ resource.service.name = "api" && name =~ "GET .*" && duration > 10ms }
//
// with the intrinsics name, duration, status, statusMessage and kind, the
// attribute scopes resource., span. and . (either), the operators = != > >= <
// <= =~ !~, and literals in quotes, numbers, durations, true, false and the
// keywords of status and kind. Everything else is refused.

type scope uint8

const (
	scopeIntrinsic scope = iota
	scopeResource
	scopeSpan
	scopeAny
)

type field struct {
	scope scope
	name  string
}

func parseField(s string) (field, error) {
	for prefix, sc := range map[string]scope{"resource.": scopeResource, "span.": scopeSpan, ".": scopeAny} {
		if name, ok := strings.CutPrefix(s, prefix); ok && name != "" {
			return field{sc, name}, nil
		}
	}
	switch s {
	case "name", "duration", "status", "statusMessage", "kind":
		return field{scopeIntrinsic, s}, nil
	}
	return field{}, fmt.Errorf("unknown field %q: known are name, duration, status, statusMessage, kind, resource.…, span.… and .…", s)
}

// values returns the values of the field on s.
func (f field) values(s *Span) (out []Value) {
	str := func(v string) []Value { return []Value{{Type: TypeString, Str: v}} }
	if f.scope == scopeIntrinsic {
		switch f.name {
		case "name":
			return str(s.Name)
		case "duration":
			return []Value{{Type: TypeInt, Int: s.Duration}}
		case "status":
			return str([]string{"unset", "ok", "error"}[min(s.Status, StatusError)])
		case "statusMessage":
			return str(s.StatusMessage)
		case "kind":
			if s.Kind == KindUnspecified {
				return str("unspecified")
			}
			return str(s.Kind.String())
		}
	}
	if f.scope == scopeSpan || f.scope == scopeAny {
		for _, a := range s.Attrs {
			if a.Key == f.name {
				out = append(out, a.Value)
			}
		}
	}
	if f.scope == scopeResource || f.scope == scopeAny {
		if f.name == serviceName {
			out = append(out, str(s.Resource.Service)...)
		}
		for _, a := range s.Resource.Attrs {
			if a.Key == f.name {
				out = append(out, a.Value)
			}
		}
	}
	return out
}

// literal is a parsed right-hand side.
type literal struct {
	text   string
	number float64
	isNum  bool
	re     *regexp.Regexp
}

type condition struct {
	field field
	op    string
	lit   literal
}

func (c condition) holds(s *Span) bool {
	for _, v := range c.field.values(s) {
		if c.compare(v) {
			return true
		}
	}
	return false
}

func (c condition) compare(v Value) bool {
	if c.lit.re != nil {
		return c.lit.re.MatchString(v.Text()) == (c.op == "=~")
	}
	var d int
	if c.lit.isNum {
		var n float64
		switch v.Type {
		case TypeInt:
			n = float64(v.Int)
		case TypeFloat:
			n = v.Float
		default:
			return c.op == "!="
		}
		switch {
		case n < c.lit.number:
			d = -1
		case n > c.lit.number:
			d = 1
		}
	} else {
		d = strings.Compare(v.Text(), c.lit.text)
	}
	switch c.op {
	case "=":
		return d == 0
	case "!=":
		return d != 0
	case ">":
		return d > 0
	case ">=":
		return d >= 0
	case "<":
		return d < 0
	case "<=":
		return d <= 0
	}
	return false
}

func parseTraceQL(in string) (func(*Span) bool, error) {
	conds, err := parseSpanset(in)
	if err != nil {
		return nil, fmt.Errorf("cannot use TraceQL %q: %w", in, err)
	}
	return func(s *Span) bool {
		for _, c := range conds {
			if !c.holds(s) {
				return false
			}
		}
		return true
	}, nil
}

var errSpanset = errors.New("only one spanset of conditions joined by && is supported: { a = 1 && b = 2 }")

func parseSpanset(in string) ([]condition, error) {
	s := strings.TrimSpace(in)
	if !strings.HasPrefix(s, "{") {
		return nil, errSpanset
	}
	s = strings.TrimSpace(s[1:])
	var out []condition
	for !strings.HasPrefix(s, "}") {
		if len(out) > 0 {
			rest, ok := strings.CutPrefix(s, "&&")
			if !ok {
				return nil, errSpanset
			}
			s = strings.TrimSpace(rest)
		}
		c, rest, err := parseCondition(s)
		if err != nil {
			return nil, err
		}
		out, s = append(out, c), strings.TrimSpace(rest)
	}
	if strings.TrimSpace(s[1:]) != "" {
		return nil, errSpanset
	}
	return out, nil
}

func parseCondition(s string) (c condition, rest string, err error) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune(`=!<>~&|{}()"`, r)
	})
	if end <= 0 {
		return c, "", errSpanset
	}
	if c.field, err = parseField(s[:end]); err != nil {
		return c, "", err
	}
	s = strings.TrimSpace(s[end:])
	for _, op := range []string{"=~", "!~", ">=", "<=", "!=", "=", ">", "<"} {
		if after, ok := strings.CutPrefix(s, op); ok {
			c.op, s = op, strings.TrimSpace(after)
			break
		}
	}
	if c.op == "" {
		return c, "", fmt.Errorf("no operator after field %q", c.field.name)
	}
	c.lit, rest, err = parseLiteral(c, s)
	return c, rest, err
}

func parseLiteral(c condition, s string) (l literal, rest string, err error) {
	if strings.HasPrefix(s, `"`) || strings.HasPrefix(s, "`") {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return l, "", fmt.Errorf("unterminated text at %q", s)
		}
		if l.text, err = strconv.Unquote(quoted); err != nil {
			return l, "", fmt.Errorf("cannot unquote %s: %w", quoted, err)
		}
		if c.op == "=~" || c.op == "!~" {
			if l.re, err = regexp.Compile("^(?:" + l.text + ")$"); err != nil {
				return l, "", err
			}
		}
		return l, s[len(quoted):], nil
	}
	if c.op == "=~" || c.op == "!~" {
		return l, "", fmt.Errorf("operator %s wants a quoted expression", c.op)
	}
	end := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("&|{}()", r) })
	if end <= 0 {
		return l, "", fmt.Errorf("no value after %s", c.op)
	}
	word, rest := s[:end], s[end:]
	if n, err := strconv.ParseFloat(word, 64); err == nil {
		return literal{number: n, isNum: true}, rest, nil
	}
	if d, err := time.ParseDuration(word); err == nil {
		return literal{number: float64(d), isNum: true}, rest, nil
	}
	switch word {
	case "true", "false", "error", "ok", "unset", "unspecified", "internal", "server", "client", "producer", "consumer":
		return literal{text: word}, rest, nil
	}
	return l, "", fmt.Errorf("cannot use value %q: quote text", word)
}
