package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"binnacle.io/core/auth"
	"binnacle.io/core/telemetry"
)

// guard lets a request through to f when its user may use the subresource, or
// the whole of the node's API ("proxy").
func (s *Server) guard(sub string, f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok, err := s.authenticate(r)
		if err != nil || !ok {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb := verbOf(r.Method)
		if err := s.allowed(r, user, verb, sub); err != nil {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=[%s]): %v", user.Name, verb, sub, err), http.StatusForbidden)
			return
		}
		if sub == "metrics" || sub == "healthz" {
			f(w, r) // asked too often to be worth a span
			return
		}
		ctx, span := s.tel.Tracer.Start(telemetry.FromRequest(auth.WithUser(r.Context(), user), r.Header), "node "+pathKind(r.URL.Path),
			trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("url.path", r.URL.Path)))
		defer span.End()
		f(w, r.WithContext(ctx))
	})
}

func (s *Server) allowed(r *http.Request, user *auth.User, verb, sub string) error {
	err := s.cfg.Authorize(r.Context(), user, verb, sub)
	if err == nil || sub == "proxy" {
		return err
	}
	switch sub {
	case "pods", "healthz", "configz": // also covered by the whole, as before they had names
		return s.cfg.Authorize(r.Context(), user, verb, "proxy")
	}
	return err
}

func pathKind(p string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return kind
}

func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return "get"
}

// authenticate knows verified client certificates and bearer tokens.
func (s *Server) authenticate(r *http.Request) (*auth.User, bool, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		leaf := r.TLS.VerifiedChains[0][0]
		return &auth.User{Name: leaf.Subject.CommonName, Groups: append(leaf.Subject.Organization, auth.GroupAuthenticated)}, true, nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || strings.TrimSpace(token) == "" {
		return nil, false, nil
	}
	return s.cfg.Authenticate(r.Context(), strings.TrimSpace(token))
}

// selfSigned makes a certificate for a node that was given none.
func selfSigned(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make the node's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("cannot make the node's certificate: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot make the node's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
