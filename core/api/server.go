package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/admission"
	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/flowcontrol"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// Server is the request pipeline. It is safe for concurrent use.
type Server struct {
	cfg       Config
	store     *store.Store
	kinds     *kind.Catalogue
	authn     auth.Authenticator
	authz     auth.Authorizer
	admission *admission.Chain
	tel       *telemetry.Component

	codecs     *codecs
	buffers    buffers
	renderings sync.Map // renderingKey → *rendering
	owners     *owners
	metrics    *metrics
	audit      *audit.Log
	virtual    map[string]virtualKind
	readers    sync.Map // schema.GroupResource → Reader
	// deprecations remembers warnings: schema.GroupVersionKind → []string
	deprecations sync.Map
	nodes        *nodeProxy
	flow         *flowcontrol.Controller
	stopping     chan struct{} // closed when Run ends: watches and /readyz see it
	stopOnce     sync.Once
}

// New returns a server. Its metrics are registered with tel.
func New(cfg Config, st *store.Store, cat *kind.Catalogue, authn auth.Authenticator, authz auth.Authorizer, chain *admission.Chain, tel *telemetry.Component) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, store: st, kinds: cat, authn: authn, authz: authz, admission: chain, tel: tel,
		codecs: newCodecs(cat.Scheme()), owners: newOwners(cat),
		stopping: make(chan struct{}),
	}
	var err error
	if s.metrics, err = newMetrics(tel.Registry, s); err != nil {
		return nil, err
	}
	if s.flow, err = flowcontrol.New(flowcontrol.Config{Seats: cfg.MaxInFlight + cfg.MaxMutatingInFlight, Objects: s.countObjects}, tel); err != nil {
		return nil, err
	}
	s.flow.Use(s.Client(&auth.User{Name: selfUser, Groups: []string{auth.GroupMasters}}))
	if s.audit = cfg.Audit; s.audit == nil {
		if s.audit, err = audit.New(nil, nil, tel); err != nil {
			return nil, err
		}
	}
	s.virtual = s.virtualKinds()
	s.ServeVirtual(schema.GroupResource{Resource: "componentstatuses"}, componentStatuses{s})
	s.nodes = newNodeProxy(s)
	return s, nil
}

// FlowReady is closed when the stored configuration of priority and fairness
// is there, complete and in force. Until then, which takes Run, only masters
// are told from others.
func (s *Server) FlowReady() <-chan struct{} { return s.flow.Ready() }

// countObjects says how many objects a list of r would read.
func (s *Server) countObjects(r schema.GroupResource) (int64, bool) {
	if s.store == nil {
		return 0, false
	}
	snap, err := s.store.Snapshot(context.Background(), r, store.Any())
	if err != nil {
		return 0, false
	}
	return int64(snap.Len()), true
}

// span starts a child span of the request.
func (s *Server) span(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	return s.tel.Tracer.Start(ctx, name, trace.WithAttributes(attrs...))
}

// Handler returns the HTTP door.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// Run listens and serves until ctx ends, then lets requests in flight finish.
// Watches end at once; their clients come back.
func (s *Server) Run(ctx context.Context) error {
	l := s.cfg.Listener
	if l == nil {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Address); err != nil {
			return fmt.Errorf("cannot listen for API requests on %s: %w", s.cfg.Address, err)
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler: s.Handler(), TLSConfig: s.cfg.TLS, Protocols: protocols,
		ReadHeaderTimeout: 32 * time.Second, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 1 << 20,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 1000, SendPingTimeout: 30 * time.Second},
		ErrorLog: log.New(connectionErrors{s}, "", 0),
	}
	flow, endFlow := context.WithCancel(ctx)
	flowEnded := make(chan error, 1)
	go func() { flowEnded <- s.flow.Run(flow) }()
	defer func() {
		endFlow()
		<-flowEnded
	}()
	done := make(chan error, 1)
	go func() {
		if s.cfg.TLS != nil {
			done <- srv.ServeTLS(gatheringListener{l}, "", "")
			return
		}
		done <- srv.Serve(l)
	}()
	select {
	case err := <-done:
		s.stop()
		return fmt.Errorf("cannot serve the API on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		// Requests that do not end (exec sessions) are cut.
		srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve the API on %s: %w", l.Addr(), err)
	}
	return nil
}

// selfUser is the server's own name, as upstream's.
const selfUser = "system:apiserver"

// connectionErrors takes what net/http says about connections.
type connectionErrors struct{ s *Server }

func (w connectionErrors) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		w.s.metrics.handshakes.Inc()
	}
	w.s.tel.Log.Debug("connection failed", "error", string(bytes.TrimSpace(line)))
	return len(line), nil
}

func (s *Server) stop() { s.stopOnce.Do(func() { close(s.stopping) }) }

// ServerTLS is the TLS configuration for Run: clients may
// present a certificate, which the authenticator verifies.
func ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
		// Small first records help browsers far away and double the work.
		DynamicRecordSizingDisabled: true,
	}
}
