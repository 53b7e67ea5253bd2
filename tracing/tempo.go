package tracing

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Tempo's HTTP query API, the part Grafana's data source uses
// (https://grafana.com/docs/tempo/latest/api_docs/).

type tempoSearchResponse struct {
	Traces  []tempoTrace `json:"traces"`
	Metrics tempoMetrics `json:"metrics"`
}

type tempoTrace struct {
	TraceID           string `json:"traceID"`
	RootServiceName   string `json:"rootServiceName"`
	RootTraceName     string `json:"rootTraceName"`
	StartTimeUnixNano string `json:"startTimeUnixNano"`
	DurationMs        int64  `json:"durationMs"`
}

type tempoMetrics struct {
	InspectedTraces int `json:"inspectedTraces"`
	InspectedSpans  int `json:"inspectedSpans,string"`
}

type tempoScope struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

type tempoValue struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

const defaultTempoLimit = 20

// TempoHandler serves Tempo's query API at /api/….
func (t *Tracing) TempoHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("echo")) })
	mux.HandleFunc("GET /api/traces/{id}", t.tempoTrace)
	mux.HandleFunc("GET /api/v2/traces/{id}", t.tempoTraceV2)
	mux.HandleFunc("GET /api/search", t.tempoSearch)
	mux.HandleFunc("GET /api/search/tags", func(w http.ResponseWriter, r *http.Request) {
		var all []string
		for _, s := range t.tempoScopes() {
			all = append(all, s.Tags...)
		}
		slices.Sort(all)
		writeJSON(w, http.StatusOK, map[string]any{"tagNames": nonNil(slices.Compact(all))})
	})
	mux.HandleFunc("GET /api/v2/search/tags", func(w http.ResponseWriter, r *http.Request) {
		want := r.URL.Query().Get("scope")
		scopes := slices.DeleteFunc(t.tempoScopes(), func(s tempoScope) bool {
			return want != "" && want != "none" && s.Name != want
		})
		writeJSON(w, http.StatusOK, map[string]any{"scopes": scopes})
	})
	mux.HandleFunc("GET /api/search/tag/{tag}/values", func(w http.ResponseWriter, r *http.Request) {
		values := []string{}
		for _, v := range t.tempoValues(r.PathValue("tag")) {
			values = append(values, v.Value)
		}
		writeJSON(w, http.StatusOK, map[string]any{"tagValues": values})
	})
	mux.HandleFunc("GET /api/v2/search/tag/{tag}/values", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"tagValues": nonNil(t.tempoValues(r.PathValue("tag")))})
	})
	return mux
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// stored answers for a trace that cannot be given; ok says the spans are there.
func (t *Tracing) stored(w http.ResponseWriter, r *http.Request) (td ptrace.Traces, ok bool) {
	id, err := ParseTraceID(r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return td, false
	}
	spans, err := t.Trace(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return td, false
	}
	if len(spans) == 0 {
		http.Error(w, "trace not found", http.StatusNotFound)
		return td, false
	}
	return toOTLP(spans), true
}

// tempoTrace answers OTLP as protobuf when asked for it, else as JSON. Tempo
// calls the resource spans "batches"; in protobuf both are field 1.
func (t *Tracing) tempoTrace(w http.ResponseWriter, r *http.Request) {
	td, ok := t.stored(w, r)
	if !ok {
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "application/protobuf") {
		b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
		if err != nil {
			http.Error(w, "cannot encode trace: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/protobuf")
		_, _ = w.Write(b)
		return
	}
	t.writeTraceJSON(w, td, `{"batches":`, "}")
}

func (t *Tracing) tempoTraceV2(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "application/protobuf") {
		http.Error(w, "cannot answer /api/v2/traces as protobuf: ask for application/json, or use /api/traces", http.StatusNotAcceptable)
		return
	}
	if td, ok := t.stored(w, r); ok {
		t.writeTraceJSON(w, td, `{"trace":{"resourceSpans":`, "}}")
	}
}

