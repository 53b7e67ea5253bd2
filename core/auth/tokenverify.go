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
		return nil, nil, false, nil
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
	if err := t.exists(ctx, *p, serviceAccounts, "service account", k.Namespace, k.ServiceAccount); err != nil {
		return err
	}
	switch {
	case k.Secret != nil:
		return t.exists(ctx, *p, secrets, "secret", k.Namespace, *k.Secret)
	case k.Pod != nil:
		return t.exists(ctx, *p, pods, "pod", k.Namespace, *k.Pod)
	case k.Node != nil:
		return t.exists(ctx, *p, nodes, "node", "", *k.Node)
	}
	return nil
}

var (
	serviceAccounts = client.Resource{Resource: "serviceaccounts"}
	secrets         = client.Resource{Resource: "secrets"}
	pods            = client.Resource{Resource: "pods"}
	nodes           = client.Resource{Resource: "nodes"}
)

func (t *Tokens) exists(ctx context.Context, c client.Client, r client.Resource, what, namespace string, ref Ref) error {
	key := client.Key{Namespace: namespace, Name: ref.Name}
	obj, err := c.Get(ctx, r, key, client.ReadOptions{FromCache: true})
	// A cache that is behind must not refuse what was made a moment ago.
	if apierrors.IsNotFound(err) || err == nil && obj.GetUID() != ref.UID {
		obj, err = c.Get(ctx, r, key, client.ReadOptions{})
	}
	if err != nil {
		return fmt.Errorf("cannot verify service account token: %w", err)
	}
	if obj.GetUID() != ref.UID {
		return fmt.Errorf("cannot verify service account token: the UID (%s) of %s %s does not match the claim (%s)", obj.GetUID(), what, key, ref.UID)
	}
	if d := obj.GetDeletionTimestamp(); d != nil && t.cfg.Now().After(d.Add(deletedLeeway)) {
		return fmt.Errorf("cannot verify service account token: %s %s has been deleted", what, key)
	}
	return nil
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
