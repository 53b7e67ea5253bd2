package auth

import (
	"context"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// User is who makes a request.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// The well-known names of Kubernetes that code depends on.
const (
	Anonymous            = "system:anonymous"
	GroupUnauthenticated = "system:unauthenticated"
	GroupAuthenticated   = "system:authenticated"
	GroupMasters         = "system:masters"
	GroupNodes           = "system:nodes"
	GroupServiceAccounts = "system:serviceaccounts"
)

// InGroup reports whether the user is a member of the group.
func (u *User) InGroup(group string) bool { return slices.Contains(u.Groups, group) }

// Attributes describe a request to an Authorizer. A request is either for a
// resource (Path empty) or for a bare path.
type Attributes struct {
	User        *User
	Verb        string // get list watch create update patch delete deletecollection, or any custom verb
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Path        string // non-resource requests: /healthz, /metrics, …
	// Fields and Labels are what a list, watch or deletecollection selects by.
	// An authorizer may allow for the sake of one, never refuse.
	Fields fields.Requirements
	Labels labels.Requirements
}

// Selects reports whether the request is limited to objects whose field has
// the value.
func (a Attributes) Selects(field, value string) bool {
	return slices.ContainsFunc(a.Fields, func(r fields.Requirement) bool {
		return r.Field == field && r.Value == value && (r.Operator == selection.Equals || r.Operator == selection.DoubleEquals)
	})
}

// Decision is an authorizer's answer.
type Decision int

// The zero Decision leaves the question to the next authorizer.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Authenticator finds out who makes a request. ok is false when the request
// carries no credentials it knows; err when it carries bad ones.
type Authenticator interface {
	Authenticate(r *http.Request) (u *User, ok bool, err error)
}

// Authorizer decides whether a request may be made and says why.
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (d Decision, reason string, err error)
}

type userKey struct{}

// WithUser returns ctx carrying the authenticated user.
func WithUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom returns the user in ctx, or nil.
func UserFrom(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}
