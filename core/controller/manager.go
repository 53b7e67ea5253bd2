package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/workqueue"

	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/telemetry"
)

// Config of the controllers' runtime.
type Config struct {
	// Identity of this process in the leader election; empty runs the
	// controllers without one.
	Identity string
	// Now is the clock of decisions; nil means time.Now.
	Now func() time.Time
}

// Manager runs controllers.
type Manager struct {
	cfg     Config
	client  client.Client
	tel     *telemetry.Component
	loops   []*loop
	metrics *queueMetrics
	results *prometheus.CounterVec
	leader  prometheus.Gauge
	writers map[string]string // output → controller
}

// New returns a manager without controllers. c must be allowed to act as
// other identities.
func New(cfg Config, c client.Client, tel *telemetry.Component) *Manager {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Manager{
		cfg: cfg, client: c, tel: tel,
		metrics: newQueueMetrics(tel.Registry),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_controller_reconciles_total",
			Help: "Reconciliations by controller and result: success, conflict, error.",
		}, []string{"controller", "result"}),
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "leader_election_master_status",
			Help:        "1 while this process holds the lease, 0 otherwise.",
			ConstLabels: prometheus.Labels{"name": leaseName},
		}),
		writers: map[string]string{},
	}
	tel.Registry.MustRegister(m.results, m.leader)
	return m
}

// Add registers a controller. It fails when another one already writes one of
// its outputs.
func (m *Manager) Add(c Controller) error {
	for _, out := range c.Writes {
		if other := m.writers[out]; other != "" {
			return fmt.Errorf("cannot add controller %q: its output %s is written by controller %q", c.Name, out, other)
		}
		m.writers[out] = c.Name
	}
	if c.Workers == 0 {
		c.Workers = 2
	}
	if c.Account == "" {
		c.Account = c.Name + "-controller"
	}
	as := m.client.As("system:serviceaccount:kube-system:"+c.Account,
		"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
	if strings.HasPrefix(c.Account, "system:") {
		as = m.client.As(c.Account, "system:authenticated")
	}
	m.loops = append(m.loops, &loop{
		Controller: c, reader: m.client, client: as, tel: m.tel, results: m.results, now: m.cfg.Now,
		events: events.NewRecorder(events.Config{Component: c.Account, Now: m.cfg.Now}, as, m.tel),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[client.Key](retryFirst, retryMost),
			workqueue.TypedRateLimitingQueueConfig[client.Key]{Name: c.Name, MetricsProvider: m.metrics}),
		causes: map[client.Key]string{},
	})
	return nil
}

// Run runs the controllers while this process leads, until ctx ends. Losing
// the lease is an error: the process must not go on with a stale belief.
func (m *Manager) Run(ctx context.Context) error {
	if m.cfg.Identity == "" {
		return m.lead(ctx)
	}
	return m.whileLeading(ctx, m.lead)
}

func (m *Manager) lead(ctx context.Context) error {
	m.leader.Set(1)
	defer m.leader.Set(0)
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range m.loops {
		g.Go(func() error { return l.run(ctx) })
		g.Go(func() error { return l.events.Run(ctx) })
	}
	return g.Wait()
}
