package bootstrap

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The API groups of the policy.
const (
	core          = ""
	apps          = "apps"
	extensions    = "extensions"
	batch         = "batch"
	policy        = "policy"
	events        = "events.k8s.io"
	discovery     = "discovery.k8s.io"
	networking    = "networking.k8s.io"
	storage       = "storage.k8s.io"
	autoscaling   = "autoscaling"
	coordination  = "coordination.k8s.io"
	certificates  = "certificates.k8s.io"
	authn         = "authentication.k8s.io"
	authz         = "authorization.k8s.io"
	rbac          = "rbac.authorization.k8s.io"
	dra           = "resource.k8s.io"
	metrics       = "metrics.k8s.io"
	customMetrics = "custom.metrics.k8s.io"
	extMetrics    = "external.metrics.k8s.io"
	scheduling    = "scheduling.k8s.io"
	admissionreg  = "admissionregistration.k8s.io"
	any           = "*"
)

// The usual sets of verbs.
const (
	read      = "get list watch"
	write     = "create delete deletecollection patch update"
	readWrite = "create delete deletecollection get list patch update watch"
)

const (
	autoUpdate = "rbac.authorization.kubernetes.io/autoupdate"
	bootLabel  = "kubernetes.io/bootstrapping"
	aggregate  = "rbac.authorization.k8s.io/aggregate-to-"
)

// on is one rule: verbs on resources of a group, each a list split at spaces.
func on(group, resources, verbs string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: strings.Fields(resources), Verbs: strings.Fields(verbs)}
}

// named is on for single objects.
func named(group, resources, names, verbs string) rbacv1.PolicyRule {
	r := on(group, resources, verbs)
	r.ResourceNames = strings.Fields(names)
	return r
}

func get(paths string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{NonResourceURLs: strings.Fields(paths), Verbs: []string{"get"}}
}

// writeEvents is needed by whatever records events.
func writeEvents() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{on(core, "events", "create patch update"), on(events, "events", "create patch update")}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{bootLabel: "rbac-defaults"},
		Annotations: map[string]string{autoUpdate: "true"},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: meta(name), Rules: rules}
}

// aggregated is a role whose rules are those of the roles labelled for it. into
// names the roles it is itself part of.
func aggregated(name string, into ...string) *rbacv1.ClusterRole {
	r := clusterRole(name)
	label(r, into)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{aggregate + name: "true"}},
	}}
	return r
}

func part(name string, into []string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := clusterRole(name, rules...)
	label(r, into)
	return r
}

func label(r *rbacv1.ClusterRole, into []string) {
	for _, i := range into {
		r.Labels[aggregate+i] = "true"
	}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func account(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}

func clusterBinding(name, role string, to ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   to,
	}
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	r := &rbacv1.Role{ObjectMeta: meta(name), Rules: rules}
	r.Namespace = namespace
	return r
}

func roleBinding(namespace, name, role string, to ...rbacv1.Subject) *rbacv1.RoleBinding {
	b := &rbacv1.RoleBinding{
		ObjectMeta: meta(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
		Subjects:   to,
	}
	b.Namespace = namespace
	return b
}
