package tracing

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Query selects traces that have at least one span fulfilling every condition.
// Zero fields are no condition.
type Query struct {
	Service   string
	Operation string
	// Attrs must be equal on the span, its resource, its scope or one of its
	// events, compared as text.
	Attrs                    map[string]string
	MinDuration, MaxDuration time.Duration
	// Start and End bound the start of the span.
	Start, End time.Time
	// Limit is how many traces are returned, the most recent ones.
	Limit int
	// where is a further condition on the decoded span.
	where func(*Span) bool
}

func (q *Query) decodes() bool { return len(q.Attrs) > 0 || q.where != nil }

// words returns the dictionary numbers of the service and operation; ok is
// false when the segment has no such words and so no such spans.
func (q *Query) words(g *segment) (service, name int64, ok bool) {
	find := func(s string) int64 {
		if s == "" {
			return -1
		}
		if g.words != nil {
			if n, ok := g.words[s]; ok {
				return int64(n)
			}
			return -2
		}
		if n := slices.Index(g.dict, s); n >= 0 {
			return int64(n)
		}
		return -2
	}
	service, name = find(q.Service), find(q.Operation)
	return service, name, service != -2 && name != -2
}

func (q *Query) matchHead(h *head, service, name int64) bool {
	return (service < 0 || int64(h.service) == service) &&
		(name < 0 || int64(h.name) == name) &&
		(q.MinDuration == 0 || h.duration >= int64(q.MinDuration)) &&
		(q.MaxDuration == 0 || h.duration <= int64(q.MaxDuration)) &&
		(q.Start.IsZero() || h.start >= q.Start.UnixNano()) &&
		(q.End.IsZero() || h.start <= q.End.UnixNano())
}

func (q *Query) matchSpan(s *Span) bool {
	for k, want := range q.Attrs {
		if !hasAttr(s, k, want) {
			return false
		}
	}
	return q.where == nil || q.where(s)
}

func hasAttr(s *Span, key, want string) bool {
	in := func(attrs []Attr) bool {
		return slices.ContainsFunc(attrs, func(a Attr) bool { return a.Key == key && a.Value.Text() == want })
	}
	if in(s.Attrs) || in(s.Resource.Attrs) {
		return true
	}
	switch key {
	case "error":
		if want == "true" && s.Status == StatusError {
			return true
		}
	case "span.kind":
		if s.Kind.String() == want {
			return true
		}
	case "otel.status_code":
		if want == statusText(s.Status) {
			return true
		}
	case "otel.scope.name":
		if s.Scope.Name == want {
			return true
		}
	}
	return slices.ContainsFunc(s.Events, func(e Event) bool { return in(e.Attrs) })
}

func statusText(s Status) string {
	switch s {
	case StatusOK:
		return "OK"
	case StatusError:
		return "ERROR"
	}
	return ""
}

// find returns the IDs of the traces that match, most recent first, and how
// many spans were looked at.
func (s *store) find(q Query) (ids []TraceID, inspected int, err error) {
	type hit struct {
		id    TraceID
		start int64
	}
	newest := map[TraceID]int64{} // start of the latest matching span
	s.mu.RLock()
	for _, g := range s.segments {
		if !q.Start.IsZero() && g.maxEnd < q.Start.UnixNano() || !q.End.IsZero() && g.minStart > q.End.UnixNano() {
			continue
		}
		service, name, ok := q.words(g)
		if !ok {
			continue
		}
		for n := range g.heads {
			h := &g.heads[n]
			inspected++
			if !q.matchHead(h, service, name) {
				continue
			}
			if at, ok := newest[h.trace]; ok && at >= h.start {
				continue
			}
			if q.decodes() {
				sp, e := g.span(uint32(n))
				if e != nil {
					err = cmp.Or(err, e)
					continue
				}
				if !q.matchSpan(sp) {
					continue
				}
			}
			newest[h.trace] = h.start
		}
	}
	s.mu.RUnlock()
	if err != nil {
		return nil, inspected, err
	}
	hits := make([]hit, 0, len(newest))
	for id, start := range newest {
		hits = append(hits, hit{id, start})
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.start, a.start), slices.Compare(a.id[:], b.id[:]))
	})
	if q.Limit > 0 && len(hits) > q.Limit {
		hits = hits[:q.Limit]
	}
	for _, h := range hits {
		ids = append(ids, h.id)
	}
	return ids, inspected, nil
}

// Operation is a span name of a service with its kind.
type Operation struct {
	Name string
	Kind Kind
}

// Services returns the names of all services with stored spans, sorted.
func (t *Tracing) Services() []string {
	seen := map[string]bool{}
	t.store.eachHead(func(g *segment, n uint32) bool {
		seen[g.dict[g.heads[n].service]] = true
		return true
	})
	return slices.Sorted(maps.Keys(seen))
}

