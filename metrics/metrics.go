package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
	"binnacle.io/metrics/kubestate"
)

// Metrics is the database and all that fills it.
type Metrics struct {
	cfg           Config
	hub           *telemetry.Hub
	client        client.Client
	tel           *telemetry.Component
	containers    *Containers
	state         *kubestate.State
	db            *tsdb.DB
	engine        *promql.Engine
	scrapeCfg     *promconfig.Config
	discovery     *discovery.Manager
	scraper       *scrape.Manager
	stopDiscovery context.CancelFunc
	handler       http.Handler
	started       time.Time
	own           ownMetrics

	rules         atomic.Pointer[v1.RulesRetriever]
	alertmanagers atomic.Pointer[v1.AlertmanagerRetriever]
	ready         chan struct{} // closed after the first round of all targets
	closeOnce     sync.Once
	closeErr      error

	mu      sync.Mutex
	sources []Source           // waiting for Run, guarded by mu
	targets map[string]*target // by job and path, guarded by mu
	seen    int                // components taken from the hub, guarded by mu
}

// ownMetrics say what keeping metrics costs.
type ownMetrics struct {
	duration *prometheus.HistogramVec
	samples  *prometheus.CounterVec
	refused  *prometheus.CounterVec
	errors   *prometheus.CounterVec
	stale    prometheus.Counter
}

// New opens the database. c may be nil: then there are no kube-state series,
// no discovery and no labels in metrics.k8s.io. containers may be nil on a
// machine without pods. Call Close after Run has returned.
func New(cfg Config, hub *telemetry.Hub, c client.Client, containers *Containers, tel *telemetry.Component, sources ...Source) (*Metrics, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Metrics{
		cfg: cfg, hub: hub, client: c, tel: tel, containers: containers, started: time.Now(),
		sources: sources, targets: map[string]*target{}, ready: make(chan struct{}),
	}
	reg := tel.Registry
	// The engines below speak of every block and target at info level.
	log := quietLogger(tel.Log)
	if m.scrapeCfg, err = scrapeConfig(cfg, log); err != nil {
		return nil, err
	}
	if m.db, err = openDB(cfg, log, reg); err != nil {
		return nil, err
	}
	m.engine = newEngine(cfg, log, reg)
	m.registerOwn(reg)
	if err := m.buildScraper(log, reg); err != nil {
		return nil, errors.Join(err, m.db.Close())
	}
	if c != nil {
		job := "kube-state-metrics"
		m.state = kubestate.New(c, hub.Component("kube-state-metrics", job), "job", job, "instance", cfg.instance(job))
	}
	m.handler = m.buildHandler(log)
	return m, nil
}

func (m *Metrics) registerOwn(reg *prometheus.Registry) {
	m.own = ownMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "binnacle_metrics_gather_duration_seconds", Help: "Time to gather and append one source.",
			Buckets: []float64{.0005, .002, .01, .05, .2, 1, 5},
		}, []string{"source"}),
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_metrics_samples_appended_total", Help: "Samples handed to the database.",
		}, []string{"source"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_metrics_samples_refused_total", Help: "Samples that the database refused: out of order, duplicate, out of bounds.",
		}, []string{"source"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_metrics_gather_errors_total", Help: "Rounds in which a source reported an error.",
		}, []string{"source"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_metrics_series_stale_total", Help: "In-process series that disappeared and were marked stale.",
		}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "prometheus_build_info", Help: "A metric with a constant '1' value labeled by the embedded engine's version.",
	}, []string{"version", "revision", "branch", "goversion"})
	build.WithLabelValues(engineVersion(), "", "", goVersion()).Set(1)
	reloaded := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prometheus_config_last_reload_successful", Help: "Whether the last configuration reload attempt was successful.",
	})
	reloaded.Set(1)
	reloadedAt := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prometheus_config_last_reload_success_timestamp_seconds", Help: "Timestamp of the last successful configuration reload.",
	})
	reloadedAt.Set(float64(m.started.Unix()))
	reg.MustRegister(m.own.duration, m.own.samples, m.own.refused, m.own.errors, m.own.stale, build, reloaded, reloadedAt)
}

