package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/telemetry"
)

// Authentication says how requests show who makes them, besides the cluster's
// client certificates, service-account tokens and bootstrap tokens.
type Authentication struct {
	// ClientCAFile holds further PEM certificates that sign clients'.
	ClientCAFile string `json:"clientCAFile,omitempty"`
	// TokenFile is a CSV file of token, user name, user UID and groups.
	TokenFile string `json:"tokenFile,omitempty"`
	// OIDC names providers whose ID tokens are accepted.
	OIDC []auth.OIDCConfig `json:"oidc,omitempty"`
	// Webhook is a server that is asked about all other tokens.
	Webhook *auth.TokenWebhookConfig `json:"webhook,omitempty"`
	// RequestHeader says which proxies may vouch for users; without it, those
	// with the cluster's front-proxy certificate.
	RequestHeader *auth.RequestHeaderConfig `json:"requestHeader,omitempty"`
	// DisableAnonymous refuses requests without credentials.
	DisableAnonymous bool `json:"disableAnonymous,omitempty"`
}

// Authorization says who may do what.
type Authorization struct {
	// Modes are asked in order until one decides: Node, RBAC, ABAC, Webhook.
	// Default Node, RBAC and then those that are configured below.
	Modes []string `json:"modes,omitempty"`
	// ABACFile has a policy a line.
	ABACFile string `json:"abacFile,omitempty"`
	// Webhook is a server that decides.
	Webhook *auth.AuthorizationWebhookConfig `json:"webhook,omitempty"`
}

const (
	modeNode    = "Node"
	modeRBAC    = "RBAC"
	modeABAC    = "ABAC"
	modeWebhook = "Webhook"
)

func (a *Authorization) complete() error {
	if len(a.Modes) == 0 {
		a.Modes = []string{modeNode, modeRBAC}
		if a.ABACFile != "" {
			a.Modes = append(a.Modes, modeABAC)
		}
		if a.Webhook != nil {
			a.Modes = append(a.Modes, modeWebhook)
		}
	}
	for i, mode := range a.Modes {
		if slices.Contains(a.Modes[:i], mode) {
			return fmt.Errorf("cannot use authorization.modes: %s is there twice", mode)
		}
		switch {
		case mode == modeABAC && a.ABACFile == "":
			return fmt.Errorf("cannot use authorization.modes: ABAC needs abacFile")
		case mode == modeWebhook && a.Webhook == nil:
			return fmt.Errorf("cannot use authorization.modes: Webhook needs webhook")
		case !slices.Contains([]string{modeNode, modeRBAC, modeABAC, modeWebhook}, mode):
			return fmt.Errorf("cannot use authorization.modes: there is no mode %q: want Node, RBAC, ABAC or Webhook", mode)
		}
	}
	switch {
	case !slices.Contains(a.Modes, modeNode) || !slices.Contains(a.Modes, modeRBAC):
		return fmt.Errorf("cannot use authorization.modes %v: the cluster's own parts need Node and RBAC among them", a.Modes)
	case a.ABACFile != "" && !slices.Contains(a.Modes, modeABAC):
		return fmt.Errorf("cannot use authorization.abacFile: ABAC is not among the modes %v", a.Modes)
	case a.Webhook != nil && !slices.Contains(a.Modes, modeWebhook):
		return fmt.Errorf("cannot use authorization.webhook: Webhook is not among the modes %v", a.Modes)
	}
	return nil
}

// access is who may come in and what they may do.
type access struct {
	authn     auth.Authenticator
	authz     auth.Authorizer
	tokens    *auth.Tokens
	verifiers []auth.TokenVerifier
	rbac      *auth.RBAC
	rules     auth.RuleLister

	readers []interface{ Use(c client.Client) }
	oidc    []*auth.OIDC
}

