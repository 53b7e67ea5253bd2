package alerting

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"binnacle.io/alerting/dingtalk"
	"binnacle.io/alerting/queue"
	"binnacle.io/core/telemetry"
)

// Deps is where rules read samples and write ALERTS and recorded series.
type Deps struct {
	Queryable  storage.Queryable
	Engine     promql.QueryEngine
	Appendable storage.Appendable
}

// Alerting is rules, routing and delivery.
type Alerting struct {
	cfg      Config
	tel      *telemetry.Component
	now      func() time.Time
	external *url.URL
	store    *queue.Store
	metrics  *metrics
	robots   *dingtalk.Robots
	rules    *ruleManager
	first    *plan // until Run takes it
	grace    time.Duration

	reloading sync.Mutex // serializes changes of configuration and rules
	text      []byte     // of SetConfig, used when there is no file; guarded by reloading
	router    atomic.Pointer[router]
	apiMux    atomic.Pointer[http.ServeMux]
	stopped   bool // guarded by reloading

	closeOnce sync.Once
	closeErr  error
}

// New checks the configuration and the rules and opens the queues. Nothing runs
// before Run. Close it when Run is not called.
func New(cfg Config, deps Deps, tel *telemetry.Component) (*Alerting, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Alerting{cfg: cfg, tel: tel, now: time.Now, robots: dingtalk.NewRobots(time.Now), grace: restoredGrace}
	if a.external, err = url.Parse(cfg.ExternalURL); err != nil {
		return nil, fmt.Errorf("cannot use alerting ExternalURL: %w", err)
	}
	loader := &ruleLoader{parser: parser.NewParser(parser.Options{}), log: tel.Log, objects: map[string][]byte{}}
	sources, err := loader.sources(cfg)
	if err != nil {
		return nil, err
	}
	if err := loader.check(sources); err != nil {
		return nil, err
	}
	if a.first, err = a.plan(nil); err != nil {
		return nil, err
	}
	a.metrics = newMetrics(tel.Registry)
	a.store, err = queue.Open(cfg.dir("queue.db"), cfg.limits(), a.now, func(destination, reason string, n int) {
		a.metrics.dropped.WithLabelValues(destination, reason).Add(float64(n))
		tel.Log.Error("notifications lost", "destination", destination, "reason", reason, "count", n)
	})
	if err != nil {
		return nil, err
	}
	tel.Registry.MustRegister(queueCollector{a.store, a.now})
	a.rules = newRuleManager(cfg, deps, loader, sender{a}, a)
	return a, nil
}

// plan reads the configuration, which is the file, else text, else the built-in
// one, and builds what it asks for.
func (a *Alerting) plan(text []byte) (*plan, error) {
	f, err := a.load(text)
	if err != nil {
		return nil, err
	}
	return prepare(f, a.external, a.robots, a.tel, a.now)
}

func (a *Alerting) load(text []byte) (*file, error) {
	if a.cfg.File != "" || text == nil {
		return loadFile(a.cfg.File)
	}
	f, err := parseFile(text, "")
	if err != nil {
		return nil, fmt.Errorf("cannot use alerting configuration: %w", err)
	}
	return f, nil
}

// Close closes the queues. Run does so itself.
func (a *Alerting) Close() error {
	a.closeOnce.Do(func() { a.closeErr = a.store.Close() })
	return a.closeErr
}

// Run evaluates, routes and delivers until ctx ends; then it writes silences
// and the notification log. Undelivered notifications stay in their queues.
func (a *Alerting) Run(ctx context.Context) error {
	r, err := newRouter(a.cfg, a.store, a.metrics, a.robots, a.external, a.tel, a.now, a.grace)
	if err != nil {
		return errors.Join(err, a.Close())
	}
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Go(func() { r.maintain(stop) })

	a.reloading.Lock()
	r.apply(a.first)
	a.applied(a.first)
	a.first = nil
	err = a.rules.update()
	if err == nil {
		a.apiMux.Store(r.mux())
		a.router.Store(r)
	}
	a.reloading.Unlock()
	if err == nil {
		running.Go(a.rules.Run)
		<-ctx.Done()
	}

	a.reloading.Lock()
	a.stopped = true
	a.reloading.Unlock()
	if err == nil {
		a.rules.Stop()
	}
	r.stop()
	close(stop)
	running.Wait()
	r.alerts.Close()
	return errors.Join(err, a.Close())
}

// errNotRunning is for changes that only make sense while Run runs.
var errNotRunning = errors.New("alerting is not running")

// Reload reads the configuration file and the rule files again. On error the
// old ones stay in force. Deliveries under way are broken off and repeated.
func (a *Alerting) Reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	r := a.router.Load()
	if r == nil || a.stopped {
		return fmt.Errorf("cannot reload: %w", errNotRunning)
	}
	p, err := a.plan(a.text)
	if err == nil {
		err = a.rules.update()
	}
	if err != nil {
		a.metrics.reloadOK.Set(0)
		return err
	}
	r.apply(p)
	a.applied(p)
	return nil
}

// SetConfig puts a configuration in the format of Config.File in force; nil
// returns to the built-in one. Names of files in it are absolute. On error the
// configuration of before stays, as it does where Config.File is set: a file on
// the machine wins.
func (a *Alerting) SetConfig(text []byte) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.cfg.File != "" {
		return fmt.Errorf("cannot set the alerting configuration: the file %s is in force", a.cfg.File)
	}
	if a.stopped {
		return fmt.Errorf("cannot set the alerting configuration: %w", errNotRunning)
	}
	p, err := a.plan(text)
	if err != nil {
		a.metrics.reloadOK.Set(0)
		return err
	}
	a.text = text
	r := a.router.Load()
	if r == nil {
		a.first = p // Run starts with it
		return nil
	}
	r.apply(p)
	a.applied(p)
	return nil
}

func (a *Alerting) applied(p *plan) {
	a.metrics.reloadOK.Set(1)
	a.metrics.reloadTime.Set(float64(a.now().Unix()))
	sum := sha256.Sum256(p.file.text)
	// 48 bits are what a float holds exactly.
	a.metrics.configHash.Set(float64(binary.BigEndian.Uint64(sum[:8]) >> 16))
}
