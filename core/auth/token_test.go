package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func testTokens(t testing.TB, cfg TokenConfig) *Tokens {
	t.Helper()
	tokens, err := NewTokens(cfg, testPKI(t).ServiceAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestTokenTimes(t *testing.T) {
	c := &clock{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	tokens := testTokens(t, TokenConfig{Now: c.Now})
	token, expires, err := tokens.Sign(Binding{Namespace: "n", Account: Ref{"sa", "u1"}}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !expires.Equal(c.now.Add(time.Hour)) {
		t.Errorf("expires %v", expires)
	}
	for _, tc := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""}, {59 * time.Minute, ""}, {time.Hour + 2*time.Minute, "service account token has expired"}, {-time.Hour, "service account token is not valid yet"},
	} {
		c.now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).Add(tc.after)
		public, k, err := tokens.parse(token)
		switch {
		case tc.want != "":
			if err == nil || err.Error() != tc.want {
				t.Errorf("after %v: %v", tc.after, err)
			}
		case err != nil:
			t.Errorf("after %v: %v", tc.after, err)
		case public.Subject != "system:serviceaccount:n:sa" || k.ServiceAccount.UID != "u1" || public.ID == "":
			t.Errorf("claims %+v %+v", public, k)
		}
	}
}

func TestTokenForgeries(t *testing.T) {
	tokens, others := testTokens(t, TokenConfig{}), testTokens(t, TokenConfig{})
	foreign := testTokens(t, TokenConfig{Issuer: "https://elsewhere"})
	b := Binding{Namespace: "n", Account: Ref{"sa", "u1"}}
	sign := func(by *Tokens) string {
		token, _, err := by.Sign(b, []string{DefaultIssuer}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := sign(tokens)
	parts := strings.Split(good, ".")
	edit := func(part int, old, new string) string {
		text, err := base64.RawURLEncoding.DecodeString(parts[part])
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), old, new, 1)
		if changed == string(text) {
			t.Fatalf("%s does not hold %s", text, old)
		}
		p := append([]string(nil), parts...)
		p[part] = base64.RawURLEncoding.EncodeToString([]byte(changed))
		return strings.Join(p, ".")
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for what, tc := range map[string]struct {
		token   string
		foreign bool
	}{
		"another key":          {sign(others), false},
		"another issuer":       {sign(foreign), true},
		"another account":      {edit(1, `:n:sa"`, `:n:root"`), false},
		"no algorithm":         {none, true},
		"symmetric":            {edit(0, "ES256", "HS256"), true},
		"without a signature":  {parts[0] + "." + parts[1] + ".", false},
		"not a token":          {"abc", true},
		"empty":                {"", true},
		"longer than any":      {strings.Repeat("a", maxTokenBytes+1), true},
		"subject is not claim": {raw(t, tokens, map[string]any{"iss": DefaultIssuer, "sub": "system:serviceaccount:n:root", "exp": time.Now().Add(time.Hour).Unix(), "kubernetes.io": map[string]any{"namespace": "n", "serviceaccount": map[string]any{"name": "sa", "uid": "u1"}}}), false},
		"without expiry":       {raw(t, tokens, map[string]any{"iss": DefaultIssuer, "sub": "system:serviceaccount:n:sa", "kubernetes.io": map[string]any{"namespace": "n", "serviceaccount": map[string]any{"name": "sa", "uid": "u1"}}}), false},
	} {
		_, _, err := tokens.parse(tc.token)
		if err == nil || errors.Is(err, errForeign) != tc.foreign {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := tokens.parse(good); err != nil {
		t.Errorf("the token itself: %v", err)
	}
}

func raw(t *testing.T, by *Tokens, claims map[string]any) string {
	t.Helper()
	token, err := jwt.Signed(by.signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenKeyRotation(t *testing.T) {
	old, now := testPKI(t).ServiceAccountKey, testPKI(t).ServiceAccountKey
	before, err := NewTokens(TokenConfig{}, old)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := before.Sign(Binding{Namespace: "n", Account: Ref{"sa", "u1"}}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	after, err := NewTokens(TokenConfig{}, now, old.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := after.parse(token); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
}

// TestDiscovery verifies a token with nothing but what discovery serves.
func TestDiscovery(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := NewTokens(TokenConfig{JWKSURI: "https://192.0.2.1:6443" + JWKSPath}, key, testPKI(t).ServiceAccountKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	h, err := tokens.Discovery()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, contentType string, into any) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || w.Header().Get("Content-Type") != contentType {
			t.Fatalf("%s: %d %v", path, w.Code, w.Header())
		}
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	var doc struct {
		Issuer string   `json:"issuer"`
		Keys   string   `json:"jwks_uri"`
		Algs   []string `json:"id_token_signing_alg_values_supported"`
	}
	get(DiscoveryPath, "application/json", &doc)
	if doc.Issuer != DefaultIssuer || doc.Keys != "https://192.0.2.1:6443/openid/v1/jwks" || strings.Join(doc.Algs, ",") != "ES256,RS256" {
		t.Errorf("document %+v", doc)
	}
	var set jose.JSONWebKeySet
	get(JWKSPath, "application/jwk-set+json", &set)
	token, _, err := tokens.Sign(Binding{Namespace: "n", Account: Ref{"sa", "u1"}}, []string{"me"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(set, &claims); err != nil {
		t.Fatal(err)
	}
	if !claims.Audience.Contains("me") {
		t.Errorf("claims %+v", claims)
	}
}

func FuzzToken(f *testing.F) {
	tokens := testTokens(f, TokenConfig{})
	good, _, err := tokens.Sign(Binding{Namespace: "n", Account: Ref{"sa", "u1"}}, nil, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Add(`{"payload":"","signatures":[]}`)
	f.Fuzz(func(t *testing.T, token string) {
		public, k, err := tokens.parse(token)
		// The last digits of base64 carry spare bits, so that other texts may
		// be the same token; they must say the same.
		if err == nil && (public.Subject != "system:serviceaccount:n:sa" || k.ServiceAccount.UID != "u1") {
			t.Errorf("accepted %q as %+v", token, public)
		}
	})
}
