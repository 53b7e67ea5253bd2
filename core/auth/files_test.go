package auth

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokenFile(t *testing.T) {
	f, err := ReadTokenFile(write(t, "t1,alice,u1\nt2,bob,u2,\"g1,g2\"\nt3,carol,u3,g,more,columns\n"), []string{"api"})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]*User{
		"t1": {Name: "alice", UID: "u1"}, "t2": {Name: "bob", UID: "u2", Groups: []string{"g1", "g2"}}, "t3": {Name: "carol", UID: "u3", Groups: []string{"g"}}, "t4": nil, "": nil,
	} {
		u, matched, ok, err := f.VerifyToken(t.Context(), token, []string{"other", "api"})
		if err != nil || ok != (want != nil) || !reflect.DeepEqual(u, want) || ok && !reflect.DeepEqual(matched, []string{"api"}) {
			t.Errorf("%s: %+v %q %t %v", token, u, matched, ok, err)
		}
	}
	if _, _, ok, _ := f.VerifyToken(t.Context(), "t1", []string{"vault"}); ok {
		t.Error("a token of the file is good for another audience")
	}
	for text, want := range map[string]string{
		"t1,alice\n":                    "line 1 has 2 columns",
		"t1,a,u\n,b,u\n":                "line 2 has no token",
		"t1,a,u\nt1,b,u\n":              "line 2 has the token of an earlier one",
		"t1,\"alice,u\n":                `extraneous or missing " in quoted-field`,
		"t1,a,u\nt2,\"b\"x,u,\"g,h\"\n": `extraneous or missing " in quoted-field`,
	} {
		if _, err := ReadTokenFile(write(t, text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ReadTokenFile("/none", nil); err == nil || !strings.Contains(err.Error(), "cannot read token file: open /none") {
		t.Errorf("no file: %v", err)
	}
}

func FuzzTokenFile(f *testing.F) {
	f.Add("t1,alice,u1\nt2,bob,u2,\"g1,g2\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := parseTokens(strings.NewReader(text))
		if err == nil && users[""] != nil {
			t.Errorf("an empty token is somebody's: %q", text)
		}
	})
}

func policyLine(spec string) string {
	return `{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{` + spec + `}}` + "\n"
}

func TestABAC(t *testing.T) {
	z, err := ReadABAC(write(t, "# people\n\n"+
		policyLine(`"user":"alice","namespace":"*","resource":"*","apiGroup":"*"`)+
		policyLine(`"user":"bob","namespace":"dev","resource":"pods","apiGroup":"","readonly":true`)+
		policyLine(`"group":"ops","namespace":"*","resource":"nodes","apiGroup":""`)+
		policyLine(`"user":"carol","group":"ops","nonResourcePath":"/logs*"`)+
		policyLine(`"user":"*","nonResourcePath":"/version","readonly":true`)+
		policyLine(`"group":"*","nonResourcePath":"/everybody"`)+
		policyLine(`"group":"system:authenticated","nonResourcePath":"*","readonly":true`)))
	if err != nil {
		t.Fatal(err)
	}
	pods := func(verb string) Attributes { return Attributes{Verb: verb, Resource: "pods", Namespace: "dev"} }
	path := func(verb, p string) Attributes { return Attributes{Verb: verb, Path: p} }
	for _, tc := range []struct {
		u    User
		a    Attributes
		want bool
	}{
		{User{Name: "alice"}, pods("delete"), true},
		{User{Name: "alice"}, Attributes{Verb: "create", Group: "apps", Resource: "deployments", Namespace: "x"}, true},
		{User{Name: "alice"}, path("get", "/metrics"), false},
		{User{Name: "bob"}, pods("list"), true},
		{User{Name: "bob"}, pods("delete"), false},
		{User{Name: "bob"}, Attributes{Verb: "get", Resource: "pods", Namespace: "prod"}, false},
		{User{Name: "bob"}, Attributes{Verb: "get", Group: "metrics.k8s.io", Resource: "pods", Namespace: "dev"}, false},
		{User{Name: "dave", Groups: []string{"ops"}}, Attributes{Verb: "patch", Resource: "nodes"}, true},
		{User{Name: "dave", Groups: []string{"ops"}}, path("get", "/logs/x"), false},
		{User{Name: "carol", Groups: []string{"ops"}}, path("post", "/logs/x"), true},
		{User{Name: "carol"}, path("get", "/logs/x"), false},
		{User{Name: "anybody", Groups: []string{GroupAuthenticated}}, path("get", "/version"), true},
		{User{Name: "anybody", Groups: []string{GroupAuthenticated}}, path("post", "/version"), false},
		// "*" is everybody who says who they are.
		{User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}, path("get", "/version"), false},
		{User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}, path("get", "/everybody"), false},
		{User{Name: "anybody", Groups: []string{GroupAuthenticated}}, path("post", "/everybody"), true},
		{User{Name: "x", Groups: []string{GroupAuthenticated}}, path("get", "/metrics"), true},
	} {
		tc.a.User = &tc.u
		d, reason, err := z.Authorize(t.Context(), tc.a)
		if (d == Allow) != tc.want || err != nil || d == Deny || !tc.want && reason != "No policy matched." {
			t.Errorf("%+v %+v: %v %q %v", tc.u, tc.a, d, reason, err)
		}
	}
	rules, err := z.Rules(&User{Name: "bob"}, "dev")
	if err != nil || len(rules) != 1 || !reflect.DeepEqual(rules[0].Verbs, []string{"get", "list", "watch"}) {
		t.Errorf("bob's rules %v %v", rules, err)
	}
	for text, want := range map[string]string{
		`{"user":"alice"}`:             `line 1: json: unknown field "user"`,
		policyLine(`"resource":"*"`):   "line 1: the policy names neither user nor group",
		"\n" + policyLine(`"usr":"x"`): `line 2: json: unknown field "usr"`,
		`{"apiVersion":"abac.authorization.kubernetes.io/v1","kind":"Policy","spec":{"user":"a"}}`: "want a Policy of abac.authorization.kubernetes.io/v1beta1",
		strings.TrimSpace(policyLine(`"user":"a"`)) + " {}":                                        "more than one object",
		strings.Repeat("x", maxPolicyLine+1):                                                       "token too long",
	} {
		if _, err := ReadABAC(write(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100q: %v", text, err)
		}
	}
}

func FuzzABAC(f *testing.F) {
	f.Add(policyLine(`"user":"alice","namespace":"*","resource":"*","apiGroup":"*"`))
	f.Fuzz(func(t *testing.T, text string) {
		policies, err := parsePolicies(strings.NewReader(text))
		if err != nil {
			return
		}
		z := &ABAC{policies}
		d, _, _ := z.Authorize(t.Context(), Attributes{User: &User{Name: "\x00"}, Verb: "get", Path: "/x"})
		if d == Allow {
			t.Errorf("somebody else may: %q", text)
		}
	})
}
