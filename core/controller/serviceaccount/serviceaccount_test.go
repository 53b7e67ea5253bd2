package serviceaccount_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/serviceaccount"
)

func TestAccounts(t *testing.T) { controllertest.Run(t, "accounts", serviceaccount.New()) }
func TestRootCA(t *testing.T)   { controllertest.Run(t, "ca", serviceaccount.NewRootCA("PEM")) }

type issuer struct{}

func (issuer) SignLegacy(sa *corev1.ServiceAccount, secret string) (string, error) {
	return "token of " + sa.Name + " in " + secret, nil
}

func TestTokens(t *testing.T) {
	controllertest.Run(t, "tokens", serviceaccount.NewTokens(issuer{}, "PEM"))
}

func TestLegacyCleaner(t *testing.T) {
	controllertest.Run(t, "legacy", serviceaccount.NewLegacyCleaner(0))
}

// TestTokenSecret looks into what the stories do not show.
func TestTokenSecret(t *testing.T) {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot", UID: "u1"}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
		Type: corev1.SecretTypeServiceAccountToken}
	plan, err := serviceaccount.NewTokens(issuer{}, "PEM").Reconcile(t.Context(), controllertest.NewState(t, controllertest.Epoch, sa, secret), client.KeyOf(secret))
	if err != nil || len(plan.Actions) != 1 {
		t.Fatal(plan, err)
	}
	got := plan.Actions[0].Object.(*corev1.Secret)
	for key, want := range map[string]string{"token": "token of robot in s", "ca.crt": "PEM", "namespace": "default"} {
		if string(got.Data[key]) != want {
			t.Errorf("%s is %q", key, got.Data[key])
		}
	}
	// An account may name Secrets that are made later: nothing looks for them.
	sa.Secrets = []corev1.ObjectReference{{Name: "later"}, {Name: "s"}}
	keys := serviceaccount.NewTokens(issuer{}, "PEM").Inputs[1].Keys(controllertest.NewState(t, controllertest.Epoch, sa, secret), sa)
	if len(keys) != 1 || keys[0] != client.KeyOf(secret) {
		t.Errorf("an account asks for %v", keys)
	}
	if got.Annotations[corev1.ServiceAccountUIDKey] != "u1" || secret.Data != nil {
		t.Errorf("annotations %v; the shared object has data %v", got.Annotations, secret.Data)
	}
}
