package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The headers by which a request asks to be made as somebody else.
const (
	impersonateUser        = "Impersonate-User"
	impersonateGroup       = "Impersonate-Group"
	impersonateUID         = "Impersonate-Uid"
	impersonateExtraPrefix = "Impersonate-Extra-"
)

// Impersonation reads the impersonation headers of a request made by u. asked
// is nil when there are none. Every one of checks must be allowed to u before
// the request may go on as asked.
func Impersonation(h http.Header, u *User) (asked *User, checks []Attributes, err error) {
	name := h.Get(impersonateUser)
	groups := h.Values(impersonateGroup)
	uid := h.Get(impersonateUID)
	extra, err := impersonatedExtra(h)
	if err != nil {
		return nil, nil, err
	}
	if name == "" {
		if len(groups) > 0 || uid != "" || len(extra) > 0 {
			return nil, nil, apierrors.NewBadRequest("requested impersonation of groups, a uid or extra fields without impersonating a user")
		}
		return nil, nil, nil
	}

	check := func(a Attributes) {
		a.User, a.Verb = u, "impersonate"
		checks = append(checks, a)
	}
	asked = &User{Name: name, UID: uid, Groups: slices.Clone(groups), Extra: extra}
	if ns, sa, ok := SplitServiceAccount(name); ok {
		check(Attributes{Version: "v1", Resource: "serviceaccounts", Namespace: ns, Name: sa})
		if len(groups) == 0 {
			asked.Groups = ServiceAccountGroups(ns)
		}
	} else {
		check(Attributes{Version: "v1", Resource: "users", Name: name})
	}
	for _, g := range groups {
		check(Attributes{Version: "v1", Resource: "groups", Name: g})
	}
	if uid != "" {
		check(Attributes{Group: "authentication.k8s.io", Version: "v1", Resource: "uids", Name: uid})
	}
	for _, key := range sortedKeys(extra) {
		for _, value := range extra[key] {
			check(Attributes{Group: "authentication.k8s.io", Version: "v1", Resource: "userextras", Subresource: key, Name: value})
		}
	}
	if name == Anonymous {
		if !asked.InGroup(GroupUnauthenticated) {
			asked.Groups = append(asked.Groups, GroupUnauthenticated)
		}
		return asked, checks, nil
	}
	return Authenticated(asked), checks, nil
}

func impersonatedExtra(h http.Header) (map[string][]string, error) {
	var extra map[string][]string
	for name, values := range h {
		enc, ok := strings.CutPrefix(http.CanonicalHeaderKey(name), impersonateExtraPrefix)
		if !ok {
			continue
		}
		key, err := url.PathUnescape(strings.ToLower(enc))
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot decode header %q: %v", name, err))
		}
		if extra == nil {
			extra = map[string][]string{}
		}
		extra[key] = append(extra[key], values...)
	}
	return extra, nil
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

// SplitServiceAccount undoes ServiceAccountName.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
