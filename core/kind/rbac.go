package kind

import (
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// segment is a name that may contain anything a path segment may: colons in
// system:node, for one.
func segment(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }

func roleKind(gv schema.GroupVersion) *Kind {
	k := define[rbacv1.Role, rbacv1.RoleList](gv, "roles")
	k.ValidateName = segment
	k.Validate = check1(func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) })
	k.ValidateUpdate = check2(func(r, _ *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) })
	return k
}

func clusterRoleKind(gv schema.GroupVersion) *Kind {
	k := define[rbacv1.ClusterRole, rbacv1.ClusterRoleList](gv, "clusterroles").inCluster()
	k.ValidateName = segment
	k.Validate = check1(validateClusterRole)
	k.ValidateUpdate = check2(func(r, _ *rbacv1.ClusterRole) field.ErrorList { return validateClusterRole(r) })
	return k
}

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	p := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(p, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		one := &r.AggregationRule.ClusterRoleSelectors[i]
		errs = append(errs, validateSelector(p.Index(i), one)...)
		if _, err := metav1.LabelSelectorAsSelector(one); err != nil {
			errs = append(errs, field.Invalid(p.Index(i), nil, "invalid label selector."))
		}
	}
	return errs
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i, r := range rules {
		p := field.NewPath("rules").Index(i)
		if len(r.Verbs) == 0 {
			errs = append(errs, field.Required(p.Child("verbs"), "verbs must contain at least one value"))
		}
		if len(r.NonResourceURLs) > 0 {
			if namespaced {
				errs = append(errs, field.Invalid(p.Child("nonResourceURLs"), r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
			}
			if len(r.APIGroups) > 0 || len(r.Resources) > 0 || len(r.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(p.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			errs = append(errs, field.Required(p.Child("apiGroups"), "resource rules must supply at least one api group"))
		}
		if len(r.Resources) == 0 {
			errs = append(errs, field.Required(p.Child("resources"), "resource rules must supply at least one resource"))
		}
	}
	return errs
}

func roleBindingKind(gv schema.GroupVersion) *Kind {
	k := define[rbacv1.RoleBinding, rbacv1.RoleBindingList](gv, "rolebindings")
	k.ValidateName = segment
	k.Default = do1(func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) })
	k.Validate = check1(func(b *rbacv1.RoleBinding) field.ErrorList { return validateBinding(b.RoleRef, b.Subjects, true) })
	k.ValidateUpdate = check2(func(b, old *rbacv1.RoleBinding) field.ErrorList {
		return append(validateBinding(b.RoleRef, b.Subjects, true), sameRole(b.RoleRef, old.RoleRef)...)
	})
	k.Columns = bindingColumns(
		rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"], "roleBinding",
		func(b *rbacv1.RoleBinding) rbacv1.RoleRef { return b.RoleRef },
		func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects },
	)
	return k
}

func clusterRoleBindingKind(gv schema.GroupVersion) *Kind {
	k := define[rbacv1.ClusterRoleBinding, rbacv1.ClusterRoleBindingList](gv, "clusterrolebindings").inCluster()
	k.ValidateName = segment
	k.Default = do1(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) })
	k.Validate = check1(func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
		return validateBinding(b.RoleRef, b.Subjects, false)
	})
	k.ValidateUpdate = check2(func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
		return append(validateBinding(b.RoleRef, b.Subjects, false), sameRole(b.RoleRef, old.RoleRef)...)
	})
	k.Columns = bindingColumns(
		rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], "clusterRoleBinding",
		func(b *rbacv1.ClusterRoleBinding) rbacv1.RoleRef { return b.RoleRef },
		func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects },
	)
	return k
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	orElse(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if k := subjects[i].Kind; k == rbacv1.UserKind || k == rbacv1.GroupKind {
			orElse(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool) field.ErrorList {
	p := field.NewPath("roleRef")
	errs := supported(p.Child("apiGroup"), ref.APIGroup, rbacv1.GroupName)
	kinds := []string{"ClusterRole"}
	if namespaced {
		kinds = []string{"Role", "ClusterRole"}
	}
	errs = append(errs, supported(p.Child("kind"), ref.Kind, kinds...)...)
	errs = append(errs, required(p.Child("name"), ref.Name, path.IsValidPathSegmentName)...)
	for i, s := range subjects {
		errs = append(errs, validateSubject(field.NewPath("subjects").Index(i), s, namespaced)...)
	}
	return errs
}

func validateSubject(p *field.Path, s rbacv1.Subject, namespaced bool) field.ErrorList {
	errs := required(p.Child("name"), s.Name, nil)
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, invalids(p.Child("name"), s.Name, validation.IsDNS1123Subdomain(s.Name))...)
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(p.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(p.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		errs = append(errs, supported(p.Child("apiGroup"), s.APIGroup, rbacv1.GroupName)...)
	default:
		errs = append(errs, field.NotSupported(p.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}

func sameRole(now, old rbacv1.RoleRef) field.ErrorList {
	if now != old {
		return field.ErrorList{field.Invalid(field.NewPath("roleRef"), now, "cannot change roleRef")}
	}
	return nil
}

func bindingColumns[T Object](doc, owner string, ref func(T) rbacv1.RoleRef, subjects func(T) []rbacv1.Subject) []Column {
	of := func(kind string) func(T) string {
		return func(t T) string {
			out := ""
			for _, s := range subjects(t) {
				if s.Kind != kind {
					continue
				}
				if out != "" {
					out += ", "
				}
				if kind == rbacv1.ServiceAccountKind {
					out += s.Namespace + "/"
				}
				out += s.Name
			}
			return out
		}
	}
	return named[T]().
		text("Role", doc, func(t T) string { return fmt.Sprintf("%s/%s", ref(t).Kind, ref(t).Name) }).
		age().
		text("Users", "Users in the "+owner, of(rbacv1.UserKind)).wide().
		text("Groups", "Groups in the "+owner, of(rbacv1.GroupKind)).wide().
		text("ServiceAccounts", "ServiceAccounts in the "+owner, of(rbacv1.ServiceAccountKind)).wide()
}
