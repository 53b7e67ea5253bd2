package dashboards

import (
	"cmp"
	"slices"

	"binnacle.io/tracing"
)

// maxTraces bounds each list of traces.
const maxTraces = 40

// tracesView is the latest traces, and the latest of those that tell a story.
type tracesView struct {
	Notable []traceView `json:"notable"`
	All     []traceView `json:"all"`
}

type traceView struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Service  string   `json:"service"`
	Services []string `json:"services"`
	Start    int64    `json:"start"`    // Unix milliseconds
	Duration int64    `json:"duration"` // microseconds
	Spans    int      `json:"spans"`
	Errors   int      `json:"errors"`
}

// plumbing are the services of every single write; a trace of nothing else is
// a lease or a status being renewed.
var plumbing = []string{"apiserver", "etcd"}

func notable(s tracing.Summary) bool {
	others := 0
	for _, name := range s.Services {
		if !slices.Contains(plumbing, name) {
			others++
		}
	}
	return s.Errors > 0 || others > 0 && (len(s.Services) > 1 || s.Spans > 4)
}

func viewTraces(t Traces) tracesView {
	list := func(keep func(tracing.Summary) bool) []traceView {
		out := []traceView{}
		for _, s := range t.LatestFunc(maxTraces, keep) {
			out = append(out, traceView{
				ID: s.ID.String(), Name: s.RootName, Service: s.RootService, Services: s.Services,
				Start: s.Start.UnixMilli(), Duration: s.Duration.Microseconds(), Spans: s.Spans, Errors: s.Errors,
			})
		}
		return out
	}
	return tracesView{Notable: list(notable), All: list(nil)}
}

// spanView is a bar of a waterfall. Times are microseconds, Start since the
// trace began.
type spanView struct {
	ID       string      `json:"id"`
	Parent   string      `json:"parent,omitempty"`
	Name     string      `json:"name"`
	Service  string      `json:"service"`
	Kind     string      `json:"kind,omitempty"`
	Start    int64       `json:"start"`
	Duration int64       `json:"duration"`
	Error    bool        `json:"error"`
	Message  string      `json:"message,omitempty"`
	Attrs    [][2]string `json:"attrs"`
	Events   []spanEvent `json:"events"`
}

type spanEvent struct {
	At    int64       `json:"at"` // microseconds since the trace began
	Name  string      `json:"name"`
	Attrs [][2]string `json:"attrs"`
}

type traceDetail struct {
	ID    string     `json:"id"`
	Start int64      `json:"start"` // Unix milliseconds
	Spans []spanView `json:"spans"`
}

func viewTrace(id tracing.TraceID, spans []*tracing.Span) traceDetail {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b *tracing.Span) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), slices.Compare(a.ID[:], b.ID[:]))
	})
	out := traceDetail{ID: id.String(), Spans: []spanView{}}
	for _, s := range spans {
		begin := spans[0].Start
		v := spanView{
			ID: s.ID.String(), Name: s.Name, Service: s.Resource.Service, Kind: s.Kind.String(),
			Start: (s.Start - begin) / 1000, Duration: s.Duration / 1000,
			Error: s.Status == tracing.StatusError, Message: s.StatusMessage, Attrs: viewAttrs(s.Attrs), Events: []spanEvent{},
		}
		if s.Parent != (tracing.SpanID{}) {
			v.Parent = s.Parent.String()
		}
		for _, e := range s.Events {
			v.Events = append(v.Events, spanEvent{At: (e.Time - begin) / 1000, Name: e.Name, Attrs: viewAttrs(e.Attrs)})
		}
		out.Spans = append(out.Spans, v)
	}
	if len(spans) > 0 {
		out.Start = spans[0].StartTime().UnixMilli()
	}
	return out
}

func viewAttrs(attrs []tracing.Attr) [][2]string {
	out := [][2]string{}
	for _, a := range attrs {
		out = append(out, [2]string{a.Key, a.Value.Text()})
	}
	return out
}
