package metrics

import (
	"math"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
)

// sample is one value of a gathered family: suffix is "_bucket", "_sum",
// "_count" or nothing, extra is le or quantile with its value or nothing.
type sample struct {
	suffix            string
	extra, extraValue string
	value             float64
}

// samplesOf appends the float samples of a metric. Native histograms appear as
// their count and sum only.
func samplesOf(dst []sample, kind dto.MetricType, m *dto.Metric) []sample {
	switch kind {
	case dto.MetricType_COUNTER:
		return append(dst, sample{value: m.GetCounter().GetValue()})
	case dto.MetricType_GAUGE:
		return append(dst, sample{value: m.GetGauge().GetValue()})
	case dto.MetricType_UNTYPED:
		return append(dst, sample{value: m.GetUntyped().GetValue()})
	case dto.MetricType_SUMMARY:
		s := m.GetSummary()
		for _, q := range s.Quantile {
			dst = append(dst, sample{extra: model.QuantileLabel, extraValue: number(q.GetQuantile()), value: q.GetValue()})
		}
		return append(dst, sample{suffix: "_sum", value: s.GetSampleSum()}, sample{suffix: "_count", value: float64(s.GetSampleCount())})
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		h := m.GetHistogram()
		infinite := false
		for _, b := range h.Bucket {
			count := float64(b.GetCumulativeCount())
			if f := b.GetCumulativeCountFloat(); f > 0 {
				count = f
			}
			infinite = infinite || math.IsInf(b.GetUpperBound(), 1)
			dst = append(dst, sample{suffix: "_bucket", extra: model.BucketLabel, extraValue: number(b.GetUpperBound()), value: count})
		}
		count := float64(h.GetSampleCount())
		if f := h.GetSampleCountFloat(); f > 0 {
			count = f
		}
		if len(h.Bucket) > 0 && !infinite {
			dst = append(dst, sample{suffix: "_bucket", extra: model.BucketLabel, extraValue: "+Inf", value: count})
		}
		return append(dst, sample{suffix: "_sum", value: h.GetSampleSum()}, sample{suffix: "_count", value: count})
	}
	return dst
}

// number writes le and quantile values as Prometheus 3 normalises them: "1.0".
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case math.IsNaN(v):
		return "NaN"
	}
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// seriesKey identifies a sample's series within one target. It is built in a
// reused buffer and looked up without allocating.
func seriesKey(buf []byte, family string, s *sample, m *dto.Metric) []byte {
	buf = append(buf, family...)
	buf = append(buf, s.suffix...)
	for _, l := range m.Label {
		buf = append(buf, 0xff)
		buf = append(buf, l.GetName()...)
		buf = append(buf, 0xff)
		buf = append(buf, l.GetValue()...)
	}
	if s.extra != "" {
		buf = append(buf, 0xff)
		buf = append(buf, s.extra...)
		buf = append(buf, 0xff)
		buf = append(buf, s.extraValue...)
	}
	return buf
}

// seriesLabels is the full label set: the metric's own labels, then those of
// the target which the metric does not have itself.
func seriesLabels(b *labels.ScratchBuilder, family string, s *sample, m *dto.Metric, target []labels.Label) labels.Labels {
	b.Reset()
	b.Add(labels.MetricName, family+s.suffix)
	own := func(name string) bool {
		return name == s.extra || slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
	}
	for _, l := range m.Label {
		if l.GetValue() != "" {
			b.Add(l.GetName(), l.GetValue())
		}
	}
	if s.extra != "" {
		b.Add(s.extra, s.extraValue)
	}
	for _, l := range target {
		if l.Value != "" && !own(l.Name) {
			b.Add(l.Name, l.Value)
		}
	}
	b.Sort()
	return b.Labels()
}

// metadata is what is known about a target's families, for /api/v1/metadata.
type metadata map[string]scrape.MetricMetadata

func (m metadata) note(f *dto.MetricFamily) {
	if _, ok := m[f.GetName()]; ok {
		return
	}
	kind := model.MetricTypeUnknown
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		kind = model.MetricTypeCounter
	case dto.MetricType_GAUGE:
		kind = model.MetricTypeGauge
	case dto.MetricType_SUMMARY:
		kind = model.MetricTypeSummary
	case dto.MetricType_HISTOGRAM:
		kind = model.MetricTypeHistogram
	case dto.MetricType_GAUGE_HISTOGRAM:
		kind = model.MetricTypeGaugeHistogram
	}
	m[f.GetName()] = scrape.MetricMetadata{MetricFamily: f.GetName(), Type: kind, Help: f.GetHelp(), Unit: f.GetUnit()}
}
