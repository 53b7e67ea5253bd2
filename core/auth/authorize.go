package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
)

type authorizers []Authorizer

// NewAuthorizers returns an Authorizer that asks the given ones in order until
// one allows or denies. The reasons of those without opinion are joined.
func NewAuthorizers(parts ...Authorizer) Authorizer { return authorizers(slices.Clone(parts)) }

func (all authorizers) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	var (
		reasons []string
		errs    []error
	)
	for _, z := range all {
		d, reason, err := z.Authorize(ctx, a)
		if d != NoOpinion {
			return d, reason, err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return NoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)
}

type masters struct{}

// Masters allows everything to the members of system:masters.
func Masters() Authorizer { return masters{} }

func (masters) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	if a.User != nil && a.User.InGroup(GroupMasters) {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}