// AddSource gathers one more source from now on, or from Run on.
func (m *Metrics) AddSource(s Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, s)
}

// SetRules shows the rules and alerts of an alerting product in the API.
func (m *Metrics) SetRules(r v1.RulesRetriever) { m.rules.Store(&r) }

// SetAlertmanagers shows where alerts go in the API.
func (m *Metrics) SetAlertmanagers(r v1.AlertmanagerRetriever) { m.alertmanagers.Store(&r) }

// Queryable reads the database.
func (m *Metrics) Queryable() storage.Queryable { return m.db }

// Appendable writes to the database: recording rules, remote write.
func (m *Metrics) Appendable() storage.Appendable { return m.db }

// Engine evaluates PromQL.
func (m *Metrics) Engine() *promql.Engine { return m.engine }

// Handler serves Prometheus' HTTP API at /api/v1/, /federate and /-/ready,
// /-/healthy.
func (m *Metrics) Handler() http.Handler { return m.handler }

// KubeStateHandler serves kube-state series as text, or nil without a client.
func (m *Metrics) KubeStateHandler() http.Handler {
	if m.state == nil {
		return nil
	}
	return m.state.Handler()
}

// Ready tells whether every source has been gathered once.
func (m *Metrics) Ready() bool {
	select {
	case <-m.ready:
		return true
	default:
		return false
	}
}

// Query evaluates an instant expression.
func (m *Metrics) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	q, err := m.engine.NewInstantQuery(ctx, m.db, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("cannot parse %q: %w", expr, err)
	}
	defer q.Close()
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("cannot evaluate %q: %w", expr, res.Err)
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		return append(promql.Vector(nil), v...), nil
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V}}, nil
	default:
		return nil, fmt.Errorf("cannot evaluate %q as an instant vector: it is a %s", expr, res.Value.Type())
	}
}

// Close closes the database. It is safe twice.
func (m *Metrics) Close() error {
	m.closeOnce.Do(func() {
		m.stopDiscovery()
		m.closeErr = errors.Join(m.engine.Close(), m.db.Close())
	})
	return m.closeErr
}

// Run gathers until ctx ends. It may be called once.
func (m *Metrics) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	if m.containers != nil {
		wg.Go(func() { m.runContainers(ctx) })
	}
	if m.state != nil {
		wg.Go(func() { _ = m.state.Run(ctx) }) // it ends with ctx only
		wg.Go(func() { m.runKubeState(ctx) })
	}
	m.runScraper(ctx, &wg)
	m.runTargets(ctx, &wg)
	return nil
}

