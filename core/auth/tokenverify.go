package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"binnacle.io/core/client"
)

// The Extra keys that say what a service-account token is bound to.
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
	extraNodeUID  = "authentication.kubernetes.io/node-uid"
)

// deletedLeeway is how long a token outlives the deletionTimestamp of what it
// is bound to: pods use theirs while they terminate.
const deletedLeeway = 60 * time.Second

func newTokenID() string { return string(uuid.NewUUID()) }

// VerifyToken checks a token against keys, clock, audiences and the objects it
// is bound to.
func (t *Tokens) VerifyToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	public, k, err := t.parse(token)
	if errors.Is(err, errForeign) {
		return t.verifyLegacy(ctx, token, audiences)
	}
	if err != nil {
		return nil, nil, false, err
	}
	if len(audiences) == 0 {
		audiences = t.cfg.Audiences
	}
	matched := intersection(audiences, public.Audience)
	if len(matched) == 0 {
		return nil, nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string(public.Audience), audiences)
	}
	if err := t.alive(ctx, k); err != nil {
		return nil, nil, false, err
	}
	t.age(k)
	u := &User{
		Name:   public.Subject,
		UID:    string(k.ServiceAccount.UID),
		Groups: ServiceAccountGroups(k.Namespace),
		Extra:  map[string][]string{},
	}
	if public.ID != "" {
		u.Extra[CredentialID] = []string{"JTI=" + public.ID}
	}
	if k.Pod != nil {
		u.Extra[extraPodName] = []string{k.Pod.Name}
		u.Extra[extraPodUID] = []string{string(k.Pod.UID)}
	}
	if k.Node != nil {
		u.Extra[extraNodeName] = []string{k.Node.Name}
		if k.Node.UID != "" {
			u.Extra[extraNodeUID] = []string{string(k.Node.UID)}
		}
	}
	return u, matched, true, nil
}

// alive checks that the account and the bound objects still exist.
func (t *Tokens) alive(ctx context.Context, k *kubernetesClaims) error {
	p := t.reader.Load()
	if p == nil {
		return fmt.Errorf("cannot verify service account token: the API server is still starting")
	}
	// The words of the refusals are upstream's.
	account, err := lookUp(ctx, *p, "serviceaccounts", k.Namespace, k.ServiceAccount)
	switch {
	case err != nil:
		return err
	case account.GetUID() != k.ServiceAccount.UID:
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", account.GetUID(), k.ServiceAccount.UID)
	case t.gone(account):
		return fmt.Errorf("service account %s/%s has been deleted", k.Namespace, k.ServiceAccount.Name)
	}
	switch {
	case k.Secret != nil:
		return t.bound(ctx, *p, "secrets", "secret UID (%s) does not match service account secret ref claim (%s)", k.Namespace, *k.Secret)
	case k.Pod != nil:
		return t.bound(ctx, *p, "pods", "pod UID (%s) does not match service account pod ref claim (%s)", k.Namespace, *k.Pod)
	case k.Node != nil:
		return t.bound(ctx, *p, "nodes", "node UID (%s) does not match service account node ref claim (%s)", "", *k.Node)
	}
	return nil
}

// age counts tokens that are used although they should have been replaced.
func (t *Tokens) age(k *kubernetesClaims) {
	switch {
	case t.cfg.Metrics == nil || k.WarnAfter == nil || *k.WarnAfter == 0:
	case t.cfg.Now().After(k.WarnAfter.Time()):
		t.cfg.Metrics.staleTokens.Inc()
	default:
		t.cfg.Metrics.validTokens.Inc()
	}
}

func (t *Tokens) gone(o client.Object) bool {
	d := o.GetDeletionTimestamp()
	return d != nil && t.cfg.Now().After(d.Add(deletedLeeway))
}

// bound checks what a token is bound to. mismatch is a format for two UIDs.
func (t *Tokens) bound(ctx context.Context, c client.Client, plural, mismatch, namespace string, ref Ref) error {
	obj, err := lookUp(ctx, c, plural, namespace, ref)
	switch {
	case err != nil:
		return errInvalidated
	case obj.GetUID() != ref.UID:
		return fmt.Errorf(mismatch, obj.GetUID(), ref.UID)
	case t.gone(obj):
		return errInvalidated
	}
	return nil
}

var errInvalidated = errors.New("service account token has been invalidated")

// lookUp reads an object of the core group. A cache that is behind must not
// refuse what was made a moment ago.
func lookUp(ctx context.Context, c client.Client, plural, namespace string, ref Ref) (client.Object, error) {
	r, key := client.Resource{Resource: plural}, client.Key{Namespace: namespace, Name: ref.Name}
	obj, err := c.Get(ctx, r, key, client.ReadOptions{FromCache: true})
	if apierrors.IsNotFound(err) || err == nil && obj.GetUID() != ref.UID {
		obj, err = c.Get(ctx, r, key, client.ReadOptions{})
	}
	return obj, err
}

func intersection(asked, have []string) []string {
	var both []string
	for _, a := range asked {
		if slices.Contains(have, a) {
			both = append(both, a)
		}
	}
	return both
}

// PodOf returns the pod a service-account user's token is bound to.
func PodOf(u *User) (name string, uid types.UID, ok bool) {
	n, i := u.Extra[extraPodName], u.Extra[extraPodUID]
	if len(n) != 1 || len(i) != 1 {
		return "", "", false
	}
	return n[0], types.UID(i[0]), true
}

var _ TokenVerifier = (*Tokens)(nil)

// bindingOf is the binding of an account's token before anything is bound.
func bindingOf(sa *corev1.ServiceAccount) Binding {
	return Binding{Namespace: sa.Namespace, Account: Ref{sa.Name, sa.UID}}
}
