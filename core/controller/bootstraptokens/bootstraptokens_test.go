package bootstraptokens_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller/bootstraptokens"
	"binnacle.io/core/controller/controllertest"
)

func TestCleaner(t *testing.T) {
	controllertest.Run(t, "cleaner", bootstraptokens.NewCleaner())
}

func TestSigner(t *testing.T) { controllertest.Run(t, "signer", bootstraptokens.NewSigner()) }

// TestSignature verifies what is signed by what a joining node computes.
func TestSignature(t *testing.T) {
	info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info"}, Data: map[string]string{"kubeconfig": "KUBECONFIG", "jws-kubeconfig-zzzzzz": "gone"}}
	token := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token", Data: map[string][]byte{
		"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true")}}
	s := controllertest.NewState(t, time.Now(), info, token)
	plan, err := bootstraptokens.NewSigner().Reconcile(t.Context(), s, client.KeyOf(info))
	if err != nil || len(plan.Actions) != 1 {
		t.Fatal(plan, err)
	}
	data := plan.Actions[0].Object.(*corev1.ConfigMap).Data
	// HMAC-SHA256 of header and content, computed by another program.
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..0udUfDhdC0qRrdu3LziVZI_5-MROwT3BFcyh2wDDfsQ"
	if data["jws-kubeconfig-abcdef"] != want || len(data) != 2 {
		t.Errorf("data %v", data)
	}
}
