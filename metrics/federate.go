package metrics

import (
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// federate serves the latest samples of the series that match[] selects, as
// Prometheus' /federate: untyped, with timestamps and external labels.
func (m *Metrics) federate(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "cannot read the form: "+err.Error(), http.StatusBadRequest)
		return
	}
	sets, err := newParser().ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		http.Error(w, "cannot parse match[]: "+err.Error(), http.StatusBadRequest)
		return
	}
	families, err := m.latest(r, sets)
	if err != nil {
		http.Error(w, "cannot read the database: "+err.Error(), http.StatusInternalServerError)
		return
	}
	format := expfmt.Negotiate(r.Header)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return // the client went away
		}
	}
}

// latest groups the newest sample of each selected series by name.
func (m *Metrics) latest(r *http.Request, matchers [][]*labels.Matcher) ([]*dto.MetricFamily, error) {
	now := time.Now()
	from, to := now.Add(-lookback).UnixMilli(), now.UnixMilli()
	q, err := m.db.Querier(from, to)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	var sets []storage.SeriesSet
	for _, ms := range matchers {
		sets = append(sets, q.Select(r.Context(), true, &storage.SelectHints{Start: from, End: to}, ms...))
	}
	set := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	byName := map[string]*dto.MetricFamily{}
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		it = s.Iterator(it)
		var t int64
		var v float64
		found := false
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind == chunkenc.ValFloat {
				t, v = it.At()
				found = true
			}
		}
		if !found || value.IsStaleNaN(v) {
			continue
		}
		name := s.Labels().Get(labels.MetricName)
		f := byName[name]
		if f == nil {
			f = &dto.MetricFamily{Name: &name, Type: dto.MetricType_UNTYPED.Enum()}
			byName[name] = f
		}
		f.Metric = append(f.Metric, &dto.Metric{Label: m.federated(s.Labels()), Untyped: &dto.Untyped{Value: &v}, TimestampMs: &t})
	}
	if err := set.Err(); err != nil {
		return nil, err
	}
	out := make([]*dto.MetricFamily, 0, len(byName))
	for _, f := range byName {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// federated is a series' labels with the external ones it does not have.
func (m *Metrics) federated(l labels.Labels) []*dto.LabelPair {
	b := labels.NewBuilder(l)
	for k, v := range m.cfg.ExternalLabels {
		if !l.Has(k) {
			b.Set(k, v)
		}
	}
	var out []*dto.LabelPair
	b.Labels().Range(func(p labels.Label) {
		if p.Name != labels.MetricName {
			name, value := p.Name, p.Value
			out = append(out, &dto.LabelPair{Name: &name, Value: &value})
		}
	})
	return out
}
