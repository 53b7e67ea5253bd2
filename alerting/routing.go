package alerting

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/common/model"

	"binnacle.io/alerting/dingtalk"
	"binnacle.io/alerting/queue"
	"binnacle.io/core/telemetry"
)

// router turns alerts into queued notifications and delivers them. What depends
// on the configuration is in its routes, replaced as a whole by apply.
type router struct {
	cfg      Config
	tel      *telemetry.Component
	now      func() time.Time
	store    *queue.Store
	metrics  *metrics
	robots   *dingtalk.Robots
	external *url.URL

	alerts   *mem.Alerts
	silences *silence.Silences
	silencer *silence.Silencer
	log      *nflog.Log
	marker   marker.GroupMarker
	api      *api.API

	notifyMetrics   *notify.Metrics
	dispatchMetrics *dispatch.DispatcherMetrics

	routes atomic.Pointer[routes]
}

// routes is what one configuration came to.
type routes struct {
	plan       *plan
	root       *dispatch.Route
	dispatcher *dispatch.Dispatcher
	inhibitor  *inhibit.Inhibitor
	cancel     context.CancelFunc
	running    sync.WaitGroup
}

// plan is a configuration checked and built, ready to run.
type plan struct {
	file         *file
	tmpl         *template.Template
	integrations map[string][]integration // by receiver in use
	intervener   *timeinterval.Intervener
}

// prepare does everything about a configuration that can fail.
func prepare(f *file, external *url.URL, robots *dingtalk.Robots, tel *telemetry.Component, now func() time.Time) (*plan, error) {
	tmpl, err := template.FromGlobs(f.am.Templates)
	if err != nil {
		return nil, fmt.Errorf("cannot parse notification templates: %w", err)
	}
	tmpl.ExternalURL = external
	used := map[string]bool{}
	dispatch.NewRoute(f.am.Route, nil).Walk(func(r *dispatch.Route) { used[r.RouteOpts.Receiver] = true })
	p := &plan{file: f, tmpl: tmpl, integrations: map[string][]integration{}}
	for _, rcv := range f.am.Receivers {
		if !used[rcv.Name] {
			continue
		}
		list, err := build(rcv, f.dingtalk[rcv.Name], tmpl, robots, tel.Log, now)
		if err != nil {
			return nil, err
		}
		p.integrations[rcv.Name] = list
	}
	intervals := map[string][]timeinterval.TimeInterval{}
	for _, t := range f.am.MuteTimeIntervals {
		intervals[t.Name] = t.TimeIntervals
	}
	for _, t := range f.am.TimeIntervals {
		intervals[t.Name] = t.TimeIntervals
	}
	p.intervener = timeinterval.NewIntervener(intervals)
	return p, nil
}

