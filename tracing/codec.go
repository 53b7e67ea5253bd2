package tracing

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strconv"
)

// The payload of a span in a segment's blob, in order:
//
//	uvarint resource number, string scope name, string scope version,
//	string trace state, string status message, attributes,
//	uvarint events ⨯ (varint time − start, string name, attributes),
//	uvarint links ⨯ (16 bytes trace, 8 bytes span, attributes)
//
// A string is a uvarint length and its bytes; attributes are a uvarint count of
// (string key, value); a value is its type byte and content. Strings that recur
// in a segment (marked "dictionary" below) are uvarint numbers into the
// segment's dictionary instead. What filters need (identity, time, service,
// name, kind, status) is in the head.

// maxDepth bounds nested list and map values; deeper ones are cut.
const maxDepth = 8

// interner numbers strings.
type interner interface{ intern(string) uint32 }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendAttrs(b []byte, attrs []Attr, dict interner, depth int) []byte {
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	for _, a := range attrs {
		b = binary.AppendUvarint(b, uint64(dict.intern(a.Key)))
		b = appendValue(b, a.Value, dict, depth)
	}
	return b
}

func appendValue(b []byte, v Value, dict interner, depth int) []byte {
	if depth > maxDepth && (v.Type == TypeList || v.Type == TypeMap) {
		return append(b, byte(TypeEmpty))
	}
	b = append(b, byte(v.Type))
	switch v.Type {
	case TypeString, TypeBytes:
		b = appendString(b, v.Str)
	case TypeBool, TypeInt:
		b = binary.AppendVarint(b, v.Int)
	case TypeFloat:
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float))
	case TypeList:
		b = binary.AppendUvarint(b, uint64(len(v.List)))
		for _, e := range v.List {
			b = appendValue(b, e, dict, depth+1)
		}
	case TypeMap:
		b = appendAttrs(b, v.Map, dict, depth+1)
	}
	return b
}

func appendPayload(b []byte, s *Span, resource uint32, dict interner) []byte {
	b = binary.AppendUvarint(b, uint64(resource))
	b = binary.AppendUvarint(b, uint64(dict.intern(s.Scope.Name)))
	b = binary.AppendUvarint(b, uint64(dict.intern(s.Scope.Version)))
	b = appendString(b, s.TraceState)
	b = appendString(b, s.StatusMessage)
	b = appendAttrs(b, s.Attrs, dict, 0)
	b = binary.AppendUvarint(b, uint64(len(s.Events)))
	for _, e := range s.Events {
		b = binary.AppendVarint(b, e.Time-s.Start)
		b = binary.AppendUvarint(b, uint64(dict.intern(e.Name)))
		b = appendAttrs(b, e.Attrs, dict, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Links)))
	for _, l := range s.Links {
		b = append(b, l.Trace[:]...)
		b = append(b, l.Span[:]...)
		b = appendAttrs(b, l.Attrs, dict, 0)
	}
	return b
}

var errCorrupt = errors.New("corrupt span encoding")

// reader decodes what the append functions wrote. The first fault sticks.
type reader struct {
	b    []byte
	dict []string
	err  error
}

func (r *reader) fail() { r.b, r.err = nil, errCorrupt }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string { return string(r.bytes(r.uvarint())) }

func (r *reader) word() string {
	n := r.uvarint()
	if n >= uint64(len(r.dict)) {
		r.fail()
		return ""
	}
	return r.dict[n]
}

// count reads the length of a list whose elements take at least one byte each.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) attrs(depth int) []Attr {
	n := r.count()
	if n == 0 {
		return nil
	}
	out := make([]Attr, 0, n)
	for range n {
		a := Attr{Key: r.word(), Value: r.value(depth)}
		if r.err != nil {
			return nil
		}
		out = append(out, a)
	}
	return out
}

func (r *reader) value(depth int) (v Value) {
	t := r.bytes(1)
	if r.err != nil || depth > maxDepth+1 {
		r.fail()
		return v
	}
	v.Type = ValueType(t[0])
	switch v.Type {
	case TypeEmpty:
	case TypeString, TypeBytes:
		v.Str = r.string()
	case TypeBool, TypeInt:
		v.Int = r.varint()
	case TypeFloat:
		if b := r.bytes(8); r.err == nil {
			v.Float = math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
	case TypeList:
		for range r.count() {
			if r.err != nil {
				break
			}
			v.List = append(v.List, r.value(depth+1))
		}
	case TypeMap:
		v.Map = r.attrs(depth + 1)
	default:
		r.fail()
	}
	return v
}

// payload fills s from r; resources resolves resource numbers.
func (r *reader) payload(s *Span, resources []*Resource) error {
	n := r.uvarint()
	if n >= uint64(len(resources)) {
		r.fail()
		return r.err
	}
	s.Resource = resources[n]
	s.Scope = Scope{Name: r.word(), Version: r.word()}
	s.TraceState, s.StatusMessage = r.string(), r.string()
	s.Attrs = r.attrs(0)
	for range r.count() {
		if r.err != nil {
			break
		}
		s.Events = append(s.Events, Event{Time: s.Start + r.varint(), Name: r.word(), Attrs: r.attrs(0)})
	}
	for range r.count() {
		if r.err != nil {
			break
		}
		var l Link
		copy(l.Trace[:], r.bytes(16))
		copy(l.Span[:], r.bytes(8))
		l.Attrs = r.attrs(0)
		s.Links = append(s.Links, l)
	}
	return r.err
}

// json appends the value as plain JSON.
func (v Value) json(b []byte) []byte {
	quote := func(s string) {
		q, err := json.Marshal(s)
		if err != nil { // strings always marshal
			panic(err)
		}
		b = append(b, q...)
	}
	switch v.Type {
	case TypeString:
		quote(v.Str)
	case TypeBytes:
		quote(base64.StdEncoding.EncodeToString([]byte(v.Str)))
	case TypeBool:
		b = strconv.AppendBool(b, v.Int != 0)
	case TypeInt:
		b = strconv.AppendInt(b, v.Int, 10)
	case TypeFloat:
		if math.IsNaN(v.Float) || math.IsInf(v.Float, 0) { // JSON has no such numbers
			quote(strconv.FormatFloat(v.Float, 'g', -1, 64))
		} else {
			b = strconv.AppendFloat(b, v.Float, 'g', -1, 64)
		}
	case TypeList:
		b = append(b, '[')
		for i, e := range v.List {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.json(b)
		}
		b = append(b, ']')
	case TypeMap:
		b = append(b, '{')
		for i, a := range v.Map {
			if i > 0 {
				b = append(b, ',')
			}
			quote(a.Key)
			b = append(b, ':')
			b = a.Value.json(b)
		}
		b = append(b, '}')
	default:
		b = append(b, "null"...)
	}
	return b
}
