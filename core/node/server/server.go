package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/node/runtime"
	"binnacle.io/core/telemetry"
)

// Node tells the server about the pods of the node.
type Node interface {
	// Pods returns the pods with their present status.
	Pods() []*corev1.Pod
	// Pod returns one pod and what the runtime has of it.
	Pod(namespace, name string) (Pod, bool)
	// Healthy says why the node is not well, if it is not.
	Healthy() error
}

// Pod is a pod as its node sees it.
type Pod struct {
	Pod        *corev1.Pod
	Sandboxes  []runtime.Sandbox
	Containers []runtime.Container
}

// Streams is what the server needs of the container runtime.
type Streams interface {
	Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (runtime.ExecResult, error)
	ExecURL(ctx context.Context, r *cri.ExecRequest) (string, error)
	AttachURL(ctx context.Context, r *cri.AttachRequest) (string, error)
	PortForwardURL(ctx context.Context, r *cri.PortForwardRequest) (string, error)
}

// Config of a Server.
type Config struct {
	NodeName string
	// Certificate of the server; nil makes one that nobody vouches for.
	Certificate *tls.Certificate
	ClientCAs   *x509.CertPool
	// Authenticate finds the user of a bearer token.
	Authenticate func(ctx context.Context, token string) (*auth.User, bool, error)
	// Authorize decides whether the user may do verb on the node's
	// subresource.
	Authorize func(ctx context.Context, user *auth.User, verb, subresource string) error

	// Metrics are gathered for /metrics, Probes for /metrics/probes.
	Metrics, Probes prometheus.Gatherer
	// Cadvisor, Resource and Summary may be nil.
	Cadvisor, Resource, Summary http.Handler
	// Config is shown at /configz.
	Config any
}

// Server serves one node.
type Server struct {
	cfg  Config
	node Node
	rt   Streams
	tel  *telemetry.Component
	mux  *http.ServeMux
}

// New returns a server for node.
func New(cfg Config, node Node, rt Streams, tel *telemetry.Component) (*Server, error) {
	if cfg.Certificate == nil {
		cert, err := selfSigned(cfg.NodeName)
		if err != nil {
			return nil, err
		}
		cfg.Certificate = cert
	}
	s := &Server{cfg: cfg, node: node, rt: rt, tel: tel, mux: http.NewServeMux()}
	s.routes()
	return s, nil
}

// routes are the upstream kubelet's.
func (s *Server) routes() {
	h := func(pattern string, sub string, f http.HandlerFunc) { s.mux.Handle(pattern, s.guard(sub, f)) }
	h("/healthz", "healthz", s.healthz)
	h("/healthz/{check}", "healthz", s.healthz)
	h("GET /pods", "pods", s.pods)
	h("GET /runningpods", "pods", s.runningPods)
	h("GET /runningpods/{$}", "pods", s.runningPods)
	h("GET /configz", "configz", s.configz)
	h("GET /containerLogs/{namespace}/{pod}/{container}", "proxy", s.containerLogs)
	for _, m := range []string{"GET", "POST"} {
		h(m+" /exec/{namespace}/{pod}/{container}", "proxy", s.exec)
		h(m+" /exec/{namespace}/{pod}/{uid}/{container}", "proxy", s.exec)
		h(m+" /attach/{namespace}/{pod}/{container}", "proxy", s.attach)
		h(m+" /attach/{namespace}/{pod}/{uid}/{container}", "proxy", s.attach)
		h(m+" /portForward/{namespace}/{pod}", "proxy", s.portForward)
		h(m+" /portForward/{namespace}/{pod}/{uid}", "proxy", s.portForward)
	}
	h("POST /run/{namespace}/{pod}/{container}", "proxy", s.run)
	h("POST /run/{namespace}/{pod}/{uid}/{container}", "proxy", s.run)

	optional := func(pattern, sub string, f http.Handler) {
		if f == nil {
			f = http.NotFoundHandler()
		}
		h(pattern, sub, f.ServeHTTP)
	}
	opts := promhttp.HandlerOpts{}
	optional("GET /metrics", "metrics", promhttp.HandlerFor(s.cfg.Metrics, opts))
	optional("GET /metrics/probes", "metrics", promhttp.HandlerFor(s.cfg.Probes, opts))
	optional("GET /metrics/cadvisor", "metrics", s.cfg.Cadvisor)
	optional("GET /metrics/resource", "metrics", s.cfg.Resource)
	optional("GET /stats/summary", "stats", s.cfg.Summary)
}

// Listen opens the server's address.
func (s *Server) Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the node's clients on %s: %w", address, err)
	}
	return l, nil
}

// Serve answers until ctx ends. Streams still open then are cut.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       90 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.tel.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{*s.cfg.Certificate},
			ClientCAs:    s.cfg.ClientCAs,
			ClientAuth:   tls.RequestClientCert,
			// Streams upgrade the connection, which HTTP/2 cannot.
			NextProtos: []string{"http/1.1"},
		},
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	if s.cfg.ClientCAs != nil {
		srv.TLSConfig.ClientAuth = tls.VerifyClientCertIfGiven
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		srv.Close()
	}()
	err := srv.ServeTLS(l, "", "")
	if ctx.Err() == nil {
		return fmt.Errorf("cannot serve the node's clients: %w", err)
	}
	<-done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
