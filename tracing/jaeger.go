package tracing

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Jaeger's HTTP query API, as its UI and Grafana's data source use it
// (https://www.jaegertracing.io/docs/latest/apis/#internal-http-json).

type jaegerResponse struct {
	Data   any           `json:"data"`
	Total  int           `json:"total"`
	Limit  int           `json:"limit"`
	Offset int           `json:"offset"`
	Errors []jaegerError `json:"errors"`
}

type jaegerError struct {
	Code    int    `json:"code,omitempty"`
	Msg     string `json:"msg"`
	TraceID string `json:"traceID,omitempty"`
}

type jaegerTrace struct {
	TraceID   string                   `json:"traceID"`
	Spans     []jaegerSpan             `json:"spans"`
	Processes map[string]jaegerProcess `json:"processes"`
	Warnings  []string                 `json:"warnings"`
}

type jaegerSpan struct {
	TraceID       string            `json:"traceID"`
	SpanID        string            `json:"spanID"`
	Flags         uint32            `json:"flags,omitempty"`
	OperationName string            `json:"operationName"`
	References    []jaegerReference `json:"references"`
	StartTime     int64             `json:"startTime"` // µs
	Duration      int64             `json:"duration"`  // µs
	Tags          []jaegerTag       `json:"tags"`
	Logs          []jaegerLog       `json:"logs"`
	ProcessID     string            `json:"processID"`
	Warnings      []string          `json:"warnings"`
}

type jaegerReference struct {
	RefType string `json:"refType"`
	TraceID string `json:"traceID"`
	SpanID  string `json:"spanID"`
}

type jaegerProcess struct {
	ServiceName string      `json:"serviceName"`
	Tags        []jaegerTag `json:"tags"`
}

type jaegerTag struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

type jaegerLog struct {
	Timestamp int64       `json:"timestamp"` // µs
	Fields    []jaegerTag `json:"fields"`
}

type jaegerOperation struct {
	Name     string `json:"name"`
	SpanKind string `json:"spanKind"`
}

type jaegerDependency struct {
	Parent    string `json:"parent"`
	Child     string `json:"child"`
	CallCount uint64 `json:"callCount"`
}

const (
	defaultTraceLimit = 100
	maxTraceLimit     = 1500
)

// JaegerHandler serves Jaeger's query API at /api/….
func (t *Tracing) JaegerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/services", func(w http.ResponseWriter, r *http.Request) {
		writeJaegerList(w, t.Services())
	})
	mux.HandleFunc("GET /api/services/{service}/operations", func(w http.ResponseWriter, r *http.Request) {
		var names []string
		for _, op := range t.Operations(r.PathValue("service")) {
			names = append(names, op.Name)
		}
		writeJaegerList(w, slices.Compact(names))
	})
	mux.HandleFunc("GET /api/operations", t.jaegerOperations)
	mux.HandleFunc("GET /api/traces", t.jaegerSearch)
	mux.HandleFunc("GET /api/traces/{id}", t.jaegerTrace)
	mux.HandleFunc("GET /api/dependencies", t.jaegerDependencies)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJaegerError(w, http.StatusNotFound, fmt.Errorf("no %s %s in this API", r.Method, r.URL.Path))
	})
	return mux
}

func (t *Tracing) jaegerOperations(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	service := q.Get("service")
	if service == "" {
		writeJaegerError(w, http.StatusBadRequest, fmt.Errorf("parameter 'service' is required"))
		return
	}
	out := []jaegerOperation{}
	for _, op := range t.Operations(service) {
		if kind := q.Get("spanKind"); kind == "" || kind == op.Kind.String() {
			out = append(out, jaegerOperation{op.Name, op.Kind.String()})
		}
	}
	writeJaegerList(w, out)
}

func (t *Tracing) jaegerSearch(w http.ResponseWriter, r *http.Request) {
	var ids []TraceID
	if given := r.URL.Query()["traceID"]; len(given) > 0 {
		for _, s := range given {
			id, err := ParseTraceID(s)
			if err != nil {
				writeJaegerError(w, http.StatusBadRequest, err)
				return
			}
			ids = append(ids, id)
		}
	} else {
		q, err := parseJaegerQuery(r.URL.Query(), t.now())
		if err != nil {
			writeJaegerError(w, http.StatusBadRequest, err)
			return
		}
		if ids, err = t.Find(q); err != nil {
			writeJaegerError(w, http.StatusInternalServerError, err)
			return
		}
	}
	traces := []jaegerTrace{}
	for _, id := range ids {
		spans, err := t.Trace(id)
		if err != nil {
			writeJaegerError(w, http.StatusInternalServerError, err)
			return
		}
		if len(spans) > 0 {
			traces = append(traces, toJaeger(id, spans))
		}
	}
	writeJaeger(w, http.StatusOK, jaegerResponse{Data: traces})
}

