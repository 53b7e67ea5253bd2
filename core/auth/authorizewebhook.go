package auth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/cache"
)

// AuthorizationWebhookConfig names a server that decides what requests may be
// made.
type AuthorizationWebhookConfig struct {
	// Name is the label of its metrics; default "default".
	Name string `json:"name,omitempty"`
	// Kubeconfig is a file: its server is the URL that SubjectAccessReviews
	// (authorization.k8s.io/v1) are posted to.
	Kubeconfig string `json:"kubeconfig"`
	// AuthorizedTTL and UnauthorizedTTL are how long answers are good; default
	// 5 min and 30 s, negative not at all.
	AuthorizedTTL   metav1.Duration `json:"authorizedTTL,omitempty"`
	UnauthorizedTTL metav1.Duration `json:"unauthorizedTTL,omitempty"`
	// Timeout bounds one request; default 3 s, at most 30 s.
	Timeout metav1.Duration `json:"timeout,omitempty"`
	// FailurePolicy says what happens while it does not answer: NoOpinion
	// (default) asks the next authorizer, Deny refuses.
	FailurePolicy string `json:"failurePolicy,omitempty"`
}

func (cfg *AuthorizationWebhookConfig) complete() error {
	for d, usual := range map[*metav1.Duration]time.Duration{
		&cfg.AuthorizedTTL: 5 * time.Minute, &cfg.UnauthorizedTTL: 30 * time.Second, &cfg.Timeout: 3 * time.Second,
	} {
		if d.Duration == 0 {
			d.Duration = usual
		}
	}
	if cfg.Timeout.Duration < 0 || cfg.Timeout.Duration > 30*time.Second {
		return fmt.Errorf("timeout %v is not between 0 and 30s", cfg.Timeout.Duration)
	}
	if cfg.Name == "" {
		cfg.Name = "default"
	}
	switch cfg.FailurePolicy {
	case "":
		cfg.FailurePolicy = "NoOpinion"
	case "NoOpinion", "Deny":
	default:
		return fmt.Errorf("failurePolicy %q is neither NoOpinion nor Deny", cfg.FailurePolicy)
	}
	return nil
}

// AuthorizationWebhook asks a server.
type AuthorizationWebhook struct {
	cfg     AuthorizationWebhookConfig
	r       *reviewer
	answers *cache.LRUExpireCache
	onError Decision
	m       *Metrics
}

const cachedDecisions = 8192

// NewAuthorizationWebhook returns the authorizer.
func NewAuthorizationWebhook(cfg AuthorizationWebhookConfig, m *Metrics) (*AuthorizationWebhook, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot authorize by webhook: %w", err)
	}
	r, err := newReviewer(cfg.Kubeconfig, cfg.Timeout.Duration)
	if err != nil {
		return nil, fmt.Errorf("cannot authorize by webhook: %w", err)
	}
	w := &AuthorizationWebhook{cfg: cfg, r: r, answers: cache.NewLRUExpireCache(cachedDecisions), onError: NoOpinion, m: m}
	if cfg.FailurePolicy == "Deny" {
		w.onError = Deny
	}
	return w, nil
}

// Name tells several webhooks apart.
func (w *AuthorizationWebhook) Name() string { return w.cfg.Name }

// Authorize implements Authorizer.
func (w *AuthorizationWebhook) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	review := &authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"}, Spec: reviewSpec(a),
	}
	question, err := json.Marshal(review.Spec)
	if err != nil {
		return w.onError, "", fmt.Errorf("cannot encode a review for authorization webhook %q: %w", w.cfg.Name, err)
	}
	// Who asks chooses how long names and selectors are, not how much memory
	// the answer takes.
	key := sha256.Sum256(question)
	if st, ok := w.answers.Get(key); ok {
		return judgeReview(st.(*authorizationv1.SubjectAccessReviewStatus))
	}
	result := ""
	err = w.r.review(ctx, review, func(err error, took time.Duration) {
		result = reviewResult(ctx, err)
		if w.m != nil {
			w.m.webhooks.WithLabelValues(w.cfg.Name, result).Inc()
			w.m.webhookSeconds.WithLabelValues(w.cfg.Name, result).Observe(took.Seconds())
		}
	})
	if err != nil {
		if w.m != nil && w.onError == NoOpinion && ctx.Err() == nil {
			w.m.failOpen.WithLabelValues(w.cfg.Name, result).Inc()
		}
		return w.onError, "", fmt.Errorf("authorization webhook %q: %w", w.cfg.Name, err)
	}
	ttl := w.cfg.UnauthorizedTTL.Duration
	if review.Status.Allowed {
		ttl = w.cfg.AuthorizedTTL.Duration
	}
	st := review.Status // a copy: the question is not kept with it
	if ttl > 0 {
		w.answers.Add(key, &st, ttl)
	}
	return judgeReview(&st)
}

// Rules says that a webhook's rules cannot be listed.
func (w *AuthorizationWebhook) Rules(*User, string) ([]rbacv1.PolicyRule, error) {
	return nil, errors.New("webhook authorizer does not support user rule resolution")
}

func reviewResult(ctx context.Context, err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "success"
	case ctx.Err() != nil:
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "error"
}

func judgeReview(st *authorizationv1.SubjectAccessReviewStatus) (Decision, string, error) {
	switch {
	case st.Denied && st.Allowed:
		return Deny, st.Reason, errors.New("webhook subject access review returned both allow and deny response")
	case st.Denied:
		return Deny, st.Reason, nil
	case st.Allowed:
		return Allow, st.Reason, nil
	}
	return NoOpinion, st.Reason, nil
}

func reviewSpec(a Attributes) authorizationv1.SubjectAccessReviewSpec {
	var spec authorizationv1.SubjectAccessReviewSpec
	if u := a.User; u != nil {
		spec.User, spec.UID, spec.Groups = u.Name, u.UID, u.Groups
		for k, v := range u.Extra {
			if spec.Extra == nil {
				spec.Extra = map[string]authorizationv1.ExtraValue{}
			}
			spec.Extra[k] = v
		}
	}
	if a.Path != "" {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
		return spec
	}
	res := &authorizationv1.ResourceAttributes{
		Namespace: a.Namespace, Verb: a.Verb, Group: a.Group, Version: a.Version, Resource: a.Resource, Subresource: a.Subresource, Name: a.Name,
	}
	if reqs := reviewFields(a); len(reqs) > 0 {
		res.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: reqs}
	}
	if reqs := reviewLabels(a); len(reqs) > 0 {
		res.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: reqs}
	}
	spec.ResourceAttributes = res
	return spec
}

func reviewFields(a Attributes) []metav1.FieldSelectorRequirement {
	var out []metav1.FieldSelectorRequirement
	for _, r := range a.Fields {
		op := metav1.FieldSelectorOpIn
		if r.Operator == selection.NotEquals {
			op = metav1.FieldSelectorOpNotIn
		}
		out = append(out, metav1.FieldSelectorRequirement{Key: r.Field, Operator: op, Values: []string{r.Value}})
	}
	return out
}

func reviewLabels(a Attributes) []metav1.LabelSelectorRequirement {
	var out []metav1.LabelSelectorRequirement
	for _, r := range a.Labels {
		req := metav1.LabelSelectorRequirement{Key: r.Key(), Values: r.ValuesUnsorted()}
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			req.Operator = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			req.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			req.Operator = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			req.Operator = metav1.LabelSelectorOpDoesNotExist
		default: // greater and less than cannot be said in a review
			continue
		}
		out = append(out, req)
	}
	return out
}
