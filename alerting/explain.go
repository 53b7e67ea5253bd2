package alerting

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/common/model"
)

// Explanation says what routing does with an alert of these labels now.
type Explanation struct {
	Labels      model.LabelSet `json:"labels"`
	SilencedBy  []string       `json:"silencedBy"`  // IDs of silences
	InhibitedBy []string       `json:"inhibitedBy"` // fingerprints of alerts
	Routes      []RouteTaken   `json:"routes"`
}

// RouteTaken is one route that matches.
type RouteTaken struct {
	Route          string         `json:"route"` // its matchers from the root on
	Receiver       string         `json:"receiver"`
	Destinations   []string       `json:"destinations"` // queues; none means shown only
	GroupLabels    model.LabelSet `json:"groupLabels"`
	GroupWait      model.Duration `json:"groupWait"`
	GroupInterval  model.Duration `json:"groupInterval"`
	RepeatInterval model.Duration `json:"repeatInterval"`
	// MutedBy are the mute time intervals that hold now, or all active ones
	// when none of them does.
	MutedBy []string `json:"mutedBy"`
}

// Explain returns what routing does with an alert of these labels now.
func (a *Alerting) Explain(ctx context.Context, lset model.LabelSet) (Explanation, error) {
	r := a.router.Load()
	if r == nil {
		return Explanation{}, fmt.Errorf("cannot explain routing: %w", errNotRunning)
	}
	rt := r.routes.Load()
	m := marker.NewAlertMarker()
	ctx = marker.WithContext(ctx, m)
	rt.inhibitor.Mutes(ctx, lset)
	r.silencer.Mutes(ctx, lset)
	status := m.Status(lset.Fingerprint())
	out := Explanation{Labels: lset, SilencedBy: orEmpty(status.SilencedBy), InhibitedBy: orEmpty(status.InhibitedBy)}
	for _, route := range rt.root.Match(lset) {
		o := route.RouteOpts
		t := RouteTaken{
			Route: route.Key(), Receiver: o.Receiver, Destinations: []string{}, GroupLabels: model.LabelSet{}, MutedBy: []string{},
			GroupWait: model.Duration(o.GroupWait), GroupInterval: model.Duration(o.GroupInterval), RepeatInterval: model.Duration(o.RepeatInterval),
		}
		for _, i := range rt.plan.integrations[o.Receiver] {
			t.Destinations = append(t.Destinations, i.destination(o.Receiver))
		}
		for l, v := range lset {
			if _, ok := o.GroupBy[l]; ok || o.GroupByAll {
				t.GroupLabels[l] = v
			}
		}
		now := a.now().UTC()
		muted, by, err := rt.plan.intervener.Mutes(o.MuteTimeIntervals, now)
		if err != nil {
			return out, fmt.Errorf("cannot explain route %s: %w", route.Key(), err)
		}
		if muted {
			t.MutedBy = append(t.MutedBy, by...)
		}
		if len(o.ActiveTimeIntervals) > 0 {
			active, _, err := rt.plan.intervener.Mutes(o.ActiveTimeIntervals, now)
			if err != nil {
				return out, fmt.Errorf("cannot explain route %s: %w", route.Key(), err)
			}
			if !active {
				t.MutedBy = append(t.MutedBy, o.ActiveTimeIntervals...)
			}
		}
		out.Routes = append(out.Routes, t)
	}
	return out, nil
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// explain answers Explain for the labels given as query parameters.
func (a *Alerting) explain(w http.ResponseWriter, r *http.Request) {
	lset := model.LabelSet{}
	for k, v := range r.URL.Query() {
		lset[model.LabelName(k)] = model.LabelValue(v[0])
	}
	if err := lset.Validate(); err != nil || len(lset) == 0 {
		http.Error(w, "give the alert's labels as parameters: ?alertname=…&severity=…", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	e, err := a.Explain(ctx, lset)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b, err := json.Marshal(e)
	if err != nil {
		http.Error(w, "cannot encode explanation: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}