func (t *Tracing) jaegerTrace(w http.ResponseWriter, r *http.Request) {
	id, err := ParseTraceID(r.PathValue("id"))
	if err != nil {
		writeJaegerError(w, http.StatusBadRequest, err)
		return
	}
	spans, err := t.Trace(id)
	switch {
	case err != nil:
		writeJaegerError(w, http.StatusInternalServerError, err)
	case len(spans) == 0:
		writeJaeger(w, http.StatusNotFound, jaegerResponse{Errors: []jaegerError{{
			Code: http.StatusNotFound, Msg: "trace not found", TraceID: id.String(),
		}}})
	default:
		writeJaeger(w, http.StatusOK, jaegerResponse{Data: []jaegerTrace{toJaeger(id, spans)}})
	}
}

func (t *Tracing) jaegerDependencies(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	end, lookback := t.now(), 24*time.Hour
	for name, set := range map[string]func(int64){
		"endTs":    func(ms int64) { end = time.UnixMilli(ms) },
		"lookback": func(ms int64) { lookback = time.Duration(ms) * time.Millisecond },
	} {
		if v := q.Get(name); v != "" {
			ms, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				writeJaegerError(w, http.StatusBadRequest, fmt.Errorf("cannot parse %s %q as milliseconds", name, v))
				return
			}
			set(ms)
		}
	}
	out := []jaegerDependency{}
	for _, d := range t.Dependencies(end.Add(-lookback), end) {
		out = append(out, jaegerDependency{d.Parent, d.Child, d.Calls})
	}
	writeJaegerList(w, out)
}

// parseJaegerQuery reads service, operation, tags (a JSON object), tag
// (key:value, repeated), minDuration, maxDuration, start and end (µs), lookback
// (when start is absent) and limit.
func parseJaegerQuery(v url.Values, now time.Time) (q Query, err error) {
	q = Query{Service: v.Get("service"), Operation: v.Get("operation"), Limit: defaultTraceLimit, Attrs: map[string]string{}}
	if q.Service == "" {
		return q, fmt.Errorf("parameter 'service' is required")
	}
	if q.Operation == "all" {
		q.Operation = ""
	}
	at := func(name string) (time.Time, error) {
		s := v.Get(name)
		if s == "" {
			return time.Time{}, nil
		}
		us, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("cannot parse %s %q as microseconds", name, s)
		}
		return time.UnixMicro(us), nil
	}
	duration := func(name string) (time.Duration, error) {
		s := v.Get(name)
		if s == "" {
			return 0, nil
		}
		d, err := parseLookback(s)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("cannot parse %s %q as a duration such as 1.2s or 100ms", name, s)
		}
		return d, nil
	}
	if q.Start, err = at("start"); err != nil {
		return q, err
	}
	if q.End, err = at("end"); err != nil {
		return q, err
	}
	if q.MinDuration, err = duration("minDuration"); err != nil {
		return q, err
	}
	if q.MaxDuration, err = duration("maxDuration"); err != nil {
		return q, err
	}
	if q.MaxDuration != 0 && q.MaxDuration < q.MinDuration {
		return q, fmt.Errorf("'maxDuration' should be greater than 'minDuration'")
	}
	if s := v.Get("lookback"); q.Start.IsZero() && s != "" && s != "custom" {
		d, err := duration("lookback")
		if err != nil {
			return q, err
		}
		end := q.End
		if end.IsZero() {
			end = now
		}
		q.Start = end.Add(-d)
	}
	if s := v.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return q, fmt.Errorf("cannot parse limit %q as a positive number", s)
		}
		q.Limit = min(n, maxTraceLimit)
	}
	for _, s := range v["tag"] {
		key, value, ok := strings.Cut(s, ":")
		if !ok {
			return q, fmt.Errorf("malformed 'tag' parameter %q, expecting key:value", s)
		}
		q.Attrs[key] = value
	}
	for _, s := range v["tags"] {
		var tags map[string]string
		if err := json.Unmarshal([]byte(s), &tags); err != nil {
			return q, fmt.Errorf("malformed 'tags' parameter, cannot unmarshal JSON: %w", err)
		}
		for k, value := range tags {
			q.Attrs[k] = value
		}
	}
	return q, nil
}

