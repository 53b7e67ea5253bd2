package auth

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// CredentialID is the Extra key under which authenticators say which
// credential a user showed.
const CredentialID = "authentication.kubernetes.io/credential-id"

// union asks authenticators in order.
type union []Authenticator

// NewUnion returns an Authenticator that asks the given ones in order. The
// first to know the credentials answers; if none does and one found them bad,
// the request is refused, else it is anonymous.
func NewUnion(parts ...Authenticator) Authenticator { return union(slices.Clone(parts)) }

func (all union) Authenticate(r *http.Request) (*User, bool, error) {
	var errs []error
	for _, a := range all {
		u, ok, err := a.Authenticate(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return Authenticated(u), true, nil
		}
	}
	if len(errs) > 0 {
		return nil, false, errors.Join(errs...)
	}
	return &User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}, true, nil
}

// Authenticated returns u as a member of system:authenticated, unless u is
// anonymous.
func Authenticated(u *User) *User {
	if u.Name == Anonymous || u.InGroup(GroupAuthenticated) || u.InGroup(GroupUnauthenticated) {
		return u
	}
	with := *u
	with.Groups = append(slices.Clone(u.Groups), GroupAuthenticated)
	return &with
}

type certificates struct{ clients *chains }

// NewCertificates returns an Authenticator of TLS client certificates that
// chain to roots: the common name is the user, the organizations are the
// groups. The listener must ask for client certificates without verifying them
// (tls.RequestClientCert). A nil now means time.Now.
func NewCertificates(roots *x509.CertPool, now func() time.Time) Authenticator {
	return certificates{newChains(roots, now)}
}

func (c certificates) Authenticate(r *http.Request) (*User, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	cert := r.TLS.PeerCertificates[0]
	sum, err := c.clients.verify(r.TLS.PeerCertificates)
	if err != nil {
		return nil, false, err
	}
	if cert.Subject.CommonName == "" {
		return nil, false, nil
	}
	return &User{
		Name:   cert.Subject.CommonName,
		Groups: slices.Clone(cert.Subject.Organization),
		Extra:  map[string][]string{CredentialID: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}, true, nil
}

// TokenVerifier says whose token it is. ok is false when the token is not of
// its making. Audiences are the ones asked for; those the token is good for
// are returned.
type TokenVerifier interface {
	VerifyToken(ctx context.Context, token string, audiences []string) (u *User, matched []string, ok bool, err error)
}

type bearer struct {
	verifiers []TokenVerifier
	audiences []string
}

// NewBearer returns an Authenticator of bearer tokens in the Authorization
// header or, for WebSockets, in the sub-protocol
// base64url.bearer.authorization.k8s.io.<token>. The token must be good for one
// of the audiences. A token that no verifier knows is an error.
func NewBearer(audiences []string, verifiers ...TokenVerifier) Authenticator {
	return bearer{slices.Clone(verifiers), slices.Clone(audiences)}
}

var errInvalidToken = errors.New("invalid bearer token")

func (b bearer) Authenticate(r *http.Request) (*User, bool, error) {
	token, ok := bearerToken(r)
	if !ok {
		return nil, false, nil
	}
	var errs []error
	for _, v := range b.verifiers {
		u, _, ok, err := v.VerifyToken(r.Context(), token, b.audiences)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			return u, true, nil
		}
	}
	return nil, false, errors.Join(append([]error{errInvalidToken}, errs...)...)
}

func bearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); ok && strings.EqualFold(scheme, "bearer") && token != "" {
		return token, true
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return "", false
	}
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			enc, ok := strings.CutPrefix(strings.TrimSpace(p), WebSocketTokenProtocol)
			if !ok {
				continue
			}
			text, err := base64.RawURLEncoding.DecodeString(enc)
			if err != nil || len(text) == 0 || !utf8.Valid(text) {
				return "", false
			}
			return string(text), true
		}
	}
	return "", false
}

// WebSocketTokenProtocol is the prefix of the WebSocket sub-protocol that
// carries a bearer token. It is not to be offered back to the client, nor
// passed on when the request is proxied.
const WebSocketTokenProtocol = "base64url.bearer.authorization.k8s.io."
