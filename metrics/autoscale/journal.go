package autoscale

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"binnacle.io/core/client"
)

// Record is one decision with its inputs, as Decisions shows it.
type Record struct {
	Time        time.Time         `json:"time"`
	Target      string            `json:"target"`
	Current     int32             `json:"currentReplicas"`
	Recommended int32             `json:"recommendedReplicas"`
	Desired     int32             `json:"desiredReplicas"`
	Minimum     int32             `json:"minReplicas"`
	Maximum     int32             `json:"maxReplicas"`
	Rescaled    bool              `json:"rescaled"`
	Reason      string            `json:"reason,omitempty"`
	Error       string            `json:"error,omitempty"`
	Metrics     []Proposal        `json:"metrics,omitempty"`
	Conditions  map[string]string `json:"conditions"`
	Pods        int               `json:"pods"`
	// Times counts equal decisions in a row, of which this is the last.
	Times int `json:"times"`
}

func record(now time.Time, h *autoscalingv2.HorizontalPodAutoscaler, s *State, d *Decision) Record {
	r := Record{
		Time: now, Target: h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name,
		Recommended: d.Recommended, Desired: d.Desired, Minimum: 1, Maximum: h.Spec.MaxReplicas,
		Rescaled: d.Rescale, Reason: d.Reason, Metrics: d.Proposals, Conditions: map[string]string{}, Times: 1,
	}
	if h.Spec.MinReplicas != nil {
		r.Minimum = *h.Spec.MinReplicas
	}
	if s != nil {
		r.Current, r.Pods = s.Replicas, len(s.Pods)
	}
	if d.Err != nil {
		r.Error = d.Err.Error()
	}
	for _, c := range d.Conditions {
		r.Conditions[string(c.Type)] = string(c.Status) + " " + c.Reason
	}
	return r
}

// same tells whether two records say the same apart from measured values.
func (r *Record) same(o *Record) bool {
	if r.Current != o.Current || r.Recommended != o.Recommended || r.Desired != o.Desired || r.Rescaled || o.Rescaled ||
		r.Error != o.Error || r.Pods != o.Pods || len(r.Conditions) != len(o.Conditions) || r.Maximum != o.Maximum || r.Minimum != o.Minimum {
		return false
	}
	for k, v := range r.Conditions {
		if o.Conditions[k] != v {
			return false
		}
	}
	return true
}

// journal keeps the latest records of each autoscaler. Equal ones in a row
// share a place, so that a quiet hour does not push out the last change.
type journal struct {
	limit int

	mu      sync.Mutex
	records map[client.Key][]Record // oldest first, guarded by mu
}

func newJournal(limit int) *journal {
	return &journal{limit: limit, records: map[client.Key][]Record{}}
}

func (j *journal) add(key client.Key, r Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.records[key]
	if n := len(list); n > 0 && list[n-1].same(&r) {
		r.Times = list[n-1].Times + 1
		list[n-1] = r
		return
	}
	if len(list) >= j.limit {
		list = append(list[:0], list[1:]...)
	}
	j.records[key] = append(list, r)
}

func (j *journal) forget(key client.Key) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.records, key)
}

// Decisions returns the recorded decisions about an autoscaler, newest first.
func (c *Controller) Decisions(namespace, name string) []Record {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	list := slices.Clone(c.log.records[client.Key{Namespace: namespace, Name: name}])
	slices.Reverse(list)
	return list
}

// Handler serves decisions as JSON: <prefix>/<namespace>/<name> one
// autoscaler's, <prefix>/ the latest of each.
func (c *Controller) Handler(prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		var body any
		rest := strings.Trim(strings.TrimPrefix(r.URL.Path, prefix), "/")
		namespace, name, found := strings.Cut(rest, "/")
		switch {
		case rest == "":
			body = c.latest()
		case found && !strings.Contains(name, "/"):
			list := c.Decisions(namespace, name)
			if list == nil {
				http.Error(w, "no decisions about this autoscaler", http.StatusNotFound)
				return
			}
			body = list
		default:
			http.Error(w, "expected <namespace>/<name>", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // the client went away
	})
}

type latest struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Record
}

func (c *Controller) latest() []latest {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	out := []latest{}
	for key, list := range c.log.records {
		out = append(out, latest{key.Namespace, key.Name, list[len(list)-1]})
	}
	slices.SortFunc(out, func(a, b latest) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return out
}
