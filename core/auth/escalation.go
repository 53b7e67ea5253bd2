package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// everything is what cluster-admin may do.
func everything() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{all}, Resources: []string{all}, Verbs: []string{all}},
		{NonResourceURLs: []string{all}, Verbs: []string{all}},
	}
}

// MayGrant refuses (as a Forbidden Status) that u writes a role or binding
// which would give anyone more than u has. authz is asked for the verbs that lift
// the rule: escalate on roles, bind on the role a binding refers to. obj is a
// Role, ClusterRole, RoleBinding or ClusterRoleBinding.
func (z *RBAC) MayGrant(ctx context.Context, authz Authorizer, u *User, obj any) error {
	if u == nil || u.InGroup(GroupMasters) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.Role:
		return z.mayWriteRole(ctx, authz, u, "roles", o.Namespace, o.Name, o.Rules)
	case *rbacv1.ClusterRole:
		if o.AggregationRule != nil && len(o.AggregationRule.ClusterRoleSelectors) > 0 {
			if err := z.mayAggregate(ctx, authz, u, o); err != nil {
				return err
			}
		}
		return z.mayWriteRole(ctx, authz, u, "clusterroles", "", o.Name, o.Rules)
	case *rbacv1.RoleBinding:
		return z.mayBind(ctx, authz, u, "rolebindings", o.Namespace, o.Name, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return z.mayBind(ctx, authz, u, "clusterrolebindings", "", o.Name, o.RoleRef)
	}
	return fmt.Errorf("cannot check a grant by an object of type %T", obj)
}

func rbacResource(plural string) schema.GroupResource {
	return schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}
}

func (z *RBAC) mayWriteRole(ctx context.Context, authz Authorizer, u *User, plural, namespace, name string, rules []rbacv1.PolicyRule) error {
	if permitted(ctx, authz, u, "escalate", plural, namespace, name) {
		return nil
	}
	if err := z.has(u, namespace, rules); err != nil {
		return apierrors.NewForbidden(rbacResource(plural), name, err)
	}
	return nil
}

func (z *RBAC) mayAggregate(ctx context.Context, authz Authorizer, u *User, r *rbacv1.ClusterRole) error {
	if permitted(ctx, authz, u, "escalate", "clusterroles", "", r.Name) || z.has(u, "", everything()) == nil {
		return nil
	}
	return apierrors.NewForbidden(rbacResource("clusterroles"), r.Name, errors.New("must have cluster-admin privileges to use the aggregationRule"))
}

func (z *RBAC) mayBind(ctx context.Context, authz Authorizer, u *User, plural, namespace, name string, ref rbacv1.RoleRef) error {
	kind := "clusterroles"
	if ref.Kind == "Role" {
		kind = "roles"
	}
	if permitted(ctx, authz, u, "bind", kind, namespace, ref.Name) {
		return nil
	}
	rules, err := z.RoleRules(namespace, ref)
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(rbacResource(plural), ref.Name) // upstream names the binding's resource
	}
	if err != nil {
		return err
	}
	if err := z.has(u, namespace, rules); err != nil {
		return apierrors.NewForbidden(rbacResource(plural), name, err)
	}
	return nil
}

func permitted(ctx context.Context, authz Authorizer, u *User, verb, plural, namespace, name string) bool {
	d, _, err := authz.Authorize(ctx, Attributes{
		User: u, Verb: verb, Group: rbacv1.GroupName, Version: "v1", Resource: plural, Namespace: namespace, Name: name,
	})
	return err == nil && d == Allow
}

// has reports which of the rules u does not hold in namespace.
func (z *RBAC) has(u *User, namespace string, rules []rbacv1.PolicyRule) error {
	owned, unresolved := z.Rules(u, namespace)
	ok, missing := Covers(owned, rules)
	if ok {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "user %q (groups=%q) is attempting to grant RBAC permissions not currently held:", u.Name, u.Groups)
	missing = compact(missing)
	lines := make([]string, len(missing))
	for i := range missing {
		lines[i] = "\n" + ruleText(&missing[i])
	}
	slices.Sort(lines)
	text.WriteString(strings.Join(lines, ""))
	if unresolved != nil {
		fmt.Fprintf(&text, "; resolution errors: %v", unresolved)
	}
	return errors.New(text.String())
}
