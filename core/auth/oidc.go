package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// OIDCConfig names an OpenID Connect provider whose ID tokens are accepted.
type OIDCConfig struct {
	// Issuer is the provider's https URL, exactly as tokens have it.
	Issuer string `json:"issuer"`
	// DiscoveryURL is where its configuration is found when that is not below
	// Issuer.
	DiscoveryURL string `json:"discoveryURL,omitempty"`
	// Audiences are the client IDs that tokens may be meant for.
	Audiences []string `json:"audiences"`
	// CAFile holds the PEM certificates its certificate chains to; default
	// the system's.
	CAFile string `json:"caFile,omitempty"`
	// UsernameClaim is the claim with the user name; default sub.
	UsernameClaim string `json:"usernameClaim,omitempty"`
	// UsernamePrefix goes before it; default the issuer and "#", nothing for
	// the claim email. "-" is nothing.
	UsernamePrefix string `json:"usernamePrefix,omitempty"`
	// GroupsClaim is the claim with the groups, a text or a list; GroupsPrefix
	// goes before each.
	GroupsClaim  string `json:"groupsClaim,omitempty"`
	GroupsPrefix string `json:"groupsPrefix,omitempty"`
	// UIDClaim is the claim with the user's UID.
	UIDClaim string `json:"uidClaim,omitempty"`
	// RequiredClaims must be in the token with these values.
	RequiredClaims map[string]string `json:"requiredClaims,omitempty"`
}

func (cfg *OIDCConfig) complete() error {
	if err := httpsURL("issuer", cfg.Issuer); err != nil {
		return err
	}
	if cfg.DiscoveryURL != "" {
		if err := httpsURL("discoveryURL", cfg.DiscoveryURL); err != nil {
			return err
		}
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") {
		return errors.New("audiences must name at least one client ID, none of them empty")
	}
	if cfg.UsernameClaim == "" {
		cfg.UsernameClaim = "sub"
	}
	switch {
	case cfg.UsernamePrefix == "-":
		cfg.UsernamePrefix = ""
	case cfg.UsernamePrefix == "" && cfg.UsernameClaim != "email":
		cfg.UsernamePrefix = cfg.Issuer + "#"
	}
	return nil
}

// OIDC verifies ID tokens of one provider. Run fetches its keys.
type OIDC struct {
	cfg       OIDCConfig
	audiences []string
	keys      *issuerKeys
	now       func() time.Time
	m         *Metrics
	hash      string // of the issuer, the metrics' label
}

// OIDCAlgorithms are the signatures that are accepted: the asymmetric ones.
func OIDCAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
	}
}

// NewOIDC returns the verifier. audiences are the API server's own: an ID token
// is good for those, whatever it says.
func NewOIDC(cfg OIDCConfig, audiences []string, m *Metrics) (*OIDC, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot accept tokens of OIDC issuer %q: %w", cfg.Issuer, err)
	}
	o := &OIDC{cfg: cfg, audiences: audiences, now: time.Now, m: m, hash: issuerHash(cfg.Issuer)}
	var err error
	if o.keys, err = newIssuerKeys(cfg, o.fetched); err != nil {
		return nil, fmt.Errorf("cannot accept tokens of OIDC issuer %q: %w", cfg.Issuer, err)
	}
	return o, nil
}

// Run fetches the provider's keys and keeps them fresh until ctx ends.
func (o *OIDC) Run(ctx context.Context) error { return o.keys.run(ctx) }

// Ready says why tokens cannot be verified yet, or nil.
func (o *OIDC) Ready(context.Context) error { return o.keys.health() }

func (o *OIDC) fetched(err error) {
	if o.m == nil {
		return
	}
	result := "success"
	if err != nil {
		result = "failure"
	}
	o.m.jwksFetched.WithLabelValues(result, o.hash).SetToCurrentTime()
}

// VerifyToken implements TokenVerifier.
func (o *OIDC) VerifyToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	if len(token) > maxTokenBytes {
		return nil, nil, false, nil
	}
	signed, err := jwt.ParseSigned(token, OIDCAlgorithms())
	if err != nil || len(signed.Headers) != 1 {
		return nil, nil, false, nil
	}
	var claimed jwt.Claims
	if err := signed.UnsafeClaimsWithoutVerification(&claimed); err != nil || claimed.Issuer != o.cfg.Issuer {
		return nil, nil, false, nil
	}
	matched := intersection(audiences, o.audiences)
	if len(matched) == 0 {
		return nil, nil, false, nil
	}
	start := time.Now()
	u, err := o.verify(ctx, signed)
	if o.m != nil {
		result := "success"
		if err != nil {
			result = "failure"
		}
		o.m.jwtSeconds.WithLabelValues(result, o.hash).Observe(time.Since(start).Seconds())
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("oidc: %w", err)
	}
	return u, matched, true, nil
}