func (t *Tracing) writeTraceJSON(w http.ResponseWriter, td ptrace.Traces, open, end string) {
	b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	list, found := strings.CutPrefix(string(b), `{"resourceSpans":`)
	if err != nil || !found {
		http.Error(w, fmt.Sprintf("cannot encode trace: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	_, _ = w.Write([]byte(open + strings.TrimSuffix(list, "}") + end))
}

func (t *Tracing) tempoSearch(w http.ResponseWriter, r *http.Request) {
	q, err := parseTempoQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ids, inspected, err := t.store.find(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	resp := tempoSearchResponse{Traces: []tempoTrace{}, Metrics: tempoMetrics{InspectedTraces: len(ids), InspectedSpans: inspected}}
	for _, id := range ids {
		s, ok := t.store.summary(id)
		if !ok { // evicted since
			continue
		}
		resp.Traces = append(resp.Traces, tempoTrace{
			TraceID: id.String(), RootServiceName: s.RootService, RootTraceName: s.RootName,
			StartTimeUnixNano: strconv.FormatInt(s.Start.UnixNano(), 10), DurationMs: s.Duration.Milliseconds(),
		})
	}
	writeJSON(w, http.StatusOK, resp)
}

// parseTempoQuery reads q (TraceQL), tags (logfmt), minDuration, maxDuration,
// start and end (Unix seconds) and limit.
func parseTempoQuery(v url.Values) (q Query, err error) {
	q.Limit = defaultTempoLimit
	if s := v.Get("q"); s != "" {
		if q.where, err = parseTraceQL(s); err != nil {
			return q, err
		}
	}
	if s := v.Get("tags"); s != "" {
		if q.Attrs, err = parseLogfmt(s); err != nil {
			return q, err
		}
		for name, to := range map[string]*string{serviceName: &q.Service, "name": &q.Operation} {
			*to = q.Attrs[name]
			delete(q.Attrs, name)
		}
	}
	for name, to := range map[string]*time.Duration{"minDuration": &q.MinDuration, "maxDuration": &q.MaxDuration} {
		if s := v.Get(name); s != "" {
			if *to, err = time.ParseDuration(s); err != nil || *to < 0 {
				return q, fmt.Errorf("cannot parse %s %q as a duration such as 1.2s or 100ms", name, s)
			}
		}
	}
	for name, to := range map[string]*time.Time{"start": &q.Start, "end": &q.End} {
		if s := v.Get(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return q, fmt.Errorf("cannot parse %s %q as Unix seconds", name, s)
			}
			*to = time.Unix(n, 0)
		}
	}
	if s := v.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return q, fmt.Errorf("cannot parse limit %q as a positive number", s)
		}
		q.Limit = min(n, maxTraceLimit)
	}
	return q, nil
}

// parseLogfmt reads key=value pairs separated by spaces; values may be quoted.
func parseLogfmt(s string) (map[string]string, error) {
	out := map[string]string{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		key, rest, ok := strings.Cut(s, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \"") {
			return nil, fmt.Errorf("cannot parse tags at %q: want key=value", s)
		}
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("cannot parse tags at %q: %w", rest, err)
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, fmt.Errorf("cannot parse tags at %q: %w", rest, err)
			}
			out[key], s = value, rest[len(quoted):]
			continue
		}
		out[key], s, _ = strings.Cut(rest, " ")
	}
	return out, nil
}

// maxTagSpans bounds how many of the latest spans tag look-ups decode.
const maxTagSpans = 20000

func (t *Tracing) eachRecent(f func(*Span)) {
	n := 0
	t.store.eachHead(func(g *segment, i uint32) bool {
		if sp, err := g.span(i); err == nil { // a damaged payload has no tags
			f(sp)
		}
		n++
		return n < maxTagSpans
	})
}

func (t *Tracing) tempoScopes() []tempoScope {
	resource, span := map[string]bool{}, map[string]bool{}
	seen := map[*Resource]bool{}
	t.eachRecent(func(s *Span) {
		for _, a := range s.Attrs {
			span[a.Key] = true
		}
		if !seen[s.Resource] {
			seen[s.Resource] = true
			resource[serviceName] = true
			for _, a := range s.Resource.Attrs {
				resource[a.Key] = true
			}
		}
	})
	return []tempoScope{
		{"resource", nonNil(slices.Sorted(maps.Keys(resource)))},
		{"span", nonNil(slices.Sorted(maps.Keys(span)))},
		{"intrinsic", []string{"duration", "kind", "name", "status", "statusMessage"}},
	}
}

