package flowcontrol

import (
	"math"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Upstream's figures of a request's work.
const (
	// estimatedService is how long a request is expected to hold its seats.
	estimatedService = 3 * time.Millisecond
	objectsPerSeat   = 100
	watchesPerSeat   = 10
	// eventTime is what one seat spends on watchesPerSeat watchers.
	eventTime = 5 * time.Millisecond
	// widest is the most seats a request may take.
	widest = 10
)

// work is what a request is expected to cost: seats while it is served, then
// finalSeats for extra, while watchers are told.
type work struct {
	seats, finalSeats int
	extra             time.Duration
}

// width is the number of seats that are held all along.
func (w work) width() int { return max(w.seats, w.finalSeats) }

// total is in seat-seconds.
func (w work) total() float64 {
	return float64(w.seats)*estimatedService.Seconds() + float64(w.finalSeats)*w.extra.Seconds()
}

// Counter says how many objects of a resource are stored; ok is false for
// resources that are not kept here.
type Counter func(schema.GroupResource) (count int64, ok bool)

// estimate is pure but for the counters it asks. most bounds the seats.
func estimate(r *Request, most int, objects Counter, watches *watchers) work {
	switch r.Verb {
	case "list", "watch":
		if r.Path == "" {
			return work{seats: min(listSeats(r, objects), most)}
		}
	case "create", "update", "patch", "delete", "deletecollection":
		if r.Path == "" {
			return writeWork(r, most, watches)
		}
	}
	return work{seats: 1}
}

func listSeats(r *Request, objects Counter) int {
	// One name is read as a get is.
	if r.Name != "" || objects == nil {
		return 1
	}
	stored, ok := objects(schema.GroupResource{Group: r.Group, Resource: r.Resource})
	if !ok || stored <= objectsPerSeat {
		return 1
	}
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		return 1 // refused before it lists
	}
	if r.Verb == "watch" {
		rv := query.Get("resourceVersion")
		if query.Get("sendInitialEvents") != "true" && rv != "" && rv != "0" {
			return 1
		}
	}
	read := stored
	if limit, err := strconv.ParseInt(query.Get("limit"), 10, 64); err == nil && limit > 0 && query.Get("labelSelector") == "" && query.Get("fieldSelector") == "" {
		read = min(read, limit)
	}
	return int((read + objectsPerSeat - 1) / objectsPerSeat)
}

// writeWork counts telling the watchers: each takes a tenth of a seat for
// eventTime. What is wider than most is made narrower and longer.
func writeWork(r *Request, most int, watches *watchers) work {
	if r.Resource == "serviceaccounts" && r.Subresource == "token" {
		return work{seats: 1} // no event
	}
	n := watches.interested(r)
	if n < watchesPerSeat {
		return work{seats: 1}
	}
	final := (n + watchesPerSeat - 1) / watchesPerSeat
	w := work{seats: 1, finalSeats: min(final, most)}
	w.extra = time.Duration(float64(final) * float64(eventTime) / float64(w.finalSeats))
	return w
}

// mostSeats bounds the width of requests of a level, so that they stay
// narrow beside what the level has.
func mostSeats(nominal, handSize int) int {
	if handSize == 0 {
		return widest
	}
	share := min(int(math.Ceil(float64(nominal)*0.15)), nominal/handSize)
	return min(max(share, 1), widest)
}
