package auth

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rule reads "verbs on group/resources [names]" or "verbs of paths"; lists
// are separated by commas and the core group is a dash.
func rule(text string) rbacv1.PolicyRule {
	list := func(s string) []string { return strings.Split(s, ",") }
	w := strings.Fields(text)
	r := rbacv1.PolicyRule{Verbs: list(w[0])}
	if w[1] == "of" {
		r.NonResourceURLs = list(w[2])
		return r
	}
	group, resources, _ := strings.Cut(w[2], ":")
	r.APIGroups, r.Resources = list(strings.ReplaceAll(group, "-", "")), list(resources)
	if len(w) > 3 {
		r.ResourceNames = list(w[3])
	}
	return r
}

func rules(texts ...string) []rbacv1.PolicyRule {
	var all []rbacv1.PolicyRule
	for _, t := range texts {
		all = append(all, rule(t))
	}
	return all
}

func TestAllows(t *testing.T) {
	pods := Attributes{Verb: "get", Resource: "pods", Name: "a", Namespace: "n"}
	with := func(f func(*Attributes)) Attributes { a := pods; f(&a); return a }
	log := with(func(a *Attributes) { a.Subresource = "log" })
	scale := Attributes{Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale", Name: "d"}
	path := func(p string) Attributes { return Attributes{Verb: "get", Path: p} }
	for _, tc := range []struct {
		rule string
		a    Attributes
		want bool
	}{
		{"get on -:pods", pods, true},
		{"list,get on -:services,pods", pods, true},
		{"list on -:pods", pods, false},
		{"* on -:pods", pods, true},
		{"get on apps:pods", pods, false},
		{"get on *:pods", pods, true},
		{"get on -:*", pods, true},
		{"get on -:pods", log, false},
		{"get on -:pods/log", log, true},
		{"get on -:*", log, true},
		{"get on -:*/log", log, true},
		{"get on -:*/log", pods, false},
		{"get on -:pods/*", log, false},
		{"update on *:*/scale", scale, true},
		{"update on apps:deployments", scale, false},
		{"get on -:pods a,b", pods, true},
		{"get on -:pods b", pods, false},
		{"list on -:pods a", with(func(a *Attributes) { a.Verb, a.Name = "list", "" }), false},
		{"get of /healthz", path("/healthz"), true},
		{"get of /healthz", path("/healthz/etcd"), false},
		{"get of /healthz/*", path("/healthz/etcd"), true},
		{"get of /healthz*", path("/healthz/etcd"), true},
		{"get of *", path("/metrics"), true},
		{"* of /metrics", path("/metrics"), true},
		{"get on *:*", path("/metrics"), false},
		{"get of *", pods, false},
	} {
		r := rule(tc.rule)
		if got := Allows(tc.a, &r); got != tc.want {
			t.Errorf("rule %q allows %+v: %t", tc.rule, tc.a, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		owned, wanted []rbacv1.PolicyRule
		missing       []string
	}{
		{rules("get on -:pods"), rules("get on -:pods"), nil},
		{rules("get on -:pods", "list on -:pods"), rules("get,list on -:pods"), nil},
		{rules("get on -:pods"), rules("get,list,watch on -:pods"), []string{`{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}`}},
		{rules("* on *:*"), rules("get on -:pods", "* on apps:*", "get on -:pods/log a"), nil},
		{rules("* on *:*"), rules("get of /x"), []string{`{NonResourceURLs:["/x"], Verbs:["get"]}`}},
		{rules("get on -:pods"), rules("get on -:pods a"), nil},
		{rules("get on -:pods a"), rules("get on -:pods"), []string{`{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`}},
		{rules("get on -:pods a,b"), rules("get on -:pods b"), nil},
		{rules("get on -:*/scale"), rules("get on -:foo/scale"), nil},
		{rules("get on -:pods"), rules("get on -:*"), []string{`{APIGroups:[""], Resources:["*"], Verbs:["get"]}`}},
		{rules("get of /a/*"), rules("get of /a/b", "get of /a/b/*"), nil},
		{rules("get of /a/*"), rules("get of /a"), []string{`{NonResourceURLs:["/a"], Verbs:["get"]}`}},
		{nil, nil, nil},
	} {
		ok, missing := Covers(tc.owned, tc.wanted)
		var texts []string
		missing = compact(missing)
		for i := range missing {
			texts = append(texts, ruleText(&missing[i]))
		}
		if ok != (len(tc.missing) == 0) || strings.Join(texts, "\n") != strings.Join(tc.missing, "\n") {
			t.Errorf("%v covers %v: %t, missing %v", tc.owned, tc.wanted, ok, texts)
		}
	}
}

// policy fills an RBAC by hand, as Run does from a watch.
func policy(t *testing.T) *RBAC {
	t.Helper()
	z := NewRBAC()
	meta := func(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }
	cr := z.clusterRoleTable()
	cr.put(&rbacv1.ClusterRole{ObjectMeta: meta("", "reader"), Rules: rules("get,list on -:pods")})
	cr.put(&rbacv1.ClusterRole{ObjectMeta: meta("", "health"), Rules: rules("get of /healthz")})
	z.roleTable().put(&rbacv1.Role{ObjectMeta: meta("n", "editor"), Rules: rules("update on -:pods p")})
	crb := z.clusterBindingTable()
	crb.put(&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "readers"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: "Group", Name: "g"}}})
	crb.put(&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "all"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "health"},
		Subjects: []rbacv1.Subject{{Kind: "Group", Name: GroupUnauthenticated}}})
	crb.put(&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "dangling"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "gone"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}}})
	z.bindingTable().put(&rbacv1.RoleBinding{ObjectMeta: meta("n", "editors"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "editor"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}, {Kind: "ServiceAccount", Name: "sa", Namespace: "n"}}})
	z.bindingTable().put(&rbacv1.RoleBinding{ObjectMeta: meta("n", "local-readers"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}}})
	return z
}

