package api

import (
	"context"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// virtualKind answers a create of a kind that is not stored.
type virtualKind func(ctx context.Context, q *request, obj client.Object) (client.Object, error)

func (s *Server) virtualKinds() map[string]virtualKind {
	return map[string]virtualKind{
		"selfsubjectaccessreviews.authorization.k8s.io":  s.reviewSelfAccess,
		"subjectaccessreviews.authorization.k8s.io":      s.reviewAccess,
		"localsubjectaccessreviews.authorization.k8s.io": s.reviewLocalAccess,
		"selfsubjectrulesreviews.authorization.k8s.io":   s.reviewSelfRules,
		"tokenreviews.authentication.k8s.io":             s.reviewToken,
		"selfsubjectreviews.authentication.k8s.io":       s.reviewSelf,
		"bindings": s.bindLegacy,
	}
}

func (s *Server) answerVirtual(ctx context.Context, q *request, obj client.Object) (client.Object, error) {
	f, ok := s.virtual[q.gr().String()]
	if !ok {
		return nil, notImplemented(q.gr().String())
	}
	if err := matchNamespace(q, obj); err != nil {
		return nil, err
	}
	return f(ctx, q, obj)
}

func (s *Server) reviewSelf(_ context.Context, q *request, obj client.Object) (client.Object, error) {
	r := obj.(*authenticationv1.SelfSubjectReview)
	r.ObjectMeta = metav1.ObjectMeta{CreationTimestamp: metav1.Now()}
	r.Status.UserInfo = userInfo(q.user)
	return r, nil
}

// decide answers the question of a review.
func (s *Server) decide(ctx context.Context, u *auth.User, res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a, notes := auth.ReviewAttributes(u, res, non)
	d, reason, err := s.authz.Authorize(ctx, a)
	if err != nil {
		notes = append([]string{err.Error()}, notes...)
	}
	return authorizationv1.SubjectAccessReviewStatus{
		Allowed: d == auth.Allow, Denied: d == auth.Deny, Reason: reason, EvaluationError: strings.Join(notes, "; "),
	}
}

// noMetadata refuses reviews with metadata, of which only a local one's
// namespace means anything.
func noMetadata(m metav1.ObjectMeta, detail string) field.ErrorList {
	shown := m
	m.ManagedFields = nil
	if apiequality.Semantic.DeepEqual(m, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), shown, detail)}
}

