package auth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"binnacle.io/core/cluster/pki"
)

func testPKI(t testing.TB) *pki.PKI {
	t.Helper()
	p, err := pki.Ensure(pki.Config{Dir: t.TempDir(), NodeName: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func withCert(certs ...*x509.Certificate) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: certs}
	return r
}

func TestCertificates(t *testing.T) {
	p, foreign := testPKI(t), testPKI(t)
	authn := NewUnion(NewCertificates(p.Pool(), nil))
	u, ok, err := authn.Authenticate(withCert(p.Admin.Cert))
	if err != nil || !ok || u.Name != "kubernetes-admin" || !slices.Equal(u.Groups, []string{GroupMasters, GroupAuthenticated}) {
		t.Errorf("admin is %+v %t %v", u, ok, err)
	}
	if len(u.Extra[CredentialID]) != 1 || !strings.HasPrefix(u.Extra[CredentialID][0], "X509SHA256=") {
		t.Errorf("extra is %v", u.Extra)
	}
	u, ok, err = authn.Authenticate(httptest.NewRequest("GET", "/", nil))
	if err != nil || !ok || u.Name != Anonymous || !slices.Equal(u.Groups, []string{GroupUnauthenticated}) {
		t.Errorf("nobody is %+v %t %v", u, ok, err)
	}
	for what, cert := range map[string]*x509.Certificate{
		"another CA's":    foreign.Admin.Cert,
		"a server's":      p.APIServer.Cert,
		"a front proxy's": p.FrontProxyClient.Cert,
	} {
		if u, ok, err := authn.Authenticate(withCert(cert)); err == nil || ok {
			t.Errorf("%s certificate is accepted as %+v", what, u)
		}
	}
	late := NewCertificates(p.Pool(), func() time.Time { return time.Now().AddDate(2, 0, 0) })
	if _, ok, err := late.Authenticate(withCert(p.Admin.Cert)); err == nil || ok || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %t %v", ok, err)
	}
}

func TestBearerToken(t *testing.T) {
	socket := func(protocols string) http.Header {
		return http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {protocols}}
	}
	enc := base64.RawURLEncoding.EncodeToString([]byte("tok"))
	for _, tc := range []struct {
		h    http.Header
		want string
	}{
		{http.Header{}, ""},
		{http.Header{"Authorization": {"Bearer tok"}}, "tok"},
		{http.Header{"Authorization": {"bearer  tok "}}, "tok"},
		{http.Header{"Authorization": {"Basic tok"}}, ""},
		{http.Header{"Authorization": {"Bearer "}}, ""},
		{socket("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io." + enc), "tok"},
		{socket("base64url.bearer.authorization.k8s.io.***"), ""},
		{http.Header{"Sec-Websocket-Protocol": {"base64url.bearer.authorization.k8s.io." + enc}}, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = tc.h
		if got, ok := bearerToken(r); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%v: %q %t", tc.h, got, ok)
		}
	}
}

func TestImpersonation(t *testing.T) {
	admin := &User{Name: "admin"}
	for _, tc := range []struct {
		name   string
		h      http.Header
		asked  *User
		checks []string
		err    string
	}{
		{name: "none"},
		{name: "user", h: http.Header{"Impersonate-User": {"bob"}},
			asked: &User{Name: "bob", Groups: []string{GroupAuthenticated}}, checks: []string{"/users bob"}},
		{name: "groups", h: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"g", "h"}},
			asked:  &User{Name: "bob", Groups: []string{"g", "h", GroupAuthenticated}},
			checks: []string{"/users bob", "/groups g", "/groups h"}},
		{name: "account", h: http.Header{"Impersonate-User": {"system:serviceaccount:n:sa"}},
			asked:  &User{Name: "system:serviceaccount:n:sa", Groups: []string{GroupServiceAccounts, GroupServiceAccounts + ":n", GroupAuthenticated}},
			checks: []string{"/serviceaccounts n/sa"}},
		{name: "anonymous", h: http.Header{"Impersonate-User": {Anonymous}},
			asked: &User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}, checks: []string{"/users system:anonymous"}},
		{name: "extra", h: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Uid": {"7"}, "Impersonate-Extra-Acme.com%2fproject": {"x"}, "Impersonate-Extra-Scopes": {"a", "b"}},
			asked: &User{Name: "bob", UID: "7", Groups: []string{GroupAuthenticated}, Extra: map[string][]string{"acme.com/project": {"x"}, "scopes": {"a", "b"}}},
			checks: []string{"/users bob", "authentication.k8s.io/uids 7", "authentication.k8s.io/userextras/acme.com/project x",
				"authentication.k8s.io/userextras/scopes a", "authentication.k8s.io/userextras/scopes b"}},
		{name: "group alone", h: http.Header{"Impersonate-Group": {"g"}}, err: "without impersonating a user"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked, checks, err := Impersonation(tc.h, admin)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(asked, tc.asked) {
				t.Errorf("asked for %+v", asked)
			}
			var texts []string
			for _, c := range checks {
				if c.User != admin || c.Verb != "impersonate" {
					t.Errorf("check %+v", c)
				}
				name := c.Name
				if c.Namespace != "" {
					name = c.Namespace + "/" + name
				}
				texts = append(texts, c.Group+"/"+c.resource()+" "+name)
			}
			if !slices.Equal(texts, tc.checks) {
				t.Errorf("checks %q", texts)
			}
		})
	}
}

func TestStripImpersonation(t *testing.T) {
	h := http.Header{"Impersonate-User": {"bob"}, "Impersonate-Extra-X": {"y"}, "Accept": {"*/*"}}
	StripImpersonation(h)
	if !reflect.DeepEqual(h, http.Header{"Accept": {"*/*"}}) {
		t.Errorf("left %v", h)
	}
}
