package flowcontrol

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Dumps are the names of what Dump writes.
const (
	DumpLevels   = "dump_priority_levels"
	DumpQueues   = "dump_queues"
	DumpRequests = "dump_requests"
)

// Dump writes what upstream's /debug/api_priority_and_fairness/<name> shows;
// details adds who asks for what. It reports false for a name that is none.
func (c *Controller) Dump(w io.Writer, name string, details bool) (bool, error) {
	var rows func(out func(...string), l *level)
	var header []string
	switch name {
	case DumpLevels:
		header = []string{"PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
			"DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests"}
		rows = levelRow
	case DumpQueues:
		header = []string{"PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
			"InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum"}
		rows = queueRows
	case DumpRequests:
		header = []string{"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
			"InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime"}
		if details {
			header = append(header, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
		}
		rows = func(out func(...string), l *level) { requestRows(out, l, c.origin, details) }
	default:
		return false, nil
	}
	tab := tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)
	var failed error
	out := func(cells ...string) {
		if _, err := fmt.Fprintln(tab, strings.Join(cells, ",\t")); failed == nil {
			failed = err
		}
	}
	out(header...)
	// The table's levels are read under the lock that changes them.
	c.mu.Lock()
	defer c.mu.Unlock()
	levels := c.table.Load().levels
	for _, n := range slices.Sorted(maps.Keys(levels)) {
		l := levels[n]
		l.mu.Lock()
		rows(out, l)
		l.mu.Unlock()
	}
	if failed != nil {
		return true, failed
	}
	return true, tab.Flush()
}

func levelRow(out func(...string), l *level) {
	k, active := &l.class, 0
	for _, q := range k.queues {
		if len(q.waiting) > 0 {
			active++
		}
	}
	out(l.name, strconv.Itoa(active), strconv.FormatBool(k.waiting == 0 && k.executing == 0), strconv.FormatBool(l.quiescing), strconv.Itoa(k.waiting),
		strconv.Itoa(k.executing), strconv.Itoa(l.dispatched), strconv.Itoa(l.rejected), strconv.Itoa(l.timedOut), strconv.Itoa(l.cancelled))
}

func queueRows(out func(...string), l *level) {
	for _, q := range l.class.queues {
		initial, widths, total := 0, 0, 0.0
		for _, x := range q.waiting {
			initial += x.seats
			widths += x.width()
			total += x.total()
		}
		out(l.name, strconv.Itoa(q.index), strconv.Itoa(len(q.waiting)), strconv.Itoa(q.executing), strconv.Itoa(q.seats),
			seatSeconds(q.nextR), strconv.Itoa(initial), strconv.Itoa(widths), seatSeconds(total))
	}
}

func seatSeconds(x float64) string { return strconv.FormatFloat(x, 'f', 8, 64) + "ss" }

func requestRows(out func(...string), l *level, origin time.Time, details bool) {
	row := func(t *Ticket, queue, at int, started time.Time) {
		cells := []string{l.name, t.Schema, strconv.Itoa(queue), strconv.Itoa(at), t.Flow, t.arrived.UTC().Format(time.RFC3339Nano),
			strconv.Itoa(t.work.seats), strconv.Itoa(t.work.finalSeats), t.work.extra.String(), started.UTC().Format(time.RFC3339Nano)}
		if r := &t.request; details {
			version := r.Version
			if r.Group != "" {
				version = r.Group + "/" + r.Version
			}
			cells = append(cells, r.User.Name, r.Verb, r.Path, r.Namespace, r.Name, version, r.Resource, r.Subresource)
		}
		out(cells...)
	}
	for _, q := range l.class.queues {
		for i, x := range q.waiting {
			row(x.ticket, q.index, i, time.Time{})
		}
	}
	for t := l.running.next; t != nil; t = t.next {
		row(t, t.Queue, -1, origin.Add(time.Duration(t.began)))
	}
}