// newAccess reads the files that cfg names.
func newAccess(cfg *Config, p *pki.PKI, tel *telemetry.Component) (*access, error) {
	m, err := auth.NewMetrics(tel.Registry)
	if err != nil {
		return nil, err
	}
	a := &access{rbac: auth.NewRBAC()}
	if err := a.authenticators(cfg, p, tel, m); err != nil {
		return nil, err
	}
	if err := a.authorizers(&cfg.Authorization, m); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *access) authenticators(cfg *Config, p *pki.PKI, tel *telemetry.Component, m *auth.Metrics) (err error) {
	own := &cfg.Authentication
	a.tokens, err = auth.NewTokens(auth.TokenConfig{
		JWKSURI: fmt.Sprintf("https://%s:%d%s", cfg.Address, cfg.Ports.API, auth.JWKSPath), Metrics: m, Log: tel.Log,
	}, p.ServiceAccountKey)
	if err != nil {
		return err
	}
	audiences := a.tokens.Audiences()
	if own.TokenFile != "" {
		file, err := auth.ReadTokenFile(own.TokenFile, audiences)
		if err != nil {
			return err
		}
		a.verifiers = append(a.verifiers, file)
	}
	joining := auth.NewBootstrapTokens(audiences, nil)
	a.verifiers = append(a.verifiers, a.tokens, joining)
	a.readers = append(a.readers, a.tokens, joining)
	for i, provider := range own.OIDC {
		if slices.ContainsFunc(own.OIDC[:i], func(o auth.OIDCConfig) bool { return o.Issuer == provider.Issuer }) {
			return fmt.Errorf("cannot use authentication.oidc: issuer %q is there twice", provider.Issuer)
		}
		o, err := auth.NewOIDC(provider, audiences, m)
		if err != nil {
			return err
		}
		a.oidc, a.verifiers = append(a.oidc, o), append(a.verifiers, o)
	}
	if own.Webhook != nil {
		w, err := auth.NewTokenWebhook(*own.Webhook, audiences, m)
		if err != nil {
			return err
		}
		a.verifiers = append(a.verifiers, w)
	}
	signers := []*x509.Certificate{p.CA.Cert}
	if own.ClientCAFile != "" {
		more, err := auth.ReadCertificates(own.ClientCAFile)
		if err != nil {
			return err
		}
		signers = append(signers, more...)
	}
	header, err := frontProxy(own.RequestHeader, p, signers)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	for _, c := range signers {
		clients.AddCert(c)
	}
	a.authn = auth.NewUnion(header, auth.NewCertificates(clients, nil), auth.NewBearer(audiences, a.verifiers...))
	if own.DisableAnonymous {
		a.authn = auth.RefuseAnonymous(a.authn)
	}
	a.authn = m.Authenticator(a.authn)
	return nil
}

// frontProxy authenticates what comes through proxies. An authority that also
// signs clients' certificates makes every client a proxy unless names are set.
func frontProxy(cfg *auth.RequestHeaderConfig, p *pki.PKI, clientSigners []*x509.Certificate) (auth.Authenticator, error) {
	if cfg == nil {
		cfg = &auth.RequestHeaderConfig{AllowedNames: []string{p.FrontProxyClient.Cert.Subject.CommonName}}
	}
	roots := []*x509.Certificate{p.FrontProxyCA.Cert}
	if cfg.ClientCAFile != "" {
		var err error
		if roots, err = auth.ReadCertificates(cfg.ClientCAFile); err != nil {
			return nil, err
		}
	}
	if len(cfg.AllowedNames) == 0 && slices.ContainsFunc(roots, func(r *x509.Certificate) bool { return slices.ContainsFunc(clientSigners, r.Equal) }) {
		return nil, fmt.Errorf("cannot use authentication.requestHeader: its authority also signs clients' certificates, and allowedNames is empty: every client could be anybody")
	}
	return auth.NewRequestHeader(*cfg, roots, nil)
}

func (a *access) authorizers(cfg *Authorization, m *auth.Metrics) error {
	parts := []auth.Authorizer{auth.Masters()}
	var rules []auth.RuleLister
	add := func(kind, name string, z interface {
		auth.Authorizer
		auth.RuleLister
	}) {
		parts, rules = append(parts, m.Deciding(kind, name, z)), append(rules, z)
	}
	for _, mode := range cfg.Modes {
		switch mode {
		case modeNode:
			n := auth.NewNode()
			a.readers = append(a.readers, n)
			add(mode, "node", n)
		case modeRBAC:
			add(mode, "rbac", a.rbac)
		case modeABAC:
			z, err := auth.ReadABAC(cfg.ABACFile)
			if err != nil {
				return err
			}
			add(mode, "abac", z)
		case modeWebhook:
			z, err := auth.NewAuthorizationWebhook(*cfg.Webhook, m)
			if err != nil {
				return err
			}
			add(mode, z.Name(), z)
		}
	}
	a.authz, a.rules = m.Authorizer(auth.NewAuthorizers(parts...)), auth.JoinRules(rules...)
	return nil
}

// use gives those that look things up the client of the finished API server.
func (a *access) use(c client.Client) {
	for _, r := range a.readers {
		r.Use(c)
	}
}

// start follows roles and bindings as c sees them, and the keys of providers.
func (a *access) start(ctx context.Context, sup *supervisor, c client.Client, tel *telemetry.Component) error {
	if err := sup.start(ctx, "RBAC", func(ctx context.Context) error { return a.rbac.Run(ctx, c, tel) }, nil); err != nil {
		return err
	}
	for _, o := range a.oidc {
		if err := sup.start(ctx, "OIDC keys", o.Run, nil); err != nil {
			return err
		}
	}
	return nil
}
