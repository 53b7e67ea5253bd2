package auth

import (
	"context"
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Verify asks the verifiers in order whose token it is. The error is in
// upstream's words, as a TokenReview has it.
func Verify(ctx context.Context, verifiers []TokenVerifier, token string, audiences []string) (*User, []string, error) {
	errs := []error{errInvalidToken}
	for _, v := range verifiers {
		u, matched, ok, err := v.VerifyToken(ctx, token, audiences)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			return Authenticated(u), matched, nil
		}
	}
	return nil, nil, errors.New(oneLine(errs))
}

// ReviewAttributes turns the question of a SubjectAccessReview into authorizer's
// terms; one of res and non is set. notes say which selectors are ignored because
// they cannot be understood.
func ReviewAttributes(u *User, res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) (a Attributes, notes []string) {
	if res == nil {
		return Attributes{User: u, Verb: non.Verb, Path: non.Path}, nil
	}
	a = Attributes{
		User: u, Verb: res.Verb, Group: res.Group, Version: res.Version, Resource: res.Resource,
		Subresource: res.Subresource, Namespace: res.Namespace, Name: res.Name,
	}
	if a.Version == "" {
		a.Version = all
	}
	note := func(name string, left int, err error) {
		switch {
		case err != nil && left > 0:
			notes = append(notes, "spec.resourceAttributes."+name+" partially ignored due to parse error")
		case err != nil:
			notes = append(notes, "spec.resourceAttributes."+name+" ignored due to parse error")
		}
	}
	if s := res.FieldSelector; s != nil {
		var err error
		a.Fields, err = reviewedFields(s)
		note("fieldSelector", len(a.Fields), err)
	}
	if s := res.LabelSelector; s != nil {
		var err error
		a.Labels, err = reviewedLabels(s)
		note("labelSelector", len(a.Labels), err)
	}
	return a, notes
}

// Requirements are joined by "and": one that is left out only makes the
// question broader.
func reviewedFields(s *authorizationv1.FieldSelectorAttributes) (fields.Requirements, error) {
	if s.RawSelector != "" {
		sel, err := fields.ParseSelector(s.RawSelector)
		if err != nil {
			return nil, err
		}
		return sel.Requirements(), nil
	}
	var (
		reqs fields.Requirements
		errs []error
	)
	for _, r := range s.Requirements {
		switch {
		case len(r.Values) != 1:
			errs = append(errs, fmt.Errorf("field %q must have one value", r.Key))
		case r.Operator == metav1.FieldSelectorOpIn:
			reqs = append(reqs, fields.Requirement{Field: r.Key, Operator: selection.Equals, Value: r.Values[0]})
		case r.Operator == metav1.FieldSelectorOpNotIn:
			reqs = append(reqs, fields.Requirement{Field: r.Key, Operator: selection.NotEquals, Value: r.Values[0]})
		default:
			errs = append(errs, fmt.Errorf("operator %q is not known for fields", r.Operator))
		}
	}
	return reqs, errors.Join(errs...)
}

func reviewedLabels(s *authorizationv1.LabelSelectorAttributes) (labels.Requirements, error) {
	if s.RawSelector != "" {
		sel, err := labels.Parse(s.RawSelector)
		if err != nil {
			return nil, err
		}
		reqs, _ := sel.Requirements()
		return reqs, nil
	}
	var (
		reqs labels.Requirements
		errs []error
	)
	ops := map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	for _, r := range s.Requirements {
		op, ok := ops[r.Operator]
		if !ok {
			errs = append(errs, fmt.Errorf("%q is not a valid label selector operator", r.Operator))
			continue
		}
		req, err := labels.NewRequirement(r.Key, op, r.Values)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		reqs = append(reqs, *req)
	}
	return reqs, errors.Join(errs...)
}

// ValidateReview checks the selectors of a review's question.
func ValidateReview(res *authorizationv1.ResourceAttributes) field.ErrorList {
	if res == nil {
		return nil
	}
	at := field.NewPath("spec", "resourceAttributes")
	var errs field.ErrorList
	either := func(at *field.Path, raw string, requirements int) {
		switch {
		case raw != "" && requirements > 0:
			errs = append(errs, field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements"))
		case raw == "" && requirements == 0:
			errs = append(errs, field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at)))
		}
	}
	// Newer servers that ask us may know operators that we do not.
	if s := res.FieldSelector; s != nil {
		at := at.Child("fieldSelector")
		either(at, s.RawSelector, len(s.Requirements))
		for i, r := range s.Requirements {
			errs = append(errs, metavalidation.ValidateFieldSelectorRequirement(r, metavalidation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	if s := res.LabelSelector; s != nil {
		at := at.Child("labelSelector")
		either(at, s.RawSelector, len(s.Requirements))
		for i, r := range s.Requirements {
			errs = append(errs, metavalidation.ValidateLabelSelectorRequirement(r, metavalidation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}
