package bootstrap

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"

	"binnacle.io/core/auth"
)

// granted returns the rules of the default roles after aggregation.
func granted(t *testing.T) map[string][]rbacv1.PolicyRule {
	t.Helper()
	roles := ClusterRoles()
	changed, err := aggregatedRules(roles)
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]rbacv1.PolicyRule{}
	for _, r := range roles {
		rules[r.Name] = r.Rules
		if sum, ok := changed[r.Name]; ok {
			rules[r.Name] = sum
		}
	}
	return rules
}

// TestDefaultRoles holds what people know about the default roles. A line reads
// "role can|cannot verb group/resource[/sub]" or "… verb /path".
func TestDefaultRoles(t *testing.T) {
	rules := granted(t)
	for _, line := range []string{
		"view can list /pods", "view can get /pods/log", "view can get apps/deployments", "view can get batch/jobs",
		"view can watch networking.k8s.io/ingresses", "view can list metrics.k8s.io/pods", "view can get discovery.k8s.io/endpointslices",
		"view cannot get /secrets", "view cannot list /secrets", "view cannot create /pods", "view cannot get /pods/exec",
		"view cannot get /nodes", "view cannot get rbac.authorization.k8s.io/roles", "view cannot impersonate /serviceaccounts",
		"edit can get /secrets", "edit can create /pods", "edit can create /pods/exec", "edit can get /pods/exec", "edit can patch apps/deployments",
		"edit can update apps/deployments/scale", "edit can create /serviceaccounts/token", "edit can create /pods/eviction",
		"edit can delete policy/poddisruptionbudgets", "edit can list /pods", "edit can create coordination.k8s.io/leases",
		"edit cannot create rbac.authorization.k8s.io/roles", "edit cannot create /resourcequotas", "edit cannot update /namespaces",
		"edit cannot create /endpoints", "edit cannot create discovery.k8s.io/endpointslices", "edit cannot create /pods/binding",
		"admin can create rbac.authorization.k8s.io/rolebindings", "admin can get /secrets", "admin can create authorization.k8s.io/localsubjectaccessreviews",
		"admin can list /pods", "admin cannot create /resourcequotas", "admin cannot update /namespaces", "admin cannot get /nodes",
		"admin cannot create rbac.authorization.k8s.io/clusterroles", "admin cannot bind rbac.authorization.k8s.io/roles",
		"cluster-admin can escalate rbac.authorization.k8s.io/clusterroles", "cluster-admin can get /metrics", "cluster-admin can delete example.com/things",
		"system:public-info-viewer can get /version", "system:public-info-viewer can get /healthz", "system:public-info-viewer can get /livez",
		"system:public-info-viewer cannot get /api", "system:public-info-viewer cannot get /metrics", "system:public-info-viewer cannot get /readyz/etcd",
		"system:discovery can get /openapi/v3", "system:discovery can get /apis/apps/v1", "system:discovery cannot get /metrics",
		"system:basic-user can create authorization.k8s.io/selfsubjectaccessreviews", "system:basic-user can create authentication.k8s.io/selfsubjectreviews",
		"system:basic-user cannot create authorization.k8s.io/subjectaccessreviews",
		"system:monitoring can get /metrics", "system:monitoring can get /readyz/etcd", "system:monitoring cannot get /api",
		"system:service-account-issuer-discovery can get /openid/v1/jwks",
		"system:auth-delegator can create authentication.k8s.io/tokenreviews",
		"system:kube-scheduler can create /pods/binding", "system:kube-scheduler can update coordination.k8s.io/leases kube-scheduler",
		"system:kube-scheduler cannot update coordination.k8s.io/leases other", "system:kube-scheduler cannot get /secrets",
		"system:node can update /nodes/status", "system:node cannot delete /nodes", "system:node cannot create apps/deployments",
		"system:node-proxier can watch discovery.k8s.io/endpointslices", "system:node-proxier cannot get /secrets",
		"system:controller:deployment-controller can create apps/replicasets", "system:controller:deployment-controller cannot create /pods",
		"system:controller:replicaset-controller can create /pods", "system:controller:replicaset-controller can update apps/replicasets/finalizers",
		"system:controller:endpointslice-controller can create discovery.k8s.io/endpointslices",
		"system:controller:namespace-controller can deletecollection example.com/things", "system:controller:namespace-controller cannot create /pods",
		"system:controller:generic-garbage-collector can delete example.com/things",
		"system:controller:horizontal-pod-autoscaler can update apps/deployments/scale", "system:controller:horizontal-pod-autoscaler cannot update apps/deployments",
		"system:controller:clusterrole-aggregation-controller can escalate rbac.authorization.k8s.io/clusterroles",
		"system:kubelet-api-admin can proxy /nodes", "system:kubelet-api-admin can get /nodes/stats",
	} {
		w := strings.Fields(line)
		a := auth.Attributes{Verb: w[2]}
		// "/pods" is a resource of the core group, "/healthz" is a path.
		group, rest, _ := strings.Cut(w[3], "/")
		a.Group = group
		a.Resource, a.Subresource, _ = strings.Cut(rest, "/")
		if group == "" && nonResource(w[3]) {
			a = auth.Attributes{Verb: w[2], Path: w[3]}
		}
		if len(w) > 4 {
			a.Name = w[4]
		}
		held, ok := rules[w[0]]
		if !ok {
			t.Errorf("there is no role %s", w[0])
			continue
		}
		got := slices.ContainsFunc(held, func(r rbacv1.PolicyRule) bool { return auth.Allows(a, &r) })
		if got != (w[1] == "can") {
			t.Errorf("not so: %s", line)
		}
	}
}

