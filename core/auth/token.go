package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// DefaultIssuer is the issuer and the default audience of service-account
// tokens.
const DefaultIssuer = "https://kubernetes.default.svc.cluster.local"

// TokenConfig says how service-account tokens are made.
type TokenConfig struct {
	// Issuer is the iss claim; default DefaultIssuer.
	Issuer string
	// Audiences of tokens that are asked for without any, and those the API
	// server itself accepts; default Issuer.
	Audiences []string
	// JWKSURI is where others find the keys (the API server's external
	// address and /openid/v1/jwks).
	JWKSURI string
	// MaxLife bounds what clients may ask for; zero means no bound.
	MaxLife time.Duration
	// ExactLife turns off that tokens mounted into pods outlive their hour:
	// old clients read them once and go on for long. Those that do are counted.
	ExactLife bool
	// Metrics counts the tokens that are used; nil counts none.
	Metrics *Metrics
	// Log is told what could not be recorded; nil drops it.
	Log *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Tokens issues and verifies service-account tokens.
type Tokens struct {
	cfg    TokenConfig
	signer jose.Signer
	keys   map[string]crypto.PublicKey // by key id; never changed
	alg    jose.SignatureAlgorithm
	algs   []jose.SignatureAlgorithm
	reader atomic.Pointer[client.Client]
}

// NewTokens returns an issuer that signs with key and a verifier that accepts
// signatures by it and by any of the old keys. Keys are ECDSA P-256 or RSA.
func NewTokens(cfg TokenConfig, key crypto.Signer, old ...crypto.PublicKey) (*Tokens, error) {
	if cfg.Issuer == "" {
		cfg.Issuer = DefaultIssuer
	}
	if len(cfg.Audiences) == 0 {
		cfg.Audiences = []string{cfg.Issuer}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tokens{cfg: cfg, keys: map[string]crypto.PublicKey{}}
	for _, pub := range append([]crypto.PublicKey{key.Public()}, old...) {
		alg, err := algorithm(pub)
		if err != nil {
			return nil, err
		}
		id, err := keyID(pub)
		if err != nil {
			return nil, err
		}
		if len(t.keys) == 0 {
			t.alg = alg
			opts := (&jose.SignerOptions{}).WithHeader("kid", id)
			if t.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts); err != nil {
				return nil, fmt.Errorf("cannot sign service-account tokens with a key of type %T: %w", key, err)
			}
		}
		t.keys[id] = pub
		t.algs = append(t.algs, alg)
	}
	return t, nil
}

// Audiences are the ones the API server accepts.
func (t *Tokens) Audiences() []string { return t.cfg.Audiences }

// Use gives the verifier the client with which it looks up accounts and the
// objects tokens are bound to. Until then no token can be verified. The client
// belongs to the API server, which is built with this verifier; hence the
// order.
func (t *Tokens) Use(c client.Client) { t.reader.Store(&c) }

func algorithm(pub crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
		return "", fmt.Errorf("cannot use an ECDSA key on curve %s for service-account tokens", k.Curve.Params().Name)
	case *rsa.PublicKey:
		return jose.RS256, nil
	}
	return "", fmt.Errorf("cannot use a key of type %T for service-account tokens", pub)
}

