package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// goal is a line of the speed table. With times it asks that Binnacle be so
// many times better than what it is compared with; with atMost, that
// Binnacle's figure be at most that.
type goal struct {
	measure string
	figure  string
	higher  bool // more is better
	times   float64
	atMost  float64
	// against is another figure of Binnacle's or of nobody's to compare
	// with; empty means the same figure of upstream's.
	against string
	client  string // the figure that tells the client's CPU
}

func goals() []goal {
	const read, write, watch = "read/run.tool_cpu", "write/run.tool_cpu", "watch/run.tool_cpu"
	lower := func(measure, figure, client string, times float64) goal {
		return goal{measure: measure, figure: figure, client: client, times: times}
	}
	higher := func(measure, figure, client string, times float64) goal {
		return goal{measure: measure, figure: figure, client: client, times: times, higher: true}
	}
	all := []goal{
		lower("LIST JSON", "read/list.latest.json.p50", read, 10),
		lower("LIST JSON, server CPU", "read/list.latest.json.server_cpu", read, 10),
		lower("LIST protobuf", "read/list.latest.protobuf.p50", read, 10),
		lower("LIST protobuf, server CPU", "read/list.latest.protobuf.server_cpu", read, 10),
		lower("LIST JSON, any revision", "read/list.rv0.json.p50", read, 10),
		lower("LIST protobuf, any revision", "read/list.rv0.protobuf.p50", read, 10),
		lower("LIST as Table", "read/list.table.p50", read, 5),
		lower("LIST as Table, paged", "read/list.table.paged.p50", read, 5),
		lower("LIST protobuf, paged", "read/list.paged.protobuf.p50", read, 5),
		lower("LIST by selector", "read/list.selected.protobuf.p50", read, 5),
		lower("LIST gzip", "read/list.latest.gzip.protobuf.p50", read, 0),
		lower("LIST gzip, size", "read/list.latest.gzip.protobuf.size", read, 0),
		{measure: "extra memory of a LIST, JSON", figure: "read/list.latest.json.server_rss_growth", client: read, atMost: 8},
		{measure: "extra memory of a LIST, protobuf", figure: "read/list.latest.protobuf.server_rss_growth", client: read, atMost: 8},
		higher("GET JSON, 64 clients", "read/get.json.rate", read, 3),
		lower("GET JSON, p99", "read/get.json.p99", read, 3),
		higher("GET protobuf, 64 clients", "read/get.protobuf.rate", read, 3),
		lower("GET protobuf, p99", "read/get.protobuf.p99", read, 3),
	}
	for _, kind := range []struct{ name, update string }{{"pods", "patch-status"}, {"configmaps", "patch"}, {"leases", "put"}} {
		for _, action := range []struct{ name, etcd string }{{"create", "create"}, {kind.update, "update"}, {"delete", "delete"}} {
			figure := "write/" + kind.name + "." + action.name + ".rate"
			g := higher(kind.name+" "+action.name, figure, write, 3)
			all = append(all, g)
			g.measure, g.times, g.against = kind.name+" "+action.name+" against bare etcd", 0.8, "etcd/"+kind.name+"."+action.etcd
			all = append(all, g)
		}
	}
	return append(all,
		lower("watch, server CPU per event", "watch/watch.server_cpu", watch, 4),
		goal{measure: "watch, delivery p99", figure: "watch/watch.delivery.p99", client: watch, atMost: 20},
		goal{measure: "watch, events missing", figure: "watch/watch.missing", client: watch, atMost: 0},
		goal{measure: "delivery p99 beside stopped readers", figure: "watch/watch.some_stalled.delivery.p99", client: watch, times: 0.5, against: "watch/watch.all_reading.delivery.p99"},
		goal{measure: "events missing beside stopped readers", figure: "watch/watch.some_stalled.missing", client: watch, atMost: 0},
		lower("initial state, protobuf", "watch/initial.protobuf.p50", watch, 0),
		lower("initial state, JSON", "watch/initial.json.p50", watch, 0),
		lower("memory with 10,000 pods, 10 watchers", "memory/rest", "memory/tool_cpu", 4),
		goal{measure: "memory growth, 20 initial states at once", figure: "memory/initial", client: "memory/tool_cpu", atMost: 64},
	)
}

// row is a goal with what was measured.
type row struct {
	Measure  string  `json:"measure"`
	Unit     string  `json:"unit"`
	Compared float64 `json:"compared"` // upstream's median, or what else is compared with
	Binnacle float64 `json:"binnacle"`
	// Times is how many times better Binnacle is, over the pairs of runs.
	Times, Least, Most float64
	Target             string     `json:"target"`
	Met                string     `json:"met"`
	Client             [2]float64 `json:"clientCores"`
}

func (b *bench) rows() []row {
	var rows []row
	for _, g := range goals() {
		f := b.figures[g.figure]
		if f == nil || len(f.Values[binnacle]) == 0 {
			continue
		}
		theirs := f.Values[upstream]
		if g.against != "" {
			o := b.figures[g.against]
			if o == nil {
				continue
			}
			theirs = o.Values[binnacle]
		}
		rows = append(rows, g.judge(f.Unit, theirs, f.Values[binnacle], b.figures[g.client]))
	}
	return rows
}

// judge compares run by run and decides by the medians.
func (g goal) judge(unit string, theirs, ours []float64, client *figure) row {
	r := row{Measure: g.measure, Unit: unit, Compared: median(theirs), Binnacle: median(ours)}
	better := func(them, us float64) float64 {
		if g.higher {
			them, us = us, them
		}
		if us == 0 {
			return 0
		}
		return them / us
	}
	var pairs []float64
	for i := range min(len(theirs), len(ours)) {
		pairs = append(pairs, better(theirs[i], ours[i]))
	}
	if len(pairs) > 0 {
		r.Times, r.Least, r.Most = better(r.Compared, r.Binnacle), slices.Min(pairs), slices.Max(pairs)
	}
	met := true
	switch {
	case g.times > 0:
		r.Target = "≥ " + number(g.times) + " ×"
		met = r.Times >= g.times
	case g.figure != "" && (g.atMost > 0 || strings.HasSuffix(g.figure, "missing")):
		r.Target = "≤ " + number(g.atMost)
		met = r.Binnacle <= g.atMost
	default:
		r.Met = "-"
	}
	if r.Met == "" {
		r.Met = map[bool]string{true: "met", false: "MISSED"}[met]
	}
	if client != nil {
		r.Client = [2]float64{median(client.Values[upstream]), median(client.Values[binnacle])}
	}
	return r
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

func printRows(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tunit\tupstream*\tbinnacle\ttimes better (min–max)\ttarget\t\tclient CPU, cores")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s (%s–%s)\t%s\t%s\t%s, %s\n", r.Measure, r.Unit, number(r.Compared), number(r.Binnacle),
			number(r.Times), number(r.Least), number(r.Most), r.Target, r.Met, number(r.Client[upstream]), number(r.Client[binnacle]))
	}
	fmt.Fprintln(t, "* or the bare etcd, or without stopped readers, as the measure says. Medians; ratios of paired runs.")
	return t.Flush()
}

// number shows about three significant digits.
func number(v float64) string {
	decimals := 3
	switch m := math.Abs(v); {
	case v == math.Trunc(v), m >= 100:
		decimals = 0
	case m >= 10:
		decimals = 1
	case m >= 1:
		decimals = 2
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}
