package auth

import (
	"crypto/x509"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestRequestHeader(t *testing.T) {
	p, foreign := testPKI(t), testPKI(t)
	proxy := func(cfg RequestHeaderConfig) Authenticator {
		a, err := NewRequestHeader(cfg, []*x509.Certificate{p.FrontProxyCA.Cert}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	named := proxy(RequestHeaderConfig{AllowedNames: []string{"front-proxy-client"}})
	headers := http.Header{"X-Remote-User": {"alice"}, "X-Remote-Uid": {"7"}, "X-Remote-Group": {"g", "h"}, "X-Remote-Extra-Acme.com%2fproject": {"x"},
		"X-Remote-Extra-%zz": {"bad"}, "Accept": {"*/*"}}
	alice := &User{Name: "alice", UID: "7", Groups: []string{"g", "h"}, Extra: map[string][]string{"acme.com/project": {"x"}, "%zz": {"bad"}}}
	for _, tc := range []struct {
		name  string
		authn Authenticator
		cert  *x509.Certificate
		h     http.Header
		want  *User
		err   string
	}{
		{"proxy", named, p.FrontProxyClient.Cert, headers, alice, ""},
		{"no certificate", named, nil, headers, nil, ""},
		{"an ordinary client", named, p.Admin.Cert, headers, nil, ""},
		{"another cluster's proxy", named, foreign.FrontProxyClient.Cert, headers, nil, "certificate signed by unknown authority"},
		{"another name", proxy(RequestHeaderConfig{AllowedNames: []string{"other"}}), p.FrontProxyClient.Cert, headers, nil, "x509: subject with cn=front-proxy-client is not in the allowed list"},
		{"any name", proxy(RequestHeaderConfig{}), p.FrontProxyClient.Cert, headers, alice, ""},
		{"empty groups", named, p.FrontProxyClient.Cert, http.Header{"X-Remote-User": {"bob"}, "X-Remote-Group": {"", "g", ""}}, &User{Name: "bob", Groups: []string{"g"}}, ""},
		{"no user", named, p.FrontProxyClient.Cert, http.Header{"X-Remote-Group": {"system:masters"}}, nil, ""},
		{"other headers", proxy(RequestHeaderConfig{UsernameHeaders: []string{"X-User", "X-Login"}}), p.FrontProxyClient.Cert, http.Header{"X-Login": {"bob"}}, &User{Name: "bob"}, ""},
	} {
		r := withCert()
		if tc.cert != nil {
			r = withCert(tc.cert)
		}
		r.Header = tc.h.Clone()
		u, ok, err := tc.authn.Authenticate(r)
		// Believed or not, they are not passed on.
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Remote-") || name == "X-Login" {
				t.Errorf("%s: passed on: %v", tc.name, r.Header)
			}
		}
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.name, err)
			}
		case err != nil || ok != (tc.want != nil) || !reflect.DeepEqual(u, tc.want):
			t.Errorf("%s: %+v %t %v", tc.name, u, ok, err)
		case tc.h.Get("Accept") != r.Header.Get("Accept"):
			t.Errorf("%s: not passed on: %v", tc.name, r.Header)
		}
	}
	if _, err := NewRequestHeader(RequestHeaderConfig{GroupHeaders: []string{" "}}, nil, nil); err == nil {
		t.Error("an empty header name is accepted")
	}
}

// FuzzHeaders: whatever clients send, nobody becomes a member of system:masters
// by it, and nothing panics.
func FuzzHeaders(f *testing.F) {
	p := testPKI(f)
	proxy, err := NewRequestHeader(RequestHeaderConfig{}, []*x509.Certificate{p.FrontProxyCA.Cert}, nil)
	if err != nil {
		f.Fatal(err)
	}
	authn := NewUnion(proxy, NewCertificates(p.Pool(), nil), NewBearer([]string{"a"}, testTokens(f, TokenConfig{})))
	f.Add("Authorization", "Bearer x", "X-Remote-User", "root")
	f.Add("Impersonate-User", "x", "Impersonate-Extra-%2", "y")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		r := withCert()
		r.TLS = nil
		r.Header.Add(k1, v1)
		r.Header.Add(k2, v2)
		u, ok, err := authn.Authenticate(r)
		if err != nil || !ok {
			return
		}
		if u.Name != Anonymous || len(u.Groups) != 1 {
			t.Errorf("%q %q make %+v", k1, v1, u)
		}
		as, err := Impersonate(t.Context(), &allowing{}, r.Header, Attributes{User: u, Verb: "get", Path: "/"})
		if err == nil && as != nil {
			t.Errorf("impersonated %+v", as)
		}
	})
}
