package tracing

import (
	"time"
	"unsafe"
)

// head is what filters look at, one per span.
type head struct {
	trace         TraceID
	id, parent    SpanID
	start         int64
	duration      int64
	service, name uint32 // dictionary numbers
	offset        uint32 // of the payload in the blob
	kind          Kind
	status        Status
}

// segment holds spans in order of arrival. The last segment of a store grows
// under the store's lock; all others are sealed and immutable.
type segment struct {
	seq       uint64 // names the file
	created   time.Time
	updated   time.Time // arrival of the last span
	dict      []string
	resources []*Resource
	heads     []head
	blob      []byte

	words     map[string]uint32    // dict inverted; nil once sealed
	resourceN map[string]uint32    // encoded resource → number; nil once sealed
	traces    map[TraceID][]uint32 // head numbers

	minStart, maxEnd int64
	bytes            int64 // estimate of the memory held
	persisted        bool
}

const (
	headBytes  = int64(unsafe.Sizeof(head{}))
	wordBytes  = 48 // string header, map entry
	traceBytes = 72 // map entry, slice
	maxBlob    = 1 << 31
)

func newSegment(seq uint64, now time.Time) *segment {
	s := &segment{
		seq: seq, created: now, updated: now,
		words: map[string]uint32{}, resourceN: map[string]uint32{}, traces: map[TraceID][]uint32{},
	}
	s.intern("")
	return s
}

func (g *segment) intern(s string) uint32 {
	if n, ok := g.words[s]; ok {
		return n
	}
	n := uint32(len(g.dict))
	g.dict = append(g.dict, s)
	g.words[s] = n
	g.bytes += wordBytes + int64(len(s))
	return n
}

func (g *segment) resource(r *Resource) uint32 {
	key := appendAttrs(appendString(nil, r.Service), r.Attrs, g, 0)
	if n, ok := g.resourceN[string(key)]; ok {
		return n
	}
	n := uint32(len(g.resources))
	g.resources = append(g.resources, r)
	g.resourceN[string(key)] = n
	g.bytes += wordBytes + 4*int64(len(key))
	return n
}

func (g *segment) add(s *Span) {
	before := len(g.blob)
	res := g.resource(s.Resource)
	h := head{
		trace: s.Trace, id: s.ID, parent: s.Parent,
		start: s.Start, duration: s.Duration,
		service: g.intern(s.Resource.Service), name: g.intern(s.Name),
		offset: uint32(before), kind: s.Kind, status: s.Status,
	}
	g.blob = appendPayload(g.blob, s, res, g)
	g.index(h)
	g.bytes += headBytes + int64(len(g.blob)-before)
}

// index appends h to the heads and makes it findable.
func (g *segment) index(h head) {
	at, ok := g.traces[h.trace]
	if !ok {
		g.bytes += traceBytes
	}
	g.traces[h.trace] = append(at, uint32(len(g.heads)))
	g.bytes += 4
	if len(g.heads) == 0 || h.start < g.minStart {
		g.minStart = h.start
	}
	g.maxEnd = max(g.maxEnd, h.start+h.duration)
	g.heads = append(g.heads, h)
}

func (g *segment) span(n uint32) (*Span, error) {
	h := &g.heads[n]
	s := &Span{
		Trace: h.trace, ID: h.id, Parent: h.parent, Start: h.start, Duration: h.duration,
		Name: g.dict[h.name], Kind: h.kind, Status: h.status,
	}
	end := len(g.blob)
	if int(n)+1 < len(g.heads) {
		end = int(g.heads[n+1].offset)
	}
	r := reader{b: g.blob[h.offset:end], dict: g.dict}
	if err := r.payload(s, g.resources); err != nil {
		return nil, err
	}
	return s, nil
}

// seal drops what only growing needs.
func (g *segment) seal() { g.words, g.resourceN = nil, nil }
