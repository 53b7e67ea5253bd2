package bootstraptokens

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// The ConfigMap that is signed.
const (
	clusterInfo     = "cluster-info"
	kubeconfigKey   = "kubeconfig"
	signaturePrefix = "jws-kubeconfig-"
)

func secrets(keys func(*corev1.Secret) []client.Key) controller.Input {
	return controller.Input{
		Resource: client.Resource{Resource: "secrets"}, Read: client.ReadOptions{Namespace: metav1.NamespaceSystem},
		Keys: func(_ controller.State, o client.Object) []client.Key {
			s, ok := o.(*corev1.Secret)
			if !ok || s.Type != auth.BootstrapTokenType {
				return nil
			}
			return keys(s)
		},
	}
}

// NewCleaner returns the controller that deletes tokens that have expired.
func NewCleaner() controller.Controller {
	return controller.Controller{
		Name: "token-cleaner", Account: "token-cleaner", Writes: []string{"secrets of type bootstrap.kubernetes.io/token"},
		Inputs: []controller.Input{secrets(func(s *corev1.Secret) []client.Key { return []client.Key{client.KeyOf(s)} })},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			secret, ok := controller.Get[*corev1.Secret](s, key.Namespace, key.Name)
			if !ok || secret.Type != auth.BootstrapTokenType {
				return p, nil
			}
			in, expired := auth.BootstrapTokenExpires(secret, s.Now())
			if expired {
				p.Add(controller.Delete(secret))
			}
			p.Again(in)
			return p, nil
		},
	}
}

// NewSigner returns the controller that signs cluster-info.
func NewSigner() controller.Controller {
	info := client.Key{Namespace: metav1.NamespacePublic, Name: clusterInfo}
	name := regexp.MustCompile("^" + auth.BootstrapTokenPrefix + "([a-z0-9]{6})$")
	return controller.Controller{
		Name: "bootstrap-signer", Account: "bootstrap-signer", Writes: []string{"configmaps named " + clusterInfo}, Workers: 1,
		Inputs: []controller.Input{
			secrets(func(*corev1.Secret) []client.Key { return []client.Key{info} }),
			{Resource: client.Resource{Resource: "configmaps"}, Read: client.ReadOptions{Namespace: metav1.NamespacePublic},
				Keys: func(_ controller.State, o client.Object) []client.Key {
					if o.GetName() != clusterInfo {
						return nil
					}
					return []client.Key{info}
				}},
		},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			have, ok := controller.Get[*corev1.ConfigMap](s, key.Namespace, key.Name)
			if !ok || have.Data[kubeconfigKey] == "" {
				return p, nil
			}
			next := have.DeepCopy()
			maps.DeleteFunc(next.Data, func(k, _ string) bool { return strings.HasPrefix(k, signaturePrefix) })
			for _, secret := range controller.List[*corev1.Secret](s, metav1.NamespaceSystem) {
				if secret.Type != auth.BootstrapTokenType || secret.DeletionTimestamp != nil {
					continue
				}
				id, ok := signs(secret, name)
				in, expired := auth.BootstrapTokenExpires(secret, s.Now())
				if !ok || expired {
					continue
				}
				p.Again(in)
				next.Data[signaturePrefix+id] = signature(have.Data[kubeconfigKey], id, string(secret.Data[auth.BootstrapTokenSecret]))
			}
			if !maps.Equal(next.Data, have.Data) {
				p.Add(controller.Update(next))
			}
			return p, nil
		},
	}
}

// signs returns a token's id when it may sign.
func signs(s *corev1.Secret, name *regexp.Regexp) (string, bool) {
	parts := name.FindStringSubmatch(s.Name)
	if parts == nil || string(s.Data[auth.BootstrapTokenID]) != parts[1] || len(s.Data[auth.BootstrapTokenSecret]) == 0 ||
		string(s.Data[auth.BootstrapTokenSigns]) != "true" {
		return "", false
	}
	return parts[1], true
}

// signature is a detached JWS of content: header..signature (RFC 7515 appendix
// F), with the token's secret as the HMAC key. Joining nodes make it themselves
// and compare the texts, so the header must be this one, byte by byte.
func signature(content, id, secret string) string {
	enc := base64.RawURLEncoding
	header := enc.EncodeToString([]byte(`{"alg":"HS256","kid":"` + id + `"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(header + "." + enc.EncodeToString([]byte(content))))
	return header + ".." + enc.EncodeToString(mac.Sum(nil))
}