// keyID names a key by its content, as upstream does.
func keyID(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("cannot encode a service-account public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// Ref names an object a token speaks of or is bound to.
type Ref struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid,omitempty"`
}

// Binding says what a token is for.
type Binding struct {
	Namespace string
	Account   Ref
	// At most one of Pod, Secret and a bare Node; a pod's token also names
	// the node the pod is on.
	Pod, Node, Secret *Ref
	// WarnAfter, where not zero, is after how long the token should have been
	// replaced.
	WarnAfter time.Duration
}

type privateClaims struct {
	Kubernetes kubernetesClaims `json:"kubernetes.io"`
}

type kubernetesClaims struct {
	Namespace      string `json:"namespace,omitempty"`
	ServiceAccount Ref    `json:"serviceaccount"`
	Pod            *Ref   `json:"pod,omitempty"`
	Secret         *Ref   `json:"secret,omitempty"`
	Node           *Ref   `json:"node,omitempty"`
	// WarnAfter is when the token should have been replaced, where that is
	// before it expires.
	WarnAfter *jwt.NumericDate `json:"warnafter,omitempty"`
}

// Sign makes a token that is good for the audiences from now until life has
// passed, and says when that is.
func (t *Tokens) Sign(b Binding, audiences []string, life time.Duration) (token string, expires time.Time, err error) {
	if len(audiences) == 0 {
		audiences = t.cfg.Audiences
	}
	now := t.cfg.Now()
	expires = now.Add(life)
	public := jwt.Claims{
		ID:        newTokenID(),
		Issuer:    t.cfg.Issuer,
		Subject:   ServiceAccountName(b.Namespace, b.Account.Name),
		Audience:  audiences,
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now),
		Expiry:    jwt.NewNumericDate(expires),
	}
	private := privateClaims{kubernetesClaims{
		Namespace: b.Namespace, ServiceAccount: b.Account, Pod: b.Pod, Secret: b.Secret, Node: b.Node,
	}}
	if b.WarnAfter > 0 {
		private.Kubernetes.WarnAfter = jwt.NewNumericDate(now.Add(b.WarnAfter))
	}
	token, err = jwt.Signed(t.signer).Claims(public).Claims(private).Serialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("cannot sign a token for service account %s/%s: %w", b.Namespace, b.Account.Name, err)
	}
	return token, expires, nil
}

// errForeign marks tokens that are not of our making.
var errForeign = errors.New("not a token of this issuer")

// maxTokenBytes bounds what is decoded; a token of ours has about 1,200.
const maxTokenBytes = 64 << 10

// parse checks form, issuer, signature and times.
func (t *Tokens) parse(token string) (*jwt.Claims, *kubernetesClaims, error) {
	signed, err := t.signedBy(token, t.cfg.Issuer)
	if err != nil {
		return nil, nil, err
	}
	var (
		public  jwt.Claims
		private privateClaims
	)
	if err := t.claims(signed, &public, &private); err != nil {
		return nil, nil, err
	}
	if public.Expiry == nil {
		return nil, nil, fmt.Errorf("service account token does not expire")
	}
	switch err := public.ValidateWithLeeway(jwt.Expected{Time: t.cfg.Now()}, jwt.DefaultLeeway); {
	case errors.Is(err, jwt.ErrExpired):
		return nil, nil, fmt.Errorf("service account token has expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return nil, nil, fmt.Errorf("service account token is not valid yet")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return nil, nil, fmt.Errorf("service account token is issued in the future")
	case err != nil:
		return nil, nil, fmt.Errorf("service account token claims could not be validated: %w", err)
	}
	k := &private.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || public.Subject != ServiceAccountName(k.Namespace, k.ServiceAccount.Name) {
		return nil, nil, fmt.Errorf("service account token names %q as its subject and %s/%s as its account", public.Subject, k.Namespace, k.ServiceAccount.Name)
	}
	return &public, k, nil
}

// signedBy parses a token that says it is of the issuer. Nothing of it is
// verified yet.
func (t *Tokens) signedBy(token, issuer string) (*jwt.JSONWebToken, error) {
	if len(token) > maxTokenBytes {
		return nil, errForeign
	}
	signed, err := jwt.ParseSigned(token, t.algs)
	if err != nil || len(signed.Headers) != 1 {
		return nil, errForeign
	}
	var claimed jwt.Claims
	if err := signed.UnsafeClaimsWithoutVerification(&claimed); err != nil || claimed.Issuer != issuer {
		return nil, errForeign
	}
	return signed, nil
}

// claims verifies the signature, by the key the token names or, if it names
// none that is known, by any.
func (t *Tokens) claims(signed *jwt.JSONWebToken, into ...any) error {
	if key, ok := t.keys[signed.Headers[0].KeyID]; ok {
		return signed.Claims(key, into...)
	}
	var errs []error
	for _, id := range sortedKeys(t.keys) {
		err := signed.Claims(t.keys[id], into...)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.New(oneLine(errs))
}
