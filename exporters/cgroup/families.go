package cgroup

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// families builds metric families in the exchange format directly: one label
// set serves all series of a container.
type families struct {
	list   []*dto.MetricFamily
	byName map[string]*dto.MetricFamily
}

func (f *families) family(name, help string, kind dto.MetricType) *dto.MetricFamily {
	if m := f.byName[name]; m != nil {
		return m
	}
	m := &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
	if f.byName == nil {
		f.byName = map[string]*dto.MetricFamily{}
	}
	f.byName[name] = m
	f.list = append(f.list, m)
	return m
}

func (f *families) counter(name, help string, labels []*dto.LabelPair, v float64) {
	m := f.family(name, help, dto.MetricType_COUNTER)
	m.Metric = append(m.Metric, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: &v}})
}

func (f *families) gauge(name, help string, labels []*dto.LabelPair, v float64) {
	m := f.family(name, help, dto.MetricType_GAUGE)
	m.Metric = append(m.Metric, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: &v}})
}

// sorted returns the families in order of name, as a registry gathers them.
func (f *families) sorted() []*dto.MetricFamily {
	slices.SortFunc(f.list, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return f.list
}

// pairs makes a sorted label set of "name, value, name, value, …".
func pairs(kv ...string) []*dto.LabelPair {
	l := make([]*dto.LabelPair, 0, len(kv)/2)
	for i := 0; i < len(kv); i += 2 {
		l = append(l, &dto.LabelPair{Name: &kv[i], Value: &kv[i+1]})
	}
	slices.SortFunc(l, byName)
	return l
}

// with adds labels to a sorted set.
func with(base []*dto.LabelPair, kv ...string) []*dto.LabelPair {
	l := make([]*dto.LabelPair, 0, len(base)+len(kv)/2)
	l = append(l, base...)
	for i := 0; i < len(kv); i += 2 {
		l = append(l, &dto.LabelPair{Name: &kv[i], Value: &kv[i+1]})
	}
	slices.SortFunc(l, byName)
	return l
}

func byName(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) }
