package auth

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// RequestHeaderConfig says how a proxy in front vouches for users. Header names
// are those that upstream's proxies use unless set.
type RequestHeaderConfig struct {
	// ClientCAFile holds the PEM certificates that the proxy's client
	// certificate chains to; default the cluster's front-proxy CA.
	ClientCAFile string `json:"clientCAFile,omitempty"`
	// AllowedNames are common names of that certificate; empty allows any.
	AllowedNames        []string `json:"allowedNames,omitempty"`
	UsernameHeaders     []string `json:"usernameHeaders,omitempty"`
	UIDHeaders          []string `json:"uidHeaders,omitempty"`
	GroupHeaders        []string `json:"groupHeaders,omitempty"`
	ExtraHeaderPrefixes []string `json:"extraHeaderPrefixes,omitempty"`
}

// Complete fills in the usual header names.
func (cfg *RequestHeaderConfig) Complete() error {
	for list, usual := range map[*[]string]string{
		&cfg.UsernameHeaders: "X-Remote-User", &cfg.UIDHeaders: "X-Remote-Uid", &cfg.GroupHeaders: "X-Remote-Group",
		&cfg.ExtraHeaderPrefixes: "X-Remote-Extra-",
	} {
		if len(*list) == 0 {
			*list = []string{usual}
		}
		for _, name := range *list {
			if strings.TrimSpace(name) == "" {
				return fmt.Errorf("cannot authenticate by request headers: a header name is empty")
			}
		}
	}
	return nil
}

type requestHeader struct {
	cfg     RequestHeaderConfig
	issuers [][]byte // raw subjects of the roots
	proxies *chains
}

// NewRequestHeader returns an Authenticator of requests that come through a
// proxy whose certificate chains to roots. The headers are believed with such a
// certificate only, and taken off whoever sends them: what the request is passed
// on to may believe them. A nil now means time.Now.
func NewRequestHeader(cfg RequestHeaderConfig, roots []*x509.Certificate, now func() time.Time) (Authenticator, error) {
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	h := requestHeader{cfg: cfg}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
		h.issuers = append(h.issuers, r.RawSubject)
	}
	h.proxies = newChains(pool, now)
	return h, nil
}

func (h requestHeader) Authenticate(r *http.Request) (*User, bool, error) {
	defer h.strip(r.Header)
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	cert := r.TLS.PeerCertificates[0]
	// Nearly all certificates are other clients': they are told apart before
	// any signature is looked at.
	if len(r.TLS.PeerCertificates) == 1 && !slices.ContainsFunc(h.issuers, func(s []byte) bool { return bytes.Equal(s, cert.RawIssuer) }) {
		return nil, false, nil
	}
	if _, err := h.proxies.verify(r.TLS.PeerCertificates); err != nil {
		return nil, false, err
	}
	if name := cert.Subject.CommonName; len(h.cfg.AllowedNames) > 0 && !slices.Contains(h.cfg.AllowedNames, name) {
		return nil, false, fmt.Errorf("x509: subject with cn=%s is not in the allowed list", name)
	}
	u := &User{Name: firstHeader(r.Header, h.cfg.UsernameHeaders)}
	if u.Name == "" {
		return nil, false, nil
	}
	u.UID = firstHeader(r.Header, h.cfg.UIDHeaders)
	for _, name := range h.cfg.GroupHeaders {
		u.Groups = append(u.Groups, slices.DeleteFunc(slices.Clone(r.Header.Values(name)), func(g string) bool { return g == "" })...)
	}
	u.Extra = prefixedHeaders(r.Header, h.cfg.ExtraHeaderPrefixes)
	return u, true, nil
}

func firstHeader(h http.Header, names []string) string {
	for _, name := range names {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func prefixedHeaders(h http.Header, prefixes []string) map[string][]string {
	var extra map[string][]string
	for name, values := range h {
		for _, prefix := range prefixes {
			if !hasPrefixFold(name, prefix) {
				continue
			}
			key := strings.ToLower(name[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil { // what cannot be decoded stands for itself
				key = plain
			}
			if extra == nil {
				extra = map[string][]string{}
			}
			extra[key] = append(extra[key], values...)
		}
	}
	return extra
}

func (h requestHeader) strip(header http.Header) {
	for _, names := range [][]string{h.cfg.UsernameHeaders, h.cfg.UIDHeaders, h.cfg.GroupHeaders} {
		for _, name := range names {
			header.Del(name)
		}
	}
	for name := range header {
		for _, prefix := range h.cfg.ExtraHeaderPrefixes {
			if hasPrefixFold(name, prefix) {
				delete(header, name)
			}
		}
	}
}