// runTargets starts a goroutine for each target, those of components that
// come later included, until ctx ends.
func (m *Metrics) runTargets(ctx context.Context, wg *sync.WaitGroup) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	first := true
	for {
		fresh := m.newTargets()
		var round sync.WaitGroup
		for _, t := range fresh {
			round.Add(1)
			wg.Go(func() { m.runTarget(ctx, t, round.Done) })
		}
		if first {
			first = false
			wg.Go(func() { round.Wait(); close(m.ready) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// newTargets makes targets of sources and components that have none yet.
// Components that share a job share a target.
func (m *Metrics) newTargets() []*target {
	components := m.hub.Components()
	m.mu.Lock()
	defer m.mu.Unlock()
	var fresh []*target
	for _, c := range components[m.seen:] {
		job := c.Job
		if job == "" {
			job = c.Name
		}
		if t := m.targets[job]; t != nil {
			t.add(c.Registry)
			continue
		}
		t := newTarget(m.cfg, Source{Job: job, Gatherer: c.Registry})
		m.targets[job] = t
		fresh = append(fresh, t)
	}
	m.seen = len(components)
	for _, s := range m.sources {
		key := s.Job
		if path := s.Labels["metrics_path"]; path != "" {
			key += " " + path
		}
		if s.Instance != "" {
			key += " " + s.Instance
		}
		// A source of a job that components have as well (store metrics
		// beside an etcd component, say) is one target with them.
		if t := m.targets[key]; t != nil && s.Skip == nil {
			t.add(s.Gatherer)
			continue
		}
		t := newTarget(m.cfg, s)
		m.targets[key] = t
		fresh = append(fresh, t)
	}
	m.sources = nil
	return fresh
}

// runTarget gathers at once and then at the target's interval, shifted so
// that targets do not all work in the same moment.
func (m *Metrics) runTarget(ctx context.Context, t *target, first func()) {
	m.gather(ctx, t)
	first()
	timer := time.NewTimer(rand.N(t.interval))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for {
		m.gather(ctx, t)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Metrics) gather(ctx context.Context, t *target) {
	r := t.gather(ctx, m.db, time.Now())
	if r.err != nil {
		m.own.errors.WithLabelValues(t.job).Inc()
		m.tel.Log.Debug("gathering reported an error", "job", t.job, "err", r.err)
	}
	m.own.duration.WithLabelValues(t.job).Observe(r.duration.Seconds())
	m.own.samples.WithLabelValues(t.job).Add(float64(r.samples))
	m.own.refused.WithLabelValues(t.job).Add(float64(r.refused))
	m.own.stale.Add(float64(r.stale))
}

func (m *Metrics) runContainers(ctx context.Context) {
	const source = "containers"
	s := &sampler{
		cfg: m.cfg, containers: *m.containers, db: m.db, series: map[string]*leanSeries{},
		refused: func(n int) { m.own.refused.WithLabelValues(source).Add(float64(n)) },
	}
	tick := time.NewTicker(m.cfg.ContainerInterval)
	defer tick.Stop()
	for {
		begin := time.Now()
		if err := s.tick(ctx); err != nil {
			m.own.errors.WithLabelValues(source).Inc()
			if !s.failing {
				m.tel.Log.Warn("sampling containers fails", "err", err)
			}
			s.failing = true
		} else {
			s.failing = false
		}
		m.own.duration.WithLabelValues(source).Observe(time.Since(begin).Seconds())
		m.own.samples.WithLabelValues(source).Add(float64(2 * len(s.samples)))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// runKubeState appends what changed within a second of the change, and
// everything once an interval.
func (m *Metrics) runKubeState(ctx context.Context) {
	const source = "kube-state"
	const settle = 200 * time.Millisecond
	all := time.NewTicker(m.cfg.Interval)
	defer all.Stop()
	for {
		full := false
		select {
		case <-ctx.Done():
			return
		case <-all.C:
			full = true
		case <-m.state.Changed():
			// One apply changes many objects: let them come together.
			select {
			case <-ctx.Done():
				return
			case <-time.After(settle):
			}
		}
		begin := time.Now()
		app := m.db.Appender(ctx)
		ts, n, refused, stale := begin.UnixMilli(), 0, 0, 0
		m.state.Flush(full, func(s *kubestate.Series) {
			n++
			ref, err := app.Append(storage.SeriesRef(s.Ref), s.Labels, ts, s.Value)
			if err != nil {
				refused++
				return
			}
			s.Ref = uint64(ref)
		}, func(s *kubestate.Series) {
			stale++
			// Refused when the series came back in the same moment.
			_, _ = app.Append(storage.SeriesRef(s.Ref), s.Labels, ts, staleNaN)
		})
		if err := app.Commit(); err != nil {
			m.own.errors.WithLabelValues(source).Inc()
			m.tel.Log.Warn("appending kube-state series failed", "err", err)
		}
		m.own.duration.WithLabelValues(source).Observe(time.Since(begin).Seconds())
		m.own.samples.WithLabelValues(source).Add(float64(n))
		m.own.refused.WithLabelValues(source).Add(float64(refused))
		m.own.stale.Add(float64(stale))
	}
}

// quietLogger passes warnings and errors only.
func quietLogger(log *slog.Logger) *slog.Logger {
	return slog.New(atLeast{log.Handler(), slog.LevelWarn})
}

type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}

func (h atLeast) WithAttrs(a []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(a), h.level}
}

func (h atLeast) WithGroup(n string) slog.Handler { return atLeast{h.Handler.WithGroup(n), h.level} }
