package auth

import (
	"context"
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

// allowing is an authorizer of the questions it is made of, "verb group/resource[/sub] [ns/]name",
// that remembers what it was asked.
type allowing struct {
	yes   []string
	asked []string
}

func (z *allowing) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	name := a.Name
	if a.Namespace != "" {
		name = a.Namespace + "/" + name
	}
	q := a.Verb + " " + a.Group + "/" + a.resource() + " " + name
	z.asked = append(z.asked, q)
	if slices.Contains(z.yes, q) {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

func TestImpersonation(t *testing.T) {
	legacy := []string{GroupAuthenticated}
	account := []string{GroupServiceAccounts, GroupServiceAccounts + ":n"}
	ofNode := &User{Name: "system:serviceaccount:n:agent", Extra: map[string][]string{extraNodeName: {"node1"}}}
	list := func(mode string) string { return "impersonate-on:" + mode + ":list /pods default/" }
	header := func(user string, rest ...string) http.Header {
		h := http.Header{"Impersonate-User": {user}}
		for i := 0; i < len(rest); i += 2 {
			h[rest[i]] = append(h[rest[i]], rest[i+1])
		}
		return h
	}
	for _, tc := range []struct {
		name string
		h    http.Header
		by   *User
		yes  []string
		as   *User
		err  string
	}{
		{name: "none"},
		{name: "group alone", h: http.Header{"Impersonate-Group": {"g"}},
			err: `requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)} without impersonating a user name`},
		{name: "legacy user", h: header("bob"), yes: []string{"impersonate /users bob"}, as: &User{Name: "bob", Groups: legacy}},
		{name: "legacy groups", h: header("bob", "Impersonate-Group", "g", "Impersonate-Group", "h"),
			yes: []string{"impersonate /users bob", "impersonate /groups g", "impersonate /groups h"}, as: &User{Name: "bob", Groups: []string{"g", "h", GroupAuthenticated}}},
		{name: "legacy, one group not", h: header("bob", "Impersonate-Group", "g", "Impersonate-Group", "h"),
			yes: []string{"impersonate /users bob", "impersonate /groups g"}, err: "cannot impersonate-on:user-info:list"},
		{name: "legacy account", h: header("system:serviceaccount:n:sa"), yes: []string{"impersonate /serviceaccounts n/sa"},
			as: &User{Name: "system:serviceaccount:n:sa", Groups: append(slices.Clone(account), GroupAuthenticated)}},
		{name: "legacy masters", h: header("bob", "Impersonate-Group", GroupMasters), yes: []string{"impersonate /users bob", "impersonate /groups system:masters"},
			as: &User{Name: "bob", Groups: []string{GroupMasters, GroupAuthenticated}}},
		{name: "anonymous", h: header(Anonymous), yes: []string{"impersonate /users system:anonymous"}, as: &User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}},
		{name: "legacy extra", h: header("bob", "Impersonate-Uid", "7", "Impersonate-Extra-Acme.com%2fproject", "x", "Impersonate-Extra-Scopes", "a"),
			yes: []string{"impersonate /users bob", "impersonate authentication.k8s.io/uids 7", "impersonate authentication.k8s.io/userextras/acme.com/project x",
				"impersonate authentication.k8s.io/userextras/scopes a"},
			as: &User{Name: "bob", UID: "7", Groups: legacy, Extra: map[string][]string{"acme.com/project": {"x"}, "scopes": {"a"}}}},
		{name: "user-info", h: header("bob", "Impersonate-Group", "g"),
			yes: []string{list("user-info"), "impersonate:user-info authentication.k8s.io/users bob", "impersonate:user-info authentication.k8s.io/groups g"},
			as:  &User{Name: "bob", Groups: []string{"g", GroupAuthenticated}}},
		{name: "user-info, not for this verb", h: header("bob"), yes: []string{"impersonate:user-info authentication.k8s.io/users bob"},
			err: `pods is forbidden: User "admin" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "default"`},
		{name: "user-info, not this user", h: header("bob"), yes: []string{list("user-info")},
			err: `users.authentication.k8s.io "bob" is forbidden: User "admin" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`},
		{name: "user-info never masters", h: header("bob", "Impersonate-Group", GroupMasters),
			yes: []string{list("user-info"), "impersonate:user-info authentication.k8s.io/users bob", "impersonate:user-info authentication.k8s.io/groups system:masters"},
			err: "impersonating the system:masters group is not allowed"},
		{name: "serviceaccount", h: header("system:serviceaccount:n:sa"),
			yes: []string{list("serviceaccount"), "impersonate:serviceaccount authentication.k8s.io/serviceaccounts n/sa"},
			as:  &User{Name: "system:serviceaccount:n:sa", Groups: append(slices.Clone(account), GroupAuthenticated)}},
		{name: "arbitrary node", h: header("system:node:node2"),
			yes: []string{list("arbitrary-node"), "impersonate:arbitrary-node authentication.k8s.io/nodes node2"},
			as:  &User{Name: "system:node:node2", Groups: []string{GroupNodes, GroupAuthenticated}}},
		{name: "associated node", h: header("system:node:node1"), by: ofNode,
			yes: []string{list("associated-node"), "impersonate:associated-node authentication.k8s.io/nodes *"},
			as:  &User{Name: "system:node:node1", Groups: []string{GroupNodes, GroupAuthenticated}}},
		{name: "another's node", h: header("system:node:node2"), by: ofNode,
			yes: []string{list("associated-node"), "impersonate:associated-node authentication.k8s.io/nodes *"}, err: "cannot impersonate-on:arbitrary-node:list"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			by := tc.by
			if by == nil {
				by = &User{Name: "admin"}
			}
			z := &allowing{yes: tc.yes}
			as, err := Impersonate(t.Context(), z, tc.h, Attributes{User: by, Verb: "list", Version: "v1", Resource: "pods", Namespace: "default"})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(as, tc.as) {
				t.Errorf("made as %+v, %v; asked %q", as, err, z.asked)
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

func TestSplitServiceAccount(t *testing.T) {
	for user, want := range map[string]bool{
		"system:serviceaccount:ns:robot": true, "system:serviceaccount:ns:robot.v1": true,
		"system:serviceaccount:ns:": false, "system:serviceaccount::robot": false, "system:serviceaccount:ns": false, "robot": false,
		"system:serviceaccount:ns:a:b": false, "system:serviceaccount:Not_A_Namespace:robot": false, "system:serviceaccount:ns:*": false,
	} {
		namespace, name, ok := SplitServiceAccount(user)
		if ok != want || ok && ServiceAccountName(namespace, name) != user {
			t.Errorf("%s: %q %q %t", user, namespace, name, ok)
		}
	}
}

// TestRememberedCertificate: that a certificate was good a moment ago does not
// let it live longer.
func TestRememberedCertificate(t *testing.T) {
	p := testPKI(t)
	now := p.Admin.Cert.NotAfter.Add(-time.Second)
	authn := NewCertificates(p.Pool(), func() time.Time { return now })
	for range 2 {
		if _, ok, err := authn.Authenticate(withCert(p.Admin.Cert)); !ok || err != nil {
			t.Fatalf("while it is good: %t %v", ok, err)
		}
	}
	now = now.Add(2 * time.Second)
	if u, ok, err := authn.Authenticate(withCert(p.Admin.Cert)); ok || err == nil {
		t.Errorf("when it has expired: %+v %t %v", u, ok, err)
	}
}
