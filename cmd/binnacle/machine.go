package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"binnacle.io/alerting"
	"binnacle.io/core/admission"
	"binnacle.io/core/api"
	"binnacle.io/core/api/openapi"
	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/cluster/bootstrap"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/bootstraptokens"
	"binnacle.io/core/controller/certificates"
	"binnacle.io/core/controller/cronjob"
	"binnacle.io/core/controller/deployment"
	"binnacle.io/core/controller/disruption"
	"binnacle.io/core/controller/endpointslice"
	"binnacle.io/core/controller/garbage"
	"binnacle.io/core/controller/job"
	"binnacle.io/core/controller/namespace"
	"binnacle.io/core/controller/nodelifecycle"
	"binnacle.io/core/controller/replicaset"
	"binnacle.io/core/controller/resourcequota"
	"binnacle.io/core/controller/serviceaccount"
	"binnacle.io/core/controller/ttlafterfinished"
	"binnacle.io/core/controller/volumeprotection"
	"binnacle.io/core/dns"
	"binnacle.io/core/extend"
	"binnacle.io/core/kind"
	"binnacle.io/core/network"
	"binnacle.io/core/node"
	"binnacle.io/core/proxy"
	"binnacle.io/core/scheduler"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
	"binnacle.io/exporters/cgroup"
	nodeexporter "binnacle.io/exporters/node"
	"binnacle.io/metrics"
	"binnacle.io/metrics/autoscale"
	"binnacle.io/tracing"
)

// machine is everything that runs here, in the order in which it is built.
type machine struct {
	cfg *Config
	out *progress
	sup *supervisor
	hub *telemetry.Hub

	tracing *tracing.Tracing

	pki         *pki.PKI
	kinds       *kind.Catalogue
	store       *store.Store
	access      *access
	authn       auth.Authenticator
	authz       auth.Authorizer
	api         *api.Server
	client      client.Client // system:masters
	controllers *telemetry.Component
	scheduler   *scheduler.Scheduler
	schedulerC  *telemetry.Component

	network *network.Network
	proxy   *proxy.Proxy
	proxyC  *telemetry.Component
	dns     *dns.Server

	inventory    *inventory
	history      *cgroup.History
	containers   *cgroup.Exporter
	nodeExporter *nodeexporter.Exporter
	resources    atomic.Pointer[metrics.ResourceAPI] // metrics.k8s.io, once there is something to measure
	metrics      *metrics.Metrics
	alerting     *alerting.Alerting
	autoscale    *autoscale.Controller

	agent   *node.Agent
	closers []io.Closer
}

// close stops what was started, in reverse.
func (m *machine) close() error {
	err := m.sup.stop()
	for i := len(m.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, m.closers[i].Close())
	}
	return err
}

func (m *machine) startTracing(ctx context.Context) (err error) {
	m.tracing, err = tracing.New(tracing.Config{
		DataDir:     m.cfg.DataDir,
		GRPCAddress: fmt.Sprintf("127.0.0.1:%d", m.cfg.Ports.OTLPGRPC),
		HTTPAddress: fmt.Sprintf("127.0.0.1:%d", m.cfg.Ports.OTLPHTTP),
	}, m.hub.Component("tracing", "tracing"))
	if err != nil {
		return err
	}
	m.hub.AddSpanProcessor(m.tracing.Processor())
	return m.sup.start(ctx, "tracing", m.tracing.Run, nil)
}

func (m *machine) startControlPlane(ctx context.Context) (err error) {
	if m.pki, err = pki.Ensure(pki.Config{
		Dir: m.cfg.path("pki"), NodeName: m.cfg.NodeName, Addresses: []netip.Addr{m.cfg.address(), netip.MustParseAddr("127.0.0.1")},
		ServiceAddress: m.cfg.apiServiceIP(), ClusterDomain: m.cfg.ClusterDomain,
	}); err != nil {
		return err
	}
	if len(m.pki.Made) > 0 {
		m.out.step("certificates made in %s", m.pki.Dir)
	}
	m.kinds = kind.Builtin()
	for _, k := range append(metrics.Kinds(), extend.CustomResourceDefinitions()) {
		m.kinds.Add(k)
	}
	warnStoredOnly(m.kinds)
	if m.store, err = store.Open(ctx, m.cfg.storeConfig(), m.kinds, m.hub.Component("etcd", "etcd")); err != nil {
		return err
	}
	m.closers = append(m.closers, m.store)
	m.out.step("state opened at revision %d", m.store.Revision())
	if err := m.sup.start(ctx, "state", m.store.Wait, nil); err != nil {
		return err
	}
	if err := m.startAPI(ctx); err != nil {
		return err
	}
	m.out.step("API serves on port %d", m.cfg.Ports.API)
	if err := m.writeKubeconfig(); err != nil {
		return err
	}
	if err := m.startControllers(ctx); err != nil {
		return err
	}
	m.schedulerC = m.hub.Component("scheduler", "kube-scheduler")
	m.schedulerC.RegisterProcess()
	m.scheduler = scheduler.New(scheduler.Config{}, m.as("system:kube-scheduler"), m.schedulerC)
	return m.sup.start(ctx, "scheduler", m.scheduler.Run, nil)
}

