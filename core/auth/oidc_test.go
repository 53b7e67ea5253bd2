package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// provider is an OIDC provider with keys that can be changed.
type provider struct {
	*httptest.Server
	mu     sync.Mutex
	keys   jose.JSONWebKeySet
	issuer string // of the configuration; empty means its URL
	asked  int
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch r.URL.Path {
		case DiscoveryPath:
			issuer := p.issuer
			if issuer == "" {
				issuer = p.URL
			}
			json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": p.URL + "/keys"})
		case "/keys":
			p.asked++
			json.NewEncoder(w).Encode(p.keys)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) caFile(t *testing.T) string {
	return write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
}

// rotate replaces the keys by a new one.
func (p *provider) rotate(t *testing.T, id string) jose.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}}
	return signer
}

func (p *provider) token(t *testing.T, by jose.Signer, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": p.URL, "aud": "kubernetes", "sub": "1234", "email": "jane@example.com", "email_verified": true,
		"groups": []string{"dev", "ops"}, "hd": "example.com", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	token, err := jwt.Signed(by).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestOIDC(t *testing.T) {
	p := startProvider(t)
	key, forged := p.rotate(t, "k1"), startProvider(t).rotate(t, "k1")
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	start := func(cfg OIDCConfig) *OIDC {
		t.Helper()
		cfg.Issuer, cfg.CAFile = p.URL, p.caFile(t)
		if cfg.Audiences == nil {
			cfg.Audiences = []string{"other", "kubernetes"}
		}
		o, err := NewOIDC(cfg, []string{"api"}, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok, err := o.VerifyToken(t.Context(), p.token(t, key, nil), []string{"api"}); ok || err == nil || err.Error() != "oidc: verify token: authenticator not initialized" {
			t.Errorf("before it has keys: %t %v", ok, err)
		}
		if o.Ready(t.Context()) == nil {
			t.Error("ready before it has keys")
		}
		if err := o.keys.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := o.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		return o
	}
	plain := start(OIDCConfig{})
	email := start(OIDCConfig{UsernameClaim: "email", GroupsClaim: "groups", GroupsPrefix: "oidc:", UIDClaim: "sub", RequiredClaims: map[string]string{"hd": "example.com"}})
	for _, tc := range []struct {
		name   string
		o      *OIDC
		by     jose.Signer
		change map[string]any
		want   *User
		err    string
	}{
		{"subject", plain, key, nil, &User{Name: p.URL + "#1234"}, ""},
		{"mail", email, key, map[string]any{"jti": "t1"}, &User{Name: "jane@example.com", UID: "1234", Groups: []string{"oidc:dev", "oidc:ops"},
			Extra: map[string][]string{CredentialID: {"JTI=t1"}}}, ""},
		{"one group", email, key, map[string]any{"groups": "dev"}, &User{Name: "jane@example.com", UID: "1234", Groups: []string{"oidc:dev"}}, ""},
		{"no groups", email, key, map[string]any{"groups": nil}, &User{Name: "jane@example.com", UID: "1234"}, ""},
		{"groups of another kind", email, key, map[string]any{"groups": 7}, nil, `oidc: parse groups claim "groups"`},
		{"distributed groups", email, key, map[string]any{"groups": nil, "_claim_names": map[string]string{"groups": "src"}}, nil, "distributed claim"},
		{"unverified mail", email, key, map[string]any{"email_verified": false}, nil, "oidc: email not verified"},
		{"no mail", email, key, map[string]any{"email": nil}, nil, `oidc: parse username claims "email": claim not present`},
		{"no required claim", email, key, map[string]any{"hd": nil}, nil, "oidc: required claim hd not present in ID token"},
		{"another required claim", email, key, map[string]any{"hd": "x"}, nil, "oidc: required claim hd value does not match. Got = x, want = example.com"},
		{"expired", plain, key, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, nil, "token is expired"},
		{"everlasting", plain, key, map[string]any{"exp": nil}, nil, "does not expire"},
		{"not yet", plain, key, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}, nil, "before the nbf"},
		{"for somebody else", plain, key, map[string]any{"aud": "bank"}, nil, `oidc: expected audience in ["other" "kubernetes"] got ["bank"]`},
		{"forged", plain, forged, nil, nil, "failed to verify signature"},
		{"of another issuer", plain, key, map[string]any{"iss": "https://elsewhere"}, nil, ""},
	} {
		u, matched, ok, err := tc.o.VerifyToken(t.Context(), p.token(t, tc.by, tc.change), []string{"api"})
		if tc.err != "" {
			if ok || err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %t %v", tc.name, ok, err)
			}
			continue
		}
		if err != nil || ok != (tc.want != nil) || !reflect.DeepEqual(u, tc.want) || ok && !reflect.DeepEqual(matched, []string{"api"}) {
			t.Errorf("%s: %+v %q %t %v", tc.name, u, matched, ok, err)
		}
	}
	if n := testutil.CollectAndCount(m.jwtSeconds); n != 2 {
		t.Errorf("%d series of verifications", n)
	}
}

