package metrics

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"binnacle.io/exporters/cgroup"
)

// BenchmarkGatherComponent is one round of a registry of 1,200 series.
func BenchmarkGatherComponent(b *testing.B) {
	hub := newHub()
	cfg, err := Config{Dir: b.TempDir()}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	db, err := openDB(cfg, quietLogger(hub.Component("x", "x").Log), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "h", Help: "h", Buckets: prometheus.ExponentialBuckets(.001, 2, 21)}, []string{"verb"})
	for i := range 50 {
		h.WithLabelValues(fmt.Sprint(i)).Observe(1)
	}
	reg.MustRegister(h)
	t := newTarget(cfg, Source{Job: "apiserver", Gatherer: reg})
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(15 * time.Second)
		if r := t.gather(b.Context(), db, now); r.refused > 0 || r.samples != 1200 {
			b.Fatalf("%+v", r)
		}
	}
}

// BenchmarkContainerTick is one second's work for 50 containers, without
// reading the kernel.
func BenchmarkContainerTick(b *testing.B) {
	hub := newHub()
	cfg, err := Config{Dir: b.TempDir()}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	db, err := openDB(cfg, quietLogger(hub.Component("x", "x").Log), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var inv cgroup.Fixed
	for i := range 50 {
		c := webContainer()
		c.ID, c.Pod = fmt.Sprint("id", i), fmt.Sprint("web-", i)
		inv = append(inv, c)
	}
	s := &sampler{cfg: cfg, db: db, series: map[string]*leanSeries{}, refused: func(int) {},
		containers: Containers{Inventory: inv, Source: busy{time.Now(), 1}, History: cgroup.NewHistory()}}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.tick(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
