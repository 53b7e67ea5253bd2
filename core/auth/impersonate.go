package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The headers by which a request asks to be made as somebody else.
const (
	impersonateUser        = "Impersonate-User"
	impersonateGroup       = "Impersonate-Group"
	impersonateUID         = "Impersonate-Uid"
	impersonateExtraPrefix = "Impersonate-Extra-"
)

// Impersonate returns as whom a request is to be made, nil when its headers
// ask for nobody else. on is the request, with the one who makes it as its
// user; authz must allow the impersonation by one of these modes, asked in this
// order, as upstream has them (KEP-5284):
//
//	associated-node   an account as the node its pod runs on
//	arbitrary-node    as a node
//	serviceaccount    as an account
//	user-info         as anybody else, with groups, uid and extra fields
//	legacy            the verb impersonate, for whatever the request then does
//
// The first four need impersonate-on:<mode>:<verb> on what the request is for
// and impersonate:<mode> on the user, and never reach system:masters. A refusal
// is a Status that says what the first mode lacked.
func Impersonate(ctx context.Context, authz Authorizer, h http.Header, on Attributes) (*User, error) {
	wanted, err := wantedUser(h)
	if wanted == nil || err != nil {
		return nil, err
	}
	var first error
	for _, m := range modes() {
		if !m.concerns(wanted, on.User) {
			continue
		}
		as, err := impersonation{ctx, authz, m, on}.try(wanted)
		if err == nil {
			return as, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// wantedUser reads the headers.
func wantedUser(h http.Header) (*User, error) {
	wanted := &User{Name: h.Get(impersonateUser), UID: h.Get(impersonateUID), Groups: slices.Clone(h.Values(impersonateGroup)), Extra: impersonatedExtra(h)}
	switch {
	case wanted.Name != "":
		return wanted, nil
	case onlyName(wanted):
		return nil, nil
	}
	// The words are upstream's, the printed Go type among them.
	return nil, apierrors.NewBadRequest(fmt.Sprintf("requested &user.DefaultInfo{Name:%q, UID:%q, Groups:%#v, Extra:%#v} without impersonating a user name",
		wanted.Name, wanted.UID, wanted.Groups, wanted.Extra))
}

func onlyName(u *User) bool { return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0 }

func impersonatedExtra(h http.Header) map[string][]string {
	var extra map[string][]string
	for name, values := range h {
		key, ok := strings.CutPrefix(http.CanonicalHeaderKey(name), impersonateExtraPrefix)
		if !ok || len(values) == 0 {
			continue
		}
		key = strings.ToLower(key)
		if plain, err := url.PathUnescape(key); err == nil { // what cannot be decoded stands for itself
			key = plain
		}
		if extra == nil {
			extra = map[string][]string{}
		}
		extra[key] = append(extra[key], values...)
	}
	return extra
}

// mode is one way to be allowed to act as another.
type mode struct {
	name     string // empty for the legacy one
	concerns func(wanted, by *User) bool
}

func modes() []mode {
	return []mode{
		{"associated-node", func(wanted, by *User) bool {
			node, ok := nodeName(wanted.Name)
			_, _, account := SplitServiceAccount(by.Name)
			return ok && account && onlyName(wanted) && slices.Equal(by.Extra[extraNodeName], []string{node})
		}},
		{"arbitrary-node", func(wanted, _ *User) bool {
			_, ok := nodeName(wanted.Name)
			return ok && onlyName(wanted)
		}},
		{"serviceaccount", func(wanted, _ *User) bool {
			_, _, ok := SplitServiceAccount(wanted.Name)
			return ok && onlyName(wanted)
		}},
		{"user-info", func(wanted, _ *User) bool {
			_, node := nodeName(wanted.Name)
			_, _, account := SplitServiceAccount(wanted.Name)
			return !node && !account
		}},
		{"", func(_, _ *User) bool { return true }},
	}
}

// nodeName is the node a user name stands for.
func nodeName(user string) (string, bool) {
	name, ok := strings.CutPrefix(user, nodePrefix)
	return name, ok && len(validation.NameIsDNSSubdomain(name, false)) == 0
}

// impersonation is one attempt in one mode.
type impersonation struct {
	ctx   context.Context
	authz Authorizer
	mode  mode
	on    Attributes
}

func (i impersonation) constrained() bool { return i.mode.name != "" }

// attributes are those of the question whether the requester may act as
// name, a resource of users.
func (i impersonation) attributes(group, resource, name string) Attributes {
	a := Attributes{User: i.on.User, Verb: "impersonate", Group: group, Version: "v1", Resource: resource, Name: name}
	if i.constrained() {
		a.Verb += ":" + i.mode.name
	}
	return a
}

func (i impersonation) allowed(a Attributes) error {
	if i.mode.name == "associated-node" {
		// Whichever node it is: the rule is for all of them.
		by := *a.User
		by.Extra = map[string][]string{"authentication.kubernetes.io/associated-node-keys": sortedKeys(a.User.Extra)}
		a.User = &by
		if a.Resource == "nodes" && strings.HasPrefix(a.Verb, "impersonate:") {
			a.Name = "*"
		}
	}
	d, reason, err := i.authz.Authorize(i.ctx, a)
	switch {
	case d == Allow:
		return nil
	case err != nil && reason != "":
		reason = fmt.Sprintf("%v: %s", err, reason)
	case err != nil:
		reason = err.Error()
	}
	return Forbidden(a, reason)
}

func (i impersonation) try(wanted *User) (*User, error) {
	if i.constrained() {
		act := i.on
		act.Verb = "impersonate-on:" + i.mode.name + ":" + act.Verb
		if err := i.allowed(act); err != nil {
			return nil, err
		}
	}
	as := *wanted
	who := i.who(&as)
	if err := i.allowed(who); err != nil {
		return nil, err
	}
	if wanted.UID != "" {
		if err := i.allowed(i.attributes(authenticationGroup, "uids", wanted.UID)); err != nil {
			return nil, err
		}
	}
	if err := i.groups(wanted.Groups); err != nil {
		return nil, err
	}
	if err := i.extra(wanted.Extra); err != nil {
		return nil, err
	}
	switch {
	case as.Name != Anonymous:
		return Authenticated(&as), nil
	case !as.InGroup(GroupUnauthenticated):
		as.Groups = append(slices.Clone(as.Groups), GroupUnauthenticated)
	}
	return &as, nil
}

const authenticationGroup = "authentication.k8s.io"

// userGroup is the API group in which users and groups are impersonated.
func (i impersonation) userGroup() string {
	if i.constrained() {
		return authenticationGroup
	}
	return ""
}

// who asks for the name, and completes the groups of accounts and nodes.
func (i impersonation) who(as *User) Attributes {
	a := i.attributes(i.userGroup(), "users", as.Name)
	if node, ok := nodeName(as.Name); ok && i.constrained() {
		a.Resource, a.Name = "nodes", node
		as.Groups = []string{GroupNodes}
	}
	if namespace, account, ok := SplitServiceAccount(as.Name); ok {
		a.Resource, a.Namespace, a.Name = "serviceaccounts", namespace, account
		if len(as.Groups) == 0 {
			as.Groups = ServiceAccountGroups(namespace)
		}
	}
	return a
}

// severalChecks is from how many on one wildcard question is asked first.
const severalChecks = 4

func (i impersonation) groups(groups []string) error {
	a := i.attributes(i.userGroup(), "groups", "")
	if i.constrained() {
		if slices.Contains(groups, "") {
			return Forbidden(a, "impersonating the empty string group is not allowed")
		}
		if slices.Contains(groups, GroupMasters) {
			a.Name = GroupMasters
			return Forbidden(a, "impersonating the system:masters group is not allowed")
		}
		if len(groups) >= severalChecks {
			a.Name = "*"
			if i.allowed(a) == nil {
				return nil
			}
		}
	}
	for _, g := range groups {
		a.Name = g
		if err := i.allowed(a); err != nil {
			return err
		}
	}
	return nil
}

func (i impersonation) extra(extra map[string][]string) error {
	if len(extra) == 0 {
		return nil
	}
	a := i.attributes(authenticationGroup, "userextras", "")
	if i.constrained() {
		values := 0
		for _, key := range sortedKeys(extra) {
			if err := impersonableExtra(key, extra[key]); err != nil {
				return Forbidden(a, err.Error())
			}
			values += len(extra[key])
		}
		if values >= severalChecks {
			a.Subresource, a.Name = "*", "*"
			if i.allowed(a) == nil {
				return nil
			}
		}
	}
	for _, key := range sortedKeys(extra) {
		for _, value := range extra[key] {
			a.Subresource, a.Name = key, value
			if err := i.allowed(a); err != nil {
				return err
			}
		}
	}
	return nil
}

func impersonableExtra(key string, values []string) error {
	if key == "" {
		return errors.New("impersonating the empty string key in extra is not allowed")
	}
	if err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); err != nil {
		return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
	}
	if key != strings.ToLower(key) {
		return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
	}
	if slices.Contains(values, "") {
		return errors.New("impersonating the empty string value in extra is not allowed")
	}
	return nil
}

// StripImpersonation removes the headers so that they are not passed on.
func StripImpersonation(h http.Header) {
	for name := range h {
		c := http.CanonicalHeaderKey(name)
		if c == impersonateUser || c == impersonateGroup || c == impersonateUID || strings.HasPrefix(c, impersonateExtraPrefix) {
			delete(h, name)
		}
	}
}

const serviceAccountPrefix = "system:serviceaccount:"

// ServiceAccountName is the user name of a service account.
func ServiceAccountName(namespace, name string) string {
	return serviceAccountPrefix + namespace + ":" + name
}

// ServiceAccountGroups are the groups of every service account in a namespace.
func ServiceAccountGroups(namespace string) []string {
	return []string{GroupServiceAccounts, GroupServiceAccounts + ":" + namespace}
}

// SplitServiceAccount undoes ServiceAccountName. A name that no account can have
// is an ordinary user's.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && len(validation.ValidateNamespaceName(namespace, false)) == 0 && len(validation.ValidateServiceAccountName(name, false)) == 0
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