// Operations returns the operations of a service, sorted by name.
func (t *Tracing) Operations(service string) []Operation {
	seen := map[Operation]bool{}
	t.store.eachHead(func(g *segment, n uint32) bool {
		if h := &g.heads[n]; g.dict[h.service] == service {
			seen[Operation{g.dict[h.name], h.kind}] = true
		}
		return true
	})
	return slices.SortedFunc(maps.Keys(seen), func(a, b Operation) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
}

// Trace returns the spans of a trace by start time; none when it is not stored.
func (t *Tracing) Trace(id TraceID) ([]*Span, error) { return t.store.trace(id) }

// Find returns the IDs of matching traces, most recent first.
func (t *Tracing) Find(q Query) ([]TraceID, error) {
	ids, _, err := t.store.find(q)
	return ids, err
}

// Summary is a trace in one line.
type Summary struct {
	ID          TraceID
	RootService string
	// RootName is the name of the first span without a stored parent.
	RootName string
	Services []string // sorted
	Start    time.Time
	Duration time.Duration // first start to last end
	Spans    int
	Errors   int // spans with error status
}

// Latest returns the most recently active traces, at most limit.
func (t *Tracing) Latest(limit int) []Summary { return t.LatestFunc(limit, nil) }

// LatestFunc returns the most recently active traces that keep says yes to,
// at most limit.
func (t *Tracing) LatestFunc(limit int, keep func(Summary) bool) []Summary {
	// Spans arrive as they end, so the newest arrivals hold the newest ends.
	for want := max(4*limit, 64); ; want *= 4 {
		var ids []TraceID
		seen := map[TraceID]bool{}
		t.store.eachHead(func(g *segment, n uint32) bool {
			if id := g.heads[n].trace; !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
			return len(ids) < want
		})
		var out []Summary
		for _, id := range ids {
			if s, ok := t.store.summary(id); ok && (keep == nil || keep(s)) {
				out = append(out, s)
			}
		}
		slices.SortFunc(out, func(a, b Summary) int {
			return cmp.Or(b.Start.Add(b.Duration).Compare(a.Start.Add(a.Duration)), slices.Compare(a.ID[:], b.ID[:]))
		})
		if len(out) >= limit {
			return out[:limit]
		}
		if len(ids) < want {
			return out
		}
	}
}

// summary looks at heads only.
func (s *store) summary(id TraceID) (Summary, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	type item struct {
		*head
		service, name string
	}
	items := map[SpanID]item{}
	for _, g := range s.segments {
		for _, n := range g.traces[id] {
			h := &g.heads[n]
			items[h.id] = item{h, g.dict[h.service], g.dict[h.name]}
		}
	}
	if len(items) == 0 {
		return Summary{}, false
	}
	sum := Summary{ID: id, Spans: len(items)}
	services := map[string]bool{}
	var root *item
	var first, end int64
	for _, it := range items {
		services[it.service] = true
		if it.status == StatusError {
			sum.Errors++
		}
		if first == 0 || it.start < first {
			first = it.start
		}
		end = max(end, it.start+it.duration)
		if _, has := items[it.parent]; has {
			continue
		}
		if root == nil || it.start < root.start || it.start == root.start && slices.Compare(it.id[:], root.id[:]) < 0 {
			root = &it
		}
	}
	if root != nil { // spans may form a ring when a sender is broken
		sum.RootService, sum.RootName = root.service, root.name
	}
	sum.Services = slices.Sorted(maps.Keys(services))
	sum.Start, sum.Duration = time.Unix(0, first), time.Duration(end-first)
	return sum, true
}

// Dependency says how often spans of one service are parents of another's.
type Dependency struct {
	Parent, Child string
	Calls         uint64
}

// Dependencies counts calls between services by spans that started in [from, to].
func (t *Tracing) Dependencies(from, to time.Time) []Dependency {
	type key struct {
		trace TraceID
		span  SpanID
	}
	s := t.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	owner := map[key]string{}
	for _, g := range s.segments {
		for i := range g.heads {
			h := &g.heads[i]
			owner[key{h.trace, h.id}] = g.dict[h.service]
		}
	}
	counts := map[[2]string]uint64{}
	for _, g := range s.segments {
		for i := range g.heads {
			h := &g.heads[i]
			if h.start < from.UnixNano() || h.start > to.UnixNano() {
				continue
			}
			child := g.dict[h.service]
			if parent, ok := owner[key{h.trace, h.parent}]; ok && parent != child {
				counts[[2]string{parent, child}]++
			}
		}
	}
	var out []Dependency
	for k, n := range counts {
		out = append(out, Dependency{k[0], k[1], n})
	}
	slices.SortFunc(out, func(a, b Dependency) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child))
	})
	return out
}
