package metrics

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
)

var staleNaN = math.Float64frombits(value.StaleNaN)

// target is one in-process source with what is known about its series.
type target struct {
	job      string
	labels   []labels.Label // job, instance and more
	interval time.Duration
	skip     func(*dto.MetricFamily, *dto.Metric) bool
	shown    *scrape.Target // what /api/v1/targets shows

	mu        sync.Mutex // held during a gather and by readers of meta
	gatherers []prometheus.Gatherer
	meta      metadata

	// Below: the gathering goroutine's own.
	series  map[string]*known
	reports [5]known // up, scrape_duration_seconds, …
	round   uint64
	builder labels.ScratchBuilder
	key     []byte
	scratch []sample
}

// known is a series that the last rounds had.
type known struct {
	labels labels.Labels
	ref    storage.SeriesRef
	round  uint64
}

func newTarget(cfg Config, s Source) *target {
	set := map[string]string{"job": s.Job, "instance": cfg.instance(s.Job)}
	for k, v := range cfg.targetLabels(s.Job) {
		set[k] = v
	}
	if s.Instance != "" {
		set["instance"] = s.Instance
	}
	for k, v := range s.Labels {
		set[k] = v
	}
	t := &target{job: s.Job, interval: s.Interval, skip: s.Skip, meta: metadata{}, series: map[string]*known{}}
	if s.Gatherer != nil {
		t.gatherers = []prometheus.Gatherer{s.Gatherer}
	}
	if t.interval == 0 {
		t.interval = cfg.Interval
	}
	all := labels.FromMap(set)
	all.Range(func(l labels.Label) {
		if l.Value != "" {
			t.labels = append(t.labels, l)
		}
	})
	for i, name := range []string{"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"} {
		t.reports[i].labels = seriesLabels(&t.builder, name, &sample{}, &dto.Metric{}, t.labels)
	}
	path := set["metrics_path"]
	if path == "" {
		path = "/metrics"
	}
	shown := labels.NewBuilder(all.WithoutEmpty())
	shown.Set(model.AddressLabel, set["instance"]).Set(model.SchemeLabel, "inprocess").Set(model.MetricsPathLabel, path)
	shown.Set(model.ScrapeIntervalLabel, model.Duration(t.interval).String()).Set(model.ScrapeTimeoutLabel, model.Duration(t.interval).String())
	t.shown = scrape.NewTarget(shown.Labels(), &config.ScrapeConfig{JobName: s.Job}, model.LabelSet{model.AddressLabel: model.LabelValue(set["instance"])}, nil)
	t.shown.SetMetadataStore(t)
	return t
}

// add gathers one more registry under the same target.
func (t *target) add(g prometheus.Gatherer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gatherers = append(t.gatherers, g)
}

// result is what one gathering did.
type result struct {
	samples, added, stale, refused int
	duration                       time.Duration
	err                            error
}

// gather reads the target and appends what it has, stamped with now. Series
// that the previous round had and this one lacks become stale.
func (t *target) gather(ctx context.Context, db storage.Appendable, now time.Time) result {
	t.mu.Lock()
	defer t.mu.Unlock()
	var r result
	t.round++
	app := db.Appender(ctx)
	ts := now.UnixMilli()
	for _, g := range t.gatherers {
		list, err := g.Gather()
		// A registry returns what is sound beside its error.
		r.err = errors.Join(r.err, err)
		for _, f := range list {
			t.append(app, f, ts, &r)
		}
	}
	for key, k := range t.series {
		if k.round == t.round {
			continue
		}
		// A refused marker means the series has a newer sample or is gone.
		_, _ = app.Append(k.ref, k.labels, ts, staleNaN)
		delete(t.series, key)
		r.stale++
	}
	r.duration = time.Since(now)
	up := 1.0
	if r.err != nil && r.samples == 0 {
		up = 0
	}
	for i, v := range []float64{up, r.duration.Seconds(), float64(r.samples), float64(r.samples), float64(r.added)} {
		k := &t.reports[i]
		if ref, err := app.Append(k.ref, k.labels, ts, v); err == nil {
			k.ref = ref
		}
	}
	if err := app.Commit(); err != nil {
		r.err = errors.Join(r.err, err)
	}
	t.shown.Report(now, r.duration, r.err)
	return r
}

func (t *target) append(app storage.Appender, f *dto.MetricFamily, ts int64, r *result) {
	t.meta.note(f)
	for _, m := range f.Metric {
		if t.skip != nil && t.skip(f, m) {
			continue
		}
		at := ts
		if m.TimestampMs != nil {
			at = m.GetTimestampMs()
		}
		t.scratch = samplesOf(t.scratch[:0], f.GetType(), m)
		for i := range t.scratch {
			s := &t.scratch[i]
			r.samples++
			t.key = seriesKey(t.key[:0], f.GetName(), s, m)
			k := t.series[string(t.key)]
			if k == nil {
				k = &known{labels: seriesLabels(&t.builder, f.GetName(), s, m, t.labels)}
				t.series[string(t.key)] = k
				r.added++
			} else if k.round == t.round {
				continue // two registries of one job: the first wins
			}
			k.round = t.round
			ref, err := app.Append(k.ref, k.labels, at, s.value)
			if err != nil {
				r.refused++
				continue
			}
			k.ref = ref
		}
	}
}

// ListMetadata, GetMetadata, SizeMetadata and LengthMetadata make the target
// the scrape.MetricMetadataStore of what it shows.
func (t *target) ListMetadata() []scrape.MetricMetadata {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]scrape.MetricMetadata, 0, len(t.meta))
	for _, m := range t.meta {
		list = append(list, m)
	}
	return list
}

// GetMetadata finds a family by name or by the name of one of its series.
func (t *target) GetMetadata(name string) (scrape.MetricMetadata, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.meta[name]; ok {
		return m, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			if m, ok := t.meta[base]; ok {
				return m, true
			}
		}
	}
	return scrape.MetricMetadata{}, false
}

// SizeMetadata is the bytes of names, types and help texts.
func (t *target) SizeMetadata() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, m := range t.meta {
		n += len(m.MetricFamily) + len(m.Type) + len(m.Help) + len(m.Unit)
	}
	return n
}

// LengthMetadata is the number of families.
func (t *target) LengthMetadata() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.meta)
}
