package tracing

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TraceID and SpanID are W3C trace-context identifiers. All zeros is invalid.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

func (t TraceID) String() string { return hex.EncodeToString(t[:]) }
func (s SpanID) String() string  { return hex.EncodeToString(s[:]) }

// ParseTraceID accepts 1 to 32 hexadecimal digits; leading zeros may be absent,
// as Jaeger and Tempo allow.
func ParseTraceID(s string) (TraceID, error) {
	var id TraceID
	if len(s) == 0 || len(s) > 32 {
		return id, fmt.Errorf("cannot parse trace ID %q: want 1 to 32 hexadecimal digits", s)
	}
	b, err := hex.DecodeString(strings.Repeat("0", 32-len(s)) + s)
	if err != nil {
		return id, fmt.Errorf("cannot parse trace ID %q: %w", s, err)
	}
	copy(id[:], b)
	return id, nil
}

// Kind is the OTLP span kind.
type Kind uint8

// The OTLP span kinds, with OTLP's numbers.
const (
	KindUnspecified Kind = iota
	KindInternal
	KindServer
	KindClient
	KindProducer
	KindConsumer
)

// String is the kind as Jaeger's span.kind tag has it; empty when unspecified.
func (k Kind) String() string {
	names := [...]string{"", "internal", "server", "client", "producer", "consumer"}
	if int(k) < len(names) {
		return names[k]
	}
	return ""
}

// Status is the OTLP status code.
type Status uint8

// The OTLP status codes, with OTLP's numbers.
const (
	StatusUnset Status = iota
	StatusOK
	StatusError
)

// ValueType is the type of an attribute value.
type ValueType uint8

// The attribute value types of OTLP.
const (
	TypeEmpty ValueType = iota
	TypeString
	TypeBool
	TypeInt
	TypeFloat
	TypeBytes
	TypeList
	TypeMap
)

// Value is an attribute value. Which field counts depends on Type.
type Value struct {
	Type  ValueType
	Str   string // TypeString, TypeBytes
	Int   int64  // TypeInt, TypeBool (0 or 1)
	Float float64
	List  []Value
	Map   []Attr
}

// Attr is one attribute.
type Attr struct {
	Key   string
	Value Value
}

// Text renders the value as queries compare it: scalars plainly, lists and maps
// as JSON.
func (v Value) Text() string {
	switch v.Type {
	case TypeString, TypeBytes:
		return v.Str
	case TypeBool:
		return strconv.FormatBool(v.Int != 0)
	case TypeInt:
		return strconv.FormatInt(v.Int, 10)
	case TypeFloat:
		return strconv.FormatFloat(v.Float, 'g', -1, 64)
	case TypeList, TypeMap:
		return string(v.json(nil))
	}
	return ""
}

// Resource is who emitted spans.
type Resource struct {
	Service string // service.name
	Attrs   []Attr // the others
}

// Scope is the instrumentation scope.
type Scope struct{ Name, Version string }

// Event is a timed annotation of a span.
type Event struct {
	Time  int64 // Unix nanoseconds
	Name  string
	Attrs []Attr
}

// Link refers to another span.
type Link struct {
	Trace TraceID
	Span  SpanID
	Attrs []Attr
}

// Span is one decoded span.
type Span struct {
	Trace         TraceID
	ID, Parent    SpanID
	TraceState    string
	Name          string
	Kind          Kind
	Start         int64 // Unix nanoseconds
	Duration      int64 // nanoseconds, never negative
	Status        Status
	StatusMessage string
	Attrs         []Attr
	Events        []Event
	Links         []Link
	Resource      *Resource
	Scope         Scope
}

// StartTime is Start as a time.
func (s *Span) StartTime() time.Time { return time.Unix(0, s.Start) }

func (s *Span) valid() bool { return s.Trace != TraceID{} && s.ID != SpanID{} }