// parseLookback parses a Go duration or Jaeger's days ("2d").
func parseLookback(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}

func toJaeger(id TraceID, spans []*Span) jaegerTrace {
	out := jaegerTrace{TraceID: id.String(), Processes: map[string]jaegerProcess{}, Spans: make([]jaegerSpan, 0, len(spans))}
	processes := map[string]string{}
	for _, s := range spans {
		p := jaegerProcess{ServiceName: s.Resource.Service, Tags: jaegerTags(s.Resource.Attrs)}
		slices.SortFunc(p.Tags, func(a, b jaegerTag) int { return cmp.Compare(a.Key, b.Key) })
		key := fmt.Sprint(p)
		pid, ok := processes[key]
		if !ok {
			pid = "p" + strconv.Itoa(len(processes)+1)
			processes[key] = pid
			out.Processes[pid] = p
		}
		out.Spans = append(out.Spans, toJaegerSpan(s, pid))
	}
	return out
}

// toJaegerSpan follows OpenTelemetry's mapping to Jaeger
// (https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger/).
func toJaegerSpan(s *Span, process string) jaegerSpan {
	out := jaegerSpan{
		TraceID: s.Trace.String(), SpanID: s.ID.String(), OperationName: s.Name,
		References: []jaegerReference{}, Logs: []jaegerLog{},
		StartTime: s.Start / 1000, Duration: s.Duration / 1000,
		Tags: jaegerTags(s.Attrs), ProcessID: process,
	}
	if s.Parent != (SpanID{}) {
		out.References = append(out.References, jaegerReference{"CHILD_OF", s.Trace.String(), s.Parent.String()})
	}
	for _, l := range s.Links {
		out.References = append(out.References, jaegerReference{"FOLLOWS_FROM", l.Trace.String(), l.Span.String()})
	}
	text := func(key, value string) {
		if value != "" {
			out.Tags = append(out.Tags, jaegerTag{key, "string", value})
		}
	}
	text("otel.scope.name", s.Scope.Name)
	text("otel.scope.version", s.Scope.Version)
	text("span.kind", s.Kind.String())
	text("otel.status_code", statusText(s.Status))
	if s.Status == StatusError {
		out.Tags = append(out.Tags, jaegerTag{"error", "bool", true})
	}
	text("otel.status_description", s.StatusMessage)
	text("w3c.tracestate", s.TraceState)
	for _, e := range s.Events {
		l := jaegerLog{Timestamp: e.Time / 1000, Fields: []jaegerTag{}}
		if e.Name != "" {
			l.Fields = append(l.Fields, jaegerTag{"event", "string", e.Name})
		}
		l.Fields = append(l.Fields, jaegerTags(e.Attrs)...)
		out.Logs = append(out.Logs, l)
	}
	return out
}

func jaegerTags(attrs []Attr) []jaegerTag {
	out := make([]jaegerTag, 0, len(attrs)+4)
	for _, a := range attrs {
		t := jaegerTag{Key: a.Key, Type: "string"}
		switch v := a.Value; v.Type {
		case TypeBool:
			t.Type, t.Value = "bool", v.Int != 0
		case TypeInt:
			t.Type, t.Value = "int64", v.Int
		case TypeFloat:
			t.Type, t.Value = "float64", json.RawMessage(v.json(nil)) // NaN and Inf as text
		case TypeBytes:
			t.Type, t.Value = "binary", base64.StdEncoding.EncodeToString([]byte(v.Str))
		default:
			t.Value = v.Text()
		}
		out = append(out, t)
	}
	return out
}

func writeJaegerList[T any](w http.ResponseWriter, list []T) {
	if list == nil {
		list = []T{}
	}
	writeJaeger(w, http.StatusOK, jaegerResponse{Data: list, Total: len(list)})
}

func writeJaegerError(w http.ResponseWriter, code int, err error) {
	writeJaeger(w, code, jaegerResponse{Errors: []jaegerError{{Code: code, Msg: err.Error()}}})
}

func writeJaeger(w http.ResponseWriter, code int, resp jaegerResponse) { writeJSON(w, code, resp) }

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "cannot encode response: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(code)
	_, _ = w.Write(b)
}
