package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// The paths of OIDC discovery on the API server. Both are non-resource URLs
// that system:service-account-issuer-discovery allows.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	JWKSPath      = "/openid/v1/jwks"
)

// Discovery serves the OpenID provider document and the key set with which
// others verify service-account tokens.
func (t *Tokens) Discovery() (http.Handler, error) {
	uri := t.cfg.JWKSURI
	if uri == "" {
		uri = t.cfg.Issuer + JWKSPath
	}
	var algs []string
	for _, a := range t.algs {
		algs = append(algs, string(a))
	}
	slices.Sort(algs)
	algs = slices.Compact(algs)
	config, err := json.Marshal(struct {
		Issuer    string   `json:"issuer"`
		JWKSURI   string   `json:"jwks_uri"`
		Responses []string `json:"response_types_supported"`
		Subjects  []string `json:"subject_types_supported"`
		Algs      []string `json:"id_token_signing_alg_values_supported"`
	}{t.cfg.Issuer, uri, []string{"id_token"}, []string{"public"}, algs})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the OpenID configuration: %w", err)
	}
	var set jose.JSONWebKeySet
	for _, id := range sortedKeys(t.keys) {
		alg, err := algorithm(t.keys[id])
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: t.keys[id], KeyID: id, Algorithm: string(alg), Use: "sig"})
	}
	keys, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the service-account key set: %w", err)
	}
	mux := http.NewServeMux()
	serve := func(path, contentType string, body []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			w.Write(body) // the client may have gone; there is nobody to tell
		})
	}
	serve(DiscoveryPath, "application/json", config)
	serve(JWKSPath, "application/jwk-set+json", keys)
	return mux, nil
}
