package auth

import (
	"errors"
	"net/http"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
)

// RuleLister says what a user may do in a namespace. An error says that there
// may be more.
type RuleLister interface {
	Rules(u *User, namespace string) ([]rbacv1.PolicyRule, error)
}

type ruleListers []RuleLister

// JoinRules lists what the parts list, in order.
func JoinRules(parts ...RuleLister) RuleLister { return ruleListers(slices.Clone(parts)) }

func (all ruleListers) Rules(u *User, namespace string) ([]rbacv1.PolicyRule, error) {
	var (
		rules []rbacv1.PolicyRule
		errs  []error
	)
	for _, l := range all {
		r, err := l.Rules(u, namespace)
		rules = append(rules, r...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return rules, errors.Join(errs...)
}

type noAnonymous struct{ Authenticator }

// RefuseAnonymous returns a that knows nobody where a finds system:anonymous.
func RefuseAnonymous(a Authenticator) Authenticator { return noAnonymous{a} }

func (a noAnonymous) Authenticate(r *http.Request) (*User, bool, error) {
	u, ok, err := a.Authenticator.Authenticate(r)
	if ok && u.Name == Anonymous {
		return nil, false, nil
	}
	return u, ok, err
}
