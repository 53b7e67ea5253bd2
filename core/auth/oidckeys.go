package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// oidcRetry is the pause before a provider that could not be reached is
	// tried again, and the least time between two fetches for tokens with
	// unknown keys: who sends forged tokens does not choose how often we ask.
	oidcRetry = 10 * time.Second
	// oidcRefresh is how long a key that the provider has withdrawn may live.
	oidcRefresh = time.Hour
	oidcTimeout = 30 * time.Second
	// maxProviderBytes bounds what a provider may answer.
	maxProviderBytes = 1 << 20
)

// issuerKeys are the verification keys of an OIDC provider.
type issuerKeys struct {
	issuer, discovery string
	client            *http.Client
	fetched           func(error)

	mu      sync.Mutex // of what follows
	jwksURL string
	set     *jose.JSONWebKeySet
	err     error
	last    time.Time     // of the last fetch
	flight  chan struct{} // closed when the fetch that is on its way ends
}

func httpsURL(field, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", field, err)
	case u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s %q is not an https URL", field, text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%s %q must not have a user, a query or a fragment", field, text)
	}
	return nil
}

// issuerHash is the label of an issuer, which may be private.
func issuerHash(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func newIssuerKeys(cfg OIDCConfig, fetched func(error)) (*issuerKeys, error) {
	k := &issuerKeys{issuer: cfg.Issuer, discovery: cfg.DiscoveryURL, fetched: fetched, err: errors.New("authenticator not initialized")}
	if k.discovery == "" {
		k.discovery = strings.TrimSuffix(cfg.Issuer, "/") + DiscoveryPath
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	if cfg.CAFile != "" {
		certs, err := ReadCertificates(cfg.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		for _, c := range certs {
			t.TLSClientConfig.RootCAs.AddCert(c)
		}
	}
	k.client = &http.Client{Transport: t, Timeout: oidcTimeout}
	return k, nil
}

func (k *issuerKeys) run(ctx context.Context) error {
	defer k.client.CloseIdleConnections()
	for {
		pause := oidcRefresh
		if k.refresh(ctx) != nil {
			pause = oidcRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (k *issuerKeys) health() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil {
		return k.err
	}
	return nil
}

// refresh fetches the keys, or waits for the fetch that is on its way.
func (k *issuerKeys) refresh(ctx context.Context) error {
	k.mu.Lock()
	if flight := k.flight; flight != nil {
		k.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return ctx.Err()
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.err
	}
	flight := make(chan struct{})
	k.flight = flight
	jwks := k.jwksURL
	k.mu.Unlock()

	set, jwks, err := k.fetch(ctx, jwks)
	k.fetched(err)
	k.mu.Lock()
	defer k.mu.Unlock()
	close(flight)
	k.flight, k.err, k.last = nil, err, time.Now()
	if err == nil {
		k.set, k.jwksURL = set, jwks
	}
	return err
}

// fetch reads the provider's configuration, if its key set's address is not yet
// known, and the key set.
func (k *issuerKeys) fetch(ctx context.Context, jwks string) (*jose.JSONWebKeySet, string, error) {
	if jwks == "" {
		var provider struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		if err := k.get(ctx, k.discovery, &provider); err != nil {
			return nil, "", err
		}
		if provider.Issuer != k.issuer {
			return nil, "", fmt.Errorf("cannot use %s: it is of issuer %q, not %q", k.discovery, provider.Issuer, k.issuer)
		}
		if u, err := url.Parse(provider.JWKSURI); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, "", fmt.Errorf("cannot use %s: its jwks_uri %q is not an https URL", k.discovery, provider.JWKSURI)
		}
		jwks = provider.JWKSURI
	}
	set := &jose.JSONWebKeySet{}
	if err := k.get(ctx, jwks, set); err != nil {
		return nil, "", err
	}
	return set, jwks, nil
}

func (k *issuerKeys) get(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, oidcTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("cannot ask OIDC provider: %w", err)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask OIDC provider: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProviderBytes))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot read %s: it answers %s", address, resp.Status)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("cannot understand %s: %w", address, err)
	}
	return nil
}

// claims verifies a token's signature. An unknown key is looked for at the
// provider: it may have been rotated.
func (k *issuerKeys) claims(ctx context.Context, signed *jwt.JSONWebToken, into ...any) error {
	k.mu.Lock()
	set, err, stale := k.set, k.err, time.Since(k.last) > oidcRetry
	k.mu.Unlock()
	if set == nil {
		return err
	}
	ok, err := try(set, signed, into)
	if ok || !stale {
		return err
	}
	// Others may wait for the same fetch: this request going away must not
	// end it.
	fetch, cancel := context.WithTimeout(context.WithoutCancel(ctx), oidcTimeout)
	defer cancel()
	if err := k.refresh(fetch); err != nil {
		return err
	}
	k.mu.Lock()
	set = k.set
	k.mu.Unlock()
	_, err = try(set, signed, into)
	return err
}

// try verifies by the keys of the token's key id, or by all if it has none.
func try(set *jose.JSONWebKeySet, signed *jwt.JSONWebToken, into []any) (bool, error) {
	id := signed.Headers[0].KeyID
	keys := set.Keys
	if id != "" {
		keys = set.Key(id)
	}
	for i := range keys {
		if keys[i].Use == "enc" || !keys[i].IsPublic() {
			continue
		}
		if signed.Claims(keys[i].Key, into...) == nil {
			return true, nil
		}
	}
	return false, errors.New("failed to verify signature: failed to verify id token signature")
}