// newRouter builds what lives as long as the process.
func newRouter(cfg Config, store *queue.Store, m *metrics, robots *dingtalk.Robots, external *url.URL,
	tel *telemetry.Component, now func() time.Time, grace time.Duration) (*router, error) {
	flags, events := featurecontrol.NoopFlags{}, eventrecorder.NopRecorder()
	r := &router{cfg: cfg, tel: tel, now: now, store: store, metrics: m, robots: robots, external: external, marker: marker.NewGroupMarker()}
	var err error
	r.log, err = nflog.New(nflog.Options{
		SnapshotFile: cfg.dir("nflog"), Retention: cfg.Retention, Logger: tel.Log, Metrics: tel.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open notification log: %w", err)
	}
	r.silences, err = silence.New(silence.Options{
		SnapshotFile: cfg.dir("silences"), Retention: cfg.Retention, Logger: tel.Log, Metrics: tel.Registry, EventRecorder: events,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open silences: %w", err)
	}
	r.silencer = silence.NewSilencer(r.silences, tel.Log, events)
	r.alerts, err = mem.NewAlerts(context.Background(), alertGCInterval, 0, r.silencer, tel.Log, events, tel.Registry, flags)
	if err != nil {
		return nil, fmt.Errorf("cannot keep alerts: %w", err)
	}
	if err := loadAlerts(context.Background(), cfg.dir("alerts.json"), r.alerts, now(), grace); err != nil {
		m.lostAlerts.Inc()
		tel.Log.Error("alerts of before the start are lost", "err", err)
	}
	r.notifyMetrics = notify.NewMetrics(tel.Registry, flags)
	r.notifyMetrics.InitializeFor(nil)
	r.dispatchMetrics = dispatch.NewDispatcherMetrics(false, tel.Registry, flags)
	if r.api, err = newAPI(r); err != nil {
		r.alerts.Close()
		return nil, fmt.Errorf("cannot build alerts API: %w", err)
	}
	return r, nil
}

func (r *router) groups(ctx context.Context, routeFilter func(*dispatch.Route) bool, alertFilter func(*alert.Alert, time.Time) bool,
) (dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	return r.routes.Load().dispatcher.Groups(ctx, routeFilter, alertFilter)
}

// apply stops what runs on the old configuration and starts the new one.
func (r *router) apply(p *plan) {
	r.stop()
	ctx, cancel := context.WithCancel(context.Background())
	rt := &routes{plan: p, root: dispatch.NewRoute(p.file.am.Route, nil), cancel: cancel}
	events := eventrecorder.NopRecorder()
	rt.inhibitor = inhibit.NewInhibitor(r.alerts, p.file.am.InhibitRules, r.tel.Log, events)
	stages := notify.RoutingStage{}
	count := 0
	for name, list := range p.integrations {
		var fan notify.FanoutStage
		for _, i := range list {
			count++
			destination := i.destination(name)
			r.metrics.configured(destination)
			recv := &nflogpb.Receiver{GroupName: name, Integration: i.Name(), Idx: uint32(i.Index())}
			fan = append(fan, notify.MultiStage{
				notify.NewDedupStage(&i.Integration, r.log, recv),
				enqueue{store: r.store, destination: destination, now: r.now},
				notify.NewSetNotifiesStage(r.log, recv),
			})
			d := &deliverer{
				destination: destination, integration: i.Integration, notifier: i.notifier,
				store: r.store, metrics: r.metrics, notify: r.notifyMetrics, tel: r.tel,
				timeout: r.cfg.AttemptTimeout, maxRetry: r.cfg.MaxRetryInterval, now: r.now,
			}
			rt.running.Go(func() { d.run(ctx) })
		}
		stages[name] = notify.MultiStage{
			notify.NewMuteStage(rt.inhibitor, r.notifyMetrics),
			notify.NewTimeActiveStage(p.intervener, r.marker, r.notifyMetrics),
			notify.NewTimeMuteStage(p.intervener, r.marker, r.notifyMetrics),
			notify.NewMuteStage(r.silencer, r.notifyMetrics),
			fan,
		}
	}
	r.metrics.receivers.Set(float64(len(p.integrations)))
	r.metrics.integrations.Set(float64(count))
	rt.dispatcher = dispatch.NewDispatcher(r.alerts, rt.root, stages, r.marker,
		func(d time.Duration) time.Duration { return max(d, notify.MinTimeout) },
		30*time.Second, nil, r.tel.Log, events, r.dispatchMetrics, p.tmpl)

	// The inhibitor knows the alerts before the dispatcher asks it.
	rt.running.Go(rt.inhibitor.Run)
	rt.inhibitor.WaitForLoading()
	rt.running.Go(func() { rt.dispatcher.Run(r.now()) })
	rt.dispatcher.WaitForLoading()
	r.routes.Store(rt)
	r.api.Update(p.file.am, func(ctx context.Context, labels model.LabelSet) {
		r.routes.Load().inhibitor.Mutes(ctx, labels)
		r.silencer.Mutes(ctx, labels)
	})
}

// stop ends dispatching and delivering, and waits.
func (r *router) stop() {
	rt := r.routes.Load()
	if rt == nil {
		return
	}
	rt.dispatcher.Stop()
	rt.inhibitor.Stop()
	rt.cancel()
	rt.running.Wait()
}

func (r *router) save() {
	if err := saveAlerts(r.cfg.dir("alerts.json"), r.alerts); err != nil {
		r.tel.Log.Error("cannot keep alerts for the next start", "err", err)
	}
}

// maintain writes silences, alerts and the notification log now and then, and lets old
// notifications go, until stop closes; then once more.
func (r *router) maintain(stop <-chan struct{}) {
	var wg sync.WaitGroup
	wg.Go(func() { r.log.Maintenance(snapshotInterval, r.cfg.dir("nflog"), stop, nil) })
	wg.Go(func() { r.silences.Maintenance(snapshotInterval, r.cfg.dir("silences"), stop, nil) })
	tick := time.NewTicker(snapshotInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := r.store.Expire(); err != nil {
				r.tel.Log.Error("cannot let go of old notifications", "err", err)
			}
			r.save()
		case <-stop:
			wg.Wait()
			r.save()
			return
		}
	}
}
