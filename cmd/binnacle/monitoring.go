package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"binnacle.io/alerting"
	alertingkube "binnacle.io/alerting/kube"
	"binnacle.io/core/api"
	"binnacle.io/core/auth"
	"binnacle.io/core/dns"
	"binnacle.io/core/events"
	"binnacle.io/core/node"
	"binnacle.io/core/telemetry"
	"binnacle.io/dashboards"
	"binnacle.io/exporters/cgroup"
	nodeexporter "binnacle.io/exporters/node"
	"binnacle.io/metrics"
	"binnacle.io/metrics/autoscale"
)

func (m *machine) startDNS(ctx context.Context) (err error) {
	tel := m.hub.Component("dns", "coredns")
	tel.RegisterProcess()
	rec, err := m.recorder(ctx, "coredns", tel)
	if err != nil {
		return err
	}
	if m.dns, err = dns.New(dns.Config{Address: netip.AddrPortFrom(m.cfg.dnsIP(), 53), Domain: m.cfg.ClusterDomain}, m.client, rec, tel); err != nil {
		return err
	}
	return m.sup.start(ctx, "DNS", m.dns.Run, nil)
}

// recorder starts an event recorder of a component.
func (m *machine) recorder(ctx context.Context, component string, tel *telemetry.Component) (*events.Recorder, error) {
	rec := events.NewRecorder(events.Config{Component: component, Host: m.cfg.NodeName}, m.client, tel)
	return rec, m.sup.start(ctx, component+" events", rec.Run, nil)
}

// startMonitoring opens the metrics database, alerting and autoscaling.
func (m *machine) startMonitoring(ctx context.Context) error {
	m.inventory, m.history = &inventory{}, cgroup.NewHistory()
	cgroups := cgroup.Config{}
	sampler, err := cgroup.NewSampler(cgroups)
	if err != nil {
		return err
	}
	if m.containers, err = cgroup.NewExporter(cgroups, m.cfg.NodeName, fullVersion(), m.inventory, m.history); err != nil {
		return err
	}
	tel := m.hub.Component("metrics", "prometheus-k8s")
	tel.RegisterProcess()
	if m.nodeExporter, err = nodeexporter.New(nodeexporter.Config{}, tel.Log); err != nil {
		return err
	}
	if m.metrics, err = metrics.New(metrics.Config{
		Dir: m.cfg.path("metrics"), Retention: m.cfg.Metrics.Retention.Duration, RetentionBytes: m.cfg.Metrics.RetentionBytes,
		Node: m.cfg.NodeName, Address: m.cfg.Address, Ports: m.cfg.Ports.byJob(),
	}, m.hub, m.client, &metrics.Containers{Inventory: m.inventory, Source: sampler, History: m.history}, tel,
		metrics.CAdvisor(m.containers),
		metrics.Source{Job: "node-exporter", Gatherer: m.nodeExporter},
		metrics.Source{Job: "etcd", Gatherer: m.store.Gatherer()},
	); err != nil {
		return err
	}
	m.closers = append(m.closers, m.metrics)
	if err := m.startAlerting(ctx); err != nil {
		return err
	}
	if err := m.sup.start(ctx, "metrics", m.metrics.Run, nil); err != nil {
		return err
	}
	rec, err := m.recorder(ctx, "horizontal-pod-autoscaler", m.controllers)
	if err != nil {
		return err
	}
	m.autoscale = autoscale.New(autoscale.Config{}, m.client, m.history, m.metrics, rec, m.controllers)
	if err := m.sup.start(ctx, "autoscaling", m.autoscale.Run, nil); err != nil {
		return err
	}
	m.resources.Store(metrics.NewResourceAPI(m.client, m.history, m.cfg.NodeName))
	m.out.step("metrics and alerting run")
	return nil
}

func (m *machine) startAlerting(ctx context.Context) (err error) {
	tel := m.hub.Component("alerting", "alertmanager-main")
	tel.RegisterProcess()
	if m.alerting, err = alerting.New(alerting.Config{
		DataDir: m.cfg.DataDir, File: m.cfg.Alerting.File, RuleFiles: m.cfg.Alerting.Rules,
		ExternalURL: fmt.Sprintf("http://127.0.0.1:%d", m.cfg.Ports.Observability),
	}, alerting.Deps{Queryable: m.metrics.Queryable(), Engine: m.metrics.Engine(), Appendable: m.metrics.Appendable()}, tel); err != nil {
		return err
	}
	m.metrics.SetRules(m.alerting)
	if err := m.sup.start(ctx, "alerting", m.alerting.Run, nil); err != nil {
		return err
	}
	rec, err := m.recorder(ctx, "alerting", tel)
	if err != nil {
		return err
	}
	objects := alertingkube.New(alertingkube.Config{}, m.alerting, m.client, rec, tel)
	if err := m.sup.start(ctx, "alerting objects", objects.Run, nil); err != nil {
		return err
	}
	return m.sup.start(ctx, "reload on SIGHUP", func(ctx context.Context) error {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		defer signal.Stop(hup)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
				if err := m.alerting.Reload(); err != nil {
					tel.Log.Error("cannot reload alerting, what was goes on", "err", err)
				}
			}
		}
	}, nil)
}

