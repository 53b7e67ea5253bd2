package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// trace is a trace as Jaeger's HTTP API answers it.
type trace struct {
	TraceID   string
	Spans     []span
	Processes map[string]struct{ ServiceName string }
}

type span struct {
	SpanID, OperationName, ProcessID string
	StartTime, Duration              int64 // µs
	References                       []struct{ RefType, SpanID string }
	Tags                             []struct {
		Key   string
		Value any
	}
}

// about are tags that say what a span worked on.
var about = []string{"k8s.pod.name", "k8s.service.name", "binnacle.object.name", "k8s.object.name", "k8s.container.name"}

func (s span) subject() string {
	for _, key := range about {
		for _, t := range s.Tags {
			if t.Key == key {
				return fmt.Sprint(t.Value)
			}
		}
	}
	return ""
}

// printTrace prints the trace of the apply of the front end's Deployment, once
// it has come as far as the programmed service.
func printTrace(ctx context.Context, base string, since time.Time, w io.Writer) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		t, err := findTrace(ctx, base, since)
		if err != nil {
			return err
		}
		if t != nil && t.has("program service") {
			t.print(w)
			fmt.Fprintf(w, "\n  the whole: %s/jaeger/api/traces/%s, and on the page\n\n", base, t.TraceID)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("no trace leads from the apply of deployment %s/frontend to the programmed service", namespace)
		case <-tick.C:
		}
	}
}

// findTrace returns the richest trace of requests about the Deployment, or nil.
func findTrace(ctx context.Context, base string, since time.Time) (*trace, error) {
	q := url.Values{
		"service": {"apiserver"}, "limit": {"50"},
		"tags":  {`{"k8s.object.name":"frontend","k8s.resource":"deployments"}`},
		"start": {fmt.Sprint(since.UnixMicro())}, "end": {fmt.Sprint(time.Now().UnixMicro())},
	}
	var answer struct{ Data []trace }
	if err := getJSON(ctx, base+"/jaeger/api/traces?"+q.Encode(), &answer); err != nil {
		return nil, err
	}
	if len(answer.Data) == 0 {
		return nil, nil
	}
	t := slices.MaxFunc(answer.Data, func(a, b trace) int { return cmp.Compare(len(a.Spans), len(b.Spans)) })
	return &t, nil
}

func (t *trace) has(operation string) bool {
	return slices.ContainsFunc(t.Spans, func(s span) bool { return s.OperationName == operation })
}

// detail are spans that are left out of the list: they are inside of a request.
func detail(s span) bool {
	return strings.HasPrefix(s.OperationName, "admission ") || s.OperationName == "encode"
}

// print shows the trace as an indented list. Of siblings that do the same for
// one replica after the other, the first stands for all.
func (t *trace) print(w io.Writer) {
	known := map[string]bool{}
	for _, s := range t.Spans {
		known[s.SpanID] = true
	}
	children := map[string][]span{}
	var begun int64
	for _, s := range t.Spans {
		if detail(s) {
			continue
		}
		parent := ""
		for _, r := range s.References {
			if known[r.SpanID] {
				parent = r.SpanID
			}
		}
		children[parent] = append(children[parent], s)
		if begun == 0 || s.StartTime < begun {
			begun = s.StartTime
		}
	}
	fmt.Fprintf(w, "\n  trace %s, %d spans, from kubectl apply to the service that answers (without admission and encoding):\n\n", t.TraceID, len(t.Spans))
	var show func(parent string, depth int)
	show = func(parent string, depth int) {
		list := children[parent]
		slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.StartTime, b.StartTime) })
		times := map[string]int{}
		name := func(s span) string { return t.Processes[s.ProcessID].ServiceName + ": " + s.OperationName }
		for _, s := range list {
			times[name(s)]++
		}
		for _, s := range list {
			n := times[name(s)]
			if n == 0 {
				continue // shown
			}
			times[name(s)] = 0
			text := strings.Repeat("  ", depth) + strings.TrimSpace(name(s)+" "+s.subject())
			if n > 1 {
				text += fmt.Sprintf(" (and %d more)", n-1)
			}
			fmt.Fprintf(w, "  %8.1f ms  %-78s %8.1f ms\n", float64(s.StartTime-begun)/1000, text, float64(s.Duration)/1000)
			show(s.SpanID, depth+1)
		}
	}
	show("", 0)
}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", url, err)
	}
	return nil
}
