package certificates_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/bootstraptokens"
	"binnacle.io/core/controller/certificates"
)

// TestJoin does what kubeadm's TLS bootstrap does: with nothing but a bootstrap
// token a machine asks for the client certificate of its node, is given it
// without anybody looking, and works as the node.
func TestJoin(t *testing.T) {
	rbac := auth.NewRBAC()
	s := apitest.Start(t, apitest.WithPlugins(func(c client.Client) []admission.Plugin {
		return []admission.Plugin{admission.NewCertificateSigners(rbac), admission.NewNodeRestriction(c, nil)}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	m := controller.New(controller.Config{}, s.Client, s.Hub.Component("controllers", "controllers"))
	for _, c := range []controller.Controller{
		certificates.NewApprover(rbac), certificates.NewSigner(s.PKI.CA, 0), certificates.NewCleaner(), bootstraptokens.NewCleaner(), bootstraptokens.NewSigner(),
	} {
		if err := m.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 2)
	go func() { ended <- rbac.Run(ctx, s.Client, s.Telemetry) }()
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	token := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: auth.BootstrapTokenType, StringData: map[string]string{
		"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
		"expiration": time.Now().Add(time.Hour).Format(time.RFC3339), "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}}
	if _, err := client.Create(ctx, s.Client, token); err != nil {
		t.Fatal(err)
	}
	with := rest.AnonymousClientConfig(s.REST)
	with.BearerToken = "abcdef.0123456789abcdef"
	joining := kubernetes.NewForConfigOrDie(with)
	if _, err := joining.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "system:bootstrap:abcdef" cannot list resource "nodes"`) {
		t.Errorf("the token lists nodes: %v", err)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(by kubernetes.Interface, node string) *certificatesv1.CertificateSigningRequest {
		t.Helper()
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		made, err := by.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "node-csr-"},
			Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: kubelet, Usages: clientUsages(), ExpirationSeconds: ptr.To(int32(3600)), Username: "forged",
				Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := by.CertificatesV1().CertificateSigningRequests().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + made.Name})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		for ev := range w.ResultChan() {
			if c, ok := ev.Object.(*certificatesv1.CertificateSigningRequest); ok && len(c.Status.Certificate) > 0 {
				return c
			}
		}
		t.Fatal("no certificate was issued")
		return nil
	}
	issued := certificate(joining, "n1")
	if issued.Spec.Username != "system:bootstrap:abcdef" || len(issued.Status.Conditions) != 1 || issued.Status.Conditions[0].LastUpdateTime.IsZero() {
		t.Errorf("request %+v", issued)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	as := rest.AnonymousClientConfig(s.REST)
	as.TLSClientConfig.CertData = issued.Status.Certificate
	as.TLSClientConfig.KeyData = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	node := kubernetes.NewForConfigOrDie(as)
	if _, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("n1 makes n2: %v", err)
	}
	if _, err := node.CoreV1().Secrets("kube-system").Get(ctx, token.Name, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the node reads the token: %v", err)
	}
	if renewed := certificate(node, "n1"); !strings.HasPrefix(renewed.Status.Conditions[0].Message, "Auto approving self kubelet client certificate") {
		t.Errorf("renewal %+v", renewed.Status.Conditions)
	}

	// A token whose time has come is good for nothing and goes.
	if _, err := client.Modify(ctx, s.Client, "kube-system", token.Name, "", func(o *corev1.Secret) (bool, error) {
		o.Data["expiration"] = []byte("2020-01-01T00:00:00Z")
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	w, err := client.WatchOf[*corev1.Secret](ctx, s.Client, "", client.ReadOptions{Namespace: "kube-system"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for there := true; there; {
		ev, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get[*corev1.Secret](ctx, s.Client, "kube-system", token.Name); apierrors.IsNotFound(err) {
			there = false
		} else if ev.Type == client.Deleted {
			t.Errorf("%v was deleted", client.KeyOf(ev.Object))
		}
	}
	if _, err := joining.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the expired token: %v", err)
	}
}
