package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TokenWebhookConfig names a server that knows whose a bearer token is.
type TokenWebhookConfig struct {
	// Kubeconfig is a file: its server is the URL that TokenReviews
	// (authentication.k8s.io/v1) are posted to.
	Kubeconfig string `json:"kubeconfig"`
	// CacheTTL is how long an answer is good; default 2 min, negative never.
	CacheTTL metav1.Duration `json:"cacheTTL,omitempty"`
	// Timeout bounds one request; default 30 s.
	Timeout metav1.Duration `json:"timeout,omitempty"`
}

// TokenWebhook asks a server whose a token is.
type TokenWebhook struct {
	r         *reviewer
	audiences []string
}

// NewTokenWebhook returns the verifier with its cache. audiences are the API
// server's, for servers that do not know of audiences.
func NewTokenWebhook(cfg TokenWebhookConfig, audiences []string, m *Metrics) (TokenVerifier, error) {
	if cfg.CacheTTL.Duration == 0 {
		cfg.CacheTTL.Duration = 2 * time.Minute
	}
	if cfg.Timeout.Duration <= 0 {
		cfg.Timeout.Duration = 30 * time.Second
	}
	r, err := newReviewer(cfg.Kubeconfig, cfg.Timeout.Duration)
	if err != nil {
		return nil, fmt.Errorf("cannot authenticate by webhook: %w", err)
	}
	w := &TokenWebhook{r, audiences}
	if cfg.CacheTTL.Duration < 0 {
		return w, nil
	}
	return newTokenCache(w, cfg.CacheTTL.Duration, m), nil
}

// VerifyToken implements TokenVerifier.
func (w *TokenWebhook) VerifyToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	review := &authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	}
	if err := w.r.review(ctx, review, func(error, time.Duration) {}); err != nil {
		return nil, nil, false, err
	}
	st := &review.Status
	if !st.Authenticated {
		if st.Error != "" {
			return nil, nil, false, errors.New(st.Error)
		}
		return nil, nil, false, nil
	}
	good := w.audiences
	if len(st.Audiences) > 0 {
		good = st.Audiences
	}
	matched := intersection(audiences, good)
	if len(matched) == 0 {
		return nil, nil, false, nil
	}
	u := &User{Name: st.User.Username, UID: st.User.UID, Groups: st.User.Groups}
	for k, v := range st.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return u, matched, true, nil
}
