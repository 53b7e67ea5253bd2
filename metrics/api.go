package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/grafana/regexp"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// buildHandler mounts Prometheus' own API on its own router.
func (m *Metrics) buildHandler(log *slog.Logger) http.Handler {
	external := &url.URL{Scheme: "http", Host: "localhost:9090"}
	api := v1.NewAPI(
		m.engine, m.db, m.db, m.db, m.db,
		func(context.Context) v1.ScrapePoolsRetriever { return retriever{m} },
		func(context.Context) v1.TargetRetriever { return retriever{m} },
		func(context.Context) v1.AlertmanagerRetriever {
			if r := m.alertmanagers.Load(); r != nil {
				return *r
			}
			return nobody{}
		},
		func() config.Config { return *m.scrapeCfg },
		map[string]string{
			"storage.tsdb.path":           m.cfg.Dir,
			"storage.tsdb.retention.time": model.Duration(m.cfg.Retention).String(),
			"query.timeout":               model.Duration(m.cfg.QueryTimeout).String(),
		},
		v1.GlobalURLOptions{ListenAddress: external.Host, Host: external.Host, Scheme: external.Scheme},
		func(h http.HandlerFunc) http.HandlerFunc { return h },
		admin{m.db}, m.cfg.Dir,
		false, false, 0, // no admin API, no search
		log,
		func(context.Context) v1.RulesRetriever {
			if r := m.rules.Load(); r != nil {
				return *r
			}
			return nobody{}
		},
		50_000_000, 10, 1<<20, // remote read: samples, concurrency, frame bytes
		false,
		regexp.MustCompile("^$"), // no cross-origin requests
		m.runtimeInfo,
		&v1.PrometheusVersion{Version: engineVersion(), GoVersion: goVersion()},
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		m.tel.Registry, m.tel.Registry,
		nil,
		true, remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType},
		true, false, false, // OTLP; deltas are refused
		false,
		lookback,
		false, false,
		nil,
		features.NewRegistry(),
		v1.OpenAPIOptions{ExternalURL: external.String(), Version: engineVersion()},
		newParser(),
	)
	router := route.New()
	api.Register(router.WithPrefix("/api/v1"))
	router.Get("/federate", m.federate)
	router.Get("/-/healthy", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Healthy.\n")) })
	router.Get("/-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !m.Ready() {
			http.Error(w, "first round of gathering is not over", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("Ready.\n"))
	})
	return router
}

func (m *Metrics) runtimeInfo() (v1.RuntimeInfo, error) {
	host, _ := os.Hostname()
	return v1.RuntimeInfo{
		StartTime: m.started, ServerTime: time.Now(), Hostname: host, CWD: m.cfg.Dir,
		ReloadConfigSuccess: true, LastConfigTime: m.started,
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0), GOMEMLIMIT: debug.SetMemoryLimit(-1),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"), StorageRetention: model.Duration(m.cfg.Retention).String(),
	}, nil
}

func goVersion() string { return runtime.Version() }

// engineVersion is the version of the embedded Prometheus packages in
// Prometheus' own numbering: module v0.315.0 is release 3.15.0.
func engineVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/prometheus/prometheus" {
			minor, patch, found := strings.Cut(strings.TrimPrefix(d.Version, "v0."), ".")
			if found && len(minor) == 3 {
				return minor[:1] + "." + strings.TrimPrefix(minor[1:], "0") + "." + patch
			}
			return d.Version
		}
	}
	return ""
}

// retriever shows in-process and scraped targets as one.
type retriever struct{ m *Metrics }

func (r retriever) inProcess() map[string][]*scrape.Target {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	out := map[string][]*scrape.Target{}
	for _, t := range r.m.targets {
		out[t.job] = append(out[t.job], t.shown)
	}
	return out
}

func (r retriever) ScrapePools() []string {
	list := r.m.scraper.ScrapePools()
	for job := range r.inProcess() {
		list = append(list, job)
	}
	return list
}

func (r retriever) TargetsActive() map[string][]*scrape.Target {
	out := r.m.scraper.TargetsActive()
	for job, list := range r.inProcess() {
		out[job] = append(out[job], list...)
	}
	return out
}

func (r retriever) TargetsDropped() map[string][]*scrape.Target { return r.m.scraper.TargetsDropped() }
func (r retriever) TargetsDroppedCounts() map[string]int        { return r.m.scraper.TargetsDroppedCounts() }

func (r retriever) ScrapePoolConfig(job string) (*config.ScrapeConfig, error) {
	if _, ok := r.inProcess()[job]; ok {
		return &config.ScrapeConfig{JobName: job}, nil
	}
	return r.m.scraper.ScrapePoolConfig(job)
}

// nobody is the answer while no alerting is wired.
type nobody struct{}

func (nobody) RuleGroups() []*rules.Group           { return nil }
func (nobody) AlertingRules() []*rules.AlertingRule { return nil }
func (nobody) Alertmanagers() []*url.URL            { return nil }
func (nobody) DroppedAlertmanagers() []*url.URL     { return nil }

// admin gives the API's status pages what the database knows.
type admin struct{ *tsdb.DB }

func (a admin) Stats(label string, limit int) (*tsdb.Stats, error) {
	return a.Head().Stats(label, limit), nil
}
func (a admin) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }
func (a admin) BlockMetas() ([]tsdb.BlockMeta, error)          { return a.DB.BlockMetas(), nil }
