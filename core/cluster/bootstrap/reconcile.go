package bootstrap

import (
	"context"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// rbacPolicy reconciles roles before bindings, and fills aggregated roles.
func rbacPolicy(ctx context.Context, c client.Client, _ Config) error {
	for _, want := range ClusterRoles() {
		err := ensure(ctx, c, want, func(have *rbacv1.ClusterRole) bool {
			if !managed(have) {
				return false
			}
			changed := mergeMeta(have, want)
			if want.AggregationRule != nil {
				if equality.Semantic.DeepEqual(have.AggregationRule, want.AggregationRule) {
					return changed
				}
				have.AggregationRule = want.AggregationRule
				return true
			}
			rules, grew := mergeRules(have.Rules, want.Rules)
			have.Rules = rules
			return changed || grew
		})
		if err != nil {
			return err
		}
	}
	for _, want := range Roles() {
		err := ensure(ctx, c, want, func(have *rbacv1.Role) bool {
			if !managed(have) {
				return false
			}
			rules, grew := mergeRules(have.Rules, want.Rules)
			have.Rules = rules
			return mergeMeta(have, want) || grew
		})
		if err != nil {
			return err
		}
	}
	for _, want := range ClusterRoleBindings() {
		if err := ensureBinding(ctx, c, want, func(b *rbacv1.ClusterRoleBinding) (*rbacv1.RoleRef, *[]rbacv1.Subject) {
			return &b.RoleRef, &b.Subjects
		}); err != nil {
			return err
		}
	}
	for _, want := range RoleBindings() {
		if err := ensureBinding(ctx, c, want, func(b *rbacv1.RoleBinding) (*rbacv1.RoleRef, *[]rbacv1.Subject) {
			return &b.RoleRef, &b.Subjects
		}); err != nil {
			return err
		}
	}
	return aggregateAll(ctx, c)
}

// managed reports whether we may change a default object.
func managed(o client.Object) bool { return o.GetAnnotations()[autoUpdate] != "false" }

// mergeMeta adds the labels and annotations of want that have lacks or has
// otherwise.
func mergeMeta(have, want client.Object) bool {
	changed := false
	merge := func(have, want map[string]string) map[string]string {
		for k, v := range want {
			if have[k] != v {
				have, changed = with(have, map[string]string{k: v}), true
			}
		}
		return have
	}
	have.SetLabels(merge(have.GetLabels(), want.GetLabels()))
	have.SetAnnotations(merge(have.GetAnnotations(), want.GetAnnotations()))
	return changed
}

// mergeRules appends the wanted rules that have does not cover.
func mergeRules(have, want []rbacv1.PolicyRule) ([]rbacv1.PolicyRule, bool) {
	grew := false
	for _, w := range want {
		if ok, _ := auth.Covers(have, []rbacv1.PolicyRule{w}); !ok {
			have, grew = append(have, w), true
		}
	}
	return have, grew
}

// ensureBinding adds missing subjects; a binding to another role is replaced,
// because roleRef cannot be changed.
func ensureBinding[T client.Object](ctx context.Context, c client.Client, want T, parts func(T) (*rbacv1.RoleRef, *[]rbacv1.Subject)) error {
	ref, subjects := parts(want)
	have, err := client.Get[T](ctx, c, want.GetNamespace(), want.GetName())
	if err == nil && managed(have) {
		if r, _ := parts(have); *r != *ref {
			err := client.Delete[T](ctx, c, want.GetNamespace(), want.GetName(), client.DeleteOptions{UID: have.GetUID()})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return ensure(ctx, c, want, func(have T) bool {
		if !managed(have) {
			return false
		}
		changed := mergeMeta(have, want)
		_, to := parts(have)
		for _, s := range *subjects {
			if !slices.Contains(*to, s) {
				*to, changed = append(*to, s), true
			}
		}
		return changed
	})
}
