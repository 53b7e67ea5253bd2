package dashboards

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/rules"
)

// alertView is a row of the alerts section.
type alertView struct {
	Fingerprint string            `json:"fingerprint"`
	Name        string            `json:"name"`
	State       string            `json:"state"` // firing, pending
	Severity    string            `json:"severity,omitempty"`
	Since       int64             `json:"since"`
	Labels      map[string]string `json:"labels"`
	Summary     string            `json:"summary,omitempty"`
	Description string            `json:"description,omitempty"`
	Silenced    bool              `json:"silenced"`
	Inhibited   bool              `json:"inhibited"`
}

// routed is what Alertmanager's API v2 says about an alert.
type routed struct {
	Fingerprint string            `json:"fingerprint"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	Status      struct {
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status"`
}

// viewAlerts joins what the rules found with what routing says about it, and
// adds alerts that came to Alertmanager from elsewhere.
func viewAlerts(found []*rules.AlertingRule, known []routed) []alertView {
	out := []alertView{}
	index := map[string]int{}
	for _, r := range found {
		for _, a := range r.ActiveAlerts() {
			if a.State == rules.StateInactive {
				continue
			}
			set := model.LabelSet{}
			for name, value := range a.Labels.Map() {
				set[model.LabelName(name)] = model.LabelValue(value)
			}
			v := newAlert(set.Fingerprint().String(), a.Labels.Map(), a.Annotations.Map())
			v.State, v.Since = a.State.String(), a.ActiveAt.UnixMilli()
			index[v.Fingerprint] = len(out)
			out = append(out, v)
		}
	}
	for _, a := range known {
		i, ok := index[a.Fingerprint]
		if !ok {
			v := newAlert(a.Fingerprint, a.Labels, a.Annotations)
			v.State, v.Since = "firing", a.StartsAt.UnixMilli()
			i = len(out)
			out = append(out, v)
		}
		out[i].Silenced, out[i].Inhibited = len(a.Status.SilencedBy) > 0, len(a.Status.InhibitedBy) > 0
	}
	slices.SortFunc(out, func(a, b alertView) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.Since, a.Since), strings.Compare(a.Name, b.Name), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	return out
}

func newAlert(fingerprint string, labels, annotations map[string]string) alertView {
	v := alertView{
		Fingerprint: fingerprint, Name: labels[model.AlertNameLabel], Severity: labels["severity"], Labels: map[string]string{},
		Summary: annotations["summary"], Description: annotations["description"],
	}
	for name, value := range labels {
		if name != model.AlertNameLabel && name != "severity" {
			v.Labels[name] = value
		}
	}
	return v
}

// rank orders alerts by how much they want to be looked at.
func (a *alertView) rank() int {
	rank := map[string]int{"critical": 0, "warning": 1}
	n, ok := rank[a.Severity]
	if !ok {
		n = 2
	}
	switch {
	case a.Silenced || a.Inhibited:
		return n + 20
	case a.State != "firing":
		return n + 10
	}
	return n
}

// fromAlertmanager asks the API in process.
func fromAlertmanager(ctx context.Context, h http.Handler) ([]routed, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/alertmanager/api/v2/alerts", nil)
	if err != nil {
		return nil, fmt.Errorf("cannot ask Alertmanager: %w", err)
	}
	w := response{header: http.Header{}, code: http.StatusOK}
	h.ServeHTTP(&w, r)
	if w.code != http.StatusOK {
		return nil, fmt.Errorf("cannot read alerts from Alertmanager: status %d: %s", w.code, strings.TrimSpace(w.body.String()))
	}
	var out []routed
	if err := json.Unmarshal(w.body.Bytes(), &out); err != nil {
		return nil, fmt.Errorf("cannot understand Alertmanager's alerts: %w", err)
	}
	return out, nil
}

// response keeps what a handler called in process answers.
type response struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *response) Header() http.Header         { return r.header }
func (r *response) WriteHeader(code int)        { r.code = code }
func (r *response) Write(b []byte) (int, error) { return r.body.Write(b) }