func (m *machine) startAPI(ctx context.Context) error {
	tel := m.hub.Component("apiserver", "apiserver")
	tel.RegisterProcess()
	var err error
	if m.access, err = newAccess(m.cfg, m.pki, tel); err != nil {
		return err
	}
	tokens, rbac := m.access.tokens, m.access.rbac
	discovery, err := tokens.Discovery()
	if err != nil {
		return err
	}
	m.authn, m.authz = m.access.authn, m.access.authz
	chain, err := admission.NewChain(tel)
	if err != nil {
		return err
	}
	serving := api.ServerTLS(m.pki.APIServer.TLS())
	serving.ClientCAs, serving.ClientAuth = m.pki.Pool(), tls.RequestClientCert
	auditing := m.cfg.Audit
	if auditing.Path == "" {
		auditing.Path = m.cfg.path("log", "audit.log")
		if auditing.MaxSize == 0 && auditing.MaxBackups == 0 {
			auditing.MaxSize, auditing.MaxBackups = 100, 2
		}
	}
	record, err := audit.Open(auditing, tel)
	if err != nil {
		return err
	}
	m.closers = append(m.closers, record)
	m.api, err = api.New(api.Config{
		Address: fmt.Sprintf(":%d", m.cfg.Ports.API), TLS: serving, Audit: record,
		MaxInFlight: m.cfg.Requests.MaxInFlight, MaxMutatingInFlight: m.cfg.Requests.MaxMutatingInFlight,
		Served:  map[string]http.Handler{"metrics.k8s.io": http.HandlerFunc(m.serveMetricsAPI)},
		OpenAPI: openapi.New(m.kinds), OIDC: discovery, Tokens: tokens, Verifiers: m.access.verifiers, Audiences: tokens.Audiences(), Rules: m.access.rules,
		Components: []api.Check{{Name: "controller-manager", OK: m.sup.running("controllers")}, {Name: "scheduler", OK: m.sup.running("scheduler")}},
		NodeTLS:    &tls.Config{Certificates: []tls.Certificate{m.pki.APIServerKubeletClient.TLS()}, RootCAs: m.pki.Pool(), MinVersion: tls.VersionTLS12},
	}, m.store, m.kinds, m.authn, m.authz, chain, tel)
	if err != nil {
		return err
	}
	crds := extend.CustomResourceDefinitions().GroupResource()
	m.api.ServeVirtual(crds, extend.None{Resource: crds})
	m.client = m.api.Client(&auth.User{Name: "system:apiserver", Groups: []string{auth.GroupMasters, auth.GroupAuthenticated}})
	m.access.use(m.client)
	plugins, err := admission.Builtin(admission.Config{
		Services: admission.ServicesConfig{CIDRs: []netip.Prefix{m.cfg.serviceCIDR()}},
		Enable:   m.cfg.Admission.Enable, Disable: m.cfg.Admission.Disable,
		PodSecurity: m.cfg.Admission.PodSecurity,
	}, m.client, rbac, m.authz, tel)
	if err != nil {
		return err
	}
	chain.Use(plugins...)
	if err := m.access.start(ctx, m.sup, m.client, tel); err != nil {
		return err
	}
	if err := m.sup.start(ctx, "API server", m.api.Run, nil); err != nil {
		return err
	}
	if err := bootstrap.Bootstrap(ctx, m.client, bootstrap.Config{
		AdvertiseAddress: m.cfg.address(), Port: m.cfg.Ports.API, ServiceAddress: m.cfg.apiServiceIP(),
		ServiceCIDRs: []netip.Prefix{m.cfg.serviceCIDR()},
		ClientCA:     m.pki.CA.CertPEM, FrontProxyCA: m.pki.FrontProxyCA.CertPEM,
	}); err != nil {
		return err
	}
	select {
	case <-rbac.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.sup.start(ctx, "local APIServices", extend.NewLocalServices(m.kinds, m.client, tel).Run, nil); err != nil {
		return err
	}
	return m.sup.start(ctx, "role aggregation", bootstrap.NewAggregator(m.client, tel).Run, nil)
}

// serveMetricsAPI answers metrics.k8s.io once there is something to measure.
func (m *machine) serveMetricsAPI(w http.ResponseWriter, r *http.Request) {
	if h := m.resources.Load(); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	http.Error(w, "metrics are not collected yet", http.StatusServiceUnavailable)
}

func (m *machine) startControllers(ctx context.Context) error {
	m.controllers = m.hub.Component("controller-manager", "kube-controller-manager")
	m.controllers.RegisterProcess()
	manager := controller.New(controller.Config{Identity: m.cfg.NodeName}, m.client, m.controllers)
	for _, c := range []controller.Controller{
		deployment.New(), replicaset.New(), replicaset.NewReplicationController(),
		endpointslice.New(), endpointslice.NewEndpoints(), endpointslice.NewMirroring(),
		namespace.New(func() []client.Resource { return m.kinds.Deletable(kind.Namespaced) }), serviceaccount.New(), serviceaccount.NewRootCA(string(m.pki.CA.CertPEM)),
		serviceaccount.NewTokens(m.access.tokens, string(m.pki.CA.CertPEM)), serviceaccount.NewLegacyCleaner(0),
		certificates.NewApprover(m.authz), certificates.NewSigner(m.pki.CA, 0), certificates.NewCleaner(),
		bootstraptokens.NewCleaner(), bootstraptokens.NewSigner(),
		disruption.New(), resourcequota.New(m.kinds.Deletable(kind.Namespaced)),
		nodelifecycle.New(), nodelifecycle.NewIPAM(m.cfg.podCIDR(), 24), nodelifecycle.NewTaintEviction(),
		job.New(m.controllers.Registry), job.NewOrphans(), cronjob.New(m.controllers.Registry), ttlafterfinished.New(m.controllers.Registry),
		volumeprotection.NewClaims(), volumeprotection.NewVolumes(), volumeprotection.NewClasses(),
	} {
		if err := manager.Add(c); err != nil {
			return err
		}
	}
	collector := garbage.New(m.client, m.kinds, m.controllers)
	if err := m.sup.start(ctx, "garbage collector", collector.Run, nil); err != nil {
		return err
	}
	return m.sup.start(ctx, "controllers", manager.Run, nil)
}

// as returns a client with a component's own identity.
func (m *machine) as(user string, groups ...string) client.Client {
	return m.client.As(user, append(groups, auth.GroupAuthenticated)...)
}

// asNode is the identity of this node's agent.
func (m *machine) asNode() client.Client {
	return m.as("system:node:"+m.cfg.NodeName, auth.GroupNodes)
}

func (m *machine) startNetwork(ctx context.Context) (err error) {
	trace := func(ctx context.Context, namespace, name string) string {
		pod, err := client.GetCached[*corev1.Pod](ctx, m.client, namespace, name)
		if err != nil {
			return ""
		}
		return pod.Annotations[telemetry.TraceAnnotation]
	}
	if m.network, err = network.New(network.Config{
		Node: m.cfg.NodeName, ClusterCIDR: m.cfg.podCIDR(), DataDir: m.cfg.DataDir, RunDir: m.cfg.RunDir,
	}, m.asNode(), trace, m.hub.Component("network", "binnacle-network")); err != nil {
		return err
	}
	if err := m.sup.start(ctx, "pod network", m.network.Run, nil); err != nil {
		return err
	}
	m.proxyC = m.hub.Component("proxy", "kube-proxy")
	m.proxyC.RegisterProcess()
	if m.proxy, err = proxy.New(proxy.Config{
		Node: m.cfg.NodeName, ClusterCIDRs: []netip.Prefix{m.cfg.podCIDR()}, Local: []netip.Addr{m.cfg.dnsIP()},
	}, m.as("system:kube-proxy"), m.proxyC); err != nil {
		return err
	}
	if err := m.sup.start(ctx, "service proxy", m.proxy.Run, nil); err != nil {
		return err
	}
	return m.startDNS(ctx)
}

// waitReady waits until the node says that it is Ready.
func (m *machine) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	w, err := client.WatchOf[*corev1.Node](ctx, m.client, "", client.ReadOptions{Fields: fields.OneTermEqualSelector("metadata.name", m.cfg.NodeName)})
	if err != nil {
		return err
	}
	defer w.Close()
	last := ""
	for {
		events, failed := make(chan client.Event, 1), make(chan error, 1)
		go func() {
			ev, err := w.Next(ctx)
			if err != nil {
				failed <- err
				return
			}
			events <- ev
		}()
		select {
		case err := <-m.sup.failed:
			return err
		case err := <-failed:
			return fmt.Errorf("node %q is not ready after %v: %s; see %s (%w)", m.cfg.NodeName, readyWithin, last, m.cfg.path("log", "binnacle.log"), err)
		case ev := <-events:
			n, ok := ev.Object.(*corev1.Node)
			if !ok {
				continue
			}
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady {
					if c.Status == corev1.ConditionTrue {
						return nil
					}
					last = c.Message
				}
			}
		}
	}
}