// tempoValues returns the values of a tag, which may carry its scope
// ("resource.service.name", "span.http.method", ".http.method").
func (t *Tracing) tempoValues(tag string) []tempoValue {
	f, err := parseField(tag)
	if err != nil {
		f = field{scope: scopeAny, name: tag}
	}
	seen := map[tempoValue]bool{}
	t.eachRecent(func(s *Span) {
		for _, v := range f.values(s) {
			seen[tempoValue{tempoType(f, v), v.Text()}] = true
		}
	})
	return slices.SortedFunc(maps.Keys(seen), func(a, b tempoValue) int { return strings.Compare(a.Value, b.Value) })
}

func tempoType(f field, v Value) string {
	if f.scope == scopeIntrinsic && (f.name == "status" || f.name == "kind") {
		return "keyword"
	}
	switch v.Type {
	case TypeInt:
		return "int"
	case TypeFloat:
		return "float"
	case TypeBool:
		return "bool"
	}
	return "string"
}

func toOTLP(spans []*Span) ptrace.Traces {
	td := ptrace.NewTraces()
	type scopeKey struct {
		res   *Resource
		scope Scope
	}
	resources := map[*Resource]ptrace.ResourceSpans{}
	scopes := map[scopeKey]ptrace.ScopeSpans{}
	for _, s := range spans {
		rs, ok := resources[s.Resource]
		if !ok {
			rs = td.ResourceSpans().AppendEmpty()
			resources[s.Resource] = rs
			rs.Resource().Attributes().PutStr(serviceName, s.Resource.Service)
			putAttrs(rs.Resource().Attributes(), s.Resource.Attrs)
		}
		key := scopeKey{s.Resource, s.Scope}
		ss, ok := scopes[key]
		if !ok {
			ss = rs.ScopeSpans().AppendEmpty()
			scopes[key] = ss
			ss.Scope().SetName(s.Scope.Name)
			ss.Scope().SetVersion(s.Scope.Version)
		}
		o := ss.Spans().AppendEmpty()
		o.SetTraceID(pcommon.TraceID(s.Trace))
		o.SetSpanID(pcommon.SpanID(s.ID))
		o.SetParentSpanID(pcommon.SpanID(s.Parent))
		o.TraceState().FromRaw(s.TraceState)
		o.SetName(s.Name)
		o.SetKind(ptrace.SpanKind(s.Kind))
		o.SetStartTimestamp(pcommon.Timestamp(s.Start))
		o.SetEndTimestamp(pcommon.Timestamp(s.Start + s.Duration))
		o.Status().SetCode(ptrace.StatusCode(s.Status))
		o.Status().SetMessage(s.StatusMessage)
		putAttrs(o.Attributes(), s.Attrs)
		for _, e := range s.Events {
			oe := o.Events().AppendEmpty()
			oe.SetTimestamp(pcommon.Timestamp(e.Time))
			oe.SetName(e.Name)
			putAttrs(oe.Attributes(), e.Attrs)
		}
		for _, l := range s.Links {
			ol := o.Links().AppendEmpty()
			ol.SetTraceID(pcommon.TraceID(l.Trace))
			ol.SetSpanID(pcommon.SpanID(l.Span))
			putAttrs(ol.Attributes(), l.Attrs)
		}
	}
	return td
}

func putAttrs(m pcommon.Map, attrs []Attr) {
	for _, a := range attrs {
		putValue(m.PutEmpty(a.Key), a.Value)
	}
}

func putValue(to pcommon.Value, v Value) {
	switch v.Type {
	case TypeString:
		to.SetStr(v.Str)
	case TypeBool:
		to.SetBool(v.Int != 0)
	case TypeInt:
		to.SetInt(v.Int)
	case TypeFloat:
		to.SetDouble(v.Float)
	case TypeBytes:
		to.SetEmptyBytes().FromRaw([]byte(v.Str))
	case TypeList:
		list := to.SetEmptySlice()
		for _, e := range v.List {
			putValue(list.AppendEmpty(), e)
		}
	case TypeMap:
		putAttrs(to.SetEmptyMap(), v.Map)
	}
}
