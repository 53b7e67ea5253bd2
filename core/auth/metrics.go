package auth

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's metrics of authentication and authorization. A nil
// *Metrics measures nothing.
type Metrics struct {
	users          *prometheus.CounterVec
	authnSeconds   *prometheus.HistogramVec
	authzAttempts  *prometheus.CounterVec
	authzSeconds   *prometheus.HistogramVec
	decisions      *prometheus.CounterVec
	webhooks       *prometheus.CounterVec
	webhookSeconds *prometheus.HistogramVec
	failOpen       *prometheus.CounterVec

	cacheRequests *prometheus.CounterVec
	cacheSeconds  *prometheus.HistogramVec
	cacheFetches  *prometheus.CounterVec
	cacheActive   *prometheus.GaugeVec
	jwtSeconds    *prometheus.HistogramVec
	jwksFetched   *prometheus.GaugeVec

	legacyTokens      prometheus.Counter
	legacyAuto        prometheus.Counter
	legacyManual      prometheus.Counter
	legacyInvalidated prometheus.Counter
	staleTokens       prometheus.Counter
	validTokens       prometheus.Counter
}

// NewMetrics registers the metrics, of the API server's component.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	long := prometheus.ExponentialBuckets(0.001, 2, 15)
	var all []prometheus.Collector
	counts := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		all = append(all, v)
		return v
	}
	count := func(name, help string) prometheus.Counter {
		v := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		all = append(all, v)
		return v
	}
	seconds := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		all = append(all, v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		all = append(all, v)
		return v
	}
	m := &Metrics{
		users:          counts("authenticated_user_requests", "Authenticated requests by username; most names count as other.", "username"),
		authnSeconds:   seconds("authentication_duration_seconds", "Time to find out who asks, by result: success, failure, error.", long, "result"),
		authzAttempts:  counts("authorization_attempts_total", "Authorizations by result: allowed, denied, no-opinion, error.", "result"),
		authzSeconds:   seconds("authorization_duration_seconds", "Time to decide whether a request may be made, by result.", long, "result"),
		decisions:      counts("apiserver_authorization_decisions_total", "Final decisions by the authorizer that made them.", "type", "name", "decision"),
		webhooks:       counts("apiserver_authorization_webhook_evaluations_total", "Requests to authorization webhooks by result.", "name", "result"),
		webhookSeconds: seconds("apiserver_authorization_webhook_duration_seconds", "Duration of requests to authorization webhooks.", prometheus.DefBuckets, "name", "result"),
		failOpen:       counts("apiserver_authorization_webhook_evaluations_fail_open_total", "Authorization webhooks that failed and were passed over.", "name", "result"),

		cacheRequests: counts("authentication_token_cache_request_total", "Token authentications by cache status: hit, miss.", "status"),
		cacheSeconds:  seconds("authentication_token_cache_request_duration_seconds", "Duration of token authentications by cache status.", prometheus.DefBuckets, "status"),
		cacheFetches:  counts("authentication_token_cache_fetch_total", "Token authentications that missed the cache, by result: ok, error.", "status"),
		cacheActive:   gauge("authentication_token_cache_active_fetch_count", "Token authentications that wait: as the one who asks (in_flight) or for it (blocked).", "status"),
		jwtSeconds: seconds("apiserver_authentication_jwt_authenticator_latency_seconds", "Time to verify an OIDC token.",
			[]float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "result", "jwt_issuer_hash"),
		jwksFetched: gauge("apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds", "When keys of an OIDC issuer were last fetched, by result.", "result", "jwt_issuer_hash"),

		legacyTokens:      count("serviceaccount_legacy_tokens_total", "Cumulative legacy service account tokens used."),
		legacyAuto:        count("serviceaccount_legacy_auto_token_uses_total", "Cumulative auto-generated legacy tokens used."),
		legacyManual:      count("serviceaccount_legacy_manual_token_uses_total", "Cumulative manually created legacy tokens used."),
		legacyInvalidated: count("serviceaccount_invalid_legacy_auto_token_uses_total", "Cumulative invalid auto-generated legacy tokens used."),
		staleTokens:       count("serviceaccount_stale_tokens_total", "Cumulative stale projected service account tokens used."),
		validTokens:       count("serviceaccount_valid_tokens_total", "Cumulative valid projected service account tokens used."),
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register authentication metrics: %w", err)
		}
	}
	return m, nil
}

// count adds one to the counter that pick chooses.
func (m *Metrics) count(pick func(*Metrics) prometheus.Counter) {
	if m != nil {
		pick(m).Inc()
	}
}

// userLabel bounds the names that become labels, as upstream does.
func userLabel(name string) string {
	switch name {
	case "admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default":
		return name
	}
	if strings.Contains(name, "@") {
		return "email_id"
	}
	return "other"
}

// Authenticator measures a, which answers for all requests.
func (m *Metrics) Authenticator(a Authenticator) Authenticator {
	if m == nil {
		return a
	}
	return measuredAuthenticator{a, m}
}

type measuredAuthenticator struct {
	Authenticator
	m *Metrics
}

func (a measuredAuthenticator) Authenticate(r *http.Request) (*User, bool, error) {
	start := time.Now()
	u, ok, err := a.Authenticator.Authenticate(r)
	result := "success"
	switch {
	case err != nil:
		result = "error"
	case !ok:
		result = "failure"
	default:
		a.m.users.WithLabelValues(userLabel(u.Name)).Inc()
	}
	a.m.authnSeconds.WithLabelValues(result).Observe(time.Since(start).Seconds())
	return u, ok, err
}

// Authorizer measures z, which answers for all requests.
func (m *Metrics) Authorizer(z Authorizer) Authorizer {
	if m == nil {
		return z
	}
	return measuredAuthorizer{z, m}
}

type measuredAuthorizer struct {
	Authorizer
	m *Metrics
}

func (z measuredAuthorizer) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	start := time.Now()
	d, reason, err := z.Authorizer.Authorize(ctx, a)
	result := "no-opinion"
	switch {
	case d == Allow:
		result = "allowed"
	case err != nil:
		result = "error"
	case d == Deny:
		result = "denied"
	}
	z.m.authzAttempts.WithLabelValues(result).Inc()
	z.m.authzSeconds.WithLabelValues(result).Observe(time.Since(start).Seconds())
	return d, reason, err
}

// Deciding counts the final decisions of one authorizer. kind is upstream's
// (Node, RBAC, ABAC, Webhook), name tells several of one kind apart.
func (m *Metrics) Deciding(kind, name string, z Authorizer) Authorizer {
	if m == nil {
		return z
	}
	return decidingAuthorizer{z, m.decisions.WithLabelValues(kind, name, "allowed"), m.decisions.WithLabelValues(kind, name, "denied")}
}

type decidingAuthorizer struct {
	Authorizer
	allowed, denied prometheus.Counter
}

func (z decidingAuthorizer) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	d, reason, err := z.Authorizer.Authorize(ctx, a)
	switch d {
	case Allow:
		z.allowed.Inc()
	case Deny:
		z.denied.Inc()
	}
	return d, reason, err
}
