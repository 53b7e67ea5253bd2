package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// RBAC decides by the roles and bindings of the cluster. Run keeps it up to
// date; until then, and until Ready, it knows none.
type RBAC struct {
	ready chan struct{}

	mu           sync.RWMutex
	clusterRoles map[string]*rbacv1.ClusterRole
	roles        map[string]map[string]*rbacv1.Role // by namespace and name
	cluster      bindings
	namespaced   map[string]*bindings // by namespace
}

// NewRBAC returns an RBAC without rules.
func NewRBAC() *RBAC {
	return &RBAC{
		ready:        make(chan struct{}),
		clusterRoles: map[string]*rbacv1.ClusterRole{},
		roles:        map[string]map[string]*rbacv1.Role{},
		namespaced:   map[string]*bindings{},
	}
}

// Ready is closed once all roles and bindings have been read.
func (z *RBAC) Ready() <-chan struct{} { return z.ready }

// binding is a RoleBinding (namespace set) or a ClusterRoleBinding.
type binding struct {
	namespace, name string
	role            rbacv1.RoleRef
	subjects        []rbacv1.Subject
}

// subject is how a user is found among the bindings: as a user or as a member
// of a group. Service accounts are users.
type subject struct {
	group bool
	name  string
}

func subjectOf(s rbacv1.Subject, namespace string) (subject, bool) {
	switch s.Kind {
	case rbacv1.UserKind:
		return subject{name: s.Name}, true
	case rbacv1.GroupKind:
		return subject{group: true, name: s.Name}, true
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return subject{name: ServiceAccountName(namespace, s.Name)}, namespace != ""
	}
	return subject{}, false
}

// bindings of one scope, by name and by subject.
type bindings struct {
	byName    map[string]*binding
	bySubject map[subject][]*binding // ordered by name
}

func (b *bindings) remove(name string) {
	old := b.byName[name]
	if old == nil {
		return
	}
	delete(b.byName, name)
	for _, s := range old.subjects {
		key, ok := subjectOf(s, old.namespace)
		if !ok {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(b.bySubject[key]), func(x *binding) bool { return x == old })
		if len(rest) == 0 {
			delete(b.bySubject, key)
		} else {
			b.bySubject[key] = rest
		}
	}
}

func (b *bindings) put(x *binding) {
	b.remove(x.name)
	if b.byName == nil {
		b.byName, b.bySubject = map[string]*binding{}, map[subject][]*binding{}
	}
	b.byName[x.name] = x
	for _, s := range x.subjects {
		key, ok := subjectOf(s, x.namespace)
		if !ok || slices.Contains(b.bySubject[key], x) {
			continue
		}
		list := append(slices.Clone(b.bySubject[key]), x)
		slices.SortFunc(list, func(a, b *binding) int {
			if a.name < b.name {
				return -1
			}
			return 1
		})
		b.bySubject[key] = list
	}
}

// grant is one binding that concerns a user, and through which subject.
type grant struct {
	*binding
	subject subject
	rules   []rbacv1.PolicyRule
	err     error // the role cannot be found
}

// String is the reason upstream gives.
func (g grant) String() string {
	kind, name := "ClusterRoleBinding", g.name
	if g.namespace != "" {
		kind, name = "RoleBinding", g.name+"/"+g.namespace
	}
	return fmt.Sprintf("%s %q of %s %q to %s", kind, name, g.role.Kind, g.role.Name, g.describe())
}

func (g grant) describe() string {
	for _, s := range g.subjects {
		if key, ok := subjectOf(s, g.namespace); ok && key == g.subject {
			if s.Kind == rbacv1.ServiceAccountKind {
				return fmt.Sprintf("%s %q", s.Kind, s.Name+"/"+s.Namespace)
			}
			return fmt.Sprintf("%s %q", s.Kind, s.Name)
		}
	}
	return "nobody"
}

// visit calls f with the grants of u in namespace and in the cluster, cluster
// first, until f returns false.
func (z *RBAC) visit(u *User, namespace string, f func(grant) bool) {
	if u == nil {
		return
	}
	z.mu.RLock()
	defer z.mu.RUnlock()
	scope := func(b *bindings) bool {
		if !z.visitSubject(b, subject{name: u.Name}, f) {
			return false
		}
		for _, g := range u.Groups {
			if !z.visitSubject(b, subject{group: true, name: g}, f) {
				return false
			}
		}
		return true
	}
	if !scope(&z.cluster) || namespace == "" {
		return
	}
	if b := z.namespaced[namespace]; b != nil {
		scope(b)
	}
}

func (z *RBAC) visitSubject(b *bindings, s subject, f func(grant) bool) bool {
	for _, x := range b.bySubject[s] {
		rules, err := z.rulesOf(x.namespace, x.role)
		if !f(grant{x, s, rules, err}) {
			return false
		}
	}
	return true
}

// rulesOf returns a role's rules. z.mu is held.
func (z *RBAC) rulesOf(namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "ClusterRole":
		if r := z.clusterRoles[ref.Name]; r != nil {
			return r.Rules, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}, ref.Name)
	case "Role":
		if r := z.roles[namespace][ref.Name]; r != nil {
			return r.Rules, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "roles"}, ref.Name)
	}
	return nil, fmt.Errorf("cannot follow a binding to a role of kind %q", ref.Kind)
}

// RoleRules returns the rules of the role a binding in namespace (empty for a
// ClusterRoleBinding) refers to.
func (z *RBAC) RoleRules(namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.rulesOf(namespace, ref)
}

// Authorize implements Authorizer. It never denies.
func (z *RBAC) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	namespace := a.Namespace
	if a.Path != "" {
		namespace = ""
	}
	var (
		allowed grant
		found   bool
		errs    []error
	)
	z.visit(a.User, namespace, func(g grant) bool {
		if g.err != nil {
			errs = append(errs, g.err)
			return true
		}
		for i := range g.rules {
			if Allows(a, &g.rules[i]) {
				allowed, found = g, true
				return false
			}
		}
		return true
	})
	if found {
		return Allow, "RBAC: allowed by " + allowed.String(), nil
	}
	if len(errs) > 0 {
		return NoOpinion, fmt.Sprintf("RBAC: %v", oneLine(errs)), nil
	}
	return NoOpinion, "", nil
}

// Rules returns all rules that u has in namespace (and in the cluster). The
// error says which bindings lead nowhere; the rules are good all the same.
func (z *RBAC) Rules(u *User, namespace string) ([]rbacv1.PolicyRule, error) {
	var (
		rules []rbacv1.PolicyRule
		errs  []error
	)
	z.visit(u, namespace, func(g grant) bool {
		rules = append(rules, g.rules...)
		if g.err != nil {
			errs = append(errs, g.err)
		}
		return true
	})
	return rules, errors.Join(errs...)
}

// oneLine prints errors as upstream's aggregates do.
func oneLine(errs []error) string {
	if len(errs) == 1 {
		return errs[0].Error()
	}
	text := "["
	for i, e := range errs {
		if i > 0 {
			text += ", "
		}
		text += e.Error()
	}
	return text + "]"
}
