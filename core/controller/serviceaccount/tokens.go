package serviceaccount

import (
	"bytes"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// LegacyIssuer makes tokens that live in Secrets. *auth.Tokens is one.
type LegacyIssuer interface {
	SignLegacy(sa *corev1.ServiceAccount, secret string) (string, error)
}

var (
	secretResource  = client.Resource{Resource: "secrets"}
	accountResource = client.Resource{Resource: "serviceaccounts"}
)

// NewTokens returns the controller that fills Secrets of type
// kubernetes.io/service-account-token, which people make, with a token of the
// account they name and with the cluster's CA (PEM). It deletes those whose
// account has gone, and takes the names of Secrets that have gone from accounts.
func NewTokens(issuer LegacyIssuer, pem string) controller.Controller {
	return controller.Controller{
		Name: "serviceaccount-token", Account: "system:kube-controller-manager",
		Writes: []string{"secrets of type kubernetes.io/service-account-token", "serviceaccounts.secrets"},
		Inputs: []controller.Input{
			{Resource: secretResource, Keys: func(_ controller.State, o client.Object) []client.Key {
				if s, ok := o.(*corev1.Secret); !ok || s.Type != corev1.SecretTypeServiceAccountToken {
					return nil
				}
				return controller.Self(nil, o)
			}},
			{Resource: accountResource, Keys: tokensOf},
		},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			secret, ok := controller.Get[*corev1.Secret](s, key.Namespace, key.Name)
			if !ok {
				forget(s, key, &p)
				return p, nil
			}
			if secret.Type != corev1.SecretTypeServiceAccountToken || secret.DeletionTimestamp != nil {
				return p, nil
			}
			sa, ok := accountOf(s, secret)
			if age := s.Now().Sub(secret.CreationTimestamp.Time); !ok && age < onItsWay {
				p.Again(onItsWay - age)
				return p, nil
			}
			if !ok {
				p.Add(controller.Delete(secret))
				return p, nil
			}
			next, err := filled(secret, sa, issuer, pem)
			if next != nil {
				p.Add(controller.Update(next))
			}
			return p, err
		},
	}
}

// onItsWay is how long the account of a new Secret may be unknown here: the two
// are often made one right after the other.
const onItsWay = 10 * time.Second

// tokensOf are the token Secrets that name the account. What the account names
// may be yet to be made.
func tokensOf(s controller.State, o client.Object) []client.Key {
	sa, ok := o.(*corev1.ServiceAccount)
	if !ok {
		return nil
	}
	var keys []client.Key
	for _, secret := range controller.List[*corev1.Secret](s, sa.Namespace) {
		if secret.Type == corev1.SecretTypeServiceAccountToken && secret.Annotations[corev1.ServiceAccountNameKey] == sa.Name {
			keys = append(keys, client.KeyOf(secret))
		}
	}
	return keys
}

// accountOf is the account a token Secret is of: by name and, once it has been
// filled, by UID.
func accountOf(s controller.State, secret *corev1.Secret) (*corev1.ServiceAccount, bool) {
	sa, ok := controller.Get[*corev1.ServiceAccount](s, secret.Namespace, secret.Annotations[corev1.ServiceAccountNameKey])
	if !ok {
		return nil, false
	}
	uid := types.UID(secret.Annotations[corev1.ServiceAccountUIDKey])
	return sa, uid == "" || uid == sa.UID
}

// filled is the Secret with what it lacks, or nil when it lacks nothing.
func filled(secret *corev1.Secret, sa *corev1.ServiceAccount, issuer LegacyIssuer, pem string) (*corev1.Secret, error) {
	need := func(key string) bool { return len(secret.Data[key]) == 0 }
	wrongCA := !bytes.Equal(secret.Data[corev1.ServiceAccountRootCAKey], []byte(pem))
	if !wrongCA && !need(corev1.ServiceAccountNamespaceKey) && !need(corev1.ServiceAccountTokenKey) {
		return nil, nil
	}
	next := secret.DeepCopy()
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	next.Data[corev1.ServiceAccountRootCAKey] = []byte(pem)
	if need(corev1.ServiceAccountNamespaceKey) {
		next.Data[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	}
	if need(corev1.ServiceAccountTokenKey) {
		token, err := issuer.SignLegacy(sa, secret.Name)
		if err != nil {
			return nil, err
		}
		next.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	next.Annotations[corev1.ServiceAccountUIDKey] = string(sa.UID) // the name is there: by it the account was found
	return next, nil
}

// forget takes a Secret that has gone from the accounts that name it and that
// it may have been a token of.
func forget(s controller.State, key client.Key, p *controller.Plan) {
	for _, sa := range controller.List[*corev1.ServiceAccount](s, key.Namespace) {
		named := func(r corev1.ObjectReference) bool { return r.Name == key.Name }
		if sa.DeletionTimestamp != nil || !slices.ContainsFunc(sa.Secrets, named) {
			continue
		}
		next := sa.DeepCopy()
		next.Secrets = slices.DeleteFunc(next.Secrets, named)
		p.Add(controller.Update(next))
	}
}
