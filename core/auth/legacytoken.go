package auth

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// Legacy tokens do not expire; they live in Secrets of type
// kubernetes.io/service-account-token and as long as these.
const (
	legacyIssuer = "kubernetes/serviceaccount"
	// LegacyLastUsed is the label with the day (UTC) a Secret's token was last
	// used, LegacyInvalidSince the one with the day from which it is refused.
	LegacyLastUsed     = "kubernetes.io/legacy-token-last-used"
	LegacyInvalidSince = "kubernetes.io/legacy-token-invalid-since"

	legacyDay = "2006-01-02"
)

type legacyClaims struct {
	Namespace   string    `json:"kubernetes.io/serviceaccount/namespace"`
	Secret      string    `json:"kubernetes.io/serviceaccount/secret.name"`
	AccountName string    `json:"kubernetes.io/serviceaccount/service-account.name"`
	AccountUID  types.UID `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// SignLegacy makes the token of a Secret of an account.
func (t *Tokens) SignLegacy(sa *corev1.ServiceAccount, secret string) (string, error) {
	token, err := jwt.Signed(t.signer).
		Claims(jwt.Claims{Issuer: legacyIssuer, Subject: ServiceAccountName(sa.Namespace, sa.Name)}).
		Claims(legacyClaims{sa.Namespace, secret, sa.Name, sa.UID}).Serialize()
	if err != nil {
		return "", fmt.Errorf("cannot sign a token for service account %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	return token, nil
}

// verifyLegacy checks a token against the Secret it lives in. Such tokens are
// good for the API server's own audiences.
func (t *Tokens) verifyLegacy(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	signed, err := t.signedBy(token, legacyIssuer)
	if err != nil {
		return nil, nil, false, nil
	}
	var (
		public  jwt.Claims
		private legacyClaims
	)
	if err := t.claims(signed, &public, &private); err != nil {
		return nil, nil, false, err
	}
	if len(audiences) == 0 {
		audiences = t.cfg.Audiences
	}
	matched := intersection(audiences, t.cfg.Audiences)
	if len(matched) == 0 {
		return nil, nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", t.cfg.Audiences, audiences)
	}
	if err := private.check(public.Subject); err != nil {
		return nil, nil, false, err
	}
	p := t.reader.Load()
	if p == nil {
		return nil, nil, false, fmt.Errorf("cannot verify service account token: the API server is still starting")
	}
	if err := t.legacyAlive(ctx, *p, token, &private); err != nil {
		return nil, nil, false, err
	}
	return &User{Name: public.Subject, UID: string(private.AccountUID), Groups: ServiceAccountGroups(private.Namespace)}, matched, true, nil
}

func (c *legacyClaims) check(subject string) error {
	switch {
	case subject == "":
		return errors.New("sub claim is missing")
	case c.Namespace == "":
		return errors.New("namespace claim is missing")
	case c.Secret == "":
		return errors.New("secretName claim is missing")
	case c.AccountName == "":
		return errors.New("serviceAccountName claim is missing")
	case c.AccountUID == "":
		return errors.New("serviceAccountUID claim is missing")
	case subject != ServiceAccountName(c.Namespace, c.AccountName):
		return errors.New("sub claim is invalid")
	}
	return nil
}

func (t *Tokens) legacyAlive(ctx context.Context, c client.Client, token string, k *legacyClaims) error {
	secret, err := client.GetCached[*corev1.Secret](ctx, c, k.Namespace, k.Secret)
	if err != nil || subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		secret, err = client.Get[*corev1.Secret](ctx, c, k.Namespace, k.Secret) // the cache may be behind
	}
	if err != nil || secret.DeletionTimestamp != nil {
		return errors.New("Token has been invalidated") // upstream's words
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		return errors.New("Token does not match server's copy") // upstream's words
	}
	obj, err := lookUp(ctx, c, "serviceaccounts", k.Namespace, Ref{k.AccountName, k.AccountUID})
	if err != nil {
		return err
	}
	sa, ok := obj.(*corev1.ServiceAccount)
	switch {
	case !ok:
		return fmt.Errorf("cannot use %T as a service account", obj)
	case sa.DeletionTimestamp != nil:
		return fmt.Errorf("ServiceAccount %s/%s has been deleted", k.Namespace, k.AccountName)
	case sa.UID != k.AccountUID:
		return fmt.Errorf("ServiceAccount UID (%s) does not match claim (%s)", sa.UID, k.AccountUID)
	}
	defer t.used(ctx, c, secret)
	m := t.cfg.Metrics
	if secret.Labels[LegacyInvalidSince] != "" {
		if m != nil {
			m.legacyInvalidated.Inc()
		}
		return fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			k.Namespace, k.Secret, k.Namespace, k.AccountName, LegacyInvalidSince)
	}
	if m != nil {
		m.legacyTokens.Inc()
		if slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == k.Secret }) {
			m.legacyAuto.Inc()
		} else {
			m.legacyManual.Inc()
		}
	}
	return nil
}

// used records on the Secret, once a day, that its token is in use. That it
// cannot be recorded is no reason to refuse the token.
func (t *Tokens) used(ctx context.Context, c client.Client, secret *corev1.Secret) {
	now := t.cfg.Now().UTC()
	today := now.Format(legacyDay)
	// Another server's clock may already be in tomorrow.
	if last := secret.Labels[LegacyLastUsed]; last == today || last == now.AddDate(0, 0, 1).Format(legacyDay) {
		return
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": secret.UID, "labels": map[string]string{LegacyLastUsed: today}}})
	if err == nil {
		_, err = client.Patch[*corev1.Secret](ctx, c, secret.Namespace, secret.Name, types.MergePatchType, body, client.WriteOptions{})
	}
	if err != nil {
		t.cfg.Log.Warn("cannot record the use of a legacy token", "secret", client.KeyOf(secret).String(), "error", err)
	}
}
