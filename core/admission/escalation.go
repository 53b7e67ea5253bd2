package admission

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// RBACEscalation keeps people from granting by roles and bindings what they do
// not have themselves.
type RBACEscalation struct {
	only
	rbac  *auth.RBAC
	authz auth.Authorizer
}

// NewRBACEscalation returns the plugin. authz is the authorizer of requests.
func NewRBACEscalation(rbac *auth.RBAC, authz auth.Authorizer) *RBACEscalation {
	return &RBACEscalation{
		only{[]Operation{Create, Update}, []client.Resource{rolesResource, cRolesResource, bindingsResource, cBindingsResource}}, rbac, authz,
	}
}

func (*RBACEscalation) Name() string { return "RBACEscalation" }

func (p *RBACEscalation) Validate(ctx context.Context, a *Attributes) error {
	if a.Old != nil && sameGrant(a.Object, a.Old) {
		return nil
	}
	return p.rbac.MayGrant(ctx, p.authz, a.User, a.Object)
}

// sameGrant reports that an update changes metadata only.
func sameGrant(now, old client.Object) bool {
	switch n := now.(type) {
	case *rbacv1.Role:
		o, ok := old.(*rbacv1.Role)
		return ok && equality.Semantic.DeepEqual(n.Rules, o.Rules)
	case *rbacv1.ClusterRole:
		o, ok := old.(*rbacv1.ClusterRole)
		return ok && equality.Semantic.DeepEqual(n.Rules, o.Rules) && equality.Semantic.DeepEqual(n.AggregationRule, o.AggregationRule)
	case *rbacv1.RoleBinding:
		o, ok := old.(*rbacv1.RoleBinding)
		return ok && n.RoleRef == o.RoleRef && equality.Semantic.DeepEqual(n.Subjects, o.Subjects)
	case *rbacv1.ClusterRoleBinding:
		o, ok := old.(*rbacv1.ClusterRoleBinding)
		return ok && n.RoleRef == o.RoleRef && equality.Semantic.DeepEqual(n.Subjects, o.Subjects)
	}
	return false
}