func TestRBACDecisions(t *testing.T) {
	z := policy(t)
	alice := &User{Name: "alice"}
	member := &User{Name: "carol", Groups: []string{"g"}}
	account := &User{Name: ServiceAccountName("n", "sa"), Groups: ServiceAccountGroups("n")}
	nobody := &User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}
	bob := &User{Name: "bob"}
	for _, tc := range []struct {
		a      Attributes
		d      Decision
		reason string
	}{
		{Attributes{User: member, Verb: "list", Resource: "pods"}, Allow, `RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "g"`},
		{Attributes{User: member, Verb: "list", Resource: "pods", Namespace: "n"}, Allow, `RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "g"`},
		{Attributes{User: member, Verb: "update", Resource: "pods", Namespace: "n", Name: "p"}, NoOpinion, ""},
		{Attributes{User: alice, Verb: "get", Resource: "pods", Namespace: "n"}, Allow, `RBAC: allowed by RoleBinding "local-readers/n" of ClusterRole "reader" to User "alice"`},
		{Attributes{User: alice, Verb: "get", Resource: "pods", Namespace: "m"}, NoOpinion, ""},
		{Attributes{User: alice, Verb: "get", Resource: "pods"}, NoOpinion, ""},
		{Attributes{User: alice, Verb: "update", Resource: "pods", Namespace: "n", Name: "p"}, Allow, `RBAC: allowed by RoleBinding "editors/n" of Role "editor" to User "alice"`},
		{Attributes{User: alice, Verb: "update", Resource: "pods", Namespace: "n", Name: "q"}, NoOpinion, ""},
		{Attributes{User: account, Verb: "update", Resource: "pods", Namespace: "n", Name: "p"}, Allow, `RBAC: allowed by RoleBinding "editors/n" of Role "editor" to ServiceAccount "sa/n"`},
		{Attributes{User: nobody, Verb: "get", Path: "/healthz"}, Allow, `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "health" to Group "system:unauthenticated"`},
		{Attributes{User: nobody, Verb: "get", Path: "/metrics"}, NoOpinion, ""},
		{Attributes{User: bob, Verb: "get", Resource: "pods"}, NoOpinion, `RBAC: clusterroles.rbac.authorization.k8s.io "gone" not found`},
		{Attributes{Verb: "get", Resource: "pods"}, NoOpinion, ""},
	} {
		d, reason, err := z.Authorize(context.Background(), tc.a)
		if d != tc.d || reason != tc.reason || err != nil {
			t.Errorf("%+v for %+v: %v %q %v", tc.a, tc.a.User, d, reason, err)
		}
	}
}