func (m *machine) startNode(ctx context.Context) (err error) {
	tel := m.hub.Component("agent", "kubelet")
	tel.RegisterProcess()
	serving := m.pki.Kubelet.TLS()
	if m.agent, err = node.New(node.Config{
		Name: m.cfg.NodeName, DataDir: m.cfg.DataDir, RunDir: m.cfg.RunDir, BinDir: m.cfg.BinDir,
		RuntimeEndpoint: m.cfg.RuntimeEndpoint, ImageDirs: m.cfg.ImageDirs,
		Port: m.cfg.Ports.Kubelet, NodeIPs: []string{m.cfg.Address}, ServerTLS: &serving, ClientCAs: m.pki.Pool(),
		CadvisorMetrics: m.containers.Handler(), ResourceMetrics: m.containers.ResourceHandler(), StatsSummary: m.containers.SummaryHandler(),
		ClusterDNS: []string{m.cfg.dnsIP().String()}, ClusterDomain: m.cfg.ClusterDomain, Version: kubernetesVersion,
	}, m.asNode(), tel); err != nil {
		return err
	}
	m.inventory.agent.Store(m.agent)
	if err := tel.Registry.Register(m.agent.ProbeMetrics()); err != nil {
		return fmt.Errorf("cannot register probe metrics: %w", err)
	}
	if err := m.sup.start(ctx, "node agent", m.agent.Run, m.agent.Ready()); err != nil {
		return err
	}
	m.out.step("container runtime answers")
	return nil
}

// startUI serves what people and other tools look at.
func (m *machine) startUI(ctx context.Context) error {
	ui := m.hub.Component("ui", "binnacle-ui")
	mux := http.NewServeMux()
	mux.Handle("/api/v1/", m.metrics.Handler())
	mux.Handle("/federate", m.metrics.Handler())
	mux.Handle("/-/", m.metrics.Handler())
	mux.Handle("/alertmanager/", m.alerting.Handler())
	mux.Handle("/jaeger/", m.tracing.Handler())
	mux.Handle("/tempo/", m.tracing.Handler())
	mux.Handle("/autoscale/", m.autoscale.Handler("/autoscale"))
	mux.Handle("/metrics", m.scrapes("prometheus-k8s"))
	mux.HandleFunc("/metrics/{job}", func(w http.ResponseWriter, r *http.Request) { m.scrapes(r.PathValue("job")).ServeHTTP(w, r) })
	mux.Handle("/kube-state/metrics", m.metrics.KubeStateHandler())
	mux.Handle("/node-exporter/metrics", m.nodeExporter.Handler())
	mux.Handle("/", dashboards.Handler(dashboards.Deps{
		Client: m.client, Metrics: m.metrics, Traces: m.tracing, Rules: m.alerting, Alertmanager: m.alerting.Handler(),
		Decisions: m.autoscale, Telemetry: ui,
	}))

	fronts := []front{
		{"UI", "127.0.0.1", m.cfg.Ports.Observability, mux, false},
		{"controllers' metrics", "127.0.0.1", m.cfg.Ports.Controllers, m.guarded("kube-controller-manager"), true},
		{"scheduler's metrics", "127.0.0.1", m.cfg.Ports.Scheduler, m.guarded("kube-scheduler"), true},
	}
	if m.proxy != nil {
		mux.Handle("/proxy/plan", m.proxy.Plan())
		proxy := http.NewServeMux()
		proxy.Handle("/metrics", m.scrapes("kube-proxy"))
		health := http.NewServeMux()
		health.Handle("/healthz", m.proxy.Healthz())
		health.Handle("/livez", m.proxy.Healthz())
		fronts = append(fronts,
			front{"proxy's metrics", "127.0.0.1", m.cfg.Ports.ProxyMetrics, proxy, false},
			front{"proxy's health", "", m.cfg.Ports.ProxyHealth, health, false})
	}
	for _, f := range fronts {
		if err := m.listen(ctx, f.name, net.JoinHostPort(f.host, fmt.Sprint(f.port)), f.handler, f.tls); err != nil {
			return err
		}
	}
	return nil
}

// front is one listener besides those of the API server and the agent.
type front struct {
	name, host string
	port       int
	handler    http.Handler
	tls        bool
}

// listen serves a handler until stopped.
func (m *machine) listen(ctx context.Context, name, address string, h http.Handler, secure bool) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen for the %s: %w", name, err)
	}
	if secure {
		cfg := api.ServerTLS(m.pki.APIServer.TLS())
		cfg.ClientCAs, cfg.ClientAuth = m.pki.Pool(), tls.RequestClientCert
		l = tls.NewListener(l, cfg)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	return m.sup.start(ctx, name, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { srv.Close() }) // streams would hold a graceful end up
		defer stop()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, nil)
}

// scrapes is the text endpoint of the components of a job.
func (m *machine) scrapes(job string) http.Handler {
	gather := func() (all prometheus.Gatherers) {
		for _, c := range m.hub.Components() {
			if c.Job == job {
				all = append(all, c.Registry)
			}
		}
		if job == "etcd" {
			all = append(all, m.store.Gatherer())
		}
		return all
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(gather()) == 0 {
			http.NotFound(w, r)
			return
		}
		promhttp.HandlerFor(gather(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// guarded serves a component's metrics and health to those whom the cluster's
// roles allow it.
func (m *machine) guarded(job string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", m.scrapes(job))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, ok, err := m.authn.Authenticate(r)
		if err != nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if !ok {
			u = &auth.User{Name: auth.Anonymous, Groups: []string{auth.GroupUnauthenticated}}
		}
		a := auth.Attributes{User: u, Verb: "get", Path: r.URL.Path}
		if d, reason, err := m.authz.Authorize(r.Context(), a); err != nil || d != auth.Allow {
			http.Error(w, auth.Forbidden(a, reason).Error(), http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