type claims map[string]json.RawMessage

func (o *OIDC) verify(ctx context.Context, signed *jwt.JSONWebToken) (*User, error) {
	var (
		public  jwt.Claims
		private claims
	)
	if err := o.keys.claims(ctx, signed, &public, &private); err != nil {
		return nil, fmt.Errorf("verify token: %w", err)
	}
	if public.Expiry == nil {
		return nil, errors.New("verify token: it does not expire")
	}
	// As upstream: no leeway for the end, five minutes for the beginning.
	now := o.now()
	switch {
	case now.After(public.Expiry.Time()):
		return nil, fmt.Errorf("verify token: oidc: token is expired (Token Expiry: %v)", public.Expiry.Time())
	case public.NotBefore != nil && now.Add(5*time.Minute).Before(public.NotBefore.Time()):
		return nil, fmt.Errorf("verify token: oidc: current time %v before the nbf (not before) time: %v", now, public.NotBefore.Time())
	case len(intersection(o.cfg.Audiences, public.Audience)) == 0:
		return nil, fmt.Errorf("verify token: oidc: expected audience in %q got %q", o.cfg.Audiences, []string(public.Audience))
	}
	return o.user(private)
}

// user makes the user of verified claims.
func (o *OIDC) user(c claims) (*User, error) {
	u := &User{}
	if err := c.get(o.cfg.UsernameClaim, &u.Name); err != nil {
		return nil, fmt.Errorf("parse username claims %q: %w", o.cfg.UsernameClaim, err)
	}
	if u.Name == "" {
		return nil, fmt.Errorf("username claim %q is empty", o.cfg.UsernameClaim)
	}
	if o.cfg.UsernameClaim == "email" && c["email_verified"] != nil {
		var verified bool
		if err := c.get("email_verified", &verified); err != nil {
			return nil, fmt.Errorf("parse 'email_verified' claim: %w", err)
		}
		if !verified {
			return nil, errors.New("email not verified")
		}
	}
	u.Name = o.cfg.UsernamePrefix + u.Name
	if err := o.groups(c, u); err != nil {
		return nil, err
	}
	if o.cfg.UIDClaim != "" {
		if err := c.get(o.cfg.UIDClaim, &u.UID); err != nil {
			return nil, fmt.Errorf("parse uid claim %q: %w", o.cfg.UIDClaim, err)
		}
	}
	var id string
	if c.get("jti", &id) == nil && id != "" {
		u.Extra = map[string][]string{CredentialID: {"JTI=" + id}}
	}
	for _, claim := range sortedKeys(o.cfg.RequiredClaims) {
		if c[claim] == nil {
			return nil, fmt.Errorf("required claim %s not present in ID token", claim)
		}
		var got string
		if err := c.get(claim, &got); err != nil {
			return nil, fmt.Errorf("parse claim %s: %w", claim, err)
		}
		if want := o.cfg.RequiredClaims[claim]; got != want {
			return nil, fmt.Errorf("required claim %s value does not match. Got = %s, want = %s", claim, got, want)
		}
	}
	return u, nil
}

func (o *OIDC) groups(c claims, u *User) error {
	if o.cfg.GroupsClaim == "" {
		return nil
	}
	raw, ok := c[o.cfg.GroupsClaim]
	if !ok {
		var names map[string]string
		if c.get("_claim_names", &names) == nil && names[o.cfg.GroupsClaim] != "" {
			return fmt.Errorf("groups claim %q is a distributed claim, which is not supported", o.cfg.GroupsClaim)
		}
		return nil
	}
	var groups []string
	if json.Unmarshal(raw, &groups) != nil {
		var one string
		if err := json.Unmarshal(raw, &one); err != nil {
			return fmt.Errorf("parse groups claim %q: %w", o.cfg.GroupsClaim, err)
		}
		groups = []string{one}
	}
	for _, g := range groups {
		u.Groups = append(u.Groups, o.cfg.GroupsPrefix+g)
	}
	return nil
}

func (c claims) get(name string, into any) error {
	raw, ok := c[name]
	if !ok {
		return errors.New("claim not present")
	}
	return json.Unmarshal(raw, into)
}