func TestRBACForgets(t *testing.T) {
	z := policy(t)
	ask := func() Decision {
		d, _, _ := z.Authorize(context.Background(), Attributes{User: &User{Name: "carol", Groups: []string{"g"}}, Verb: "get", Resource: "pods"})
		return d
	}
	z.clusterBindingTable().put(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "readers"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: "Group", Name: "h"}}})
	if ask() != NoOpinion {
		t.Error("a subject that was taken out of a binding is still allowed")
	}
	if len(z.cluster.bySubject) != 3 {
		t.Errorf("index holds %d subjects", len(z.cluster.bySubject))
	}
	z = policy(t)
	z.clusterRoleTable().remove(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader"}})
	if ask() != NoOpinion {
		t.Error("a role that was deleted still allows")
	}
	z = policy(t)
	z.bindingTable().remove(&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "editors"}})
	z.bindingTable().remove(&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "local-readers"}})
	if len(z.namespaced) != 0 {
		t.Errorf("%d namespaces are kept without bindings", len(z.namespaced))
	}
}

func TestMayGrant(t *testing.T) {
	z := policy(t)
	z.clusterRoleTable().put(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "granter"}, Rules: rules(
		"bind on rbac.authorization.k8s.io:clusterroles secret-reader", "escalate on rbac.authorization.k8s.io:roles free")})
	z.clusterRoleTable().put(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "secret-reader"}, Rules: rules("get on -:secrets")})
	z.clusterBindingTable().put(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "granters"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "granter"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "gina"}}})
	member := &User{Name: "carol", Groups: []string{"g"}}
	gina := &User{Name: "gina"}
	master := &User{Name: "root", Groups: []string{GroupMasters}}
	role := func(name, r string) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}, Rules: rules(r)}
	}
	bind := func(to string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "b"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: to}}
	}
	sum := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sum"}, AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}}
	for _, tc := range []struct {
		name string
		u    *User
		obj  any
		want string
	}{
		{"own rights", member, role("r", "get on -:pods"), ""},
		{"more", member, role("r", "get,delete on -:pods"), `roles.rbac.authorization.k8s.io "r" is forbidden: user "carol" (groups=["g"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`},
		{"master", master, role("r", "* on *:*"), ""},
		{"escalate", gina, role("free", "* on *:*"), ""},
		{"escalate elsewhere", gina, role("other", "* on *:*"), "attempting to grant"},
		{"bind own", member, bind("reader"), ""},
		{"bind more", member, bind("secret-reader"), `rolebindings.rbac.authorization.k8s.io "b" is forbidden`},
		{"bind by verb", gina, bind("secret-reader"), ""},
		{"bind nothing", member, bind("nothing"), `rolebindings.rbac.authorization.k8s.io "nothing" not found`},
		{"aggregate", member, sum, "must have cluster-admin privileges to use the aggregationRule"},
		{"aggregate as master", master, sum, ""},
	} {
		err := z.MayGrant(context.Background(), z, tc.u, tc.obj)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestForbidden(t *testing.T) {
	u := &User{Name: "<alice>"}
	for _, tc := range []struct {
		a      Attributes
		reason string
		want   string
	}{
		{Attributes{User: u, Verb: "list", Resource: "pods", Namespace: "n"}, "",
			`pods is forbidden: User "&lt;alice&gt;" cannot list resource "pods" in API group "" in the namespace "n"`},
		{Attributes{User: u, Verb: "get", Group: "apps", Resource: "deployments", Subresource: "scale", Name: "d"}, "because",
			`deployments.apps "d" is forbidden: User "&lt;alice&gt;" cannot get resource "deployments/scale" in API group "apps" at the cluster scope: because`},
		{Attributes{User: u, Verb: "get", Path: "/metrics"}, "", `forbidden: User "&lt;alice&gt;" cannot get path "/metrics"`},
	} {
		err := Forbidden(tc.a, tc.reason)
		if err.Error() != tc.want || err.Status().Code != 403 {
			t.Errorf("got %d %s\nwant %s", err.Status().Code, err, tc.want)
		}
	}
}