// TestOIDCRotation: a token with an unknown key has the keys fetched, but not
// every one.
func TestOIDCRotation(t *testing.T) {
	p := startProvider(t)
	first := p.rotate(t, "k1")
	o, err := NewOIDC(OIDCConfig{Issuer: p.URL, CAFile: p.caFile(t), Audiences: []string{"kubernetes"}}, []string{"api"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.keys.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := p.rotate(t, "k2")
	good := func(by jose.Signer) bool {
		_, _, ok, _ := o.VerifyToken(t.Context(), p.token(t, by, nil), []string{"api"})
		return ok
	}
	if !good(first) || good(second) {
		t.Error("the new key is known a moment after the old one was fetched")
	}
	o.keys.mu.Lock()
	o.keys.last = time.Now().Add(-time.Minute)
	o.keys.mu.Unlock()
	if !good(second) {
		t.Error("the new key is not fetched")
	}
	if good(first) {
		t.Error("the key that the provider has withdrawn is still good")
	}
	for range 10 {
		good(startProvider(t).rotate(t, "k3"))
	}
	if p.asked != 2 {
		t.Errorf("the provider was asked %d times", p.asked)
	}
}

func TestOIDCConfig(t *testing.T) {
	p := startProvider(t)
	for want, cfg := range map[string]OIDCConfig{
		`issuer "http://x" is not an https URL`:                               {Issuer: "http://x", Audiences: []string{"a"}},
		`issuer "https://u@x/?q" must not have a user, a query or a fragment`: {Issuer: "https://u@x/?q", Audiences: []string{"a"}},
		"audiences must name at least one client ID":                          {Issuer: "https://x"},
		`discoveryURL "x" is not an https URL`:                                {Issuer: "https://x", DiscoveryURL: "x", Audiences: []string{"a"}},
		"cannot read certificates: open /none":                                {Issuer: "https://x", CAFile: "/none", Audiences: []string{"a"}},
		`cannot accept tokens of OIDC issuer "https://x": cannot use`:         {Issuer: "https://x", CAFile: write(t, "no certificate"), Audiences: []string{"a"}},
	} {
		if _, err := NewOIDC(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	p.issuer = "https://somebody-else"
	o, err := NewOIDC(OIDCConfig{Issuer: p.URL, CAFile: p.caFile(t), Audiences: []string{"a"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.keys.refresh(t.Context()); err == nil || !strings.Contains(err.Error(), `it is of issuer "https://somebody-else"`) {
		t.Errorf("another's configuration: %v", err)
	}
}

// TestTokenCache: an answer is kept for its time, an error is not.
func TestTokenCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &counting{}
		c := newTokenCache(v, time.Minute, nil)
		ask := func(token string, audiences ...string) bool {
			_, _, ok, err := c.VerifyToken(t.Context(), token, audiences)
			return ok && err == nil
		}
		for range 3 {
			if !ask("good", "a") || ask("unknown", "a") || ask("bad", "a") {
				t.Fatal("wrong answer")
			}
		}
		ask("good", "b")
		if v.asked != 6 { // good, unknown, bad three times, good for b
			t.Errorf("asked %d times", v.asked)
		}
		time.Sleep(2 * time.Minute)
		ask("good", "a")
		if v.asked != 7 {
			t.Errorf("asked %d times, the last one after the answer's end", v.asked)
		}
	})
}