func validateReviewSpec(res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) field.ErrorList {
	at := field.NewPath("spec")
	var errs field.ErrorList
	switch {
	case res != nil && non != nil:
		errs = append(errs, field.Invalid(at.Child("nonResourceAttributes"), non, "cannot be specified in combination with resourceAttributes"))
	case res == nil && non == nil:
		errs = append(errs, field.Invalid(at.Child("resourceAttributes"), non, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	return append(errs, auth.ValidateReview(res)...)
}

// invalidReview names no kind, as upstream.
func invalidReview(errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
}

func (s *Server) reviewSelfAccess(ctx context.Context, q *request, obj client.Object) (client.Object, error) {
	r := obj.(*authorizationv1.SelfSubjectAccessReview)
	errs := validateReviewSpec(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	if errs = append(errs, noMetadata(r.ObjectMeta, "must be empty")...); len(errs) > 0 {
		return nil, invalidReview(errs)
	}
	r.Status = s.decide(ctx, q.user, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return r, nil
}

func subject(spec *authorizationv1.SubjectAccessReviewSpec) *auth.User {
	u := &auth.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for k, v := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return u
}

func validateSubject(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateReviewSpec(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), spec.User, "at least one of user or group must be specified"))
	}
	return errs
}

func (s *Server) reviewAccess(ctx context.Context, _ *request, obj client.Object) (client.Object, error) {
	r := obj.(*authorizationv1.SubjectAccessReview)
	errs := validateSubject(&r.Spec)
	if errs = append(errs, noMetadata(r.ObjectMeta, "must be empty")...); len(errs) > 0 {
		return nil, invalidReview(errs)
	}
	r.Status = s.decide(ctx, subject(&r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return r, nil
}

func (s *Server) reviewLocalAccess(ctx context.Context, q *request, obj client.Object) (client.Object, error) {
	r := obj.(*authorizationv1.LocalSubjectAccessReview)
	errs := validateSubject(&r.Spec)
	local := r.ObjectMeta
	local.Namespace = ""
	errs = append(errs, noMetadata(local, "must be empty except for namespace")...)
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec", "nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if ra := r.Spec.ResourceAttributes; ra != nil && ra.Namespace != q.key.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("spec", "resourceAttributes", "namespace"), ra.Namespace, "must match metadata.namespace"))
	}
	if len(errs) > 0 {
		return nil, invalidReview(errs)
	}
	r.Status = s.decide(ctx, subject(&r.Spec), r.Spec.ResourceAttributes, nil)
	return r, nil
}

func (s *Server) reviewSelfRules(_ context.Context, q *request, obj client.Object) (client.Object, error) {
	namespace := obj.(*authorizationv1.SelfSubjectRulesReview).Spec.Namespace
	if namespace == "" {
		return nil, badRequest("no namespace on request")
	}
	if s.cfg.Rules == nil {
		return nil, notImplemented("listing rules")
	}
	rules, err := s.cfg.Rules.Rules(q.user, namespace)
	// Upstream's answer does not repeat the question.
	r := &authorizationv1.SelfSubjectRulesReview{TypeMeta: obj.(*authorizationv1.SelfSubjectRulesReview).TypeMeta}
	r.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	if q.user.InGroup(auth.GroupMasters) {
		// What system:masters may do is in no role.
		all := []string{"*"}
		r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{Verbs: all, APIGroups: all, Resources: all})
		r.Status.NonResourceRules = append(r.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: all, NonResourceURLs: all})
	}
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			r.Status.NonResourceRules = append(r.Status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs,
			})
		}
	}
	if err != nil {
		r.Status.Incomplete, r.Status.EvaluationError = true, err.Error()
	}
	return r, nil
}

func (s *Server) reviewToken(ctx context.Context, _ *request, obj client.Object) (client.Object, error) {
	r := obj.(*authenticationv1.TokenReview)
	if r.Spec.Token == "" {
		return nil, badRequest("token is required for TokenReview in authentication")
	}
	asked := r.Spec.Audiences
	if len(asked) == 0 {
		asked = s.cfg.Audiences
	}
	u, matched, err := auth.Verify(ctx, s.cfg.Verifiers, r.Spec.Token, slices.Clone(asked))
	if err != nil {
		// Whatever else a client put into the status stays there, as upstream.
		r.Status.Authenticated, r.Status.Error = false, err.Error()
		return r, nil
	}
	r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: userInfo(u), Audiences: matched}
	return r, nil
}

func (s *Server) issueToken(ctx context.Context, q *request, obj client.Object) (client.Object, error) {
	if s.cfg.Tokens == nil {
		return nil, notImplemented("issuing tokens")
	}
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, badRequest("not a TokenRequest object: %T", obj)
	}
	cur, err := s.latest(ctx, q)
	if err != nil {
		return nil, err
	}
	sa := cur.(*corev1.ServiceAccount)
	done, err := s.admitBody(ctx, q, req, cur)
	if err != nil {
		return nil, err
	}
	// What a token is bound to is looked up by the server, not by the
	// requester, who need not be able to read it.
	err = s.cfg.Tokens.Request(ctx, s.Client(&auth.User{Name: "system:apiserver", Groups: []string{auth.GroupMasters}}), sa, req)
	done(err == nil)
	if err != nil {
		return nil, err
	}
	req.CreationTimestamp = metav1.Now()
	return req, nil
}