func nonResource(p string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return slices.Contains([]string{"healthz", "livez", "readyz", "version", "api", "apis", "openapi", "openid", "metrics"}, first)
}

func TestPolicyIsConsistent(t *testing.T) {
	cluster, local := map[string]bool{}, map[string]bool{}
	for _, r := range ClusterRoles() {
		if cluster[r.Name] {
			t.Errorf("two cluster roles are called %s", r.Name)
		}
		cluster[r.Name] = true
		if len(path.IsValidPathSegmentName(r.Name)) > 0 {
			t.Errorf("bad name %s", r.Name)
		}
		if r.AggregationRule == nil && len(r.Rules) == 0 {
			t.Errorf("cluster role %s has no rules", r.Name)
		}
		for _, rule := range r.Rules {
			if len(rule.Verbs) == 0 || len(rule.NonResourceURLs) == 0 && (len(rule.Resources) == 0 || len(rule.APIGroups) == 0) {
				t.Errorf("cluster role %s has the incomplete rule %v", r.Name, rule)
			}
		}
	}
	for _, r := range Roles() {
		local[r.Namespace+"/"+r.Name] = true
	}
	for _, b := range ClusterRoleBindings() {
		if !cluster[b.RoleRef.Name] {
			t.Errorf("cluster role binding %s refers to no role", b.Name)
		}
	}
	for _, b := range RoleBindings() {
		if !local[b.Namespace+"/"+b.RoleRef.Name] {
			t.Errorf("role binding %s/%s refers to no role", b.Namespace, b.Name)
		}
	}
}

// TestAnonymous: nobody may see more than health and version.
func TestAnonymous(t *testing.T) {
	for _, b := range ClusterRoleBindings() {
		for _, s := range b.Subjects {
			if s.Name == auth.GroupUnauthenticated && b.RoleRef.Name != "system:public-info-viewer" {
				t.Errorf("%s gives %s to everybody", b.Name, b.RoleRef.Name)
			}
		}
	}
}

func TestAggregationOfAggregations(t *testing.T) {
	leaf := part("leaf", []string{"view"}, on("example.com", "things", "get"))
	roles := append(ClusterRoles(), leaf)
	slices.Reverse(roles)
	changed, err := aggregatedRules(roles)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"view", "edit", "admin"} {
		if ok, _ := auth.Covers(changed[name], leaf.Rules); !ok {
			t.Errorf("%s lacks the rules of leaf", name)
		}
	}
	for _, r := range roles {
		if sum, ok := changed[r.Name]; ok {
			r.Rules = sum
		}
	}
	if again, err := aggregatedRules(roles); err != nil || len(again) != 0 {
		t.Errorf("aggregation does not rest: %d roles change again, %v", len(again), err)
	}
}
