package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// Config is what the API server needs to know. The zero value serves without
// listening: only Handler and Client are used.
type Config struct {
	// Address to listen on, host:port. Ignored when Listener is set.
	Address string
	// Listener, when set, is served instead of Address. Run closes it.
	Listener net.Listener
	// TLS must hold a certificate and, for client certificates, ClientCAs.
	TLS *tls.Config

	// MaxRequestBytes bounds request bodies. Default 3 MiB.
	MaxRequestBytes int64
	// MaxInFlight and MaxMutatingInFlight add up to the seats that priority and
	// fairness divides among HTTP requests that are not long-running. Defaults
	// 400 and 200.
	MaxInFlight, MaxMutatingInFlight int
	// RequestTimeout bounds requests that are not long-running. Default 60 s.
	RequestTimeout time.Duration
	// MinWatchTimeout is the least time a watch lasts that does not say; the
	// actual one is up to twice as long. Default 30 min.
	MinWatchTimeout time.Duration
	// BookmarkInterval is the time between bookmarks of an idle watch.
	// Default 1 min.
	BookmarkInterval time.Duration

	// Audit records every request as its policy says. Nil: events are only
	// counted. The caller closes it after the server.
	Audit *audit.Log

	// Served answers the resources of whole API groups, by group name, in the
	// pipeline's place: after authentication and authorization. Their kinds
	// are in the catalogue as virtual ones.
	Served map[string]http.Handler

	// OpenAPI serves /openapi/v2 and /openapi/v3. Nil: 404.
	OpenAPI http.Handler
	// OIDC serves /.well-known/openid-configuration and /openid/v1/jwks.
	// Nil: 404.
	OIDC http.Handler
	// Tokens issues service-account tokens. Nil: TokenRequest is refused with
	// 501.
	Tokens TokenIssuer
	// Verifiers answer TokenReviews, Audiences are what a review without any
	// asks for. *auth.Tokens is issuer and verifier.
	Verifiers []auth.TokenVerifier
	Audiences []string

	// Rules answers SelfSubjectRulesReviews. Nil: they are refused with 501.
	// *auth.RBAC is one.
	Rules RuleLister

	// NodeTLS is the client side of connections to node agents. Nil: those
	// subresources are refused with 503.
	NodeTLS *tls.Config
	// NodeDial opens connections to nodes, pods and services. Nil: net.Dialer.
	NodeDial func(ctx context.Context, network, address string) (net.Conn, error)

	// Checks are reported by /livez and /readyz besides the server's own.
	Checks []Check
	// Components are what componentstatuses lists besides etcd.
	Components []Check
}

// Check is one named line of /readyz, and of /livez when Live is set.
type Check struct {
	Name string
	Live bool
	OK   func(ctx context.Context) error
}

// TokenIssuer makes tokens for service accounts. *auth.Tokens is one.
type TokenIssuer interface {
	// Request completes and checks req for the account sa, reads what the
	// token is bound to through c and fills in req's status.
	Request(ctx context.Context, c client.Client, sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest) error
}

// RuleLister says what a user may do in a namespace.
type RuleLister interface {
	Rules(u *auth.User, namespace string) ([]rbacv1.PolicyRule, error)
}

func (c *Config) complete() error {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = 3 << 20
	}
	set(&c.MaxInFlight, 400)
	set(&c.MaxMutatingInFlight, 200)
	for v, d := range map[*time.Duration]time.Duration{
		&c.RequestTimeout: time.Minute, &c.MinWatchTimeout: 30 * time.Minute, &c.BookmarkInterval: time.Minute,
	} {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			return fmt.Errorf("cannot serve with a negative duration %v", *v)
		}
	}
	if c.NodeDial == nil {
		c.NodeDial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return nil
}
