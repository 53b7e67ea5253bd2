package apitest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"binnacle.io/core/admission"
	"binnacle.io/core/api"
	"binnacle.io/core/api/openapi"
	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/cluster/bootstrap"
	"binnacle.io/core/cluster/kubeconfig"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// Server is a running API server.
type Server struct {
	// Client acts as a member of system:masters, in process.
	Client client.Client
	// URL is the HTTPS address, Kubeconfig the path of an administrator's
	// kubeconfig, REST the same for client-go.
	URL        string
	Kubeconfig string
	REST       *rest.Config
	Hub        *telemetry.Hub

	API       *api.Server
	Chain     *admission.Chain
	Store     *store.Store
	Kinds     *kind.Catalogue
	PKI       *pki.PKI
	Telemetry *telemetry.Component
	// Audit holds what has been audited so far.
	Audit *Buffer
}

// Option changes what Start starts.
type Option func(*settings)

type settings struct {
	api     func(*api.Config)
	store   func(*store.Config)
	plugins func(c client.Client) []admission.Plugin
	hub     *telemetry.Hub
	audit   *audit.Policy
}

// WithAPI changes the API server's configuration.
func WithAPI(f func(*api.Config)) Option { return func(s *settings) { s.api = f } }

// WithStore changes the store's configuration.
func WithStore(f func(*store.Config)) Option { return func(s *settings) { s.store = f } }

// WithPlugins adds admission plugins after the usual ones.
func WithPlugins(f func(c client.Client) []admission.Plugin) Option {
	return func(s *settings) { s.plugins = f }
}

// WithAuditPolicy audits as p says instead of everything at level Metadata.
func WithAuditPolicy(p *audit.Policy) Option { return func(s *settings) { s.audit = p } }

// WithHub uses the given hub, for tests that look at spans.
func WithHub(h *telemetry.Hub) Option { return func(s *settings) { s.hub = h } }

// Buffer is a bytes.Buffer for concurrent use.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Start starts a server that ends with the test. Its default namespaces and
// RBAC policy are there when it returns.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	var set settings
	for _, o := range opts {
		o(&set)
	}
	s := &Server{Hub: set.hub, Audit: &Buffer{}}
	if s.Hub == nil {
		s.Hub = telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(io.Discard, nil)})
	}
	s.Telemetry = s.Hub.Component("apiserver", "apiserver")
	dir := t.TempDir()
	loopback := netip.MustParseAddr("127.0.0.1")

	var err error
	must := func(what string) {
		t.Helper()
		if err != nil {
			t.Fatalf("cannot start the test API server: %s: %v", what, err)
		}
	}
	s.PKI, err = pki.Ensure(pki.Config{Dir: filepath.Join(dir, "pki"), NodeName: "node", Addresses: []netip.Addr{loopback}})
	must("certificates")
	s.Kinds = kind.Builtin()
	ctx, cancel := context.WithCancel(context.Background())
	sc := store.Config{Dir: filepath.Join(dir, "etcd"), NoFsync: true}
	if set.store != nil {
		set.store(&sc)
	}
	s.Store, err = store.Open(ctx, sc, s.Kinds, s.Hub.Component("etcd", "etcd"))
	must("store")

	tokens, err := auth.NewTokens(auth.TokenConfig{}, s.PKI.ServiceAccountKey)
	must("tokens")
	discovery, err := tokens.Discovery()
	must("token discovery")
	rbac := auth.NewRBAC()
	joining, nodes := auth.NewBootstrapTokens(tokens.Audiences(), nil), auth.NewNode()
	authn := auth.NewUnion(auth.NewCertificates(s.PKI.Pool(), nil), auth.NewBearer(tokens.Audiences(), tokens, joining))
	s.Chain, err = admission.NewChain(s.Telemetry)
	must("admission")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	must("listener")
	port := l.Addr().(*net.TCPAddr).Port
	record, err := audit.New(s.Audit, set.audit, s.Telemetry)
	must("audit")
	cfg := api.Config{
		Listener: l, TLS: api.ServerTLS(s.PKI.APIServer.TLS()), Audit: record,
		Tokens: tokens, Verifiers: []auth.TokenVerifier{tokens, joining}, Audiences: tokens.Audiences(), OIDC: discovery, Rules: rbac,
		NodeTLS: &tls.Config{Certificates: []tls.Certificate{s.PKI.APIServerKubeletClient.TLS()}, RootCAs: s.PKI.Pool()},
	}
	cfg.OpenAPI = openapi.New(s.Kinds)
	if set.api != nil {
		set.api(&cfg)
	}
	authorizers := auth.NewAuthorizers(auth.Masters(), nodes, rbac)
	s.API, err = api.New(cfg, s.Store, s.Kinds, authn, authorizers, s.Chain, s.Telemetry)
	must("pipeline")
	s.Client = s.API.Client(&auth.User{Name: "system:apiserver", Groups: []string{auth.GroupMasters}})
	tokens.Use(s.Client)
	joining.Use(s.Client)
	nodes.Use(s.Client)

	services, err := admission.NewServices(admission.ServicesConfig{}, s.Client, s.Telemetry)
	must("service allocation")
	plugins := []admission.Plugin{
		admission.NewNamespaceLifecycle(s.Client), admission.NewPriority(s.Client),
		admission.NewDefaultTolerationSeconds(), admission.NewRuntimeClass(s.Client), admission.NewLimitRanger(s.Client),
		admission.NewDefaultStorageClass(s.Client), admission.NewDefaultIngressClass(s.Client), services,
		admission.NewRBACEscalation(rbac, authorizers),
	}
	if set.plugins != nil {
		plugins = append(plugins, set.plugins(s.Client)...)
	}
	s.Chain.Use(plugins...)

	var running sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s ended: %v", what, err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := s.Store.Close(); err != nil {
			t.Errorf("cannot close the store: %v", err)
		}
	})
	run("API server", s.API.Run)
	run("RBAC", func(ctx context.Context) error { return rbac.Run(ctx, s.Client, s.Telemetry) })

	begin, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	err = bootstrap.Bootstrap(begin, s.Client, bootstrap.Config{AdvertiseAddress: loopback, Port: port, ClientCA: s.PKI.CA.CertPEM})
	must("bootstrap")
	select {
	case <-rbac.Ready():
	case <-begin.Done():
		t.Fatal("cannot start the test API server: RBAC is not ready")
	}
	select {
	case <-s.API.FlowReady():
	case <-begin.Done():
		t.Fatal("cannot start the test API server: priority and fairness is not ready")
	}

	s.URL = "https://" + l.Addr().String()
	s.Kubeconfig = filepath.Join(dir, "kubeconfig")
	err = kubeconfig.Write(s.Kubeconfig, kubeconfig.New("test", s.URL, s.PKI.CA, s.PKI.Admin))
	must("kubeconfig")
	s.REST, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	must("client configuration")
	// Tests ask more often than a person.
	s.REST.QPS, s.REST.Burst = 1000, 1000
	return s
}

// HTTP is an administrator's client without client-go around it.
func (s *Server) HTTP(t testing.TB) *http.Client {
	t.Helper()
	h, err := rest.HTTPClientFor(s.REST)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

// Anonymous is a client without credentials.
func (s *Server) Anonymous(t testing.TB) *http.Client {
	t.Helper()
	h, err := rest.HTTPClientFor(rest.AnonymousClientConfig(s.REST))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

// AdminState is the TLS state of a connection by the administrator, for
// requests made to the handler without a connection.
func (s *Server) AdminState() *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{s.PKI.Admin.Cert}}
}
